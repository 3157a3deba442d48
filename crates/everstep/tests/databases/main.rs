//! Every database that a released version has written opens with today's code, is brought up to date, and finishes.
//! One file and its expected outcomes each: `v3.db`, `v3.txt`; `cargo run -p everstep --example write_database -- NAME`
//! writes another. A file that is here is never changed.

#[allow(dead_code, reason = "the program that writes databases uses the rest")]
mod story;
#[allow(dead_code, reason = "the program that writes databases uses the rest")]
mod waiting;

mod finish;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use everstep::{
    Copying,
    sqlite::{Sqlite, rusqlite::Connection},
};
use finish::finish;

/// A checked-in database, copied so that it can be written to.
struct Copy {
    from: PathBuf,
    path: PathBuf,
    room: tempfile::TempDir,
}

fn copies() -> Vec<Copy> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let files = fs::read_dir(&folder).expect("this folder").map(|file| file.expect("readable").path());
    let databases = files.filter(|path| path.extension().is_some_and(|extension| extension == "db"));
    let copies: Vec<_> = databases
        .map(|from| {
            let room = tempfile::tempdir().expect("room");
            let path = room.path().join("copy.db");
            fs::copy(&from, &path).expect("room");
            Copy { from, path, room }
        })
        .collect();
    assert!(copies.len() > 2, "{} databases were found in {}", copies.len(), folder.display());
    copies
}

impl Copy {
    /// Lets everything in the database at `path` come to its end, which must be as it was written down.
    async fn finishes(&self, path: &Path) {
        let name = self.from.display();
        let told = finish(path).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected =
            fs::read_to_string(self.from.with_extension("txt")).expect("its outcomes are beside it");
        assert_eq!(told, expected, "{name}");
        let cents: i64 = Connection::open(path)
            .and_then(|db| db.query_row("SELECT cents FROM account", [], |row| row.get(0)))
            .expect("the user's own rows are there");
        assert_eq!(cents, 70, "{name}: each debit happened once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checked_in_database_opens_migrates_and_finishes() {
    for copy in copies() {
        copy.finishes(&copy.path).await;
    }
}

/// What has moved in the middle of everything finishes as what has not.
#[tokio::test(flavor = "multi_thread")]
async fn every_checked_in_database_moves_to_another_one_and_finishes_there() {
    for copy in copies() {
        let there = copy.room.path().join("there.db");
        let store = |path: &Path| Arc::new(Sqlite::open(path).expect("opens"));
        // The worker that wrote it is dead, and left no lock that says so.
        let copying = Copying::new(store(&copy.path), store(&there)).lease(Duration::from_millis(200));
        let copied =
            copying.run(|_| {}).await.unwrap_or_else(|error| panic!("{}: {error}", copy.from.display()));
        assert!(copied.runs > 10 && copied.digest.is_some(), "{copied:?}");
        // The user's own tables are the user's to move.
        let account = format!(
            "ATTACH '{}' AS before; CREATE TABLE account AS SELECT * FROM before.account",
            copy.path.display()
        );
        Connection::open(&there).and_then(|db| db.execute_batch(&account)).expect("copies");
        copy.finishes(&there).await;
    }
}
