//! How runs come into the memory of a worker, and what becomes of those whose load ends before they are over.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::worker::Worker;
use crate::{
    Ctx,
    driver::{Drive, Exit, run::RunCore},
    failpoint::{Failpoint, fails, pass},
    journal::{Start, decode},
    status::Status,
    store::{Claimed, Loaded, RunId, StoreError},
    stuck::{Stuck, StuckReason},
};

/// Runs that are read together: few enough that the first ones go on while the others are read.
const TOGETHER: usize = 128;
/// After a refused turn, times the number of refusals; and before a store is asked again that can do nothing just now.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// A run whose turns are refused so often in a row needs a person.
const REFUSALS_MAX: u32 = 3;

impl Worker {
    /// Loads claimed runs and drives them. A place must have been reserved for each.
    pub(super) fn load(self: &Arc<Self>, claimed: Vec<Claimed>) {
        let mut claimed = claimed.into_iter();
        while claimed.len() > 0 {
            self.spawn(self.clone().load_together(claimed.by_ref().take(TOGETHER).collect()));
        }
    }

    async fn load_together(self: Arc<Self>, claimed: Vec<Claimed>) {
        let (failed, mut claimed): (Vec<_>, Vec<_>) =
            claimed.into_iter().partition(|_| fails(Failpoint::RunClaimed));
        for claimed in failed {
            self.leave_unread(&claimed, StoreError::Failed("a failpoint failed".into()));
        }
        while !claimed.is_empty() {
            let runs = claimed.iter().map(|claimed| claimed.row.run).collect();
            let read = match self.store.load_some(runs).await {
                Ok(read) if read.is_empty() => Err(StoreError::Failed("the store read none of them".into())),
                read => read,
            };
            let read = read.unwrap_or_else(|error| claimed.iter().map(|_| Err(error.clone())).collect());
            let together = read.len().min(claimed.len());
            let mut unread = Vec::new();
            for (claimed, read) in claimed.drain(..together).zip(read) {
                match read {
                    Ok(loaded) => self.take_in(Box::new((claimed, loaded))),
                    Err(StoreError::Full(why)) => {
                        tracing::warn!(run = %claimed.row.id, %why, "a run cannot be read yet");
                        unread.push(claimed);
                    }
                    Err(error) => self.leave_unread(&claimed, error),
                }
            }
            if !unread.is_empty() {
                claimed.append(&mut unread);
                // Not given back: by a clock that is ahead it would be left alone for long.
                let slept = self.clock.sleep(REFUSED_PAUSE);
                tokio::select! {
                    biased;
                    // They stay this worker's, and are freed with it.
                    () = self.stopped.cancelled() => return self.residents.unreserve(claimed.len()),
                    () = slept => {}
                }
            }
        }
    }

    fn leave_unread(self: &Arc<Self>, claimed: &Claimed, error: StoreError) {
        self.residents.unreserve(1);
        self.settle_unread(claimed, error);
    }

    /// Drives a run that was read. A place must have been reserved.
    pub(super) fn take_in(self: &Arc<Self>, taken: Box<(Claimed, Loaded)>) {
        self.spawn(self.clone().drive(taken));
    }

    /// Everything is boxed: a task keeps room for whatever it ever held, and most runs wait most of the time.
    pub(super) async fn drive(self: Arc<Self>, taken: Box<(Claimed, Loaded)>) {
        let Some((core, drive)) = self.prepare(unbox(taken)) else {
            self.residents.unreserve(1);
            return;
        };
        let stay = Stay { worker: &self, core: &core };
        let exit = std::panic::AssertUnwindSafe(drive).catch_unwind().await;
        drop(stay);
        match exit {
            Ok(Exit::Over) => self.residents.accepted(core.claimed.row.run),
            Ok(Exit::Restarted) => {
                self.residents.accepted(core.claimed.row.run);
                let (worker, run) = (self.clone(), core.claimed.row.run);
                // In a task of its own: this one would keep room for it all the time.
                self.spawn(async move { worker.go_on(run).await });
            }
            Ok(Exit::Unfit(stuck)) => {
                let worker = self.clone();
                // In a task of its own: this one would keep room for it all the time.
                self.spawn(async move { worker.leave_or_settle(&core.claimed, stuck).await });
            }
            Ok(Exit::Dropped(error)) => self.take_again(&core.claimed, error),
            Err(panic) => {
                let (worker, stuck) = (self.clone(), panicked(&*panic));
                // In a task of its own: this one would keep room for it all the time.
                self.spawn(async move { worker.read_and_settle(&core.claimed, stuck).await });
            }
        }
    }

    /// The driver of a run, or `None` if it was settled without one.
    fn prepare(self: &Arc<Self>, (claimed, loaded): (Claimed, Loaded)) -> Option<(Arc<RunCore>, Box<Drive>)> {
        pass(Failpoint::RunRead);
        if self.settle_killed(&claimed, &loaded) {
            return None;
        }
        if claimed.row.status == Status::Stuck {
            self.wake_stuck(&claimed, &loaded);
            return None;
        }
        if let Some(stuck) = self.unfit(&claimed, &loaded) {
            self.settle_stuck(&claimed, &loaded, stuck);
            return None;
        }
        let first = &loaded.entries[0];
        if first.known_kind().is_none() {
            self.leave_to_another(&claimed, first.kind);
            return None;
        }
        let start: Start = match decode(&first.body) {
            Ok(start) => start,
            Err(why) => return self.undecodable(&claimed, &loaded, format!("entry 0 cannot be read: {why}")),
        };
        let core = RunCore::new(claimed.clone(), &start, first.at, self.clone());
        if !start.carried.is_empty() {
            core.state().table.aside().mail.bring(start.carried);
        }
        let runner = self.runners.get(&claimed.row.workflow).expect("only known workflows are claimed");
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runner(Ctx::root(core.clone()), start.input.get().as_bytes())
        }));
        let function = match called {
            Ok(Ok(function)) => function,
            Ok(Err(why)) => {
                let detail = format!("the input does not decode as the workflow's type: {why}");
                return self.undecodable(&claimed, &loaded, detail);
            }
            Err(panic) => {
                let detail =
                    format!("the workflow panicked at its call: {}", crate::error::panic_message(&*panic));
                let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail };
                self.settle_unfit(&claimed, &loaded, stuck);
                return None;
            }
        };
        // A message that came since the read has nudged it: its place was reserved before it became this worker's.
        self.residents.enter(&core);
        Some((core.clone(), Box::new(Drive::new(core, function, loaded))))
    }

    fn undecodable(
        self: &Arc<Self>,
        claimed: &Claimed,
        loaded: &Loaded,
        detail: String,
    ) -> Option<(Arc<RunCore>, Box<Drive>)> {
        let stuck = Stuck { reason: StuckReason::Undecodable, key: None, detail };
        self.settle_unfit(claimed, loaded, stuck);
        None
    }

    /// A turn of a run was refused for good, though this worker is live: nothing of its load is accepted any more. The
    /// run is read anew; if that does not help, it needs a person.
    pub(super) fn take_again(self: &Arc<Self>, claimed: &Claimed, error: StoreError) {
        match error {
            StoreError::Fenced(_) => return self.lost(),
            StoreError::Closed(_) => return self.end(error),
            _ => {}
        }
        let run = claimed.row.run;
        let refusals = self.residents.refused(run);
        tracing::error!(run = %claimed.row.id, %error, refusals, "a turn was refused: the run is read anew");
        if refusals > REFUSALS_MAX {
            // Not even its being stuck is accepted. It stays this worker's, and is freed with it.
            return;
        }
        let worker = self.clone();
        self.spawn(async move {
            let Some(again) = worker.reload(run, REFUSED_PAUSE * refusals).await else { return };
            let last = worker.store.last(run).await.ok().flatten();
            let refusals = last.map_or(refusals, |last| worker.residents.refused_at(run, last.seq));
            if refusals == REFUSALS_MAX {
                let detail = format!("its turns are refused, {refusals} times in a row: {error}");
                let stuck = Stuck { reason: StuckReason::JournalDamaged, key: None, detail };
                worker.residents.unreserve(1);
                return worker.read_and_settle(&again, stuck).await;
            }
            worker.load(vec![again]);
        });
    }

    /// The next generation of a run begins.
    async fn go_on(self: Arc<Self>, run: RunId) {
        if let Some(next) = self.reload(run, Duration::ZERO).await {
            self.load(vec![next]);
        }
    }

    /// Takes a run again that is this worker's, after a pause, and a place for it; `None` if it is not, or the worker
    /// leaves. A store that can do nothing at the moment (a full disk) is asked until it can.
    async fn reload(&self, run: RunId, pause: Duration) -> Option<Claimed> {
        // Now: from the moment when the store takes it again, messages are for the load that is on its way.
        self.residents.reserve_one();
        let again = self.reloaded(run, pause).await;
        if again.is_none() {
            self.residents.unreserve(1);
        }
        again
    }

    async fn reloaded(&self, run: RunId, mut pause: Duration) -> Option<Claimed> {
        loop {
            let slept = self.clock.sleep(pause);
            tokio::select! { biased; () = self.stopped.cancelled() => return None, () = slept => {} }
            match self.store.reload(self.fence, run).await {
                Ok(again) => return again,
                Err(StoreError::Fenced(_) | StoreError::Closed(_)) => return None,
                Err(error) => tracing::warn!(run = run.0, %error, "a run cannot be taken again yet"),
            }
            // Not at once: what is in the way may stay there for long.
            pause = pause.max(REFUSED_PAUSE);
        }
    }

    /// For a run that is not in memory any more: a cancel may wait in its inbox.
    pub(super) async fn read_and_settle(self: &Arc<Self>, claimed: &Claimed, stuck: Stuck) {
        let read = self.store.load(claimed.row.run).await;
        self.settle_stuck(claimed, &read.unwrap_or_else(|_| Loaded::nothing()), stuck);
    }
}

/// A run's stay in memory. It ends with its task, also when a runtime drops that in the middle.
struct Stay<'w> {
    worker: &'w Worker,
    core: &'w Arc<RunCore>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.worker.residents.leave(self.core);
        self.worker.room.notify_waiters();
    }
}

/// What a box holds. In a function of its own, because a box that is emptied in an async function keeps its memory to the
/// function's end.
#[allow(clippy::boxed_local, reason = "to free the box is what it is for")]
fn unbox<T>(full: Box<T>) -> T {
    *full
}

/// The driver itself panicked: a value of the user's did it, in a place where nobody expects one.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Stuck {
    let detail = format!("while it was driven: {}", crate::error::panic_message(panic));
    Stuck { reason: StuckReason::Panicked, key: None, detail }
}
