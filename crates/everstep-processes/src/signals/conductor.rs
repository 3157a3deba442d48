//! Who conducts a play: opens runs, has their signals sent, kills the worker and now and then a sender where the seed
//! says so, counted in what the runs have done, and begins them anew. Everything follows from lines of the ledger.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Figures,
    ledger::Line,
    plan::{Plan, Size},
    process::Order,
    troupe::{End, Event, Part, Process, Troupe},
};
use crate::chance::Chance;

/// Runs that are open at once.
const OPEN: usize = 48;
/// Processes that send.
const SENDERS: usize = 2;
/// What a sender has on its way at once.
const WINDOW: usize = 6;
/// Against hanging only: something happens all the time.
const HANGS: Duration = Duration::from_secs(60);
/// Where a worker may kill itself, and how often it passes there at most before it does.
const FAILPOINTS: [(&str, usize); 13] = [
    ("takeover.fenced", 1),
    ("takeover.done", 1),
    ("run.claimed", 90),
    ("run.read", 90),
    ("letters.seen", 60),
    ("turn.sent", 400),
    ("turn.durable", 400),
    ("transaction.written", 150),
    ("transaction.committed", 150),
    ("body.begins", 60),
    ("body.returned", 60),
    ("run.parks", 60),
    ("run.ends", 4),
];

/// What is known of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Starting,
    Open,
    Awaited,
    Over,
}

/// A run and what is still to be sent to it.
struct Progress {
    stage: Stage,
    to_send: VecDeque<usize>,
}

/// A process that sends, and what it was asked for; of sends also whether it has begun.
struct Seat {
    process: Process,
    orders: Vec<(Order, bool)>,
    /// The run that it sends to for a while.
    focus: usize,
}

pub(super) struct Conductor {
    chance: Chance,
    plan: Plan,
    troupe: Troupe,
    worker: Option<Process>,
    /// Whether it may be killed, and not only when it is ready.
    is_fair_game: bool,
    /// So many answers come before there is a worker again.
    rest: usize,
    senders: Vec<Seat>,
    runs: Vec<Progress>,
    /// What the runs have done: sights and ends.
    ticks: usize,
    /// At which ticks the worker is killed, the last first.
    kills: Vec<usize>,
    lines: Vec<Line>,
    /// Events that came while others were waited for.
    later: VecDeque<Event>,
    figures: Figures,
}

/// A play that is over: what was planned, what the processes wrote, and what was counted.
pub(super) struct Played {
    pub(super) plan: Plan,
    pub(super) lines: Vec<Line>,
    pub(super) figures: Figures,
}

impl Conductor {
    pub(super) fn new(
        program: &Path,
        database: PathBuf,
        size: Size,
        seed: u64,
    ) -> std::io::Result<Conductor> {
        let mut chance = Chance::new(seed);
        let plan = Plan::new(&mut chance, size.operations);
        // A little less than what is sure to happen.
        let ticks = (plan.sights() + plan.runs.len()) * 8 / 10;
        let mut kills: Vec<usize> = (0..size.kills).map(|_| chance.below(ticks)).collect();
        kills.sort_unstable_by(|a, b| b.cmp(a));
        let troupe = Troupe::new(program.to_path_buf(), database)?;
        let seat = |n| Ok(Seat { process: troupe.spawn(Part::Sender(n), None)?, orders: vec![], focus: 0 });
        let senders = (0..SENDERS).map(seat).collect::<std::io::Result<_>>()?;
        let runs =
            plan.runs.iter().map(|run| Progress { stage: Stage::New, to_send: run.sends.clone().into() });
        Ok(Conductor {
            runs: runs.collect(),
            chance,
            plan,
            troupe,
            worker: None,
            is_fair_game: false,
            rest: 0,
            senders,
            ticks: 0,
            kills,
            lines: Vec::new(),
            later: VecDeque::new(),
            figures: Figures::default(),
        })
    }

    /// Plays until every run is over, or something does not hold.
    pub(super) fn conduct(mut self, told: impl Fn(usize, usize)) -> std::io::Result<Played> {
        let all = self.runs.len();
        let mut over = 0;
        while over < all && self.figures.violations.is_empty() {
            self.give_orders();
            self.bring_a_worker()?;
            self.step()?;
            self.kill_if_due();
            let now = self.runs.iter().filter(|run| run.stage == Stage::Over).count();
            if now / 100 > over / 100 {
                told(now, all);
            }
            over = now;
        }
        if self.figures.violations.is_empty() {
            self.send_home()?;
        }
        Ok(Played { plan: self.plan, lines: self.lines, figures: self.figures })
    }

    /// Lets one thing happen.
    fn step(&mut self) -> std::io::Result<()> {
        match self.later.pop_front().or_else(|| self.troupe.next(HANGS)) {
            Some(Event::Wrote(line)) => self.hear(&line),
            Some(Event::Ended(process)) => self.bury(process)?,
            None => self.violation(format!("nothing happens any more: {}", self.whereabouts())),
        }
        Ok(())
    }

    fn violation(&mut self, what: String) {
        self.figures.violations.push(what);
    }

    fn whereabouts(&self) -> String {
        let open =
            self.runs.iter().enumerate().filter(|(_, run)| ![Stage::New, Stage::Over].contains(&run.stage));
        let open: Vec<_> = open.map(|(n, run)| format!("{n} {:?}", run.stage)).collect();
        let asked: Vec<_> = self.senders.iter().map(|seat| &seat.orders).collect();
        format!("open runs {open:?}, orders {asked:?}")
    }

    fn hear(&mut self, line: &str) {
        let line: Line = match line.parse() {
            Ok(line) => line,
            Err(why) => return self.violation(why),
        };
        match &line {
            Line::Ready(process) => {
                let is_worker = self.worker.as_ref().is_some_and(|worker| worker.number() == *process);
                self.is_fair_game |= is_worker;
            }
            Line::Started(run) => {
                self.done(Order::Start(*run));
                self.runs[*run].stage = Stage::Open;
            }
            Line::Sent(signal) => {
                let mut orders = self.senders.iter_mut().flat_map(|seat| &mut seat.orders);
                if let Some((_, begun)) = orders.find(|it| **it == (Order::Send(*signal), false)) {
                    *begun = true;
                }
            }
            Line::Acked(signal) | Line::Refused(signal) => {
                self.done(Order::Send(*signal));
                self.rest = self.rest.saturating_sub(1);
            }
            Line::Erred(signal, why) => {
                self.violation(format!("{signal} met an error that nothing here explains: {why}"));
            }
            Line::Saw(..) => self.ticks += 1,
            Line::Ended(run) => {
                self.ticks += 1;
                self.done(Order::Await(*run));
                self.runs[*run].stage = Stage::Over;
            }
            Line::Broke(run, why) => self.violation(format!("run {run} came to no good end: {why}")),
            Line::Mark(_) => {}
        }
        self.lines.push(line);
    }

    fn done(&mut self, order: Order) {
        // The same signal may be on its way from both; whichever it was, it is the same signal.
        for seat in &mut self.senders {
            if let Some(at) = seat.orders.iter().position(|(given, _)| *given == order) {
                seat.orders.remove(at);
                return;
            }
        }
    }

    fn give_orders(&mut self) {
        let is_open = |run: &&Progress| ![Stage::New, Stage::Over].contains(&run.stage);
        let mut open = self.runs.iter().filter(is_open).count();
        for run in 0..self.runs.len() {
            let sender = self.chance.below(SENDERS);
            match (self.runs[run].stage, self.runs[run].to_send.is_empty()) {
                (Stage::New, _) if open < OPEN => {
                    open += 1;
                    self.runs[run].stage = Stage::Starting;
                    self.order(sender, Order::Start(run));
                }
                (Stage::Open, true) => {
                    self.runs[run].stage = Stage::Awaited;
                    self.order(sender, Order::Await(run));
                }
                (Stage::New, _) => break,
                _ => {}
            }
        }
        for sender in 0..SENDERS {
            self.send_from(sender);
        }
    }

    fn send_from(&mut self, sender: usize) {
        let on_the_way =
            |seat: &Seat| seat.orders.iter().filter(|(o, _)| matches!(o, Order::Send(_))).count();
        while on_the_way(&self.senders[sender]) < WINDOW {
            let Some(run) = self.pick_run(sender) else { return };
            let signal = self.runs[run].to_send.pop_front().expect("that is why it was picked");
            self.order(sender, Order::Send(signal));
        }
    }

    /// Mostly the one that the sender has sent to before: signals come in bursts.
    fn pick_run(&mut self, sender: usize) -> Option<usize> {
        let wants =
            |run: &Progress| matches!(run.stage, Stage::Open | Stage::Awaited) && !run.to_send.is_empty();
        let focus = self.senders[sender].focus;
        if wants(&self.runs[focus]) && !self.chance.one_in(4) {
            return Some(focus);
        }
        let all: Vec<_> = (0..self.runs.len()).filter(|run| wants(&self.runs[*run])).collect();
        let run = *all.get(self.chance.below(all.len()))?;
        self.senders[sender].focus = run;
        Some(run)
    }

    fn order(&mut self, sender: usize, order: Order) {
        let words = match order {
            Order::Start(run) => {
                let input = serde_json::to_string(&self.plan.input(run)).expect("numbers and names");
                format!("start {run} {input}")
            }
            Order::Send(signal) => {
                let planned = self.plan.signals[signal];
                format!("send {signal} {} {} {}", planned.run, planned.name, u8::from(planned.keyed))
            }
            Order::Await(run) => format!("await {run}"),
        };
        let seat = &mut self.senders[sender];
        seat.orders.push((order, false));
        seat.process.tell(&words);
    }

    fn bring_a_worker(&mut self) -> std::io::Result<()> {
        let is_quiet = || {
            let mut orders = self.senders.iter().flat_map(|seat| &seat.orders);
            !orders.any(|(order, _)| matches!(order, Order::Send(_)))
        };
        if self.worker.is_some() || (self.rest > 0 && !is_quiet()) {
            return Ok(());
        }
        let failpoint = (cfg!(feature = "failpoints") && self.chance.one_in(3)).then(|| {
            let (point, passes) = FAILPOINTS[self.chance.below(FAILPOINTS.len())];
            format!("{point}:{}:kill", self.chance.between(1, passes))
        });
        self.worker = Some(self.troupe.spawn(Part::Worker, failpoint)?);
        self.is_fair_game = self.chance.one_in(8);
        Ok(())
    }

    fn kill_if_due(&mut self) {
        let Some(worker) = self.worker.as_mut().filter(|_| self.is_fair_game) else { return };
        if self.kills.last().is_none_or(|at| *at > self.ticks) {
            return;
        }
        self.kills.pop();
        worker.kill();
        self.is_fair_game = false;
        if self.chance.one_in(8) {
            let sender = self.chance.below(SENDERS);
            self.senders[sender].process.kill();
        }
    }

    fn bury(&mut self, process: u32) -> std::io::Result<()> {
        if let Some(worker) = self.worker.take_if(|worker| worker.number() == process) {
            match worker.buried() {
                End::Killed => self.figures.kills += 1,
                other => self.violation(format!("the worker ended by itself: {other:?}")),
            }
            // Most are followed at once, some when more has come that nobody takes.
            self.rest = if self.chance.one_in(4) { self.chance.between(1, 60) } else { 0 };
            return Ok(());
        }
        let Some(at) = self.senders.iter().position(|seat| seat.process.number() == process) else {
            return Ok(());
        };
        self.follow_up_on(at)
    }

    /// Puts another in a sender's place. What it was asked for is asked for again, except a signal without a key of which
    /// nobody knows.
    fn follow_up_on(&mut self, at: usize) -> std::io::Result<()> {
        self.read_all_that_is_written()?;
        let next = self.troupe.spawn(Part::Sender(at), None)?;
        let seat = &mut self.senders[at];
        let (orders, focus) = (std::mem::take(&mut seat.orders), seat.focus);
        let last = std::mem::replace(seat, Seat { process: next, orders: vec![], focus });
        match last.process.buried() {
            End::Killed => self.figures.senders_killed += 1,
            other => self.violation(format!("a sender ended by itself: {other:?}")),
        }
        for (order, begun) in orders {
            match order {
                Order::Start(_) | Order::Await(_) => self.order(at, order),
                Order::Send(signal) => {
                    let planned = self.plan.signals[signal];
                    if planned.keyed || !begun {
                        self.runs[planned.run].to_send.push_front(signal);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a process wrote before its end may still be on its way here.
    fn read_all_that_is_written(&mut self) -> std::io::Result<()> {
        let mark = self.troupe.mark()?;
        while self.lines.last() != Some(&mark) {
            match self.troupe.next(HANGS) {
                Some(Event::Wrote(line)) => self.hear(&line),
                Some(ended) => self.later.push_back(ended),
                None => {
                    self.violation("the ledger cannot be read any more".to_string());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Everybody leaves, the worker too, and everything is read.
    fn send_home(&mut self) -> std::io::Result<()> {
        let mut all: BTreeMap<u32, Process> = BTreeMap::new();
        for process in self.worker.take().into_iter().chain(self.senders.drain(..).map(|seat| seat.process)) {
            all.insert(process.number(), process);
        }
        all.values_mut().for_each(Process::close);
        while !all.is_empty() {
            match self.later.pop_front().or_else(|| self.troupe.next(HANGS)) {
                Some(Event::Wrote(line)) => self.hear(&line),
                Some(Event::Ended(number)) => {
                    match all.remove(&number).map(|process| (process.part, process.buried())) {
                        Some((Part::Worker, End::Killed)) => self.figures.kills += 1,
                        Some((part, end @ End::Failed(_))) => {
                            self.violation(format!("{part:?} left with {end:?}"))
                        }
                        _ => {}
                    }
                }
                None => {
                    self.violation("somebody does not leave".to_string());
                    break;
                }
            }
        }
        self.read_all_that_is_written()
    }
}
