//! `everstep journal`.

use clap::Args;
use everstep_core::journal::{
    AttemptFailed, ChildStarted, Entry, Failure as Failed, Kind, Payload, Reply, Start, decode,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::show::row;
use crate::{
    failure::Failure,
    location::{Location, Purpose},
    print::{Table, json, payload, payload_json, plain, short, time},
};

/// Prints the journal of a run: what happened, when, with what value or error, and the line of the program that asked for
/// it. Of earlier generations, and of what people took back, nothing.
///
///   everstep journal sqlite:app.db emp-42
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Journal {
    /// The store: `sqlite:app.db` or `postgres://user@host/database`
    store: Location,
    /// The run's id
    id: String,
    /// Long values whole
    #[arg(long)]
    full: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also if the runs have moved to another store, or are moving
    #[arg(long)]
    force: bool,
}

/// What came of what an entry is about.
enum Came {
    Nothing,
    Value(Payload),
    Error(String),
}

#[derive(Serialize)]
struct Told<'a> {
    run: &'a str,
    generation: u32,
    entries: Vec<Fact<'a>>,
}

#[derive(Serialize)]
struct Fact<'a> {
    seq: u64,
    time: String,
    key: Option<&'a str>,
    what: String,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    line: Option<String>,
    build: &'a str,
}

impl Journal {
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let store = self.store.open(Purpose::Look { force: self.force })?;
        let row = row(&*store, &self.id).await?;
        let entries = store.load(row.run).await?.entries;
        if self.json {
            let entries = entries.iter().map(Fact::of).collect();
            return Ok(json(&Told { run: &row.id, generation: row.generation, entries }));
        }
        let mut table = Table::new(&["SEQ", "TIME", "KEY", "WHAT", "VALUE OR ERROR", "LINE"]);
        for entry in &entries {
            let came = match came(entry) {
                Came::Nothing => String::new(),
                Came::Value(value) => payload(&value),
                Came::Error(message) => format!("error: {}", plain(&message)),
            };
            table.row([
                entry.seq.to_string(),
                time(entry.at),
                plain(entry.key.as_deref().unwrap_or_default()),
                match entry.attempt {
                    0 | 1 => what(entry),
                    n => format!("{} (attempt {n})", what(entry)),
                },
                if self.full { came } else { short(&came) },
                line(entry).unwrap_or_default(),
            ]);
        }
        Ok(table.to_string())
    }
}

impl Fact<'_> {
    fn of(entry: &Entry) -> Fact<'_> {
        let (value, error) = match came(entry) {
            Came::Nothing => (None, None),
            Came::Value(value) => (Some(payload_json(&value)), None),
            Came::Error(message) => (None, Some(message)),
        };
        Fact {
            seq: entry.seq,
            time: time(entry.at),
            key: entry.key.as_deref(),
            what: what(entry),
            attempt: entry.attempt,
            value,
            error,
            line: line(entry),
            build: &entry.build,
        }
    }
}

fn what(entry: &Entry) -> String {
    let unknown = || format!("kind {}", entry.kind);
    entry.known_kind().map_or_else(unknown, |kind| kind.word().to_string())
}

fn line(entry: &Entry) -> Option<String> {
    entry.site.as_ref().map(|site| plain(&site.to_string()))
}

/// What its body tells people. One that this version cannot read tells nothing: the journal goes on.
fn came(entry: &Entry) -> Came {
    let body = &entry.body;
    let failure = || decode(body).map_or(Came::Nothing, |failed: Failed| Came::Error(failed.message));
    match entry.known_kind() {
        Some(Kind::StepDone | Kind::SignalTaken | Kind::Published | Kind::Emitted | Kind::Completed) => {
            Came::Value(body.clone())
        }
        Some(
            Kind::StepFailed | Kind::SignalRefused | Kind::DeadlinePassed | Kind::Failing | Kind::Failed,
        ) => failure(),
        Some(Kind::AttemptFailed) => {
            decode(body).map_or(Came::Nothing, |failed: AttemptFailed| Came::Error(failed.error.message))
        }
        Some(Kind::PromiseSettled | Kind::ChildEnded | Kind::RequestAnswered) => match decode(body) {
            Ok(Reply::Value(value)) => Came::Value(Payload::json(value.get())),
            Ok(Reply::Failure(failed)) => Came::Error(failed.message),
            Err(_) => Came::Nothing,
        },
        Some(Kind::Started) => {
            decode(body).map_or(Came::Nothing, |start: Start| Came::Value(Payload::json(start.input.get())))
        }
        Some(Kind::ChildStarted) => decode(body).map_or(Came::Nothing, |child: ChildStarted| {
            Came::Value(Payload::json(serde_json::to_string(&child.id).expect("a text")))
        }),
        Some(Kind::Cancelled | Kind::CancelAsked) => match decode::<String>(body) {
            Ok(why) if !why.is_empty() => Came::Value(body.clone()),
            _ => Came::Nothing,
        },
        _ => Came::Nothing,
    }
}
