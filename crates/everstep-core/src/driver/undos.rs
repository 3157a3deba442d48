//! What a run undoes when it fails or is cancelled, as one load knows it: the code that steps brought along, and the
//! outcomes that were delivered. Pure bookkeeping, and the function that runs it all after the workflow's own.

use std::{collections::HashMap, panic::Location, sync::Arc};

use super::{
    commands::{Call, Tells},
    run::RunCore,
    table::Sort,
};
use crate::{
    BoxFuture,
    error::{Code, Error, Result},
    failpoint::{Failpoint, pass},
    journal::{Entry, Kind, Payload},
    retry::Retry,
    scope::Claim,
    step::{Spent, Step, record},
    step_ctx::StepCtx,
    stuck::StuckReason,
};

/// What the keys of a run's ending begin with: `undo/email`. No scope of the user's is called so.
pub(crate) const UNDO: &str = "undo";

/// Makes one attempt of an undo, given the step's recorded output.
pub(crate) type Undo = Box<dyn Fn(StepCtx, &Payload) -> BoxFuture<'static, Result<()>> + Send>;

/// The code that undoes a step, and how it is repeated.
pub(crate) struct Offer {
    pub(crate) work: Undo,
    pub(crate) retry: Option<Retry>,
    pub(crate) site: &'static Location<'static>,
}

/// A step that would be undone.
struct Registered {
    seq: u64,
    key: Arc<str>,
    output: Payload,
    offer: Offer,
}

/// Everything a run would undo.
#[derive(Default)]
pub(crate) struct Undos {
    /// Of steps whose outcome was not delivered yet.
    offers: HashMap<Arc<str>, Offer>,
    /// By the number of the entry that delivered the outcome.
    registered: Vec<Registered>,
    /// Entries before this number are those of the run that this one was forked from: it undoes them.
    pub(crate) prefix: u64,
    /// Of steps that another run undoes.
    others: Vec<Offer>,
    /// What `on_cancel` was given, in the order of the calls.
    cleanups: Vec<(Arc<str>, Offer)>,
}

impl Undos {
    /// A step brings its undo along.
    pub(crate) fn offer(&mut self, key: Arc<str>, offer: Offer) {
        self.offers.insert(key, offer);
    }

    /// An entry was delivered, perhaps a step's result.
    pub(crate) fn register(&mut self, entry: &Entry) {
        if let (Some(Kind::StepDone), Some(key)) = (entry.known_kind(), &entry.key) {
            self.done(entry.seq, key, &entry.body);
        }
    }

    /// A step's outcome was delivered.
    pub(crate) fn done(&mut self, seq: u64, key: &str, output: &Payload) {
        let Some((key, offer)) = self.offers.remove_entry(key) else { return };
        if seq < self.prefix {
            self.others.push(offer);
            return;
        }
        let at = self.registered.partition_point(|registered| registered.seq < seq);
        self.registered.insert(at, Registered { seq, key, output: output.clone(), offer });
    }

    /// Of a step that was dropped and of which nothing more can come. Whoever gets it drops it where user code may run.
    pub(crate) fn withdraw(&mut self, key: &str) -> Option<Offer> {
        self.offers.remove(key)
    }

    /// Whether a step whose outcome was not delivered brought an undo along.
    pub(crate) fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.registered.is_empty()
    }

    /// Something to do when the run is cancelled.
    pub(crate) fn clean_up(&mut self, key: Arc<str>, offer: Offer) {
        self.cleanups.push((key, offer));
    }

    pub(crate) fn has_no_cleanups(&self) -> bool {
        self.cleanups.is_empty()
    }

    /// The function ended by itself. Whoever gets them drops them where user code may run.
    pub(crate) fn forget_cleanups(&mut self) -> Vec<(Arc<str>, Offer)> {
        std::mem::take(&mut self.cleanups)
    }

    /// What was registered so far is not undone. Whoever gets it drops it where user code may run.
    pub(crate) fn forget(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.registered)
    }
}

/// The function of a run after its own: does what `on_cancel` was given, then undoes what is registered, last first. It is replayed like any other.
pub(super) fn undoing(core: Arc<RunCore>, undos: Undos) -> BoxFuture<'static, Result<Payload, Error>> {
    let Undos { offers, others, registered, cleanups, .. } = undos;
    Box::pin(async move {
        drop((offers, others));
        for (key, cleanup) in cleanups.into_iter().rev() {
            run_one(&core, &key, cleanup, Payload::default()).await;
        }
        for Registered { key, output, offer, .. } in registered.into_iter().rev() {
            let call = Call { kind: Kind::UndoBegun, key: key.clone(), site: offer.site };
            core.command(call, || (Payload::json("null"), Tells::Undo));
            run_one(&core, &key, offer, output).await;
        }
        Ok(Payload::default())
    })
}

/// One step of a run's ending. Returns when it is done, or a person gave it up.
async fn run_one(core: &Arc<RunCore>, key: &str, offer: Offer, output: Payload) {
    let Offer { work, retry, site } = offer;
    let key: Arc<str> = format!("{UNDO}/{key}").into();
    let op = core.open(&key, Sort::Step, site);
    let now = core.state().now;
    let bytes_max = core.worker.settings.payload_bytes_max;
    let make = Box::new(move |s: StepCtx| {
        let work = work(s, &output);
        Box::pin(async move { record(work.await?, bytes_max) }) as BoxFuture<'static, _>
    });
    let mut step =
        Step::new(core.clone(), Claim::alone(key.clone()), op, now, make).when_spent(Spent::UndoFailed);
    if let Some(retry) = retry {
        step = step.retry(retry);
    }
    match step.await {
        Ok(()) => pass(Failpoint::UndoDone),
        // A person has looked at it, and lets the others be undone.
        Err(error) if error.code() == Code::ANSWERED => {}
        Err(error) => {
            core.be_stuck(StuckReason::UndoFailed, &key, format!("`{key}` has failed: {error}"));
            std::future::pending().await
        }
    }
}
