//! Commands: what the function does by a call and needs no answer to. A call becomes an entry when the function is
//! quiet and the whole journal has been delivered; on replay it is found by kind and key, wherever between two arrivals
//! it was made.

use std::{
    collections::{HashMap, HashSet},
    panic::Location,
    sync::Arc,
};

use super::{
    children::{cancel_letter, has_children},
    drive::{Drive, Next},
    outbox::Draft,
    run::RunCore,
};
use crate::{
    attribute::AttributeValue,
    engine::Event,
    error::Error,
    failpoint::{Failpoint, pass},
    journal::{Entry, Kind, Payload, Role, encode},
    scope::name_in,
    store::{LetterId, NewRun, PATCHED, Say},
    time::Timestamp,
};

/// The attribute of a run that went the new way.
pub(crate) fn patched_attribute(key: &str) -> Arc<str> {
    format!("{PATCHED}{key}").into()
}

/// The commands of a run, as one load knows them.
#[derive(Default)]
pub(crate) struct Commands {
    recorded: HashMap<(Kind, Arc<str>), Recorded>,
    /// Called and no entry yet, in the order of the calls.
    made: Vec<Made>,
    /// How many recorded arrivals are still to be delivered.
    to_come: u64,
    /// How many items each stream has in the journal.
    emitted: HashMap<Arc<str>, u64>,
    /// Patches that were asked for while arrivals were to come, and were not recorded.
    unpatched: HashSet<Arc<str>>,
    /// Whether there may be children.
    children: bool,
    /// Children that were asked to cancel.
    cancelled: HashSet<Arc<str>>,
}

struct Recorded {
    body: Payload,
    called: bool,
}

/// A call of the function, as it is found in the journal.
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) key: Arc<str>,
    pub(crate) site: &'static Location<'static>,
}

/// A call that is no entry yet.
struct Made {
    call: Call,
    body: Payload,
    tells: Tells,
}

/// Whom a command tells what, beside the journal.
pub(crate) enum Tells {
    /// Whoever asks which runs went the new way.
    Patched,
    /// Readers of the published value of the key's name.
    Published,
    /// Readers of the stream of the key's name.
    Emitted,
    /// Whoever looks for runs by their attributes.
    Attribute(Option<AttributeValue>),
    /// The engine's audience.
    Undo,
    /// Whoever has the token of the promise of this key.
    Promised { hash: [u8; 32], expires: Option<Timestamp> },
    /// The child.
    Child(Box<NewRun>),
    /// The child of this key.
    CancelChild(String),
    /// Who asked.
    Answered(LetterId),
}

impl Commands {
    /// What the journal holds.
    pub(crate) fn of(entries: &[Entry]) -> Commands {
        let mut commands = Commands { children: has_children(entries), ..Commands::default() };
        for entry in entries {
            let Some(kind) = entry.known_kind() else { continue };
            match (kind.role(), &entry.key) {
                (Role::Arrival, _) => commands.to_come += 1,
                (Role::Command, Some(key)) => {
                    commands.count(kind, key);
                    let recorded = Recorded { body: entry.body.clone(), called: false };
                    commands.recorded.insert((kind, key.clone()), recorded);
                }
                _ => {}
            }
        }
        commands
    }

    /// For the function that undoes: it makes other calls than the one before it.
    pub(super) fn without_made(self) -> Commands {
        Commands { made: Vec::new(), ..self }
    }

    /// Whether this run may have started children.
    pub(super) fn has_children(&self) -> bool {
        self.children
    }

    /// Their starts are in the journal, or were before its end was taken back.
    pub(super) fn may_have_children(&mut self) {
        self.children = true;
    }

    /// How many items the stream had before this one, if it is one.
    fn count(&mut self, kind: Kind, key: &str) -> u64 {
        if kind != Kind::Emitted {
            return 0;
        }
        let items = self.emitted.entry(name_in(key).into()).or_default();
        *items += 1;
        *items - 1
    }

    /// A recorded arrival was delivered.
    pub(super) fn arrived(&mut self) {
        self.to_come = self.to_come.saturating_sub(1);
    }

    /// The recorded body, if this call is in the journal.
    fn call(&mut self, kind: Kind, key: &Arc<str>) -> Option<&Payload> {
        let recorded = self.recorded.get_mut(&(kind, key.clone()))?;
        recorded.called = true;
        Some(&recorded.body)
    }

    /// Whether the function has made this recorded call.
    pub(super) fn was_called(&self, kind: Kind, key: &Arc<str>) -> bool {
        self.recorded.get(&(kind, key.clone())).is_none_or(|recorded| recorded.called)
    }

    /// Whether the code behind the patch is new for this run. The first call decides for all.
    fn is_patched(&mut self, id: &Arc<str>) -> Patched {
        if self.call(Kind::Patched, id).is_some() || self.made.iter().any(|made| made.is(Kind::Patched, id)) {
            return Patched::Recorded;
        }
        if self.to_come > 0 || self.unpatched.contains(id) {
            self.unpatched.insert(id.clone());
            return Patched::No;
        }
        Patched::New
    }
}

impl Made {
    fn is(&self, kind: Kind, key: &str) -> bool {
        self.call.kind == kind && *self.call.key == *key
    }
}

enum Patched {
    Recorded,
    No,
    New,
}

impl RunCore {
    /// A call of the function that is in the journal, or will be; the recorded body if it is.
    pub(crate) fn command(&self, call: Call, make: impl FnOnce() -> (Payload, Tells)) -> Option<Payload> {
        let state = &mut *self.state();
        let Call { kind, key, site } = &call;
        state.fingerprint.add_call(kind.code() as u8, key, site.line(), site.column());
        state.last_call = Some(site);
        let commands = &mut state.table.aside().commands;
        if let Some(recorded) = commands.call(*kind, key) {
            return Some(recorded.clone());
        }
        let (body, tells) = make();
        commands.made.push(Made { call, body, tells });
        None
    }

    /// A promise that was made just now is to be settled by then.
    pub(crate) fn promise_expires(&self, key: &str, at: Option<Timestamp>) {
        let mut state = self.state();
        let made =
            state.table.aside().commands.made.iter_mut().rev().find(|made| made.is(Kind::PromiseMade, key));
        if let Some(Made { tells: Tells::Promised { expires, .. }, .. }) = made {
            *expires = at;
        }
    }

    /// See [`Child::cancel`](crate::Child::cancel).
    pub(crate) fn cancel_child(&self, key: &Arc<str>, why: &str, site: &'static Location<'static>) {
        let is_new = self.state().table.aside().commands.cancelled.insert(key.clone());
        if is_new {
            let call = Call { kind: Kind::ChildCancelAsked, key: key.clone(), site };
            self.command(call, || (encode(&why), Tells::CancelChild(why.to_string())));
        }
    }

    /// See [`Ctx::patched`](crate::Ctx::patched).
    pub(crate) fn patched(&self, id: &str, site: &'static Location<'static>) -> bool {
        let state = &mut *self.state();
        state.last_call = Some(site);
        let key: Arc<str> = id.into();
        let commands = &mut state.table.aside().commands;
        match commands.is_patched(&key) {
            Patched::Recorded => true,
            Patched::No => false,
            Patched::New => {
                let (call, body) = (Call { kind: Kind::Patched, key, site }, Payload::json("true"));
                commands.made.push(Made { call, body, tells: Tells::Patched });
                true
            }
        }
    }

    /// Whether the journal has room for a command, and it may be called here.
    pub(crate) fn check_command(&self, what: &str) -> Result<(), Error> {
        self.check_place(what).and_then(|()| self.check_room())
    }
}

impl Drive {
    /// Makes entries of what was called since, now that nothing recorded is to come.
    pub(super) fn record_commands(&mut self) {
        let made = self.core.state().table.has_aside().map(|aside| std::mem::take(&mut aside.commands.made));
        made.into_iter().flatten().for_each(|made| self.record_command(made));
    }

    fn record_command(&mut self, made: Made) {
        let Made { call: Call { kind, key, site }, body, tells } = made;
        let n = self.core.state().table.aside().commands.count(kind, &key);
        let seq = self.append(Draft::new(kind, body.clone()).of(key.clone(), site));
        let (name, at): (Arc<str>, _) = (name_in(&key).into(), self.core.state().now);
        let says = match tells {
            Tells::Patched => {
                let value = Some(AttributeValue::Time(at));
                Some(Say::Attribute { name: patched_attribute(&key), value })
            }
            Tells::Published => Some(Say::Published { name, body, seq, at }),
            Tells::Emitted => Some(Say::Emitted { name, n, body, at }),
            Tells::Attribute(value) => Some(Say::Attribute { name, value }),
            Tells::Promised { hash, expires } => Some(Say::Promised { hash, key, expires }),
            Tells::Child(run) => {
                self.core.state().table.aside().commands.may_have_children();
                self.forget_outcomes(&key);
                Some(Say::Child { run, answer: LetterId(self.core.worker.entropy.draw()) })
            }
            Tells::Answered(id) => Some(Say::Answered { id, body, at }),
            Tells::CancelChild(why) => {
                let letter = cancel_letter(&why, at, &self.core.worker.entropy);
                Some(Say::Cancel { child: Some(key), letter })
            }
            Tells::Undo => {
                let run = self.core.id().clone();
                self.tell_durable(|| Event::UndoBegun { run, key });
                pass(Failpoint::UndoBegins);
                None
            }
        };
        self.out.parts.says.extend(says);
    }

    /// A recorded command: the function has called it by now, or it does so no more.
    pub(super) fn pass_command(&mut self, kind: Kind, entry: &Entry) -> Next {
        self.core.count_entry(entry.seq);
        match self.is_missed(kind, entry) {
            true => self.diverged(entry, "the code has not done it"),
            false => Next::Again,
        }
    }

    /// Whether a recorded command that was not called is missed: what only tells somebody something may be gone from
    /// other code, and a patch that was once decided too; a child or a promise may not.
    pub(super) fn is_missed(&self, kind: Kind, entry: &Entry) -> bool {
        let Some(key) = &entry.key else { return false };
        let is_called =
            self.core.state().table.has_aside().is_none_or(|aside| aside.commands.was_called(kind, key));
        let only_tells = matches!(
            kind,
            Kind::Patched | Kind::Published | Kind::Emitted | Kind::AttributeSet | Kind::ChildCancelAsked
        );
        !is_called && (entry.build == self.core.worker.build || !only_tells)
    }
}
