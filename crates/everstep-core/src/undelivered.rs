//! Signals that were acknowledged and that no wait returned.

use std::sync::Arc;

use crate::{
    body::Data,
    driver::mail::CARRIED,
    error::{Code, EngineError, ErrorKind},
    journal::{Carried, Entry, Kind, Payload, Reseeded, Role, Start, decode},
    scope::name_in,
    store::{LetterKind, Loaded},
    time::Timestamp,
};

/// A signal that no wait has returned: see [`Run::undelivered`](crate::Run::undelivered).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The signal's name.
    pub name: Arc<str>,
    /// When it was sent; of one that a dropped wait gave back, when it was taken.
    pub at: Timestamp,
    value: Payload,
}

impl Undelivered {
    /// What it carries.
    ///
    /// # Errors
    /// What it carries is no `T`.
    pub fn value<T: Data>(&self) -> Result<T, EngineError> {
        decode(&self.value).map_err(|why| {
            let message = format!("signal `{}` does not decode as asked for: {why}", self.name);
            EngineError::new(ErrorKind::Decode, Code::UNDECODABLE, message)
        })
    }

    /// Those of a run, in the order in which they would have been delivered.
    pub(crate) fn of(loaded: &Loaded) -> Vec<Undelivered> {
        let given_back = given_back(&loaded.entries);
        let still =
            (CARRIED..).zip(brought(&loaded.entries)).filter(|(number, _)| given_back.contains(number));
        let carried = still.map(|(_, signal)| signal);
        let taken = loaded.entries.iter().filter(|entry| given_back.contains(&entry.seq)).map(|entry| {
            let sent =
                if entry.known_kind() == Some(Kind::SignalRefused) { entry.input.as_ref() } else { None };
            Undelivered {
                name: entry.key.as_deref().map_or("", name_in).into(),
                at: entry.at,
                value: sent.unwrap_or(&entry.body).clone(),
            }
        });
        // What a person took back with the end of a journal, and no load has read since.
        let reseeds = loaded.inbox.iter().filter(|r| r.letter.kind == LetterKind::Reseed as u16);
        let unread = reseeds.flat_map(|r| {
            let left = decode::<Reseeded>(&r.letter.body).map(|left| left.carried).unwrap_or_default();
            left.into_iter().map(|signal| of_carried(signal, r.letter.at))
        });
        let signals = loaded.inbox.iter().filter(|r| r.letter.kind == LetterKind::Signal as u16);
        let waiting = signals.map(|r| Undelivered {
            name: r.letter.name.clone(),
            at: r.letter.at,
            value: r.letter.body.clone(),
        });
        carried.chain(taken).chain(unread).chain(waiting).collect()
    }
}

/// What other journals had taken and this one was brought, in the order in which it is numbered: by the generation
/// before, by the parts that people took back.
fn brought(entries: &[Entry]) -> impl Iterator<Item = Undelivered> {
    entries.iter().flat_map(|entry| {
        let carried = match entry.known_kind() {
            Some(Kind::Started) => decode::<Start>(&entry.body).map(|start| start.carried),
            Some(Kind::Reseeded) => decode::<Reseeded>(&entry.body).map(|left| left.carried),
            _ => return Vec::new(),
        };
        carried.unwrap_or_default().into_iter().map(|signal| of_carried(signal, entry.at)).collect()
    })
}

fn of_carried(signal: Carried, at: Timestamp) -> Undelivered {
    Undelivered { name: signal.name.into(), at, value: signal.value }
}

/// What an outcome says about signals that were taken and given back.
fn given_back(entries: &[Entry]) -> Vec<u64> {
    let outcome =
        entries.last().filter(|last| last.known_kind().is_some_and(|kind| kind.role() == Role::Outcome));
    outcome.and_then(|last| decode(last.input.as_ref()?).ok()).unwrap_or_default()
}
