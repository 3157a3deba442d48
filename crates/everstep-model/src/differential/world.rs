//! What there is, as the oracle told it: turns what was drawn into calls.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use everstep_conformance::Deed;
use everstep_core::{
    Stuck,
    journal::Entry,
    store::{Acted, Claim, Does, End, Fence, LoadId, Mark, NewRun, RunId, StartedRow, Turn, WorkerId},
};

use super::{
    call::{Call, Job, LoadAt, Verb},
    operation::{
        Against, As, Begin, Doing, Ending, Marking, Nth, Operation, Takes, Turning, When, Which, Who,
    },
    people,
    picture::{Picture, Pictured},
    reply::Reply,
    sample,
    side::Answer,
};

/// Workers, loads and openings, and what the oracle looks like.
#[derive(Default)]
pub(super) struct World {
    /// Whether each is there.
    openings: Vec<bool>,
    workers: Vec<Worker>,
    loads: Vec<Load>,
    pub(super) picture: Option<Picture>,
    /// Jobs so far: each writes rows of its own.
    jobs: usize,
    /// Items on their way to each stream.
    items: HashMap<(RunId, Arc<str>), u64>,
    /// Runs whose end was taken back.
    cut: HashSet<RunId>,
}

struct Worker {
    fence: Fence,
    home: usize,
    fenced: bool,
}

struct Load {
    run: RunId,
    fence: Fence,
    opening: usize,
    open: bool,
    /// The number of its next entry, if all goes well that is on its way.
    next: u64,
}

impl World {
    pub(super) fn new() -> World {
        World { openings: vec![true], ..World::default() }
    }

    /// Whether all calls of one load go where its number is one of these: numbers of different openings may be equal.
    pub(super) fn is_free_number(&self, load: LoadAt, on: usize, numbers: &[LoadId]) -> bool {
        let Some(at) = load else { return true };
        self.loads[at].opening == on
            || !self.loads.iter().zip(numbers).any(|(other, number)| {
                other.opening == on && *number == numbers[at] && other.run == self.loads[at].run
            })
    }

    pub(super) fn any_opening(&self) -> usize {
        self.openings.iter().position(|there| *there).expect("one is always there")
    }

    pub(super) fn is_there(&self, opening: usize) -> bool {
        self.openings[opening]
    }

    pub(super) fn run_ids(&self) -> impl Iterator<Item = RunId> + '_ {
        self.picture.iter().flat_map(|picture| picture.runs.iter().map(|run| run.row.run))
    }

    /// The number of the run of this id.
    pub(super) fn number(&self, id: &str) -> Option<RunId> {
        let mut runs = self.picture.iter().flat_map(|picture| &picture.runs);
        runs.find(|run| &*run.row.id == id).map(|run| run.row.run)
    }

    /// The call that this operation is now; `None` if there is nothing that it could be about.
    pub(super) fn resolve(&mut self, what: &Operation) -> Option<Call> {
        let verb = match what {
            Operation::Open => Verb::Open,
            Operation::Crash(nth) => return Some(Call { on: self.opening(*nth), verb: Verb::Crash }),
            Operation::Claim { .. } | Operation::Reload { .. } | Operation::Nudged { .. } => {
                return self.at_home(what);
            }
            Operation::Commit { load, by, turn } => return self.commit(*load, *by, turn),
            Operation::Transact { load, by, key, doing } => return self.transact(*load, *by, *key, *doing),
            Operation::Start { by: Some(by), runs, .. } => {
                let (fence, home) = self.who(*by)?;
                let verb = Verb::Start(Some(fence), runs.iter().map(begin).collect());
                return Some(Call { on: home?, verb });
            }
            other => self.anywhere(other)?,
        };
        Some(Call { on: self.place(what), verb })
    }

    /// What any opening can be asked.
    fn anywhere(&self, what: &Operation) -> Option<Verb> {
        Some(match what {
            Operation::Enroll { .. } => Verb::Enroll,
            Operation::Beat { who, .. } => Verb::Beat(self.who(*who)?.0),
            Operation::Workers { .. } => Verb::Workers,
            Operation::Fence { by, other, beat, .. } => {
                let other = self.who(*other)?.0.worker;
                Verb::Fence(self.who(*by)?.0, other, against(self.beat_of(other), *beat))
            }
            Operation::Free { by, other, limit, .. } => {
                Verb::Free(self.who(*by)?.0, self.who(*other)?.0.worker, *limit)
            }
            Operation::Leave { who, .. } => Verb::Leave(self.who(*who)?.0),
            Operation::Start { runs, .. } => Verb::Start(None, runs.iter().map(begin).collect()),
            Operation::NextDue { workflows, .. } => Verb::NextDue(sample::workflows(workflows)),
            Operation::Post { what, .. } => Verb::Post(people::post(what)),
            Operation::Cut { what, .. } => Verb::Cut(self.cutting(what)),
            Operation::Act { does, .. } => self.deed(does),
            Operation::Settle { promise, id, kind, late, only, .. } => {
                Verb::Post(people::settle(*promise, *id, *kind, *late, *only))
            }
            Operation::Delete { runs, .. } => Verb::Delete(self.doomed(runs)),
            Operation::Reply { run, id, .. } => Verb::Reply(RunId(*run), sample::letter(*id, 1, 0).id),
            Operation::StreamNames { run, .. } => Verb::StreamNames(RunId(*run)),
            Operation::Acts { run, limit, .. } => Verb::Acts(RunId(*run), *limit),
            Operation::Patches { .. } => Verb::Patches,
            Operation::Run { id, .. } => Verb::Run(sample::id(*id)),
            Operation::Find { what, .. } => {
                Verb::Find(sample::filter(what.filter), what.before.map(RunId), what.limit)
            }
            Operation::Load { run, .. } => Verb::Load(RunId(*run)),
            Operation::Inbox { run, after, .. } => Verb::Inbox(RunId(*run), *after),
            Operation::Last { run, .. } => Verb::Last(RunId(*run)),
            Operation::Stuck { run, .. } => Verb::Stuck(RunId(*run)),
            Operation::Counts { .. } => Verb::Counts,
            Operation::Count { filter, at_most, .. } => Verb::Count(sample::filter(*filter), *at_most),
            Operation::Published { run, name, .. } => Verb::Published(RunId(*run), sample::name(*name)),
            Operation::PublishedAll { run, limit, .. } => Verb::PublishedAll(RunId(*run), *limit),
            Operation::Stream { run, name, from, limit, .. } => {
                Verb::Stream(RunId(*run), sample::name(*name), *from, *limit)
            }
            Operation::Attributes { run, .. } => Verb::Attributes(RunId(*run)),
            _ => return None,
        })
    }

    /// What a worker asks only of the opening that it is a worker of.
    fn at_home(&self, what: &Operation) -> Option<Call> {
        let (by, verb): (Who, Box<dyn FnOnce(Fence) -> Verb>) = match what {
            Operation::Claim { by, workflows, due, limit } => {
                let (workflows, due) = (sample::workflows(workflows), sample::at(*due));
                let claim = Claim { workflows, due, limit: *limit };
                (*by, Box::new(move |fence| Verb::Claim(fence, claim)))
            }
            Operation::Reload { by, run } => (*by, Box::new(|fence| Verb::Reload(fence, RunId(*run)))),
            Operation::Nudged { by } => (*by, Box::new(Verb::Nudged)),
            _ => return None,
        };
        let (fence, home) = self.who(by)?;
        Some(Call { on: home?, verb: verb(fence) })
    }

    fn commit(&mut self, load: Which, by: As, turn: &Turning) -> Option<Call> {
        let (at, load_run) = self.which(load)?;
        let (on, fence, run) = self.in_name(at, by, load_run)?;
        let next = at.map_or(1, |at| self.loads[at].next);
        let pictured = self.pictured(load_run);
        let inbox: Vec<_> =
            pictured.into_iter().flat_map(|run| run.whole.inbox.iter().map(|r| r.n)).collect();
        let entries = entries(turn, against(next, turn.from));
        let turn = Turn {
            run,
            load: LoadId(0),
            marks: turn.marks.iter().map(mark).collect(),
            takes: match turn.takes {
                Takes::None => Vec::new(),
                Takes::First => inbox.into_iter().take(1).collect(),
                Takes::All => inbox,
                Takes::Absent => vec![0, 99, u64::MAX],
            },
            says: self.says(&turn.says, load_run),
            end: turn.end.map(|how| end(how, against(self.inbox_n(load_run), turn.inbox))),
            entries,
        };
        if let (Some(at), As::Itself) = (at, by) {
            self.loads[at].next = next + turn.entries.len() as u64;
        }
        Some(Call { on, verb: Verb::Commit(fence, at, turn) })
    }

    /// How many items a run counts before the next, if all goes well that is on its way: fewer than there are, once its end
    /// was taken back.
    pub(super) fn next_item(&mut self, run: RunId, stream: &Arc<str>) -> u64 {
        let held = self.picture.as_ref().and_then(|picture| picture.items(run, stream)).unwrap_or(0);
        let coming = self.items.entry((run, stream.clone())).or_default();
        *coming += 1;
        (held + *coming - 1).saturating_sub(u64::from(self.cut.contains(&run)))
    }

    fn transact(&mut self, load: Which, by: As, key: usize, doing: Doing) -> Option<Call> {
        let (at, load_run) = self.which(load)?;
        let (on, fence, run) = self.in_name(at, by, load_run)?;
        self.jobs += 1;
        let write = |n: usize| Deed::Write(format!("row {} of {}", n, self.jobs));
        let mut deeds: Vec<_> = match doing {
            Doing::Writes(rows) => (0..rows).map(write).collect(),
            _ => vec![write(0)],
        };
        match doing {
            Doing::Fails => deeds.push(Deed::Fail("no".into())),
            Doing::Panics => deeds.push(Deed::Panic("boom".into())),
            Doing::Writes(_) | Doing::Withdrawn | Doing::Foreign => {}
        }
        let job = Job {
            run,
            key: sample::key(key),
            deeds,
            withdrawn: doing == Doing::Withdrawn,
            foreign: doing == Doing::Foreign,
        };
        Some(Call { on, verb: Verb::Transact(fence, at, job) })
    }

    /// A load, and its run; one that never was is of a run that is there.
    fn which(&self, which: Which) -> Option<(LoadAt, RunId)> {
        let at = match which {
            Which::Any(nth) | Which::Never(nth) => nth_of(nth, 0..self.loads.len())?,
            Which::Open(nth) => nth_of(nth, (0..self.loads.len()).filter(|at| self.loads[*at].open))?,
        };
        Some((Some(at).filter(|_| !matches!(which, Which::Never(_))), self.loads[at].run))
    }

    /// Where, by whom and for which run a load is used.
    fn in_name(&self, at: LoadAt, by: As, run: RunId) -> Option<(usize, Fence, RunId)> {
        let (opening, fence) = match at {
            Some(at) => (self.loads[at].opening, self.loads[at].fence),
            None => (self.any_opening(), self.workers.last()?.fence),
        };
        let (on, fence, run) = match by {
            As::Itself => (opening, fence, run),
            As::Worker(who) => (opening, self.who(who)?.0, run),
            As::Opening(nth) => (self.opening(nth), fence, run),
            As::Run(nth) => (opening, fence, nth_of(nth, self.run_ids())?),
        };
        self.is_there(on).then_some((on, fence, run))
    }

    /// A worker's fence, and its opening if that is there.
    fn who(&self, who: Who) -> Option<(Fence, Option<usize>)> {
        let worker = match who {
            Who::Nobody => {
                return Some((Fence { worker: WorkerId(900) }, Some(self.any_opening())));
            }
            Who::Any(nth) => nth_of(nth, self.workers.iter())?,
            Who::Live(nth) => nth_of(
                nth,
                self.workers.iter().filter(|worker| !worker.fenced && self.is_there(worker.home)),
            )?,
        };
        Some((worker.fence, Some(worker.home).filter(|home| self.is_there(*home))))
    }

    fn opening(&self, nth: Nth) -> usize {
        let there = (0..self.openings.len()).filter(|on| self.openings[*on]);
        nth_of(nth, there).unwrap_or_else(|| self.any_opening())
    }

    fn place(&self, what: &Operation) -> usize {
        match what {
            Operation::Enroll { on }
            | Operation::Beat { on, .. }
            | Operation::Workers { on }
            | Operation::Fence { on, .. }
            | Operation::Free { on, .. }
            | Operation::Leave { on, .. }
            | Operation::Start { on, .. }
            | Operation::NextDue { on, .. }
            | Operation::Post { on, .. }
            | Operation::Cut { on, .. }
            | Operation::Run { on, .. }
            | Operation::Find { on, .. }
            | Operation::Load { on, .. }
            | Operation::Inbox { on, .. }
            | Operation::Last { on, .. }
            | Operation::Stuck { on, .. }
            | Operation::Counts { on }
            | Operation::Count { on, .. }
            | Operation::Published { on, .. }
            | Operation::PublishedAll { on, .. }
            | Operation::Stream { on, .. }
            | Operation::Reply { on, .. }
            | Operation::StreamNames { on, .. }
            | Operation::Acts { on, .. }
            | Operation::Patches { on }
            | Operation::Attributes { on, .. } => self.opening(*on),
            other => people::place(other).map_or(self.any_opening(), |on| self.opening(on)),
        }
    }

    pub(super) fn pictured(&self, run: RunId) -> Option<&Pictured> {
        self.picture.as_ref()?.runs.iter().find(|pictured| pictured.row.run == run)
    }

    pub(super) fn inbox_n(&self, run: RunId) -> u64 {
        self.pictured(run).map_or(0, |run| run.row.inbox_n)
    }

    fn beat_of(&self, worker: WorkerId) -> u64 {
        let workers = self.picture.iter().flat_map(|picture| &picture.workers);
        workers.into_iter().find(|seen| seen.worker == worker).map_or(0, |seen| seen.beat)
    }

    pub(super) fn opened(&mut self) {
        self.openings.push(true);
    }

    /// An opening is gone, and its loads with it.
    pub(super) fn crashed(&mut self, opening: usize) {
        self.openings[opening] = false;
        self.loads.iter_mut().filter(|load| load.opening == opening).for_each(|load| load.open = false);
    }

    pub(super) fn has_opening(&self) -> bool {
        self.openings.contains(&true)
    }

    /// What the oracle answered.
    pub(super) fn answered(&mut self, call: &Call, answer: &Answer) {
        match (&call.verb, &answer.reply) {
            (Verb::Enroll, Reply::Enrolled(worker)) => {
                self.workers.push(Worker { fence: Fence { worker: *worker }, home: call.on, fenced: false });
            }
            (Verb::Start(Some(fence), _), Reply::Started(_, adopted)) => {
                for (row, first) in adopted {
                    self.loaded(call.on, *fence, row.run, first.seq + 1);
                }
            }
            (Verb::Claim(fence, _), Reply::Claimed(rows)) => {
                rows.iter().for_each(|row| self.loaded(call.on, *fence, row.run, u64::MAX));
            }
            (Verb::Reload(fence, _), Reply::Reloaded(Some(row))) => {
                let before = self.loads.iter_mut().filter(|load| load.run == row.run);
                before.for_each(|load| load.open = false);
                self.loaded(call.on, *fence, row.run, u64::MAX);
            }
            (Verb::Cut(cut), Reply::Is(true)) | (Verb::Act(Does::Cut(cut), _), Reply::Acted(Acted::Done)) => {
                self.cut.insert(cut.run);
            }
            (Verb::Commit(_, Some(at), turn), reply) => {
                let ended = matches!(reply, Reply::Durable(_)) && turn.end.is_some();
                self.loads[*at].open &= !(ended || matches!(reply, Reply::Failed(_) | Reply::Fenced(_)));
            }
            _ => {}
        }
    }

    fn loaded(&mut self, opening: usize, fence: Fence, run: RunId, next: u64) {
        self.loads.push(Load { run, fence, opening, open: true, next });
    }

    /// What the oracle looks like now that nothing is on its way.
    pub(super) fn seen(&mut self, picture: Picture) {
        for worker in &mut self.workers {
            let seen = picture.workers.iter().find(|seen| seen.worker == worker.fence.worker);
            worker.fenced = seen.is_none_or(|seen| seen.fenced);
        }
        for load in &mut self.loads {
            let run = picture.runs.iter().find(|run| run.row.run == load.run);
            load.next = run.and_then(|run| run.whole.entries.last()).map_or(0, |last| last.seq + 1);
        }
        self.items.clear();
        self.picture = Some(picture);
    }
}

fn nth_of<T>(nth: Nth, all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<_> = all.collect();
    (!all.is_empty()).then(|| all.swap_remove(nth.0 % all.len()))
}

pub(super) fn against(right: u64, how: Against) -> u64 {
    match how {
        Against::Right => right,
        Against::Less => right.saturating_sub(1),
        Against::More => right.saturating_add(1),
        Against::Most => u64::MAX,
    }
}

fn begin(new: &Begin) -> NewRun {
    let first = sample::entry(new.seq, new.flavour);
    NewRun {
        due: sample::at(new.due),
        trace: (new.flavour == 3).then(|| Arc::from("00-trace")),
        // What a fork begins with is read by whoever claims it.
        claim: new.claim && new.forked.is_none(),
        reuse: sample::statuses(new.reuse),
        letters: new.letters.iter().map(|(id, kind)| sample::letter(*id, *kind, 0)).collect(),
        attributes: new
            .attributes
            .iter()
            .map(|(name, value)| (sample::attribute(*name), sample::value_of(*name, *value)))
            .collect(),
        forked: new.forked.map(|(entries, from)| Box::new(sample::forked(entries, against(1, from)))),
        ..NewRun::of(sample::id(new.id), sample::workflow(new.workflow), first)
    }
}

fn entries(turn: &Turning, from: u64) -> Vec<Entry> {
    let seqs = (0..turn.entries as u64).map(|n| from.saturating_add(n + u64::from(turn.gap && n > 0)));
    seqs.map(|seq| sample::entry(seq, turn.flavour)).collect()
}

fn mark(mark: &Marking) -> Mark {
    let key = sample::key(mark.key);
    match mark.started {
        Some((attempt, abandoned)) => {
            Mark::Started(StartedRow { key, attempt, at: sample::at(When::At(2)), abandoned, details: None })
        }
        None => Mark::Cleared(key),
    }
}

fn end(how: Ending, inbox_n: u64) -> End {
    let at = sample::at(When::At(9));
    match how {
        Ending::Finished(status) => End::Finished { status, inbox_n, at },
        Ending::Parked(wake) => End::Parked { wake_at: wake.map(sample::at), inbox_n },
        Ending::Stuck(reason) => {
            let key = (reason % 2 == 0).then(|| sample::key(reason % 3));
            let stuck = Stuck { reason: sample::reason(reason), key, detail: "it's stuck".into() };
            End::Stuck { stuck, inbox_n, at }
        }
        Ending::Paused => End::Paused { inbox_n },
        Ending::GivenBack(when) => End::GivenBack { wake_at: sample::at(when) },
        Ending::Restarted(flavour) => End::Restarted { first: Box::new(sample::entry(0, flavour)) },
    }
}
