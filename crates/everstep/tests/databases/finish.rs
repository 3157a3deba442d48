//! How each run of a checked-in database is brought to its end, and what is told of it.

use std::{fmt::Write as _, path::Path};

use everstep::{Status, Workflow, journal::Answer, sqlite::Sqlite};

use crate::{
    story::{Any, BROKEN, DIVERGES, DOUBTS, PANICS, PAYS, PLAIN, SPENT, WAITS, World, builder},
    waiting,
};

/// What a person does to a run that needs one.
enum Help {
    Answer(Answer),
    Retry,
}

/// Opens the database with today's code, lets every run go as far as it goes by itself, helps those that need a person,
/// and tells what became of each.
pub async fn finish(path: &Path) -> Any<String> {
    let engine = builder(Sqlite::open(path)?, World::Mended).start().await?;
    let mut told = String::new();
    let mut runs = engine.list("").limit(1000).await?;
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    for info in runs {
        if ["gone", "waits-long"].contains(&&*info.id) {
            // Nobody knows the one, and the other is not due: both are left alone.
            let left = engine.list(&format!("id = \"{}\"", info.id)).await?;
            writeln!(told, "{}: {}", info.id, if left[0].status.is_over() { "over" } else { "open" })?;
            continue;
        }
        let asked_for = waiting::help(&engine, &info.id).await?;
        let run = engine
            .get(Workflow::<serde_json::Value, String>::new(workflow_name(&info.workflow)), &*info.id)
            .await?;
        let mut outcome = run.result().await;
        if run.status().await? == Status::Stuck {
            let stuck = run.stuck().await?.ok_or("a stuck run says why")?;
            write!(told, "{}: stuck, {}; ", info.id, stuck.reason)?;
            match help(&info.id) {
                Help::Answer(answer) => engine.answer(&info.id, answer).await?,
                Help::Retry => engine.retry(&info.id).await?,
            }
            outcome = run.result().await;
        } else {
            write!(told, "{}: {asked_for}", info.id)?;
        }
        let text = outcome.unwrap_or_else(|error| format!("{} {error}", error.code()));
        write!(told, "{}: {text}", run.status().await?)?;
        for left in run.undelivered().await? {
            write!(told, "; nobody took `{}`", left.name)?;
        }
        writeln!(told)?;
    }
    engine.shutdown().await?;
    Ok(told)
}

fn help(id: &str) -> Help {
    match id {
        "doubts-done" => Help::Answer(Answer::Done { value: "\"a person says so\"".to_string() }),
        "doubts-no" => Help::Answer(Answer::Fail { message: "a person says no".to_string() }),
        "doubts-again" => Help::Answer(Answer::Retry),
        _ => Help::Retry,
    }
}

/// The names are constants: a name that is read is looked up among them.
fn workflow_name(name: &str) -> &'static str {
    [
        PLAIN.name(),
        BROKEN.name(),
        WAITS.name(),
        DOUBTS.name(),
        SPENT.name(),
        PANICS.name(),
        DIVERGES.name(),
        PAYS.name(),
    ]
    .into_iter()
    .chain(waiting::NAMES)
    .find(|known| *known == name)
    .expect("a registered workflow")
}
