//! What has happened and is no entry yet: finished bodies, fired timers, letters. One at a time becomes an entry and is
//! delivered.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    closing::Fate,
    drive::Drive,
    dropped::Orphan,
    mail::Waiter,
    outbox::Draft,
    table::{Arrived, Candidate, Happened, Sort, Stage},
};
use crate::{
    Code, Digest, ErrorKind,
    engine::Event,
    journal::{Answer as Said, Asked, AttemptFailed, Failure, Kind, Payload, Reply, decode, encode},
    store::{Letter, LetterKind, Received, tells_of_a_conflict},
    time::Timestamp,
};

impl Drive {
    /// Turns the next thing that has happened into an entry. What ends the run comes last: nothing is done twice for
    /// it.
    pub(super) fn next_candidate(&mut self) -> bool {
        if self.hear_people() || self.take_letter() {
            return true;
        }
        let mut state = self.core.state();
        let (mut orphan, mut asks) = (None, None);
        if let Some(aside) = state.table.has_aside() {
            self.out.parts.marks.append(&mut aside.marks);
            orphan = aside.orphans.pop_front();
            asks = aside.asking.front().map(|(_, stuck)| stuck.clone());
        }
        let candidate = orphan.is_none().then(|| state.table.candidates.pop_front()).flatten();
        drop(state);
        match (orphan, candidate, asks) {
            (Some(orphan), ..) => self.record_orphan(orphan),
            (_, Some(candidate), _) => self.record(*candidate),
            _ if self.cancel() || self.pass_deadline() => {}
            (_, _, Some(stuck)) => drop(self.end_stuck(stuck)),
            _ => return false,
        }
        true
    }

    /// Whether something has happened that is no entry yet and that no letter told.
    pub(super) fn has_happened(&self) -> bool {
        let table = &mut self.core.state().table;
        !table.candidates.is_empty() || table.has_aside().is_some_and(|aside| !aside.orphans.is_empty())
    }

    pub(super) fn record_orphan(&mut self, orphan: Orphan) {
        let Orphan { step, what, takes } = orphan;
        let (kind, body) = match what {
            Happened::Done(body) | Happened::Known(body) => (Kind::StepDone, body),
            Happened::Failed(failure) => (Kind::StepFailed, encode(&failure)),
            // The step is gone: nobody will make the attempt that would have followed.
            Happened::Again { .. } | Happened::Reset | Happened::Fired | Happened::Skipped => return,
        };
        self.take(takes);
        let input = step.input.map(|input| *input);
        self.append(Draft { attempt: step.attempt, input, ..Draft::new(kind, body).of(step.key, step.site) });
        self.register_last();
    }

    /// Makes an entry of what happened to an open operation, and delivers it.
    pub(super) fn record(&mut self, candidate: Candidate) {
        let Candidate { op, what, takes } = candidate;
        self.take(takes);
        let mut state = self.core.state();
        let slot = state.table.get(op);
        slot.happened = false;
        let about = Draft {
            attempt: slot.attempt(),
            input: slot.input.as_deref().cloned(),
            ..Draft::new(Kind::StepDone, Payload::default()).of(slot.key.clone(), slot.site)
        };
        let (deadline, row) = (slot.deadline, slot.clear_row());
        drop(state);
        self.out.parts.marks.extend(row);
        match what {
            Happened::Done(body) => self.record_done(op, Draft { body, ..about }, false),
            Happened::Known(body) => self.record_done(op, Draft { body, ..about }, true),
            Happened::Failed(failure) => self.record_failed(op, about, failure),
            Happened::Again { .. } if self.next_seq >= self.core.worker.settings.entries_max => {
                let full = self.core.check_room().expect_err("just seen");
                self.record_failed(op, about, full.to_failure(None));
            }
            Happened::Again { error, pause } => self.record_again(op, about, error, pause),
            Happened::Reset => {
                let body = encode(&Said::Retry);
                self.append(Draft { kind: Kind::Answered, body, attempt: 0, input: None, ..about });
                self.reset(op);
            }
            Happened::Fired => self.record_fired(op, Draft { not_before: deadline, ..about }),
            Happened::Skipped => self.record_fired(op, about),
        }
    }

    fn record_fired(&mut self, op: usize, about: Draft) {
        let seq = self.append(Draft { kind: Kind::TimerFired, attempt: 0, ..about });
        self.deliver(op, Arrived { seq, what: Ok(None) });
    }

    /// `known`: the step does not hold the value itself.
    fn record_done(&mut self, op: usize, done: Draft, known: bool) {
        let (run, key, attempt) = (self.core.id().clone(), done.key.clone(), done.attempt);
        self.tell_durable(|| Event::StepDone { run, key: key.expect("a step has a key"), attempt });
        let value = known.then(|| done.body.clone());
        let seq = self.append(done);
        self.register_last();
        self.deliver(op, Arrived { seq, what: Ok(value) });
    }

    /// The last entry is the outcome of a step: what undoes that is registered.
    fn register_last(&self) {
        let mut state = self.core.state();
        let Some(aside) = state.table.has_aside() else { return };
        if let Some(entry) = self.out.parts.entries.last() {
            aside.undos.register(entry);
        }
    }

    fn record_failed(&mut self, op: usize, about: Draft, failure: Failure) {
        let (run, key, attempt) = (self.core.id().clone(), about.key.clone(), about.attempt);
        let error = failure.message.clone();
        self.tell_durable(|| Event::StepFailed { run, key: key.expect("a step has a key"), attempt, error });
        let seq = self.append(Draft { kind: Kind::StepFailed, body: encode(&failure), ..about });
        self.deliver(op, Arrived { seq, what: Err(failure) });
    }

    fn record_again(&mut self, op: usize, about: Draft, error: Failure, pause: std::time::Duration) {
        let now = self.core.state().now;
        let retry_at = self.core.worker.clock.now().max(now).after(pause);
        let (run, key, attempt) = (self.core.id().clone(), about.key.clone(), about.attempt);
        self.tell_durable(|| Event::AttemptFailed {
            run,
            key: key.expect("a step has a key"),
            attempt,
            error: error.message.clone(),
            retry_in: pause,
        });
        let details = self.details_of(about.key.as_deref());
        let body = encode(&AttemptFailed { error, retry_at: retry_at.0, details });
        self.append(Draft { kind: Kind::AttemptFailed, body, ..about });
        self.back_off(op, attempt, retry_at);
    }

    /// What the step's bodies said last.
    fn details_of(&self, key: Option<&str>) -> Option<Payload> {
        self.core.state().table.has_aside()?.details.get(key?).cloned()
    }

    pub(super) fn back_off(&mut self, op: usize, failed: u32, retry_at: Timestamp) {
        let table = &mut self.core.state().table;
        let slot = table.get(op);
        slot.failed = failed;
        slot.expired = None;
        // Other code may not have polled it yet: its first poll says what it wants, and then it starts.
        if !matches!(slot.stage, Stage::Claimed) {
            table.rest(op, Stage::Idle);
            table.set_retry_at(op, Some(retry_at));
        }
    }

    /// A person said: try again, with all its attempts anew. Says nothing about attempts that began since.
    pub(super) fn reset(&mut self, op: usize) {
        let table = &mut self.core.state().table;
        let slot = table.get(op);
        slot.failed = 0;
        slot.expired = None;
        if !matches!(slot.stage, Stage::Claimed) {
            table.set_retry_at(op, None);
            table.rest(op, Stage::Idle);
            table.register(op);
        }
    }

    /// Takes the first letter that is of use now.
    fn take_letter(&mut self) -> bool {
        let useful = self.inbox.letters().find_map(|letter| Some((letter.n, self.use_of(letter)?)));
        let keyed = self.first_keyed();
        let letter = useful.as_ref().map_or(u64::MAX, |(n, _)| *n);
        let before = letter.min(keyed.as_ref().map_or(u64::MAX, |(n, _)| *n));
        let request = self.first_request();
        if self.take_signal(before.min(request.as_ref().map_or(u64::MAX, |(n, ..)| *n))) {
            return true;
        }
        if let Some((_, name, waiter)) = request.filter(|(n, ..)| *n < before) {
            self.take_request(&name, waiter);
            return true;
        }
        if let Some((_, key)) = keyed.filter(|(n, _)| *n < letter) {
            self.take_keyed(&key);
            return true;
        }
        match useful {
            Some((_, Use::Open(candidate))) => self.record(candidate),
            Some((_, Use::Dropped(orphan))) => self.record_orphan(orphan),
            None => return false,
        }
        true
    }

    /// Takes the first signal that a wait wants, if it came before letter `before`.
    fn take_signal(&mut self, before: u64) -> bool {
        let mut state = self.core.state();
        let Some(aside) = state.table.has_aside() else { return false };
        let first = |(name, waiter): (&Arc<str>, Waiter)| {
            Some((self.inbox.signals.first(name)?.n, name.clone(), waiter))
        };
        let wanted = aside.mail.wanted().filter_map(first).min_by_key(|(n, ..)| *n);
        let Some((_, name, waiter)) = wanted.filter(|(n, ..)| *n < before) else { return false };
        let slot = state.table.get(waiter.op);
        let about = Draft::new(Kind::SignalTaken, Payload::default()).of(slot.key.clone(), slot.site);
        drop(state);
        let Received { n, letter } = self.inbox.signals.take(&name).expect("just seen");
        self.take(Some(n));
        let (draft, taken) = match (waiter.decodes)(&letter.body) {
            Ok(()) => (Draft { body: letter.body.clone(), ..about }, Ok(letter.body)),
            Err(why) => {
                let failure = refused_signal(&name, &why);
                let (body, input) = (encode(&failure), Some(letter.body));
                (Draft { kind: Kind::SignalRefused, body, input, ..about }, Err(failure))
            }
        };
        let (run, key) = (self.core.id().clone(), draft.key.clone());
        self.tell_durable(|| Event::SignalTaken { run, key: key.expect("a wait has a key") });
        let seq = self.append(draft);
        self.core.state().table.aside().mail.put(&name, seq, taken);
        true
    }

    /// The first request that a wait wants.
    fn first_request(&self) -> Option<(u64, Arc<str>, Waiter)> {
        let mut state = self.core.state();
        let wanted = state.table.has_aside()?.requests.wanted();
        let first = |(name, waiter): (&Arc<str>, Waiter)| {
            Some((self.inbox.requests.first(name)?.n, name.clone(), waiter))
        };
        wanted.filter_map(first).min_by_key(|(n, ..)| *n)
    }

    /// Takes the first request of this name for the wait.
    fn take_request(&mut self, name: &Arc<str>, waiter: Waiter) {
        let Received { n, letter } = self.inbox.requests.take(name).expect("just seen");
        self.take(Some(n));
        let asked = judged_request(&letter, waiter);
        let mut state = self.core.state();
        state.table.aside().asked.insert(asked.id.0);
        let slot = state.table.get(waiter.op);
        let body = encode(&asked);
        let draft = Draft::new(Kind::RequestTaken, body.clone()).of(slot.key.clone(), slot.site);
        drop(state);
        let (run, key) = (self.core.id().clone(), draft.key.clone());
        self.tell_durable(|| Event::RequestTaken { run, key: key.expect("a wait has a key") });
        let seq = self.append(draft);
        self.core.state().table.aside().requests.put(name, seq, Ok(body));
    }

    /// The first letter about a key that somebody waits for.
    fn first_keyed(&mut self) -> Option<(u64, Arc<str>)> {
        let mut state = self.core.state();
        let links = &mut state.table.has_aside()?.links;
        let begun = std::mem::take(&mut links.begun);
        self.inbox.first_keyed(begun, |key| links.waits(key).is_some())
    }

    /// Records what became of a key, as the last letter about it says; but a conflict is not taken back by the outcome of
    /// the run with which it is.
    fn take_keyed(&mut self, key: &Arc<str>) {
        let letters = self.inbox.take_keyed(key);
        letters.iter().for_each(|received| self.take(Some(received.n)));
        let waiter = self.core.state().table.aside().links.waits(key).expect("just seen");
        let conflict = letters.iter().rposition(|received| tells_of_a_conflict(&received.letter));
        let last = conflict.unwrap_or(letters.len().saturating_sub(1));
        let Some(Received { letter, .. }) = letters.into_iter().nth(last) else { return };
        let (reply, sent) = self.judged(&letter, waiter);
        self.record_reply(waiter.op, &reply, sent, Timestamp(i64::MIN));
    }

    /// What a letter about a key says, once it is known to decode as what is waited for; and the letter's body, if not.
    fn judged(&self, letter: &Letter, waiter: Waiter) -> (Reply, Option<Payload>) {
        let refused = |why: &str| {
            let message =
                format!("what became of `{}` does not decode as what is waited for: {why}", letter.name);
            let failure = Failure::of(ErrorKind::Raised, Code::UNDECODABLE, message);
            (Reply::Failure(failure), Some(letter.body.clone()))
        };
        match decode::<Reply>(&letter.body) {
            Ok(Reply::Value(value)) => match (waiter.decodes)(&Payload::json(value.get())) {
                Ok(()) => (Reply::Value(value), None),
                Err(why) => refused(&why),
            },
            Ok(failure) => (failure, None),
            Err(why) => refused(&why),
        }
    }

    /// An open promise's time is over.
    pub(super) fn expire(&mut self, op: usize) {
        let (key, deadline) = {
            let mut state = self.core.state();
            let slot = state.table.get(op);
            (slot.key.clone(), slot.deadline)
        };
        let message = format!("promise `{key}` was not settled in its time");
        let failure = Failure::of(ErrorKind::Timeout, Code::EXPIRED, message);
        self.record_reply(op, &Reply::Failure(failure), None, deadline);
    }

    /// Makes an entry of what became of the key of an open wait; `sent` is what was sent in place of it.
    fn record_reply(&mut self, op: usize, reply: &Reply, sent: Option<Payload>, not_before: Timestamp) {
        let mut state = self.core.state();
        let slot = state.table.get(op);
        let key = slot.key.clone();
        let (run, told) = (self.core.id().clone(), key.clone());
        let (kind, event) = match slot.sort {
            Sort::Child => (Kind::ChildEnded, Event::ChildEnded { run, key: told }),
            _ => (Kind::PromiseSettled, Event::PromiseSettled { run, key: told }),
        };
        let about = Draft::new(kind, encode(reply)).of(key.clone(), slot.site);
        drop(state);
        self.tell_durable(|| event);
        let seq = self.append(Draft { input: sent, not_before, ..about });
        self.core.state().table.aside().links.put(&key, seq, reply.clone());
    }

    /// Hands signals that were taken to the waits that are there for them now, and what became of keys.
    pub(super) fn hand_out(&mut self) -> bool {
        let mut handed = false;
        loop {
            let next = self.core.state().table.has_aside().and_then(|aside| {
                let signal = aside.mail.hand_out();
                signal.or_else(|| aside.requests.hand_out()).or_else(|| aside.links.hand_out())
            });
            let Some((op, seq, taken)) = next else { return handed };
            self.deliver(op, Arrived { seq, what: taken.map(Some) });
            handed = true;
        }
    }

    /// Whom a letter is for.
    fn use_of(&self, Received { n, letter }: &Received) -> Option<Use> {
        let kind = LetterKind::from_code(letter.kind)?;
        let takes = Some(*n);
        if !matches!(kind, LetterKind::Recorded | LetterKind::Answer) {
            return None;
        }
        let table = &mut self.core.state().table;
        let Some(op) = table.by_key(&letter.name) else {
            let step =
                (kind == LetterKind::Recorded).then(|| table.aside().left.remove(&letter.name)).flatten()?;
            return Some(Use::Dropped(Orphan { step, what: Happened::Known(letter.body.clone()), takes }));
        };
        let slot = table.get(op);
        // What has happened to it is about to be recorded, perhaps this very letter.
        if slot.happened || matches!(slot.stage, Stage::Claimed | Stage::Delivered { .. }) {
            return None;
        }
        let what = match kind {
            LetterKind::Recorded => Happened::Known(letter.body.clone()),
            // An answer is about an attempt that ended; this one is being made.
            _ if slot.stage.is_running() => return None,
            _ => said(&decode(&letter.body).ok()?),
        };
        Some(Use::Open(Candidate { op, what, takes }))
    }

    /// Ends the run if a letter asks for it.
    pub(super) fn cancel(&mut self) -> bool {
        if self.closing.is_some() {
            // It ends already.
            return false;
        }
        let Some(Received { n, letter }) = self.inbox.cancel() else { return false };
        let (n, why) = (*n, String::from_utf8_lossy(&letter.body.bytes).into_owned());
        self.take(Some(n));
        self.close(Kind::CancelAsked, encode(&why), Fate::Cancelled(why));
        true
    }
}

/// A request, and whether it decodes as what its wait asks for.
fn judged_request(letter: &Letter, waiter: Waiter) -> Asked {
    let refused = |why: &str| {
        let message =
            format!("request `{}` does not decode as what the workflow answers: {why}", letter.name);
        Some(Failure::of(ErrorKind::Raised, Code::UNDECODABLE, message))
    };
    match decode::<Asked>(&letter.body) {
        Ok(asked) => {
            let question = Payload::json(asked.question.get());
            let refused = (waiter.decodes)(&question).err().and_then(|why| refused(&why));
            Asked { refused, ..asked }
        }
        Err(why) => {
            let question = RawValue::from_string("null".to_string()).expect("it is JSON");
            Asked { id: Digest(letter.id.0), question, refused: refused(&why) }
        }
    }
}

fn refused_signal(name: &str, why: &str) -> Failure {
    let message = format!("signal `{name}` does not decode as what the workflow waits for: {why}");
    Failure::of(ErrorKind::Raised, Code::UNDECODABLE, message)
}

/// What a letter is good for.
enum Use {
    Open(Candidate),
    Dropped(Orphan),
}

fn said(answer: &Said) -> Happened {
    match answer {
        Said::Done { value } => Happened::Known(Payload::json(value.clone())),
        Said::Retry => Happened::Reset,
        Said::Fail { message } => {
            Happened::Failed(Failure::of(ErrorKind::Raised, Code::ANSWERED, message.clone()))
        }
    }
}
