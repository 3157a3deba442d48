//! `everstep show`.

use std::sync::Arc;

use clap::Args;
use everstep_core::{
    AttributeValue, Client, Stuck,
    store::{Act, LetterKind, PublishedRow, Received, RunRow, StartedRow, Store},
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    failure::Failure,
    location::{Location, Purpose},
    print::{Table, attribute, attribute_json, json, payload, payload_json, plain, short, time},
};

/// Shows one run: where it stands, why it is stuck, its attributes, what it has published, what waits in its inbox,
/// which steps are under way, and what people did to it.
///
///   everstep show sqlite:app.db emp-42
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Show {
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

/// What is shown.
struct Shown {
    row: RunRow,
    stuck: Option<Stuck>,
    attributes: Vec<(Arc<str>, AttributeValue)>,
    published: Vec<PublishedRow>,
    inbox: Vec<Received>,
    started: Vec<StartedRow>,
    acts: Vec<Act>,
}

impl Show {
    pub(crate) async fn run(self) -> Result<String, Failure> {
        let store = self.store.open(Purpose::Look { force: self.force })?;
        let row = row(&*store, &self.id).await?;
        let run = row.run;
        let loaded = store.load(run).await?;
        let shown = Shown {
            stuck: store.stuck(run).await?,
            attributes: store.attributes(run).await?,
            published: store.published_all(run, usize::MAX).await?,
            inbox: loaded.inbox,
            started: loaded.started,
            acts: Client::on(store).acts(&self.id).await?,
            row,
        };
        Ok(if self.json { json(&shown.told_json()) } else { shown.told(self.full) })
    }
}

/// The row of a run.
pub(super) async fn row(store: &dyn Store, id: &str) -> Result<RunRow, Failure> {
    store.run(id.into()).await?.ok_or_else(|| Failure::no_run(id))
}

/// What kind of letter it is, for people.
fn kind(received: &Received) -> String {
    let kind = received.letter.kind;
    LetterKind::from_code(kind).map_or_else(|| format!("kind {kind}"), |kind| kind.word().to_string())
}

impl Shown {
    fn told(&self, full: bool) -> String {
        let value = |text: String| if full { text } else { short(&text) };
        let mut told = self.told_row();
        if let Some(Stuck { reason, key, detail }) = &self.stuck {
            let key = key.as_ref().map(|key| format!(" at `{}`", plain(key))).unwrap_or_default();
            told += &format!("\nstuck: {reason}{key}: {}\nwhat helps: {}\n", plain(detail), reason.way_out());
        }
        section(&mut told, "attributes", &["NAME", "VALUE"], &self.attributes, |(name, of)| {
            vec![plain(name), value(attribute(of))]
        });
        section(&mut told, "published", &["NAME", "VALUE", "WHEN"], &self.published, |row| {
            vec![plain(&row.name), value(payload(&row.body)), time(row.at)]
        });
        section(&mut told, "inbox", &["N", "KIND", "NAME", "VALUE", "WHEN"], &self.inbox, |received| {
            let (n, letter) = (received.n.to_string(), &received.letter);
            vec![n, kind(received), plain(&letter.name), value(payload(&letter.body)), time(letter.at)]
        });
        section(
            &mut told,
            "steps under way",
            &["KEY", "ATTEMPT", "SINCE", "HEARTBEAT"],
            &self.started,
            |row| {
                let heartbeat = row.details.as_ref().map(payload).map(value).unwrap_or_default();
                let attempt = format!("{}{}", row.attempt, if row.abandoned { ", dropped" } else { "" });
                vec![plain(&row.key), attempt, time(row.at), heartbeat]
            },
        );
        section(&mut told, "acts", &["WHEN", "WHO", "VERB", "WHAT", "WHY"], &self.acts, |act| {
            vec![time(act.at), plain(&act.who), plain(&act.verb), plain(&act.detail), plain(&act.why)]
        });
        told
    }

    fn told_row(&self) -> String {
        let row = &self.row;
        let mut table = Table::new(&["RUN", &plain(&row.id)]);
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                table.row([name.to_string(), value]);
            }
        };
        line("workflow", Some(plain(&row.workflow)));
        line("status", Some(row.status.to_string()));
        line("created", Some(time(row.created_at)));
        line("began", row.began_at.map(time));
        line("finished", row.finished_at.map(time));
        line("wakes", row.wake_at.map(|at| if at.0 == 0 { "at once".into() } else { time(at) }));
        line("worker", row.owner.map(|worker| worker.0.to_string()));
        line("generation", (row.generation > 0).then(|| row.generation.to_string()));
        line("takeovers", (row.takeovers > 0).then(|| row.takeovers.to_string()));
        table.to_string()
    }

    fn told_json(&self) -> impl Serialize + '_ {
        let row = &self.row;
        Run {
            id: &row.id,
            workflow: &row.workflow,
            status: row.status.word(),
            created: time(row.created_at),
            began: row.began_at.map(time),
            finished: row.finished_at.map(time),
            wakes: row.wake_at.map(time),
            worker: row.owner.map(|worker| worker.0),
            generation: row.generation,
            takeovers: row.takeovers,
            stuck: self.stuck.as_ref().map(|stuck| Why {
                reason: stuck.reason.words(),
                key: stuck.key.as_deref(),
                detail: &stuck.detail,
                helps: stuck.reason.way_out(),
            }),
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (&**name, attribute_json(value)))
                .collect(),
            published: (self.published.iter())
                .map(|row| Value { name: &row.name, value: payload_json(&row.body), at: time(row.at) })
                .collect(),
            inbox: self.inbox.iter().map(Letter::of).collect(),
            started: self.started.iter().map(Attempt::of).collect(),
            acts: self.acts.iter().map(Doing::of).collect(),
        }
    }
}

/// A table under its name, if there is something in it.
fn section<T>(
    told: &mut String,
    name: &str,
    columns: &[&str],
    items: &[T],
    row: impl FnMut(&T) -> Vec<String>,
) {
    if !items.is_empty() {
        let mut table = Table::new(columns);
        items.iter().map(row).for_each(|row| table.row(row));
        *told += &format!("\n{name}\n{table}");
    }
}

#[derive(Serialize)]
struct Run<'a> {
    id: &'a str,
    workflow: &'a str,
    status: &'static str,
    created: String,
    began: Option<String>,
    finished: Option<String>,
    wakes: Option<String>,
    worker: Option<i64>,
    generation: u32,
    takeovers: u32,
    stuck: Option<Why<'a>>,
    attributes: std::collections::BTreeMap<&'a str, serde_json::Value>,
    published: Vec<Value<'a>>,
    inbox: Vec<Letter<'a>>,
    started: Vec<Attempt<'a>>,
    acts: Vec<Doing<'a>>,
}

#[derive(Serialize)]
struct Why<'a> {
    reason: &'static str,
    key: Option<&'a str>,
    detail: &'a str,
    helps: &'static str,
}

#[derive(Serialize)]
struct Value<'a> {
    name: &'a str,
    value: Box<RawValue>,
    at: String,
}

#[derive(Serialize)]
struct Letter<'a> {
    n: u64,
    kind: String,
    name: &'a str,
    value: Box<RawValue>,
    at: String,
}

#[derive(Serialize)]
struct Attempt<'a> {
    key: &'a str,
    attempt: u32,
    since: String,
    dropped: bool,
    heartbeat: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Doing<'a> {
    at: String,
    who: &'a str,
    verb: &'a str,
    what: &'a str,
    why: &'a str,
}

impl Letter<'_> {
    fn of(received: &Received) -> Letter<'_> {
        let letter = &received.letter;
        let (n, kind) = (received.n, kind(received));
        Letter { n, kind, name: &letter.name, value: payload_json(&letter.body), at: time(letter.at) }
    }
}

impl Attempt<'_> {
    fn of(row: &StartedRow) -> Attempt<'_> {
        let heartbeat = row.details.as_ref().map(payload_json);
        Attempt {
            key: &row.key,
            attempt: row.attempt,
            since: time(row.at),
            dropped: row.abandoned,
            heartbeat,
        }
    }
}

impl Doing<'_> {
    fn of(act: &Act) -> Doing<'_> {
        Doing { at: time(act.at), who: &act.who, verb: &act.verb, what: &act.detail, why: &act.why }
    }
}
