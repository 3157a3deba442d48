//! Databases that earlier versions have written: each is migrated, and every run in it reaches the outcome that is
//! written beside it.

mod workflows;

use std::{ffi::OsStr, fs, path::Path, time::Duration};

use everstep::{
    Engine, Event, Settings, Status,
    journal::Answer,
    sqlite::{Sqlite, rusqlite::Connection},
};
use workflows::{When, register};

#[tokio::test]
async fn every_database_of_an_earlier_version_is_migrated_and_finished() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let mut found = 0;
    for file in fs::read_dir(folder).expect("is there") {
        let path = file.expect("is there").path();
        if path.extension() == Some(OsStr::new("db")) {
            finish(&path).await;
            found += 1;
        }
    }
    assert!(found > 0, "there is none: `cargo xtask golden-db` writes one");
}

async fn finish(checked_in: &Path) {
    let expected = fs::read_to_string(checked_in.with_extension("txt")).expect("lies beside it");
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("app.db");
    fs::copy(checked_in, &path).expect("copies");

    // The worker that wrote it has no lock file here: it is taken over when it has been silent for a lease.
    let settings = Settings { lease: Duration::from_millis(300), ..Settings::default() };
    let builder = Engine::builder(Sqlite::open(&path).expect("opens and migrates")).settings(settings);
    let engine = register(builder, When::Finished).start().await.expect("starts");
    let mut became = String::new();
    for line in expected.lines() {
        let (id, first) = line
            .split_once('|')
            .and_then(|(id, rest)| Some((id, rest.split('|').next()?)))
            .expect("has a first word");
        became.push_str(&format!("{id}|{first}|{}\n", outcome(&engine, id, first).await));
    }
    assert_eq!(became, expected, "{}", checked_in.display());
    let open =
        engine.list("").limit(1000).await.expect("lists").into_iter().filter(|run| !run.status.is_over());
    assert_eq!(
        open.map(|run| run.id.to_string()).collect::<Vec<_>>(),
        Vec::<String>::new(),
        "these are not over"
    );
    engine.shutdown().await.expect("leaves");
    let connection = Connection::open(&path).expect("opens");
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
    assert_eq!(whole, "ok");
    let archived: i64 =
        connection.query_row("SELECT count(*) FROM everstep_archive", [], |row| row.get(0)).expect("counts");
    assert!(archived > 0, "what people took back is kept");
}

/// What is done to a run that needs it, and its outcome.
async fn outcome(engine: &Engine, id: &str, first: &str) -> String {
    let listed = engine.list("").limit(1000).await.expect("lists");
    let workflow =
        listed.iter().find(|run| &*run.id == id).map(|run| run.workflow.to_string()).expect("is there");
    let workflow = workflows::named(&workflow);
    let run = engine.get(workflow, id).await.expect("is there");
    match first {
        "finish" => {}
        // As soon as it needs a person.
        verb => {
            let stuck = run.result().await.expect_err("needs a person");
            assert_eq!(stuck.code(), everstep::Code::STUCK, "{id}: {stuck}");
            let mut events = engine.events();
            match verb {
                "retry" => engine.retry(id).await,
                "cancel" => engine.cancel(id, "at last").await,
                "answer" => engine.answer(id, Answer::Done { value: "\"by hand\"".to_string() }).await,
                other => panic!("`{other}` is no verb"),
            }
            .unwrap_or_else(|error| panic!("{verb} {id}: {error}"));
            // Until its cancel is taken, the run is still stuck.
            let cancelled = Event::Cancelled { run: id.into() };
            while verb == "cancel" && events.next().await.expect("the engine is there") != cancelled {}
        }
    }
    let outcome = run.result().await;
    match (run.status().await.expect("is there"), outcome) {
        (Status::Completed, Ok(value)) => format!("completed {value:?}"),
        (status, Err(error)) => format!("{status} {} {error}", error.code()),
        (status, Ok(value)) => format!("{status} {value:?}"),
    }
}
