//! One play: a worker is stopped somewhere in a run, another takes over, the first goes on. What must hold then is
//! written down at the end, for every play alike.

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};

use rustix::process::Signal;

use crate::{
    actor::STEPS,
    clock::Clock,
    process::Actor,
    stage::{DAY_MS, Stage},
};
use everstep::failpoint::Failpoint;

const LEASE_MS: u64 = 800;
const RUN: &str = "r";
const HOUR: i64 = 3600;
/// Its result, whatever happens on the way.
const RESULT: &str = "ok 6";
const OVER: &str = "ERROR this worker was fenced";

/// Failpoints between a run's start and its end where a worker holds no lock on the database. Not those of
/// transactions: how many there are depends on the time too.
const ON_THE_WAY: [Failpoint; 8] = [
    Failpoint::StartDurable,
    Failpoint::RunAdopted,
    Failpoint::RunRead,
    Failpoint::BodyBegins,
    Failpoint::BodyReturned,
    Failpoint::TurnSent,
    Failpoint::TurnDurable,
    Failpoint::RunEnds,
];

/// Where the worker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In the body of this step.
    InBody(&'static str),
    /// Somewhere after so many lines about the run.
    AfterLine(usize),
    /// Where it passes this failpoint for the nth time.
    At(Failpoint, usize),
}

/// When it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// While its heir stands in a body.
    Amid,
    /// When the run is over.
    After,
}

/// What its clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The time.
    Right,
    /// An hour more.
    Ahead,
    /// An hour less.
    Behind,
    /// Another time whenever it has said something.
    Jumping,
}

impl Times {
    /// All of them.
    pub const ALL: [Times; 4] = [Times::Right, Times::Ahead, Times::Behind, Times::Jumping];
}

/// One way to play it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Play {
    /// Where it is stopped.
    pub stop: Stop,
    /// When it goes on.
    pub resume: Resume,
    /// What its clock shows.
    pub times: Times,
}

/// What was seen in a play in which everything holds.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The run was not over when its worker was stopped.
    pub amid_the_run: bool,
    /// Outcomes recorded by then.
    pub recorded: usize,
    /// Bodies that ran again, none of which was recorded.
    pub repeated: usize,
}

/// What a worker comes by that nobody stops: lines that it says about its run, failpoints on the run's way.
pub(super) fn stops_on_the_way(actor: &Path) -> Vec<Stop> {
    let stage = Stage::new(actor);
    stage.sql("CREATE TABLE counted (run TEXT NOT NULL)");
    let mut worker = stage.worker_at("", DAY_MS);
    let opening = stage.passed().len();
    worker.tell(&format!("open {RUN}"));
    worker.asks(&format!("start mixed {RUN} 5"), "started");
    worker.asks(&format!("result mixed {RUN}"), RESULT);
    let passed = stage.passed();
    let nth = |i: usize| passed[..=i].iter().filter(|name| **name == passed[i]).count();
    let at =
        |i: usize| ON_THE_WAY.iter().find(|point| point.name() == passed[i]).map(|p| Stop::At(*p, nth(i)));
    let failpoints = (opening..passed.len()).filter_map(at);
    let lines = worker.said().iter().filter(|line| is_about_the_run(line)).count();
    (1..=lines).map(Stop::AfterLine).chain(failpoints).collect()
}

fn is_about_the_run(line: &str) -> bool {
    !line.starts_with("open") && line.split(' ').any(|word| word.trim_matches([':', ',', '"']) == RUN)
}

impl Play {
    /// Plays it.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn play(&self, actor: &Path) -> Seen {
        let stage = Stage::new(actor);
        stage.sql("CREATE TABLE counted (run TEXT NOT NULL)");
        let clock = stage.clock("clock");
        clock.set(self.times.at_first());
        let mut heir = stage.worker(LEASE_MS);
        let mut stale = match (self.stop, self.times) {
            (Stop::At(point, nth), _) => stage.worker_at(&format!("{}:{nth}:stop", point.name()), LEASE_MS),
            (_, Times::Right) => stage.worker(LEASE_MS),
            _ => stage.worker_with(&clock, LEASE_MS),
        };
        self.bring_to_the_stop(&mut stale, &clock, &stage);
        let at_stop = Account::of(&stage);

        // Whatever the heir begins, it stands in until its gate is opened.
        if at_stop.is_over {
            pass_two_leases(&mut heir);
        } else {
            heir.hears_where("a body or the end", stands_in_a_body_or_is_through);
        }
        if self.resume == Resume::After {
            finish(&mut heir);
        }
        let journal = stage.journal(RUN);
        stale.tell(&format!("open {RUN}"));
        stale.signal(Signal::CONT);
        let last = stale.hears_where(OVER, |line| line.contains("ERROR") || at_stop.is_new(line));
        at_stop.check_words(stale.said());
        assert!(last.contains(OVER), "it was not fenced: {last}");
        assert_eq!(stage.journal(RUN), journal, "a stale worker has changed the journal");
        finish(&mut heir);

        // Reading is free.
        stale.asks(&format!("result mixed {RUN}"), RESULT);
        stale.tell("leave");
        stale.hears("left");
        at_stop.check_words(stale.last_words());
        heir.leaves();
        self.check_the_end(&stage, &at_stop)
    }

    /// A pause until an hour ahead would keep the heir waiting for an hour.
    fn pause(&self) -> u64 {
        if matches!(self.times, Times::Right | Times::Behind) { 5 } else { 0 }
    }

    fn bring_to_the_stop(&self, stale: &mut Actor, clock: &Clock, stage: &Stage) {
        match self.stop {
            Stop::InBody(step) => {
                for other in STEPS.into_iter().filter(|other| *other != step) {
                    stale.tell(&format!("open {RUN}/{other}"));
                }
            }
            Stop::AfterLine(_) | Stop::At(..) => stale.tell(&format!("open {RUN}")),
        }
        stale.tell(&format!("start mixed {RUN} {}", self.pause()));
        // A run may have a turn less than the one that was counted.
        if let Stop::At(..) = self.stop
            && stale.stops_or_says(|line| line == format!("completed {RUN}"))
        {
            return stale.leaves_its_transaction(stage);
        }
        let (mut lines, mut jump) = (0, HOUR);
        stale.hears_where("the stop", |line| {
            let is_about_it = is_about_the_run(line);
            // Only when the run has begun: one that was started an hour ahead of the time, and not taken at once because
            // the lease was old at this moment, is due in an hour.
            if self.times == Times::Jumping && is_about_it {
                clock.set(jump);
                jump = -jump;
            }
            lines += usize::from(is_about_it);
            match self.stop {
                Stop::InBody(step) => line.starts_with(&format!("begins {RUN} {step} ")),
                // Without its timer a run says a line less.
                Stop::AfterLine(n) => lines == n || line.starts_with(&format!("completed {RUN}")),
                Stop::At(..) => true,
            }
        });
        stale.stops_outside_a_transaction(stage);
    }

    fn check_the_end(&self, stage: &Stage, at_stop: &Account) -> Seen {
        let end = Account::of(stage);
        assert!(end.journal.starts_with(&at_stop.journal), "{:?} became {:?}", at_stop.journal, end.journal);
        for step in STEPS.into_iter().chain(["count"]) {
            assert_eq!(
                end.outcomes.iter().filter(|key| *key == step).count(),
                1,
                "{step}: {:?}",
                end.journal
            );
        }
        let unique: BTreeSet<_> = end.ledger.iter().collect();
        assert_eq!(
            unique.len(),
            end.ledger.len(),
            "an attempt was made twice by one worker: {:?}",
            end.ledger
        );
        for key in &at_stop.outcomes {
            let visits = |account: &Account| account.visits(key);
            assert_eq!(visits(&end), visits(at_stop), "`{key}` was recorded and ran again: {:?}", end.ledger);
        }
        assert!(end.visits("once") <= 1, "nobody may repeat it: {:?}", end.ledger);
        assert_eq!(stage.number("SELECT count(*) FROM counted"), 1);
        stage.is_whole();
        let again: usize = STEPS.iter().map(|step| end.visits(step).saturating_sub(1)).sum();
        // One of them is no repetition: `again` fails at first.
        let repeated = again - usize::from(self.pause() > 0);
        Seen { amid_the_run: !at_stop.is_over, recorded: at_stop.outcomes.len(), repeated }
    }
}

fn stands_in_a_body_or_is_through(line: &str) -> bool {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["begins", RUN, key, _] => STEPS.contains(&key),
        ["completed", RUN] => true,
        _ => false,
    }
}

fn finish(heir: &mut Actor) {
    heir.asks(&format!("open {RUN}"), "ok");
    heir.asks(&format!("result mixed {RUN}"), RESULT);
}

/// The heir beats four times in each lease.
fn pass_two_leases(heir: &mut Actor) {
    heir.asks("start slow time 8", "started");
    heir.asks("result slow time", "ok 8");
}

/// What is on the disk at one time.
struct Account {
    journal: Vec<String>,
    /// Keys of the steps with an outcome.
    outcomes: Vec<String>,
    ledger: Vec<String>,
    is_over: bool,
}

impl Account {
    fn of(stage: &Stage) -> Account {
        let journal = stage.journal(RUN);
        let words = |line: &String| line.split(' ').map(str::to_string).collect::<Vec<_>>();
        let outcomes = journal.iter().map(words).filter(|line| line[1] == "done" || line[1] == "failed");
        Account {
            outcomes: outcomes.map(|line| line[2].clone()).collect(),
            is_over: journal.last().is_some_and(|line| line.contains("run completed")),
            ledger: stage.ledger().into_iter().filter(|line| line.starts_with(RUN)).collect(),
            journal,
        }
    }

    fn visits(&self, key: &str) -> usize {
        self.ledger.iter().filter(|line| line.split(' ').nth(1) == Some(key)).count()
    }

    /// Whether the line tells of an outcome that was not recorded yet.
    fn is_new(&self, line: &str) -> bool {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["done", RUN, key] => !self.outcomes.iter().any(|known| known == key),
            ["completed", RUN] => !self.is_over,
            _ => false,
        }
    }

    fn check_words(&self, said: &[String]) {
        let new: Vec<_> = said.iter().filter(|line| self.is_new(line)).collect();
        assert!(new.is_empty(), "a stale worker has recorded something: {new:?}");
    }
}

impl Times {
    fn at_first(self) -> i64 {
        match self {
            Times::Right | Times::Jumping => 0,
            Times::Ahead => HOUR,
            Times::Behind => -HOUR,
        }
    }
}

impl Stop {
    fn named(text: &str) -> Option<Stop> {
        let step = STEPS.into_iter().find(|step| *step == text).map(Stop::InBody);
        let line = || text.parse().ok().map(Stop::AfterLine);
        let at = || {
            let (name, nth) = text.split_once(':')?;
            let point = ON_THE_WAY.into_iter().find(|point| point.name() == name)?;
            Some(Stop::At(point, nth.parse().ok()?))
        };
        step.or_else(line).or_else(at)
    }
}

impl fmt::Display for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stop {
            Stop::InBody(step) => write!(f, "{step}")?,
            Stop::AfterLine(n) => write!(f, "{n}")?,
            Stop::At(point, n) => write!(f, "{}:{n}", point.name())?,
        }
        write!(f, "/{:?}/{:?}", self.resume, self.times)
    }
}

impl FromStr for Play {
    type Err = String;

    fn from_str(text: &str) -> Result<Play, String> {
        let none = || {
            format!(
                "`{text}` is no play: `STEP, LINE or FAILPOINT:N/Amid or After/Right, Ahead, Behind or Jumping`"
            )
        };
        let [stop, resume, times] = text.split('/').collect::<Vec<_>>()[..] else { return Err(none()) };
        let resumes = [Resume::Amid, Resume::After];
        Ok(Play {
            stop: Stop::named(stop).ok_or_else(none)?,
            resume: resumes.into_iter().find(|known| format!("{known:?}") == resume).ok_or_else(none)?,
            times: Times::ALL.into_iter().find(|known| format!("{known:?}") == times).ok_or_else(none)?,
        })
    }
}
