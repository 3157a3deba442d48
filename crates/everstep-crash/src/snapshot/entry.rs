//! The entries of a run: those of its journal, and those that were put aside, because it began anew or because a person
//! took them back.

use std::collections::BTreeSet;

use everstep::journal::{Carried, Kind};
use serde::Deserialize;
use serde_json::Value;

use super::rows::Archive;

/// One entry.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) kind: u16,
    pub(super) key: Option<String>,
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

impl Entries {
    /// Of a run in this generation.
    pub(super) fn new(generation: u32, journal: Vec<Entry>, archives: &[Archive]) -> Entries {
        let mut all: Vec<_> = journal.into_iter().map(|entry| (Place::Journal(generation), entry)).collect();
        for archive in archives {
            let place = match archive.restart {
                true => Place::Journal(archive.generation),
                false => Place::TakenBack(archive.n),
            };
            all.extend(unpacked(&archive.body).into_iter().map(|entry| (place, entry)));
        }
        Entries(all)
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

/// The entries of an archive. Their bodies are texts, on PostgreSQL `{"codec": 0, "text": ".."}`.
fn unpacked(archive: &str) -> Vec<Entry> {
    let packed: Vec<Value> = serde_json::from_str(archive).expect("an archive is JSON");
    let entry = |value: Value| {
        let body = value["body"].as_str().or(value["body"]["text"].as_str());
        Entry {
            seq: value["seq"].as_i64().expect("a number"),
            kind: value["kind"].as_u64().and_then(|kind| kind.try_into().ok()).expect("a kind"),
            key: value["key"].as_str().map(str::to_string),
            body: body.expect("bodies here are texts").to_string(),
        }
    };
    packed.into_iter().map(entry).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_either_store_is_read() {
        for body in [r#""7""#, r#"{"codec":0,"text":"7"}"#] {
            let archive = format!(r#"[{{"seq":3,"kind":10,"key":"a","body":{body}}}]"#);
            let [entry] = &unpacked(&archive)[..] else { panic!("one entry") };
            assert_eq!((entry.seq, entry.kind, entry.key.as_deref(), &*entry.body), (3, 10, Some("a"), "7"));
        }
    }
}
