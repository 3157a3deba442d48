//! What the world sees of a store's calls: whose runs are owned, what was committed, what reached which run.

use std::sync::{Arc, Mutex, PoisonError};

use everstep_core::{
    journal::{Entry, decode},
    store::{
        Act, Adopt, Claimed, Does, End, Fence, Letter, LetterKind, NewRun, Post, Receipt, Say, Settled,
        Started, StoreError, Turn,
    },
};

use crate::{
    history::{Ending, Noted, What},
    opening::{Fate, Opening},
    program::SIGNALS,
};

/// Hands a start's runs to a process that lives, and observes who owns them.
pub(crate) struct Adopting {
    pub(crate) opening: Arc<Opening>,
    pub(crate) inner: Arc<dyn Adopt>,
    pub(crate) heard: bool,
}

impl Adopt for Adopting {
    fn adopt(&self, run: Claimed, first: Entry) {
        saw_owned(&self.opening, &run);
        if self.heard && !self.opening.is_dead() {
            self.inner.adopt(run, first);
        }
    }
}

pub(crate) fn saw_owned(opening: &Opening, claimed: &Claimed) {
    let run = opening.world.run_of_id(&claimed.row.id);
    opening.world.is_numbered(claimed.row.run, run);
    opening.world.saw(What::Owned { run, worker: claimed.row.owner.map_or(0, |owner| owner.0) });
}

/// Observes what became of a turn, and tells the engine what the fault lets it hear.
pub(crate) struct Relay {
    pub(crate) opening: Arc<Opening>,
    pub(crate) inner: Arc<dyn Receipt>,
    pub(crate) fate: Fate,
    /// What it was, until it is settled.
    pub(crate) told: Mutex<Vec<What>>,
}

impl Receipt for Relay {
    fn settled(&self, settled: Settled) {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        match &settled {
            Settled::Durable { .. } => told.into_iter().for_each(|what| self.opening.world.saw(what)),
            other => {
                self.opening.world.note(format_args!("w{} turn {other:?}", self.opening.worker()));
            }
        }
        if self.opening.is_dead() || self.fate == Fate::Unheard {
            return;
        }
        match self.fate {
            Fate::Unknown { .. } => {
                let over = StoreError::Closed("nobody knows whether the last commit happened".into());
                self.inner.settled(Settled::Refused(over));
            }
            _ => self.inner.settled(settled),
        }
    }
}

/// What a turn is, once it is durable.
pub(crate) fn turn_told(opening: &Opening, fence: Fence, turn: &Turn) -> Vec<What> {
    let end = turn.end.as_ref().map(|end| match end {
        End::Finished { .. } => Ending::Finished,
        End::Parked { .. } => Ending::Parked,
        End::Stuck { .. } => Ending::Stuck,
        End::Paused { .. } => Ending::Paused,
        End::GivenBack { .. } => Ending::GivenBack,
        End::Restarted { .. } => Ending::Restarted,
    });
    let world = &opening.world;
    let run = world.run_of(turn.run);
    let generation = world.generation(run);
    let entries = turn.entries.iter().map(|entry| Noted::of(entry, generation)).collect();
    let children = turn.says.iter().filter_map(|say| match say {
        Say::Child { run: new, .. } => Some(new),
        _ => None,
    });
    let children = children.filter_map(|new| {
        let (child, parent) = (world.run_of_id(&new.id), new.parent.as_ref()?);
        let (key, closes) = (world.keyed(run, &parent.key), parent.closes);
        Some(What::ChildStarted { run, child, key, closes })
    });
    let turn = What::Turn { run, worker: fence.worker.0, entries, end };
    children.chain([turn]).collect()
}

/// Tells the world of a start.
pub(crate) fn saw_started(opening: &Opening, run: &NewRun, started: &Started) {
    let (world, number) = (&opening.world, opening.world.run_of_id(&run.id));
    let new = matches!(started, Started::New(_));
    if let Started::New(id) = started {
        world.is_numbered(*id, number);
    }
    world.saw(What::Started { run: number, new });
    if new {
        run.letters.iter().filter_map(|letter| signal_told(number, letter)).for_each(|what| world.saw(what));
    }
}

fn signal_told(run: usize, letter: &Letter) -> Option<What> {
    let name = SIGNALS.iter().position(|signal| *signal.name() == *letter.name)?;
    let value = decode(&letter.body).ok()?;
    (letter.kind == LetterKind::Signal as u16).then_some(What::SignalPosted { run, name, value })
}

/// Tells the world of a letter that was added.
pub(crate) fn saw_posted(
    opening: &Opening,
    post: &Post,
) -> impl FnOnce(&Opening, bool) + Send + 'static + use<> {
    let run = post.to.run().map(|id| opening.world.run_of_id(id));
    let what = run.and_then(|run| match LetterKind::from_code(post.letter.kind)? {
        LetterKind::Cancel => Some(What::CancelPosted { run }),
        LetterKind::Answer => Some(What::AnswerPosted { run }),
        _ => signal_told(run, &post.letter),
    });
    move |opening, added| what.into_iter().filter(|_| added).for_each(|what| opening.world.saw(what))
}

/// Tells the world of what a person has done.
pub(crate) fn saw_acted(
    opening: &Opening,
    does: &Does,
    act: &Act,
) -> impl FnOnce(&Opening, bool) + Send + 'static + use<> {
    let world = &opening.world;
    let post = match does {
        Does::Post(post) | Does::Pause(post) => Some(post),
        Does::Cut(_) | Does::Edit(_) => None,
    };
    let run = post.and_then(|post| post.to.run()).map(|id| world.run_of_id(id));
    let verb = ["kill", "pause", "resume"].into_iter().find(|verb| **verb == *act.verb);
    let acted = verb.zip(run).map(|(verb, run)| What::Acted { run, verb });
    let posted = post.map(|post| saw_posted(opening, post));
    let cut = match does {
        Does::Cut(cut) => Some(What::CutBack { run: world.run_of(cut.run), from: cut.from }),
        _ => None,
    };
    move |opening, done| {
        posted.into_iter().for_each(|saw| saw(opening, done));
        acted.into_iter().chain(cut).filter(|_| done).for_each(|what| opening.world.saw(what));
    }
}

pub(crate) fn saw_all_owned<C: IntoIterator<Item = Claimed> + Clone>(
    opening: &Opening,
    claimed: &Result<C, StoreError>,
) {
    for claimed in claimed.iter().cloned().flatten() {
        saw_owned(opening, &claimed);
    }
}
