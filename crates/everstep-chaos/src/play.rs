//! One play, from an empty server to the verdict.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use everstep_cluster::{
    Mode,
    proxy::{Direction, Fault as Broken, Moment},
};
use everstep_processes::chance::Chance;
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinHandle, JoinSet},
};

use crate::{
    AnyResult,
    check::Account,
    eye::Eye,
    fault::{Commit, Fault, Partition, Planned, Schedule, Sort},
    figures::Figures,
    ledger::{Line, Reader},
    outside::{self, Told},
    seat::{Order, Orders, Seat},
    snapshot::Snapshot,
    stage::{Stage, WORKERS},
    time::{ms, now, pass, until, within},
};

/// A commit that shall be lost comes within so long, or not.
const COMES_WITHIN: Duration = Duration::from_secs(8);
/// Once everything is healed, every run ends within so long.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// What can be judged before the end is judged so often.
const JUDGED_EVERY: Duration = Duration::from_secs(2);
/// How often the ledger is looked at.
const LOOK_MS: u64 = 20;

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) runs: usize,
    /// Faults of each kind.
    pub(crate) each: usize,
    pub(crate) length: Duration,
}

impl Size {
    /// In the measure of 5,000 runs and 20 faults of each kind in ten minutes.
    pub(crate) fn of(seconds: u64) -> Size {
        let share = |of: u64| usize::try_from(of * seconds / 600).expect("a number of minutes").max(1);
        Size { runs: share(5_000), each: share(20), length: Duration::from_secs(seconds) }
    }
}

/// Everybody who takes part.
struct Play {
    stage: Arc<Stage>,
    eye: Arc<Eye>,
    seats: Vec<(Orders, watch::Receiver<String>)>,
    faults: Mutex<BTreeMap<Sort, usize>>,
    /// Something does not hold: no more faults.
    is_over: AtomicBool,
}

/// Plays once.
///
/// # Errors
/// The server or the processes cannot be made, or something went so wrong that nothing can be judged.
pub(crate) async fn play((folder, hostile): (PathBuf, bool), size: Size, seed: u64) -> AnyResult<Figures> {
    let mut chance = Chance::new(seed);
    let schedule = Schedule::draw(&mut chance, size.each, size.length.as_millis() as u64);
    let stage = Arc::new(Stage::new(folder, hostile).await?);
    let eye = Arc::new(Eye::new(stage.cluster.clone()));
    let (leave, leaves) = watch::channel(false);
    let (mut everybody, mut seats) = (JoinSet::new(), Vec::new());
    for number in 0..WORKERS {
        let (seat, orders, name) = Seat::new(number, stage.clone(), eye.clone(), leaves.clone());
        seats.push((orders, name));
        everybody.spawn(seat.keeps());
    }
    let (faults, is_over) = (Mutex::default(), AtomicBool::new(false));
    let play = Arc::new(Play { stage: stage.clone(), eye: eye.clone(), seats, faults, is_over });
    let told = Arc::new(Told::default());
    let (began, mut lanes) = (now(), JoinSet::new());
    for lane in schedule.lanes {
        lanes.spawn(play.clone().breaks(began, lane));
    }
    let outside = outside::act(stage.clone(), told.clone(), (size.runs, size.length, seed));
    let mut acts = Acts {
        outside: tokio::spawn(outside),
        lanes,
        everybody,
        judging: tokio::spawn(judge_so_far(stage.clone(), eye.clone())),
        violations: Vec::new(),
        broken_off: false,
    };
    let watching = tokio::spawn(watch_ledger(stage.clone()));
    acts.go_on(&stage, began + size.length + ENDS_WITHIN).await;
    if !acts.violations.is_empty() {
        play.is_over.store(true, Ordering::Relaxed);
        std::fs::write(stage.log_path("activity"), eye.activity().await?)?;
    }
    watching.abort();
    let stall = stage.pulse.longest();
    acts.end(&stage, &leave).await;
    let account = Account {
        runs: size.runs,
        lines: Reader::new(&stage.ledger_path()).more()?,
        started: told.started(),
        signalled: told.signalled(),
        ends: told.ends(),
        snapshot: if acts.broken_off { Snapshot::glance(&eye).await? } else { Snapshot::take(&eye).await? },
    };
    stage.keep_log()?;
    let mut takeovers = eye.takeovers();
    takeovers.sort_unstable();
    let mut figures = Figures {
        runs: size.runs,
        faults: play.faults.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        asked: told.asked.load(Ordering::Relaxed),
        acknowledged: told.acknowledged.load(Ordering::Relaxed),
        takeovers,
        stall,
        slowest: told.slowest(),
        verdict: if acts.broken_off { account.judge_so_far() } else { account.judge() },
    };
    let is_whole = acts.violations.is_empty();
    figures.verdict.violations.splice(0..0, acts.violations);
    if is_whole {
        figures.verdict.violations.extend(figures.too_tame_or_slow(size.each));
    }
    Ok(figures)
}

/// What goes on at the same time, and what of it went wrong.
struct Acts {
    outside: JoinHandle<AnyResult<()>>,
    lanes: JoinSet<AnyResult<()>>,
    everybody: JoinSet<AnyResult<()>>,
    judging: JoinHandle<AnyResult<()>>,
    violations: Vec<String>,
    /// What can be judged before the end did not hold.
    broken_off: bool,
}

impl Acts {
    /// Until everything was asked for and every fault is over, or something went wrong.
    async fn go_on(&mut self, stage: &Stage, mut deadline: Instant) {
        let mut is_outside_done = false;
        while self.violations.is_empty() && !(is_outside_done && self.lanes.is_empty()) {
            let wrong = tokio::select! {
                acted = &mut self.outside, if !is_outside_done => {
                    is_outside_done = true;
                    stage.pulse.is_over();
                    went_wrong("outside: ", acted)
                }
                Some(broke) = self.lanes.join_next() => {
                    // The last one may have begun late.
                    deadline = deadline.max(now() + ENDS_WITHIN);
                    went_wrong("a fault: ", broke)
                }
                Some(kept) = self.everybody.join_next() => went_wrong("", kept),
                judged = &mut self.judging => {
                    self.broken_off = true;
                    went_wrong("", judged)
                }
                () = until(deadline) => {
                    Some(format!("not every run has ended {ENDS_WITHIN:?} after everything was healed"))
                }
            };
            self.violations.extend(wrong);
        }
    }

    /// A fault that is under way has its end; then the network is healed, and the workers leave.
    async fn end(&mut self, stage: &Stage, leave: &watch::Sender<bool>) {
        self.outside.abort();
        self.judging.abort();
        while let Some(broke) = self.lanes.join_next().await {
            self.violations.extend(went_wrong("a fault: ", broke));
        }
        for proxy in &stage.proxies {
            proxy.heal().await;
        }
        leave.send_replace(true);
        while let Some(kept) = self.everybody.join_next().await {
            self.violations.extend(went_wrong("", kept));
        }
    }
}

/// The error with which a task has ended, in words.
fn went_wrong(what: &str, ended: Result<AnyResult<()>, JoinError>) -> Option<String> {
    let error = ended.map_err(Into::into).and_then(|ended| ended).err()?;
    Some(format!("{what}{error}"))
}

/// Feels the pulse.
async fn watch_ledger(stage: Arc<Stage>) -> AnyResult<()> {
    let mut reader = Reader::new(&stage.ledger_path());
    loop {
        let lines = reader.more()?;
        if lines.iter().any(|line| matches!(line, Line::Done { .. } | Line::Over { .. })) {
            stage.pulse.beats();
        }
        pass(ms(LOOK_MS)).await;
    }
}

/// Looks now and then whether everything holds; an error as soon as something does not.
async fn judge_so_far(stage: Arc<Stage>, eye: Arc<Eye>) -> AnyResult<()> {
    loop {
        pass(JUDGED_EVERY).await;
        let lines = Reader::new(&stage.ledger_path()).more()?;
        let account = Account { lines, snapshot: Snapshot::glance(&eye).await?, ..Account::default() };
        if let Some(violation) = account.judge_so_far().violations.into_iter().next() {
            return Err(format!("broken off: {violation}").into());
        }
    }
}

impl Play {
    async fn breaks(self: Arc<Self>, began: Instant, lane: Vec<Planned>) -> AnyResult<()> {
        for Planned { at, fault } in lane {
            until(began + ms(at)).await;
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let at = began.elapsed();
            let took_place = self.break_once(fault).await?;
            println!("{:6.1} s  {fault}{}", at.as_secs_f64(), if took_place { "" } else { " did not come" });
            if took_place {
                *self
                    .faults
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(fault.sort())
                    .or_default() += 1;
            }
        }
        Ok(())
    }

    /// Whether it took place.
    async fn break_once(&self, fault: Fault) -> AnyResult<bool> {
        match fault {
            Fault::ServerKilled => self.stage.breaks(|server| server.kill()).await?,
            Fault::ServerStopped => self.stage.breaks(|server| server.stop(Mode::Immediate)).await?,
            Fault::BackendsEnded(many) => return self.ends_backends(many).await,
            Fault::WorkerStopped(seat, time) => self.orders(seat, Order::Stop(ms(time))).await?,
            Fault::WorkerKilled(seat) => self.orders(seat, Order::Kill).await?,
            Fault::ClockMoved(seconds) => self.stage.clock.set(seconds),
            Fault::CommitLost(proxy, commit, nth) => return Ok(self.loses_commit(proxy, commit, nth).await),
            Fault::Partition(proxy, how, time) => self.parts(proxy, how, ms(time)).await?,
        }
        Ok(true)
    }

    async fn orders(&self, seat: usize, order: Order) -> AnyResult<()> {
        let (done, is_done) = oneshot::channel();
        let gone = "nobody keeps that seat any more";
        self.seats[seat].0.send((order, done)).await.map_err(|_| gone)?;
        Ok(is_done.await.map_err(|_| gone)?)
    }

    async fn ends_backends(&self, many: usize) -> AnyResult<bool> {
        // Any of them: which is left to the order of their numbers and so to chance.
        const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() ORDER BY md5(pid::text) LIMIT $1";
        Ok(!self.eye.asks(END, &[&i64::try_from(many)?]).await?.is_empty())
    }

    async fn loses_commit(&self, proxy: usize, commit: Commit, nth: usize) -> bool {
        let proxy = &self.stage.proxies[proxy];
        let moment = match commit {
            Commit::Step => Moment::after("COMMIT").behind("INSERT INTO moved"),
            // Each of them has a name there.
            Commit::Transaction => Moment::after("COMMIT").behind("INSERT INTO \"everstep\".everstep_commit"),
            Commit::Statement => Moment::after("INSERT INTO \"everstep\".everstep_journal"),
        };
        let lost = proxy.at(moment.nth(nth), Broken::Cut);
        let came = within(COMES_WITHIN, lost.happened()).await.is_some();
        proxy.heal().await;
        came
    }

    async fn parts(&self, number: usize, how: Partition, time: Duration) -> AnyResult<()> {
        let (proxy, behind) = (&self.stage.proxies[number], self.stage.behind(number));
        let name = behind.map(|seat| self.seats[seat].1.borrow().clone());
        match how {
            Partition::BlackHole => proxy.set(Broken::Hold(Direction::Both)),
            Partition::HalfOpen => proxy.set(Broken::Hold(Direction::ToClient)),
            Partition::Refused => {
                proxy.refuse().await;
                proxy.set(Broken::Cut);
            }
        }
        pass(time).await;
        if let Some(name) = name {
            // What it has on its way must not come after this.
            self.eye.sees_fence(&name).await?;
        }
        proxy.heal().await;
        Ok(())
    }
}
