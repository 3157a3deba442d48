//! Which files are opened, and which are not.

use everstep_core::store::{Inspect, Store, StoreError};
use everstep_sqlite::Sqlite;

use crate::fixture::{Desk, Worker, new_run};

fn refusal(desk: &Desk) -> String {
    match desk.try_open() {
        Err(StoreError::Unusable(text)) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[cfg(unix)]
async fn only_its_owner_reads_a_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let lock = format!(".worker-{}.lock", worker.fence.worker.0);
    for suffix in ["", "-wal", "-shm", ".open.lock", ".opening.lock", &lock] {
        let mode = std::fs::metadata(desk.beside(suffix)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let desk = Desk::new();
    std::fs::write(desk.path(), "not a database at all ".repeat(300)).expect("writes");
    assert!(refusal(&desk).contains("restore it from a backup"));
}

#[test]
fn a_damaged_file_is_refused() {
    let desk = Desk::new();
    drop(desk.open());
    let mut bytes = std::fs::read(desk.path()).expect("reads");
    bytes[100..].fill(0x5a);
    std::fs::write(desk.path(), bytes).expect("writes");
    assert!(desk.try_open().is_err());
}

#[test]
fn a_newer_schema_is_refused() {
    let desk = Desk::new();
    drop(desk.open());
    desk.run_sql("UPDATE everstep_meta SET value = 99 WHERE key = 'schema'");
    assert!(refusal(&desk).contains("run a newer version"));
}

#[test]
fn a_table_in_our_name_is_refused() {
    let desk = Desk::new();
    drop(desk.open());
    desk.run_sql("CREATE TABLE everstep_mine (x)");
    assert!(refusal(&desk).contains("`everstep_mine`"));
}

#[test]
fn the_users_tables_and_version_stay_as_they_are() {
    let desk = Desk::new();
    desk.run_sql("PRAGMA user_version = 7; PRAGMA application_id = 8; CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
    drop(desk.open());
    assert_eq!(desk.number("PRAGMA user_version"), 7);
    assert_eq!(desk.number("PRAGMA application_id"), 8);
    assert_eq!(desk.number("SELECT x FROM mine"), 1);
}

/// faults.md row 37.
#[test]
fn migrations_that_race_make_one_schema() {
    let desk = Desk::new();
    let path = desk.path();
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        let openings: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    Sqlite::open(&path).map(drop)
                })
            })
            .collect();
        for opening in openings {
            opening.join().expect("no panic").expect("opens");
        }
    });
    assert_eq!(desk.number("SELECT value FROM everstep_meta WHERE key = 'schema'"), 3);
}

/// A copy of the files as they are while the store is open is what a kill leaves behind.
fn crashed(desk: &Desk, suffixes: &[&str]) -> Desk {
    let copy = Desk::new();
    for suffix in suffixes {
        std::fs::copy(desk.beside(suffix), copy.beside(suffix)).expect("copies");
    }
    copy
}

/// faults.md row 40: a deleted WAL is never passed over.
#[tokio::test]
async fn a_lost_wal_is_refused_unless_it_is_accepted() {
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");

    let whole = crashed(&desk, &["", "-wal"]);
    let found = whole.open().run("a".into()).await.expect("reads");
    assert!(found.is_some(), "an ordinary crash loses nothing");

    let lost = crashed(&desk, &[""]);
    assert!(refusal(&lost).contains("accept_lost_wal"));
    assert!(refusal(&lost).contains("accept_lost_wal"), "also the second time");
    let store = Sqlite::options().accept_lost_wal(true).open(lost.path()).expect("opens");
    drop(store);
    lost.open();
}

/// `sqlite3` is the first that many people reach for after a crash. It recovers the file, closes it properly and
/// deletes its `-wal`.
#[tokio::test]
async fn a_look_by_another_program_after_a_crash_loses_nothing() {
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");

    let looked = crashed(&desk, &["", "-wal"]);
    std::fs::hard_link(looked.beside("-wal"), looked.beside(".wal.kept")).expect("links");
    looked.run_sql("CREATE TABLE mine (x)");
    assert!(!looked.beside("-wal").exists(), "closed properly");
    let store = looked.open();
    assert!(store.run("a".into()).await.expect("reads").is_some());
    store.start(vec![new_run("b")], None).await.expect("starts");
    drop(store);
    assert!(!looked.beside(".wal.kept").exists());

    let lost = crashed(&desk, &["", ".wal.kept"]);
    assert!(refusal(&lost).contains("accept_lost_wal"), "deleted by hand");
}

/// An opening that fails must leave what the crash before it left.
#[tokio::test]
async fn an_opening_that_fails_leaves_the_wal() {
    let desk = Desk::new();
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");
    desk.run_sql("UPDATE everstep_meta SET value = 99 WHERE key = 'schema'");
    let crashed = crashed(&desk, &["", "-wal"]);
    for _ in 0..2 {
        assert!(refusal(&crashed).contains("run a newer version"));
        assert!(std::fs::metadata(crashed.beside("-wal")).expect("is there").len() > 0);
    }
}

#[tokio::test]
#[cfg(unix)]
async fn a_link_leads_to_the_real_file_and_what_is_beside_it() {
    let (desk, links) = (Desk::new(), Desk::new());
    let store = desk.open();
    store.start(vec![new_run("a")], None).await.expect("starts");
    let crashed = crashed(&desk, &["", "-wal"]);
    std::os::unix::fs::symlink(crashed.path(), links.path()).expect("links");
    let store = links.open();
    assert!(store.run("a".into()).await.expect("reads").is_some());
    assert!(crashed.beside(".open.lock").exists() && !links.beside(".open.lock").exists());
}

#[test]
fn names_that_are_no_paths_are_refused_with_advice() {
    for name in [":memory:", "", "file:app.db"] {
        let refused = Sqlite::open(name);
        assert!(
            matches!(&refused, Err(StoreError::Unusable(text)) if text.contains("path") && text.contains("memory")),
            "{name}: {refused:?}"
        );
    }
    assert!(!std::path::Path::new(":memory:").exists() && !std::path::Path::new("file:app.db").exists());
}

#[tokio::test]
async fn a_clean_end_leaves_one_file_that_opens() {
    let desk = Desk::new();
    let store = desk.open();
    Worker::of(&store).await;
    drop(store.run("a".into()).await);
    drop(store);
    assert!(!desk.beside("-wal").exists());
    desk.open();
}

#[tokio::test]
async fn two_openings_share_a_file_and_the_last_closes_it() {
    let desk = Desk::new();
    let (a, b) = (desk.open(), desk.open());
    a.start(vec![new_run("a")], None).await.expect("starts");
    drop(a);
    assert_eq!(desk.number("SELECT value FROM everstep_meta WHERE key = 'open'"), 1);
    b.start(vec![new_run("b")], None).await.expect("starts");
    drop(b);
    assert_eq!(desk.number("SELECT value FROM everstep_meta WHERE key = 'open'"), 0);
}
