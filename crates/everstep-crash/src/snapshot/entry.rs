//! The entries of a run: those of its journal, and those that were put aside, because it began anew or because a person
//! took them back.

use std::collections::BTreeSet;

use everstep::{
    journal::{Carried, Kind},
    sqlite::rusqlite::{self, Connection},
};
use serde_json::Value;

/// One entry.
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) kind: u16,
    key: Option<String>,
    pub(super) body: String,
}

/// Where entries are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the journal of this generation, the present or an earlier one.
    Journal(u32),
    /// Taken back by a person, with all others of this number.
    TakenBack(i64),
}

/// All entries of a run.
pub(super) struct Entries(Vec<(Place, Entry)>);

pub(super) fn of_journal(conn: &Connection, run: i64) -> rusqlite::Result<Vec<Entry>> {
    let sql = "SELECT seq, kind, key, body FROM everstep_journal WHERE run = ?1 ORDER BY seq";
    let entry = |row: &rusqlite::Row<'_>| {
        Ok(Entry { seq: row.get(0)?, kind: row.get(1)?, key: row.get(2)?, body: row.get(3)? })
    };
    conn.prepare(sql)?.query_map([run], entry)?.collect()
}

impl Entries {
    /// Of a run whose journal was read.
    pub(super) fn read(conn: &Connection, run: i64, journal: Vec<Entry>) -> rusqlite::Result<Entries> {
        let generation: u32 =
            conn.query_row("SELECT generation FROM everstep_run WHERE id = ?1", [run], |row| row.get(0))?;
        let mut all: Vec<_> = journal.into_iter().map(|entry| (Place::Journal(generation), entry)).collect();
        let sql = "SELECT a.why = 'restart', a.generation, a.id, e.value ->> 'seq', e.value ->> 'kind', e.value ->> 'key',
                     e.value ->> 'body'
                   FROM everstep_archive a, json_each(a.body) e WHERE a.run = ?1";
        let mut archived = conn.prepare(sql)?;
        let archived = archived.query_map([run], |row| {
            let place = match row.get(0)? {
                true => Place::Journal(row.get(1)?),
                false => Place::TakenBack(row.get(2)?),
            };
            Ok((place, Entry { seq: row.get(3)?, kind: row.get(4)?, key: row.get(5)?, body: row.get(6)? }))
        })?;
        for entry in archived {
            all.push(entry?);
        }
        Ok(Entries(all))
    }

    fn of(&self, kinds: &[Kind]) -> impl Iterator<Item = &(Place, Entry)> {
        let codes: Vec<u16> = kinds.iter().map(|kind| kind.code()).collect();
        self.0.iter().filter(move |(_, entry)| codes.contains(&entry.kind))
    }

    /// Of these kinds, what stands in a journal.
    fn standing(&self, kinds: &[Kind]) -> impl Iterator<Item = (u32, &Entry)> {
        self.of(kinds).filter_map(|(place, entry)| match place {
            Place::Journal(generation) => Some((*generation, entry)),
            Place::TakenBack(_) => None,
        })
    }

    /// Keys of steps with an outcome that stands.
    pub(super) fn recorded(&self) -> BTreeSet<String> {
        let keys = self.standing(&OUTCOMES).filter_map(|(generation, entry)| {
            let key = entry.key.clone()?;
            Some(if generation == 0 { key } else { format!("{key}@{generation}") })
        });
        keys.collect()
    }

    /// Keys of steps that had an outcome in any journal.
    pub(super) fn ever_recorded(&self) -> BTreeSet<String> {
        self.of(&OUTCOMES).filter_map(|(_, entry)| entry.key.clone()).collect()
    }

    /// Keys of steps that a person took back, once for each time.
    pub(super) fn taken_back(&self) -> Vec<String> {
        let attempts = [Kind::StepDone, Kind::StepFailed, Kind::AttemptFailed, Kind::Answered];
        let cut = |(place, entry): &(Place, Entry)| match place {
            Place::TakenBack(cut) => Some((*cut, entry.key.clone()?)),
            Place::Journal(_) => None,
        };
        let keys: BTreeSet<(i64, String)> = self.of(&attempts).filter_map(cut).collect();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Whether a wish to cancel was taken.
    pub(super) fn ask_to_cancel(&self) -> bool {
        self.of(&[Kind::CancelAsked]).next().is_some()
    }

    /// Name and value of each signal that was taken or carried, wherever.
    pub(super) fn signals(&self) -> BTreeSet<String> {
        let taken = self.of(&[Kind::SignalTaken]).filter_map(|(_, entry)| signal(entry));
        let carrying = self.of(&[Kind::Started, Kind::Reseeded]).map(|(_, entry)| entry.body.as_str());
        taken.chain(carried(carrying)).collect()
    }

    /// Name and value of each signal that stands as taken.
    pub(super) fn taken(&self) -> Vec<String> {
        self.standing(&[Kind::SignalTaken]).filter_map(|(_, entry)| signal(entry)).collect()
    }

    /// Keys of promises that were settled.
    pub(super) fn settled(&self) -> BTreeSet<String> {
        self.of(&[Kind::PromiseSettled]).filter_map(|(_, entry)| entry.key.clone()).collect()
    }

    /// The answers to requests.
    pub(super) fn answers(&self) -> Vec<String> {
        let mut answers: Vec<_> =
            self.of(&[Kind::RequestAnswered]).map(|(_, entry)| entry.body.clone()).collect();
        answers.sort();
        answers
    }

    /// The runs that it has started.
    pub(super) fn children(&self) -> BTreeSet<String> {
        let id =
            |body: &str| serde_json::from_str::<Value>(body).ok()?.get("id")?.as_str().map(str::to_string);
        self.of(&[Kind::ChildStarted]).filter_map(|(_, entry)| id(&entry.body)).collect()
    }
}

const OUTCOMES: [Kind; 2] = [Kind::StepDone, Kind::StepFailed];

/// `word 7`: the key is the wait's, `left/word#2`.
fn signal(entry: &Entry) -> Option<String> {
    let key = entry.key.as_deref()?;
    let name = key.rsplit('/').next().unwrap_or(key).split('#').next().unwrap_or(key);
    Some(format!("{name} {}", entry.body))
}

/// Name and value of each signal that these bodies carry over.
pub(super) fn carried<'a>(bodies: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let bodies = bodies.into_iter().filter_map(|body| serde_json::from_str::<Value>(body).ok());
    let carried = bodies
        .filter_map(|mut body| serde_json::from_value::<Vec<Carried>>(body.get_mut("carried")?.take()).ok());
    let signal =
        |signal: Carried| format!("{} {}", signal.name, String::from_utf8_lossy(&signal.value.bytes));
    carried.flatten().map(signal).collect()
}
