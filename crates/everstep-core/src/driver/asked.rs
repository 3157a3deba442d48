//! What people ask of a run while it is in memory, besides answers and the end: to pause, to go on, to wait no longer.
//! Heard before anything else that has happened, because it says how the rest is to be taken.

use super::{
    drive::Drive,
    outbox::Draft,
    table::{Candidate, Happened, Sort, Stage},
};
use crate::{
    journal::{Kind, Payload, Reseeded, decode},
    store::{LetterKind, Received},
    stuck::StuckReason,
};

impl Drive {
    /// Does the first thing that a person asks for; `false` if nobody asks for anything.
    pub(super) fn hear_people(&mut self) -> bool {
        if !self.inbox.has_letters() {
            return false;
        }
        // What the run must know of its past comes before what it is to do.
        let first = |kind| self.inbox.letters().find(|received| is_of(received, kind)).cloned();
        if let Some(Received { n, letter }) = first(LetterKind::Reseed) {
            // Whoever takes a run back lets it go on.
            self.take_back_pauses(n);
            self.take(Some(n));
            self.go_on_after_cut(letter.body);
        } else if let Some(resumed) = first(LetterKind::Resume) {
            self.go_on_after_pause(resumed.n);
        } else if let Some(Received { n, letter }) = first(LetterKind::Skip) {
            self.take(Some(n));
            self.skip_wait(Some(&*letter.name).filter(|key| !key.is_empty()));
        } else if let Some(paused) = first(LetterKind::Pause).filter(|_| self.may_pause()) {
            self.pausing = Some(paused.n);
            self.core.news.set_pausing(true);
        } else {
            return false;
        }
        true
    }

    /// A run that ends is not set aside: the letter stays where it is.
    fn may_pause(&self) -> bool {
        self.pausing.is_none() && self.closing.is_none()
    }

    /// It goes on, or ends.
    pub(super) fn pause_no_more(&mut self) {
        self.pausing = None;
        self.core.news.set_pausing(false);
    }

    /// The end of the journal was taken back: what is left of it becomes an entry.
    fn go_on_after_cut(&mut self, body: Payload) {
        match decode::<Reseeded>(&body) {
            Ok(left) => {
                self.append(Draft::new(Kind::Reseeded, body));
                self.core.remember(left);
                self.core.state().table.aside().commands.may_have_children();
            }
            Err(why) => {
                let detail = format!("what was left of the journal's end cannot be read: {why}");
                self.stuck_for(StuckReason::Undecodable, None, detail);
            }
        }
    }

    /// Letter `n` takes back what was asked before it.
    fn go_on_after_pause(&mut self, n: u64) {
        self.take_back_pauses(n);
        self.take(Some(n));
        // Its time goes on here, so that what it begins now does not begin in the past.
        self.append(Draft::new(Kind::Resumed, Payload::default()));
    }

    fn take_back_pauses(&mut self, before: u64) {
        self.take_pauses(before);
        // One that was asked for since is still in the inbox, and is heard next.
        self.pause_no_more();
    }

    /// It is set aside: everybody who has asked for that so far is heard, so that it does not happen again when it goes on.
    pub(super) fn take_all_pauses(&mut self) {
        if self.pausing.is_some() {
            self.take_pauses(u64::MAX);
        }
    }

    fn take_pauses(&mut self, before: u64) {
        let asks = |received: &&Received| received.n < before && is_of(received, LetterKind::Pause);
        let asked: Vec<u64> = self.inbox.letters().filter(asks).map(|asked| asked.n).collect();
        asked.into_iter().for_each(|n| self.take(Some(n)));
    }

    /// Lets the wait of this key end now, or the one that would end first. If there is none, nothing happens: what the run
    /// waits for later was not meant.
    fn skip_wait(&mut self, key: Option<&str>) {
        let mut state = self.core.state();
        let table = &mut state.table;
        let waits = table.iter().filter_map(|(op, slot)| match (slot.sort, slot.stage) {
            (Sort::Timer, Stage::Idle) => Some((slot.deadline, op, &slot.key)),
            (Sort::Step, Stage::Idle) if !slot.happened => Some((slot.retry_at, op, &slot.key)),
            _ => None,
        });
        let meant =
            waits.filter(|(.., of)| key.is_none_or(|key| ***of == *key)).min_by_key(|(at, op, _)| (*at, *op));
        let Some((_, op, _)) = meant else { return };
        match table.get(op).sort {
            Sort::Timer => {
                drop(state);
                self.record(Candidate { op, what: Happened::Skipped, takes: None });
            }
            _ => {
                table.set_retry_at(op, None);
                table.register(op);
            }
        }
    }
}

fn is_of(received: &Received, kind: LetterKind) -> bool {
    LetterKind::from_code(received.letter.kind) == Some(kind)
}
