//! Every database that a released version has written opens with today's code, is brought up to date, and finishes.
//! One file and its expected outcomes each: `v2.db`, `v2.txt`; `cargo run -p everstep --example write_database -- NAME`
//! writes another. A file that is here is never changed.

#[allow(dead_code, reason = "the program that writes databases uses the rest")]
mod story;
#[allow(dead_code, reason = "the program that writes databases uses the rest")]
mod waiting;

mod finish;

use std::{fs, path::Path};

use finish::finish;

#[tokio::test(flavor = "multi_thread")]
async fn every_checked_in_database_opens_migrates_and_finishes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let mut checked = 0;
    for file in fs::read_dir(&folder).expect("this folder") {
        let path = file.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let room = tempfile::tempdir().expect("room");
        let copy = room.path().join("copy.db");
        fs::copy(&path, &copy).expect("room");
        let told = finish(&copy).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = fs::read_to_string(path.with_extension("txt")).expect("its outcomes are beside it");
        assert_eq!(told, expected, "{}", path.display());
        let cents: i64 = everstep::sqlite::rusqlite::Connection::open(&copy)
            .and_then(|db| db.query_row("SELECT cents FROM account", [], |row| row.get(0)))
            .expect("the user's own rows are there");
        assert_eq!(cents, 70, "{}: each debit happened once", path.display());
        checked += 1;
    }
    assert!(checked > 1, "{checked} databases were found in {}", folder.display());
}
