//! Recorded entries: each must be one that this function can receive now, else the run has diverged.

use std::sync::Arc;

use super::{
    closing::Fate,
    drive::{Drive, Next},
    run::same_input,
    table::{Arrived, Sort},
};
use crate::{
    engine::Event,
    failpoint::{Guard, broken},
    journal::{Asked, AttemptFailed, Entry, Failure, Kind, Payload, Reply, Reseeded, Role, decode},
    scope::name_in,
    stuck::StuckReason,
    time::Timestamp,
};

impl Drive {
    /// Delivers the next recorded entry.
    pub(super) fn deliver_recorded(&mut self, entry: Entry) -> Next {
        let Some(kind) = entry.known_kind() else {
            return self.leave_to_another(format!("entry {} is of kind {}", entry.seq, entry.kind));
        };
        if kind.role() == Role::Command {
            return self.pass_command(kind, &entry);
        }
        if kind.role() != Role::Arrival {
            return self.leave_to_another(format!("entry {} is `{}`", entry.seq, kind.word()));
        }
        if let Some(next) = self.pass_arrival(kind, &entry) {
            return next;
        }
        match (kind, entry.key.clone()) {
            (Kind::CancelAsked, _) => {
                self.close_again(kind, Fate::Cancelled(decode(&entry.body).unwrap_or_default()))
            }
            (Kind::DeadlinePassed, _) => self.close_failed_again(kind, &entry),
            (Kind::KillAsked, _) => self.end_killed_again(&decode::<String>(&entry.body).unwrap_or_default()),
            (Kind::Failing, _) => self.diverged(&entry, "the code has not failed"),
            (Kind::Reseeded, _) => match decode::<Reseeded>(&entry.body) {
                Ok(left) => {
                    self.core.remember(left);
                    Next::Again
                }
                Err(why) => self.undecodable(entry.seq, Kind::Reseeded.word().into(), &why),
            },
            (Kind::Began | Kind::Resumed, _) | (_, None) => Next::Again,
            (_, Some(key)) => self.deliver_keyed(kind, key, entry),
        }
    }

    /// What every recorded arrival does; `Some` if the code has done other things before it.
    pub(super) fn pass_arrival(&mut self, kind: Kind, entry: &Entry) -> Option<Next> {
        self.core.count_entry(entry.seq);
        let fingerprint = {
            let mut state = self.core.state();
            state.now = state.now.max(entry.at);
            state.table.aside().commands.arrived();
            state.fingerprint.folded()
        };
        // Who was cancelled while stuck was cancelled without its function: nobody knew what that had done.
        let is_known = !matches!(kind, Kind::CancelAsked | Kind::KillAsked) || entry.fingerprint != 0;
        if entry.build == self.core.worker.build && is_known && entry.fingerprint != fingerprint {
            return Some(
                self.diverged(entry, "the code did other things before it than when it was recorded"),
            );
        }
        None
    }

    fn deliver_keyed(&mut self, kind: Kind, key: Arc<str>, entry: Entry) -> Next {
        let claim = self.core.state().table.claims().and_then(|claims| claims.get(&key).copied());
        let Some((sort, op, site)) = claim else {
            return self.diverged(&entry, "the code has not asked for it");
        };
        if !sort.takes(kind) {
            return self
                .diverged(&entry, &format!("the code asks for a {} of that key ({site})", sort.word()));
        }
        self.core.worker.tell(|| Event::Skipped { run: self.core.id().clone(), key: key.clone(), kind });
        match sort {
            Sort::Signal => return self.take_recorded(kind, key, entry),
            Sort::Request => return self.ask_recorded(&key, entry),
            Sort::Promise | Sort::Child => return self.put_recorded(key, &entry),
            _ => {}
        }
        if let Some(aside) = self.core.state().table.has_aside() {
            aside.undos.register(&entry);
        }
        let Some(op) = op else { return Next::Again };
        if let Some(detail) = self.other_input(op, &entry) {
            return self.stuck_for(StuckReason::Diverged, Some(key), detail);
        }
        if broken(Guard::Replay) && kind == Kind::StepDone {
            return Next::Again;
        }
        let seq = entry.seq;
        let what = match kind {
            Kind::StepDone => Ok(Some(entry.body)),
            Kind::TimerFired => Ok(None),
            Kind::StepFailed => match decode::<Failure>(&entry.body) {
                Ok(failure) => Err(failure),
                Err(why) => return self.undecodable(seq, key, &why),
            },
            Kind::AttemptFailed => match decode::<AttemptFailed>(&entry.body) {
                Ok(failed) => {
                    self.hear_details(&key, failed.details);
                    self.back_off(op, entry.attempt, Timestamp(failed.retry_at));
                    return Next::Again;
                }
                Err(why) => return self.undecodable(seq, key, &why),
            },
            _ => {
                self.reset(op);
                return Next::Again;
            }
        };
        self.deliver(op, Arrived { seq, what });
        Next::Again
    }

    /// What an attempt said before it failed; but a row that is there tells of a later one.
    fn hear_details(&mut self, key: &Arc<str>, details: Option<Payload>) {
        let Some(details) = details else { return };
        let mut state = self.core.state();
        let aside = state.table.aside();
        if aside.rows.get(key).is_none_or(|row| row.details.is_none()) {
            aside.details.insert(key.clone(), details);
        }
    }

    /// A signal comes into the mailbox again.
    fn take_recorded(&mut self, kind: Kind, key: Arc<str>, entry: Entry) -> Next {
        let taken = match kind {
            Kind::SignalTaken => Ok(entry.body),
            _ => match decode::<Failure>(&entry.body) {
                Ok(failure) => Err(failure),
                Err(why) => return self.undecodable(entry.seq, key, &why),
            },
        };
        self.core.state().table.aside().mail.put(name_in(&key), entry.seq, taken);
        Next::Again
    }

    /// A request comes into the mailbox again.
    fn ask_recorded(&mut self, key: &Arc<str>, entry: Entry) -> Next {
        let asked: Asked = match decode(&entry.body) {
            Ok(asked) => asked,
            Err(why) => return self.undecodable(entry.seq, key.clone(), &why),
        };
        let mut state = self.core.state();
        let aside = state.table.aside();
        aside.asked.insert(asked.id.0);
        aside.requests.put(name_in(key), entry.seq, Ok(entry.body));
        Next::Again
    }

    /// What became of a key is known again.
    fn put_recorded(&mut self, key: Arc<str>, entry: &Entry) -> Next {
        match decode::<Reply>(&entry.body) {
            Ok(reply) => self.core.state().table.aside().links.put(&key, entry.seq, reply),
            Err(why) => return self.undecodable(entry.seq, key, &why),
        }
        Next::Again
    }

    /// How the step's input differs from the recorded one. Under another build only keys and kinds count; an answer may
    /// be recorded without the input.
    fn other_input(&self, op: usize, entry: &Entry) -> Option<String> {
        if entry.build != self.core.worker.build {
            return None;
        }
        let mut state = self.core.state();
        let (recorded, given) = (entry.input.as_ref()?, state.table.get(op).input.as_deref()?);
        let text = |payload: &Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
        (!same_input(recorded, given)).then(|| {
            format!(
                "step `{}` was recorded with the input {}, and is now given {}",
                entry.key.as_deref().unwrap_or("-"),
                text(recorded),
                text(given)
            )
        })
    }

    fn undecodable(&mut self, seq: u64, key: Arc<str>, why: &str) -> Next {
        let detail = format!("entry {seq} of step `{key}` cannot be read: {why}");
        self.stuck_for(StuckReason::Undecodable, Some(key), detail)
    }

    /// The report: what was recorded, what is asked for, what to do.
    pub(super) fn diverged(&mut self, entry: &Entry, why: &str) -> Next {
        let word = entry.known_kind().map_or("?", Kind::word);
        let key = entry.key.as_deref().unwrap_or("-");
        let line = entry.site.as_ref().map_or("?".to_string(), ToString::to_string);
        let mut asked: Vec<String> = self
            .core
            .state()
            .table
            .iter()
            .take(8)
            .map(|(_, slot)| format!("{} `{}` ({})", slot.sort.word(), slot.key, slot.site))
            .collect();
        asked.sort();
        let asked = if asked.is_empty() { "nothing".to_string() } else { asked.join(", ") };
        let detail = format!(
            "entry {}: recorded `{key}` {word} ({line}, build {}), but {why}; it asks for {asked} (build {})",
            entry.seq, entry.build, self.core.worker.build
        );
        self.stuck_for(StuckReason::Diverged, entry.key.clone(), detail)
    }
}
