//! The in-memory store: for tests, and as the strict reference of what a store does.
//!
//! Every call is applied at once, under one lock, and answered with a ready future: no thread, no chance. It counts as
//! power-safe, because it survives the crashes that it simulates: an engine dropped without ceremony, and another one
//! started on a clone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Adopt, Answer, Bell, Claim, Claimed, Cut, Durability, End, Ended, Fence, Filter, Inspect, Letter,
    LetterId, Loaded, Loads, Mark, NewRun, Post, Posted, Receipt, Received, RunId, RunRow, Settled, Started,
    StartedRow, Store, StoreError, Transact, Transacted, Turn, WorkerId, WorkerInfo, WorkerSeen,
    takeovers_after,
};
use crate::{
    journal::{Entry, Failure, Kind, Outcome, decode},
    status::{Change, Status},
    stuck::Stuck,
    time::Timestamp,
};

/// The in-memory store. Clones share one content.
#[derive(Clone, Default)]
pub struct Memory(Arc<Shared>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("runs", &self.content().runs.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared {
    bell: Arc<Bell>,
    content: Mutex<Content>,
}

/// A turn that waits to be applied.
type HeldTurn = (Fence, Turn, Arc<dyn Receipt>);

#[derive(Default)]
struct Content {
    workers: BTreeMap<WorkerId, Worker>,
    runs: BTreeMap<RunId, Run>,
    ids: HashMap<Arc<str>, RunId>,
    due: BTreeMap<Arc<str>, BTreeSet<(Timestamp, RunId)>>,
    loads: Loads<WorkerId>,
    last_run: i64,
    last_worker: i64,
    failing: Option<StoreError>,
    held: Option<Vec<HeldTurn>>,
}

#[derive(Debug, Default)]
struct Worker {
    beat: u64,
    fenced: bool,
    gone: bool,
    owns: BTreeSet<RunId>,
}

#[derive(Clone, Debug)]
struct Run {
    row: RunRow,
    entries: Vec<Entry>,
    inbox: BTreeMap<u64, Letter>,
    seen: HashSet<LetterId>,
    started: BTreeMap<Arc<str>, StartedRow>,
    archive: Vec<(String, Vec<Entry>)>,
    stuck: Option<Stuck>,
    nudged: bool,
    seq_at_crash: u64,
}

/// What is to be told once the lock is released.
enum Ring {
    Claimable,
    Inbox,
    Ended(RunId, Status, Option<Outcome>),
}

impl Memory {
    /// Marks a worker's process as dead, as a free lock file does.
    pub fn vanish(&self, worker: WorkerId) {
        if let Some(worker) = self.content().workers.get_mut(&worker) {
            worker.gone = true;
        }
    }

    /// While set, every turn is refused with this error.
    pub fn fail_commits(&self, with: Option<StoreError>) {
        self.content().failing = with;
    }

    /// Turns queue up and are not applied, as if the disk were slow, until [`Memory::release_commits`].
    pub fn hold_commits(&self) {
        self.content().held.get_or_insert_default();
    }

    /// Applies what [`Memory::hold_commits`] held, in order; how many turns there were.
    pub fn release_commits(&self) -> usize {
        let held = self.content().held.take().unwrap_or_default();
        let turns = held.len();
        held.into_iter().for_each(|(fence, turn, receipt)| self.commit(fence, turn, &receipt));
        turns
    }

    /// A store of its own with the same runs, as a copy of the file would be. No worker of this one is known there, and
    /// every run is free.
    pub fn fork(&self) -> Memory {
        let content = self.content();
        let mut copy =
            Content { last_run: content.last_run, last_worker: content.last_worker, ..Content::default() };
        copy.ids = content.ids.clone();
        for (id, run) in &content.runs {
            let mut run = run.clone();
            run.row.owner = None;
            let due = run.row.wake_at.take();
            copy.runs.insert(*id, run);
            copy.set_due(*id, due);
        }
        drop(content);
        Memory(Arc::new(Shared { bell: Arc::default(), content: Mutex::new(copy) }))
    }

    /// Changes a run's journal behind the engine's back, as damage to a file would.
    pub fn rewrite(&self, id: &str, damage: impl FnOnce(&mut Vec<Entry>)) {
        let content = &mut *self.content();
        if let Some(run) = content.ids.get(id).copied() {
            damage(&mut content.run(run).entries);
        }
    }

    /// Cuts a run's journal to its first `entries` entries and makes the run claimable, as if its worker had died then.
    /// Its inbox and started rows stay as they are.
    pub fn truncate(&self, id: &str, entries: usize) {
        let content = &mut *self.content();
        let Some(run) = content.ids.get(id).copied() else { return };
        content.disown(run);
        let entry = content.runs.get_mut(&run).expect("indexed");
        entry.entries.truncate(entries);
        entry.stuck = None;
        entry.row.status = Status::Pending;
        entry.row.finished_at = None;
        content.set_due(run, Some(Timestamp(0)));
        self.0.bell.ring_claimable();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Content, &mut Vec<Ring>) -> Result<T, StoreError>,
    ) -> Answer<T> {
        let mut rings = Vec::new();
        let answer = act(&mut self.content(), &mut rings);
        self.ring(rings);
        Box::pin(std::future::ready(answer))
    }

    fn read<T: Send + 'static>(&self, look: impl FnOnce(&Content) -> T) -> Answer<T> {
        let answer = look(&self.content());
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            match ring {
                Ring::Claimable => self.0.bell.ring_claimable(),
                Ring::Inbox => self.0.bell.ring_inbox(),
                Ring::Ended(run, status, outcome) => {
                    self.0.bell.ring_ended(run, || Ended { status, outcome })
                }
            }
        }
    }
}

impl Content {
    fn check(&self, fence: Fence) -> Result<(), StoreError> {
        match self.workers.get(&fence.worker) {
            Some(worker) if !worker.fenced => Ok(()),
            _ => Err(StoreError::Fenced(fence.worker)),
        }
    }

    fn run(&mut self, run: RunId) -> &mut Run {
        self.runs.get_mut(&run).expect("runs are never removed")
    }

    /// Sets when a run is due; an owned run is in no due set.
    fn set_due(&mut self, run: RunId, wake_at: Option<Timestamp>) {
        let entry = self.runs.get_mut(&run).expect("runs are never removed");
        let due = self.due.entry(entry.row.workflow.clone()).or_default();
        if let Some(before) = entry.row.wake_at {
            due.remove(&(before, run));
        }
        entry.row.wake_at = wake_at;
        if let (Some(at), None) = (wake_at, entry.row.owner) {
            due.insert((at, run));
        }
    }

    fn own(&mut self, run: RunId, worker: WorkerId) {
        self.set_due(run, None);
        self.run(run).row.owner = Some(worker);
        self.workers.get_mut(&worker).expect("checked").owns.insert(run);
    }

    fn disown(&mut self, run: RunId) {
        if let Some(owner) = self.run(run).row.owner.take()
            && let Some(worker) = self.workers.get_mut(&owner)
        {
            worker.owns.remove(&run);
        }
    }

    fn change(&mut self, run: RunId, change: Change) {
        let row = &mut self.run(run).row;
        row.status = row.status.after(change).expect("the engine asks only for changes that may follow");
    }

    fn start_one(
        &mut self,
        new: NewRun,
        fence: Option<Fence>,
        rings: &mut Vec<Ring>,
    ) -> (Started, Option<(Claimed, Entry)>) {
        if let Some(known) = self.ids.get(&new.id) {
            let run = &self.runs[known];
            let first = run.entries.first().cloned().expect("every run has entry 0");
            return (Started::Known(Box::new(run.row.clone()), Box::new(first)), None);
        }
        self.last_run += 1;
        let run = RunId(self.last_run);
        let row = RunRow {
            run,
            id: new.id.clone(),
            workflow: new.workflow,
            status: Status::Pending,
            owner: None,
            wake_at: None,
            inbox_n: 0,
            generation: 0,
            takeovers: 0,
            created_at: new.first.at,
            finished_at: None,
        };
        self.ids.insert(new.id, run);
        self.runs.insert(
            run,
            Run {
                row,
                entries: vec![new.first.clone()],
                inbox: BTreeMap::new(),
                seen: HashSet::new(),
                started: BTreeMap::new(),
                archive: Vec::new(),
                stuck: None,
                nudged: false,
                seq_at_crash: 0,
            },
        );
        match fence.filter(|_| new.claim) {
            Some(fence) => {
                let claimed = self.take(run, fence);
                (Started::New(run), Some((claimed, new.first)))
            }
            None => {
                self.set_due(run, Some(new.due));
                rings.push(Ring::Claimable);
                (Started::New(run), None)
            }
        }
    }

    fn take(&mut self, run: RunId, fence: Fence) -> Claimed {
        let before = self.run(run).row.clone();
        self.change(run, Change::Claimed);
        self.own(run, fence.worker);
        let next = self.run(run).entries.last().map_or(0, |entry| entry.seq + 1);
        let load = self.loads.open(run, next, fence.worker);
        Claimed { row: RunRow { owner: Some(fence.worker), ..before }, load }
    }

    fn turn(&mut self, fence: Fence, turn: &Turn, rings: &mut Vec<Ring>) -> Settled {
        match self.try_turn(fence, turn, rings) {
            Ok(settled) => settled,
            Err(error) => {
                self.loads.close(turn.load);
                Settled::Refused(error)
            }
        }
    }

    fn try_turn(&mut self, fence: Fence, turn: &Turn, rings: &mut Vec<Ring>) -> Result<Settled, StoreError> {
        self.check(fence)?;
        if let Some(error) = &self.failing {
            return Err(error.clone());
        }
        self.loads.get(turn.load, turn.run)?;
        let expected = match &turn.end {
            Some(
                End::Finished { inbox_n, .. } | End::Parked { inbox_n, .. } | End::Stuck { inbox_n, .. },
            ) => Some(*inbox_n),
            _ => None,
        };
        let inbox_n = self.run(turn.run).row.inbox_n;
        if expected.is_some_and(|expected| expected != inbox_n) {
            return Ok(Settled::Moved { inbox_n });
        }
        let first = turn.entries.first().map(|entry| entry.seq);
        let next = self.loads.admit(turn.load, turn.run, first, turn.entries.len())?;
        let run = self.run(turn.run);
        run.entries.extend(turn.entries.iter().cloned());
        turn.takes.iter().for_each(|n| drop(run.inbox.remove(n)));
        for mark in &turn.marks {
            match mark {
                Mark::Started(row) => drop(run.started.insert(row.key.clone(), row.clone())),
                Mark::Cleared(key) => drop(run.started.remove(key)),
            }
        }
        if let Some(end) = &turn.end {
            self.loads.close(turn.load);
            self.end(turn.run, end, turn.entries.last(), rings);
        }
        Ok(Settled::Durable { next })
    }

    fn end(&mut self, run: RunId, end: &End, last: Option<&Entry>, rings: &mut Vec<Ring>) {
        self.disown(run);
        self.run(run).nudged = false;
        match end {
            End::Finished { status, at, .. } => {
                self.change(
                    run,
                    match status {
                        Status::Completed => Change::Completed,
                        Status::Failed => Change::Failed,
                        _ => Change::Cancelled,
                    },
                );
                let entry = self.run(run);
                entry.row.finished_at = Some(*at);
                entry.stuck = None;
                rings.push(Ring::Ended(run, *status, last.and_then(outcome)));
            }
            End::Parked { wake_at, .. } => {
                self.change(run, Change::Parked);
                self.run(run).row.takeovers = 0;
                self.set_due(run, *wake_at);
                rings.push(Ring::Claimable);
            }
            End::Stuck { stuck, .. } => {
                self.change(run, Change::Stuck);
                self.run(run).stuck = Some(stuck.clone());
                rings.push(Ring::Ended(run, Status::Stuck, None));
            }
            End::GivenBack { wake_at } => {
                self.change(run, Change::GivenBack);
                self.set_due(run, Some(*wake_at));
                rings.push(Ring::Claimable);
            }
        }
    }

    fn post(&mut self, post: Post, rings: &mut Vec<Ring>) -> Posted {
        let Some(run) = self.ids.get(&post.to).copied() else { return Posted::NoSuchRun };
        let entry = self.run(run);
        if entry.seen.contains(&post.letter.id) {
            return Posted::Known;
        }
        if !post.only.contains(entry.row.status) {
            return Posted::Refused(entry.row.status);
        }
        entry.seen.insert(post.letter.id);
        entry.row.inbox_n += 1;
        entry.inbox.insert(entry.row.inbox_n, post.letter);
        if entry.row.status == Status::Stuck && post.revive {
            entry.stuck = None;
            self.change(run, Change::Revived);
        }
        if self.run(run).row.owner.is_some() {
            self.run(run).nudged = true;
            rings.push(Ring::Inbox);
        } else {
            self.set_due(run, Some(Timestamp(0)));
            rings.push(Ring::Claimable);
        }
        Posted::Added
    }

    fn free(&mut self, other: WorkerId, limit: usize, counting: bool, rings: &mut Vec<Ring>) -> usize {
        let Some(worker) = self.workers.get(&other) else { return 0 };
        let runs: Vec<RunId> = worker.owns.iter().copied().take(limit).collect();
        for &run in &runs {
            self.disown(run);
            self.change(run, Change::GivenBack);
            let entry = self.run(run);
            entry.nudged = false;
            if counting {
                let last = entry.entries.last().map_or(0, |entry| entry.seq);
                let progressed = entry.row.takeovers == 0 || last > entry.seq_at_crash;
                let in_step = entry.started.values().any(|row| !row.abandoned);
                entry.row.takeovers = takeovers_after(entry.row.takeovers, progressed, in_step);
                entry.seq_at_crash = last;
            }
            self.set_due(run, Some(Timestamp(0)));
        }
        if !runs.is_empty() {
            rings.push(Ring::Claimable);
        }
        runs.len()
    }
}

/// The outcome that a last entry tells.
fn outcome(entry: &Entry) -> Option<Outcome> {
    match entry.known_kind()? {
        Kind::Completed => Some(Outcome::Completed(entry.body.clone())),
        Kind::Failed => decode::<Failure>(&entry.body).ok().map(Outcome::Failed),
        Kind::Cancelled => Some(Outcome::Cancelled(decode(&entry.body).unwrap_or_default())),
        _ => None,
    }
}

impl Inspect for Memory {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.read(|content| content.ids.get(&id).map(|run| content.runs[run].row.clone()))
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|content| {
            let end = before.unwrap_or(RunId(i64::MAX));
            let newest_first = content.runs.range(..end).rev().map(|(_, run)| &run.row);
            newest_first.filter(|row| filter.matches(row)).take(limit).cloned().collect()
        })
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        let content = self.content();
        let answer = content.runs.get(&run).map(|run| Loaded {
            entries: run.entries.clone(),
            inbox: run.received(),
            started: run.started.values().cloned().collect(),
        });
        let missing = || StoreError::Failed(format!("run {} does not exist", run.0).into());
        Box::pin(std::future::ready(answer.ok_or_else(missing)))
    }

    fn inbox(&self, run: RunId) -> Answer<Vec<Received>> {
        self.read(|content| content.runs.get(&run).map(Run::received).unwrap_or_default())
    }

    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.read(|content| content.runs.get(&run).and_then(|run| run.entries.last().cloned()))
    }

    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.read(|content| content.runs.get(&run).and_then(|run| run.stuck.clone()))
    }

    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.read(|content| {
            let mut counts = BTreeMap::new();
            for run in content.runs.values() {
                *counts.entry((run.row.workflow.clone(), run.row.status)).or_insert(0) += 1;
            }
            counts.into_iter().map(|((workflow, status), n)| (workflow, status, n)).collect()
        })
    }
}

impl Run {
    fn received(&self) -> Vec<Received> {
        self.inbox.iter().map(|(n, letter)| Received { n: *n, letter: letter.clone() }).collect()
    }
}

impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.0.bell
    }

    fn enroll(&self, _: WorkerInfo) -> Answer<Fence> {
        self.apply(|content, _| {
            content.last_worker += 1;
            let worker = WorkerId(content.last_worker);
            content.workers.insert(worker, Worker::default());
            Ok(Fence { worker })
        })
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        self.apply(|content, _| {
            content.check(fence)?;
            content.workers.get_mut(&fence.worker).expect("checked").beat += 1;
            Ok(())
        })
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.read(|content| {
            let seen = content.workers.iter().filter(|(_, worker)| !worker.fenced || !worker.owns.is_empty());
            seen.map(|(id, worker)| WorkerSeen {
                worker: *id,
                beat: worker.beat,
                fenced: worker.fenced,
                gone: worker.gone,
            })
            .collect()
        })
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.apply(|content, _| {
            content.check(fence)?;
            let Some(worker) = content.workers.get_mut(&other) else { return Ok(true) };
            worker.fenced |= worker.beat == beat;
            Ok(worker.fenced)
        })
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.apply(|content, rings| {
            content.check(fence)?;
            if content.workers.get(&other).is_some_and(|worker| !worker.fenced) {
                return Err(StoreError::Refused(format!("worker {} is not fenced", other.0).into()));
            }
            Ok(content.free(other, limit, true, rings))
        })
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.apply(|content, rings| {
            content.check(fence)?;
            content.workers.get_mut(&fence.worker).expect("checked").fenced = true;
            content.free(fence.worker, usize::MAX, false, rings);
            Ok(())
        })
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let mut adopted = Vec::new();
        let fence = claim.as_ref().map(|(fence, _)| *fence);
        let answer = self.apply(|content, rings| {
            fence.map_or(Ok(()), |fence| content.check(fence))?;
            let each = |new| {
                let (started, claimed) = content.start_one(new, fence, rings);
                adopted.extend(claimed);
                started
            };
            Ok(runs.into_iter().map(each).collect())
        });
        if let Some((_, adopt)) = claim {
            adopted.into_iter().for_each(|(run, first)| adopt.adopt(run, first));
        }
        answer
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        self.apply(|content, _| {
            content.check(fence)?;
            let mut found: Vec<RunId> = Vec::new();
            for workflow in claim.workflows.iter() {
                let due = content.due.get(workflow).into_iter().flatten();
                found.extend(due.take_while(|(at, _)| *at <= claim.due).map(|(_, run)| *run));
            }
            found.truncate(claim.limit);
            Ok(found.into_iter().map(|run| content.take(run, fence)).collect())
        })
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.read(|content| {
            let first = |workflow| content.due.get(workflow)?.first().map(|(at, _)| *at);
            workflows.iter().filter_map(first).min()
        })
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.apply(|content, _| {
            content.check(fence)?;
            let owns: Vec<RunId> = content.workers[&fence.worker].owns.iter().copied().collect();
            Ok(owns.into_iter().filter(|run| std::mem::take(&mut content.run(*run).nudged)).collect())
        })
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        let mut rings = Vec::new();
        let mut content = self.content();
        if let Some(held) = &mut content.held {
            return held.push((fence, turn, receipt.clone()));
        }
        let settled = content.turn(fence, &turn, &mut rings);
        drop(content);
        receipt.settled(settled);
        self.ring(rings);
    }

    fn transact(&self, _: Fence, _: Transact) -> Answer<Transacted> {
        let error = StoreError::Unusable("the in-memory store has no tables for a transaction".into());
        Box::pin(std::future::ready(Err(error)))
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        self.apply(|content, rings| Ok(content.post(post, rings)))
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.apply(|content, rings| {
            let run = content.run(cut.run);
            if !cut.only.contains(run.row.status) || run.row.inbox_n != cut.inbox_n || run.row.owner.is_some()
            {
                return Ok(false);
            }
            let from = usize::try_from(cut.from).unwrap_or(usize::MAX).min(run.entries.len());
            let archived = run.entries.split_off(from);
            run.archive.push((cut.why, archived));
            run.row.finished_at = None;
            run.row.takeovers = 0;
            run.stuck = None;
            for letter in cut.letters {
                run.row.inbox_n += 1;
                run.seen.insert(letter.id);
                run.inbox.insert(run.row.inbox_n, letter);
            }
            content.change(cut.run, Change::Revived);
            content.set_due(cut.run, Some(Timestamp(0)));
            rings.push(Ring::Claimable);
            Ok(true)
        })
    }
}
