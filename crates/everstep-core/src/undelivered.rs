//! Signals that were acknowledged and that no wait returned.

use std::sync::Arc;

use crate::{
    body::Data,
    driver::mail::CARRIED,
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Kind, Payload, Role, Start, decode},
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
        let first = loaded.entries.first();
        let carried = first.and_then(|first| Some((first.at, decode::<Start>(&first.body).ok()?.carried)));
        let carried = carried.into_iter().flat_map(|(at, carried)| {
            let still = (CARRIED..).zip(carried).filter(|(number, _)| given_back.contains(number));
            still.map(move |(_, signal)| Undelivered { name: signal.name.into(), at, value: signal.value })
        });
        let taken = loaded.entries.iter().filter(|entry| given_back.contains(&entry.seq)).map(|entry| {
            let sent =
                if entry.known_kind() == Some(Kind::SignalRefused) { entry.input.as_ref() } else { None };
            Undelivered {
                name: entry.key.as_deref().map_or("", name_in).into(),
                at: entry.at,
                value: sent.unwrap_or(&entry.body).clone(),
            }
        });
        let signals = loaded.inbox.iter().filter(|r| r.letter.kind == LetterKind::Signal as u16);
        let waiting = signals.map(|r| Undelivered {
            name: r.letter.name.clone(),
            at: r.letter.at,
            value: r.letter.body.clone(),
        });
        carried.chain(taken).chain(waiting).collect()
    }
}

/// What an outcome says about signals that were taken and given back.
fn given_back(entries: &[Entry]) -> Vec<u64> {
    let outcome =
        entries.last().filter(|last| last.known_kind().is_some_and(|kind| kind.role() == Role::Outcome));
    outcome.and_then(|last| decode(last.input.as_ref()?).ok()).unwrap_or_default()
}
