//! What the engine has promised by answering, by an event, or by beginning a body; and whether a database keeps it.

use everstep::journal::Kind;
use serde::{Deserialize, Serialize};

use crate::content::Content;

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Promise {
    /// A start was acknowledged.
    Started(String),
    /// A turn is durable: these entries of a run, and these started rows.
    Turn {
        /// The store's number of the run.
        run: i64,
        /// Numbers, kinds and bodies of its entries.
        entries: Vec<(u64, u16, String)>,
        /// Keys of steps whose bodies may begin.
        started: Vec<String>,
    },
    /// A message is in the inbox: its id, as text, because JSON has no such numbers.
    Posted(String),
    /// A transactional step is committed.
    Committed {
        /// The store's number of the run.
        run: i64,
        /// The step.
        key: String,
    },
    /// `Event::StepDone`.
    StepDone(String, String),
    /// The run has this outcome: `Run::result` said so.
    Result(String, Ending),
    /// A body has begun: these steps before it are recorded, and it has a started row if it must.
    Body {
        /// The run's id.
        run: String,
        /// The step.
        key: String,
        /// The step right before it.
        after: Option<String>,
        /// Whether its policy wants a started row.
        marked: bool,
    },
    /// The user's own table is there.
    Table,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With a value.
    Value(String),
    /// By `cancel`.
    Cancelled,
}

const OVER: [Kind; 2] = [Kind::StepDone, Kind::StepFailed];

impl Promise {
    /// Whether it is kept.
    pub fn is_kept(&self, content: &Content) -> bool {
        let number = |run: &String| content.runs.get(run).copied();
        match self {
            Promise::Started(run) => !content.journal(run).is_empty(),
            Promise::Turn { run, entries, started } => {
                let journal = content.journals.get(run).map_or(&[][..], Vec::as_slice);
                let is_there = |(seq, kind, body): &(u64, u16, String)| {
                    let is_it = |entry: &&crate::content::Entry| entry.seq == *seq;
                    let there = journal.iter().find(is_it);
                    there.is_some_and(|entry| entry.kind == *kind && entry.body == body.as_bytes())
                };
                let may_begin = |key: &String| {
                    content.started.contains(&(*run, key.clone()))
                        || content.has(*run, key, &OVER)
                        || content.has(*run, key, &[Kind::AttemptFailed])
                };
                entries.iter().all(is_there) && started.iter().all(may_begin)
            }
            Promise::Posted(id) => id.parse().is_ok_and(|id: u128| content.letters.contains(&id)),
            Promise::Committed { run, key } => {
                content.records.contains(&(*run, key.clone())) || content.has(*run, key, &OVER)
            }
            Promise::StepDone(run, key) => {
                number(run).is_some_and(|run| content.has(run, key, &[Kind::StepDone]))
            }
            Promise::Result(run, ending) => match (content.journal(run).last(), ending) {
                (Some(last), Ending::Value(value)) => {
                    last.kind == Kind::Completed.code() && last.body == value.as_bytes()
                }
                (Some(last), Ending::Cancelled) => last.kind == Kind::Cancelled.code(),
                (None, _) => false,
            },
            Promise::Body { run, key, after, marked } => number(run).is_some_and(|run| {
                let begun = content.started.contains(&(run, key.clone())) || content.has(run, key, &OVER);
                after.as_ref().is_none_or(|after| content.has(run, after, &OVER)) && (begun || !marked)
            }),
            Promise::Table => content.ledger.is_some(),
        }
    }
}
