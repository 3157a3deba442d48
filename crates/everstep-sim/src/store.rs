//! The store as a process of the simulation sees it: the real one behind the faults of its opening.

use std::sync::{Arc, Mutex, PoisonError};

use everstep_core::{
    AttributeValue, Status, Stuck, Timestamp,
    journal::{Entry, Payload},
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, Filter,
        Inspect, Kept, LetterId, Loaded, NewRun, PatchRow, Post, Posted, PublishedRow, Receipt, Received,
        RunId, RunRow, Settled, Started, Store, StoreError, StreamRow, Transact, Transacted, Turn, WorkerId,
        WorkerInfo, WorkerSeen,
    },
};
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::{
    fault::Fault,
    history::What,
    observed::{Adopting, Relay, saw_acted, saw_all_owned, saw_posted, saw_started, turn_told},
    opening::{Do, Fate, Finish, Opening, Weight},
    world::nap,
};

/// The store of one process.
#[derive(Clone, Debug)]
pub struct FaultyStore(pub Arc<Opening>);

type Reply<T> = Result<T, StoreError>;

impl FaultyStore {
    /// Asks the store behind the queue. `saw` observes what the store answered, whoever hears it.
    fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        act: impl Fn(&dyn Store, Fate) -> Answer<T> + Send + 'static,
        saw: impl FnOnce(&Opening, &Reply<T>) + Send + 'static,
    ) -> Answer<T> {
        let (send, answer) = oneshot::channel();
        self.0.push(Weight::Hears, Box::new(move |opening, how| make(opening, verb, how, (act, saw), send)));
        self.heard(answer)
    }

    fn heard<T: Send + 'static>(&self, answer: oneshot::Receiver<Reply<T>>) -> Answer<T> {
        let opening = self.0.clone();
        Box::pin(async move {
            let Ok(reply) = answer.await else { std::future::pending().await };
            nap(opening.delay()).await;
            reply
        })
    }

    /// Reads what is committed when it is asked, or when it is answered.
    fn read<T: Send + 'static>(&self, look: impl Fn(&dyn Store) -> Answer<T> + Send + 'static) -> Answer<T> {
        let opening = self.0.clone();
        if let Some(closed) = opening.closed() {
            return Box::pin(std::future::ready(Err(closed)));
        }
        let late = opening.delay();
        if late.is_zero() {
            return look(opening.base.store());
        }
        let early = (opening.world.below(2) == 0).then(|| now(look(opening.base.store())));
        Box::pin(async move {
            nap(late).await;
            if opening.is_dead() {
                std::future::pending::<()>().await;
            }
            early.unwrap_or_else(|| now(look(opening.base.store())))
        })
    }
}

/// The answer of a store that has settled.
fn now<T>(answer: Answer<T>) -> Reply<T> {
    answer.now_or_never().expect("a store that has settled has answered")
}

fn make<T: Send + 'static>(
    opening: &Arc<Opening>,
    verb: &'static str,
    how: Do,
    (act, saw): (
        impl Fn(&dyn Store, Fate) -> Answer<T> + Send + 'static,
        impl FnOnce(&Opening, &Reply<T>) + Send + 'static,
    ),
    send: oneshot::Sender<Reply<T>>,
) -> Finish {
    let fate = match how {
        Do::Apply(fate) => fate,
        Do::Refuse(error) => {
            opening.world.note(format_args!("w{} {verb} refused", opening.worker()));
            return Box::new(move |_| drop(send.send(Err(error))));
        }
    };
    let store = opening.base.store();
    let first = (fate != Fate::Unknown { applied: false }).then(|| act(store, fate));
    let may_come_twice =
        matches!(verb, "start" | "post" | "beat" | "fence" | "free" | "leave" | "enroll" | "act");
    let second = (fate == Fate::Twice && may_come_twice).then(|| act(store, fate));
    Box::new(move |opening| {
        let first = first.map(now);
        if let Some(reply) = &first {
            let word = if reply.is_ok() { "done" } else { "failed" };
            opening.world.note(format_args!("w{} {verb} {word} {fate:?}", opening.worker()));
            saw(opening, reply);
        }
        let fault = match fate {
            Fate::Fine | Fate::Unheard => None,
            Fate::Silent | Fate::Lost => Some(Fault::Lost),
            Fate::Twice => second.is_some().then_some(Fault::Doubled),
            Fate::Unknown { .. } => Some(Fault::Unknown),
        };
        fault.into_iter().for_each(|fault| opening.world.saw(What::Fault(fault)));
        match (fate, first) {
            (Fate::Unheard, _) => {}
            (Fate::Silent, _) => {
                opening.keep(Box::new(send));
                opening.hangs();
            }
            (Fate::Lost, _) => drop(send.send(Err(StoreError::Failed("the connection was lost".into())))),
            (Fate::Unknown { .. }, _) => {
                opening.close();
                let closed = opening.closed().unwrap_or(StoreError::Closed("over".into()));
                let _ = send.send(Err(closed));
            }
            (_, Some(first)) => {
                // Where a second call must say the same as the first, its answer is the one that arrives.
                let second = second.map(now).filter(|_| matches!(verb, "start" | "post"));
                let _ = send.send(second.unwrap_or(first));
            }
            (_, None) => {}
        }
    })
}

impl Inspect for FaultyStore {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.read(move |store| store.run(id.clone()))
    }
    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(move |store| store.find(filter.clone(), before, limit))
    }
    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.read(move |store| store.count(filter.clone(), at_most))
    }
    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.read(move |store| store.load(run))
    }
    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        self.read(move |store| store.inbox(run, after))
    }
    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.read(move |store| store.last(run))
    }
    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.read(move |store| store.stuck(run))
    }
    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.read(|store| store.counts())
    }
    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.read(move |store| store.published(run, name.clone()))
    }
    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.read(move |store| store.published_all(run, limit))
    }
    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.read(move |store| store.stream(run, name.clone(), from, limit))
    }
    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.read(move |store| store.reply(run, id))
    }
    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.read(move |store| store.stream_names(run))
    }
    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.read(move |store| store.acts(run, limit))
    }
    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.read(move |store| store.kept(run))
    }
    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.read(move |store| store.attributes(run))
    }
    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.read(move |store| store.patches())
    }
}

impl Store for FaultyStore {
    fn name(&self) -> &'static str {
        self.0.base.store().name()
    }
    /// Only processes die here, so whatever is committed survives.
    fn durability(&self) -> Durability {
        Durability::Power
    }
    fn bell(&self) -> &Arc<Bell> {
        self.0.base.store().bell()
    }
    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        self.call(
            "enroll",
            move |store, _| store.enroll(info.clone()),
            |opening, fence| {
                if let Ok(fence) = fence {
                    opening.is_worker(fence.worker.0);
                    opening.world.saw(What::Enrolled { worker: fence.worker.0 });
                    if opening.is_dead() {
                        opening.world.saw(What::Died { worker: fence.worker.0 });
                    }
                }
            },
        )
    }
    fn beat(&self, fence: Fence) -> Answer<()> {
        self.call(
            "beat",
            move |store, _| store.beat(fence),
            move |opening, done| {
                if done.is_ok() {
                    opening.world.saw(What::Beat { worker: fence.worker.0 });
                }
            },
        )
    }
    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.read(|store| store.workers())
    }
    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.call(
            "fence",
            move |store, _| store.fence(fence, other, beat),
            move |opening, fenced| {
                if matches!(fenced, Ok(true)) {
                    opening.world.saw(What::Fenced { worker: other.0, by: Some(fence.worker.0) });
                }
            },
        )
    }
    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.call("free", move |store, _| store.free(fence, other, limit), |_, _| ())
    }
    fn leave(&self, fence: Fence) -> Answer<()> {
        self.call(
            "leave",
            move |store, _| store.leave(fence),
            move |opening, done| {
                if done.is_ok() {
                    opening.world.saw(What::Fenced { worker: fence.worker.0, by: None });
                }
            },
        )
    }
    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let (opening, asked) = (self.0.clone(), runs.clone());
        self.call(
            "start",
            move |store, fate| {
                let heard = matches!(fate, Fate::Fine | Fate::Twice | Fate::Silent | Fate::Lost);
                let claim = claim.as_ref().map(|(fence, inner)| {
                    let (opening, inner) = (opening.clone(), inner.clone());
                    (*fence, Arc::new(Adopting { opening, inner, heard }) as Arc<dyn Adopt>)
                });
                store.start(runs.clone(), claim)
            },
            move |opening, started| {
                for (run, started) in asked.iter().zip(started.iter().flatten()) {
                    saw_started(opening, run, started);
                }
            },
        )
    }
    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        self.call("claim", move |store, _| store.claim(fence, claim.clone()), saw_all_owned)
    }
    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.call("reload", move |store, _| store.reload(fence, run), saw_all_owned)
    }
    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.read(move |store| store.next_due(workflows.clone()))
    }
    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.call("nudged", move |store, _| store.nudged(fence), |_, _| ())
    }
    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        let receipt = receipt.clone();
        self.0.push(
            Weight::Waits,
            Box::new(move |opening, how| {
                let fate = match how {
                    Do::Apply(fate) => fate,
                    Do::Refuse(error) => {
                        receipt.settled(Settled::Refused(error));
                        return Box::new(|_| ());
                    }
                };
                let mut turn = turn;
                if fate == Fate::Fine && opening.refuses(&turn) {
                    // Out of order, the store refuses it by its own rule, and whatever comes after it.
                    turn.entries.iter_mut().for_each(|entry| entry.seq += 1);
                    opening.world.saw(What::Fault(Fault::Refused));
                }
                let told = Mutex::new(turn_told(opening, fence, &turn));
                let relay = Relay { opening: opening.clone(), inner: receipt, fate, told };
                if fate == (Fate::Unknown { applied: false }) {
                    relay.settled(Settled::Refused(StoreError::Closed("over".into())));
                } else {
                    opening.base.store().commit(fence, turn, &(Arc::new(relay) as Arc<dyn Receipt>));
                }
                Box::new(move |opening| {
                    if matches!(fate, Fate::Unknown { .. }) {
                        opening.world.saw(What::Fault(Fault::Unknown));
                        opening.close();
                    }
                })
            }),
        );
    }
    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        let (send, answer) = oneshot::channel();
        let key = step.key.clone();
        self.0.push(
            Weight::Waits,
            Box::new(move |opening, how| {
                let run = opening.world.run_of(step.run);
                // A job is used up by its first call.
                let step = Mutex::new(Some(step));
                let act = move |store: &dyn Store, _| {
                    let step = step.lock().unwrap_or_else(PoisonError::into_inner).take();
                    store.transact(fence, step.expect("a transaction is not made twice"))
                };
                let saw = move |opening: &Opening, done: &Reply<Transacted>| {
                    if let Ok(Transacted::Committed { .. }) = done {
                        let worker = fence.worker.0;
                        let key = opening.world.keyed(run, &key);
                        opening.world.saw(What::Transacted { run, worker, key });
                    }
                };
                make(opening, "transact", how, (act, saw), send)
            }),
        );
        self.heard(answer)
    }
    fn post(&self, post: Post) -> Answer<Posted> {
        let saw = saw_posted(&self.0, &post);
        self.call(
            "post",
            move |store, _| store.post(post.clone()),
            move |opening, posted| saw(opening, matches!(posted, Ok(Posted::Added))),
        )
    }
    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.call("cut", move |store, _| store.cut(cut.clone()), |_, _| ())
    }
    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.call("delete", move |store, _| store.delete(runs.clone()), |_, _| ())
    }
    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        let saw = saw_acted(&self.0, &does, &act);
        self.call(
            "act",
            move |store, _| store.act(does.clone(), act.clone()),
            move |opening, acted| saw(opening, matches!(acted, Ok(Acted::Done))),
        )
    }
}
