//! The sweep: which plans there are, and the playing of all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use everstep::failpoint::{Failpoint, Guard, broken};

use crate::{
    check::check,
    history::{History, Plan},
    life::Deed,
    report::Figures,
    store::Store,
    syscalls,
    workload::Workload,
};

/// Failpoints at which a call can fail.
const CAN_FAIL: [Failpoint; 9] = [
    Failpoint::MigrationDone,
    Failpoint::TransactionBegins,
    Failpoint::TransactionWritten,
    Failpoint::TransactionCommitted,
    Failpoint::StartSent,
    Failpoint::LetterSent,
    Failpoint::RunClaimed,
    Failpoint::BeatSent,
    Failpoint::BeatDurable,
];
/// More violations than these say nothing new.
const VIOLATIONS_MAX: usize = 10;

/// The workload whose steps have doubt policies.
const POLICIES: &str = "random";

/// What the plans of a workload are, and which failpoints were seen on the way.
#[derive(Default)]
struct Plans {
    all: Vec<Plan>,
    passed: BTreeSet<String>,
}

impl Plans {
    /// Of these workloads, all at once: most of a life is waiting.
    fn of_all(workloads: &[Workload]) -> Vec<Plans> {
        std::thread::scope(|scope| {
            let all: Vec<_> = workloads.iter().map(|workload| scope.spawn(|| Plans::of(workload))).collect();
            all.into_iter().map(|plans| plans.join().expect("no panic")).collect()
        })
    }

    /// Counts what a workload passes, alone and after earlier deaths, and plans a death at each.
    fn of(workload: &Workload) -> Plans {
        let mut plans = Plans::default();
        let first = plans.deaths(workload, &[], &[]);
        plans.deaths(workload, &[], &[Deed::Leave { results: 1 }]);
        let kills: Vec<_> = first.iter().filter(|plan| is_kill(plan)).cloned().collect();
        for base in kills.iter().step_by(kills.len().div_ceil(workload.template.store.bases()).max(1)) {
            plans.deaths(workload, &base.lives, &[]);
        }
        // A death inside a step whose policy decides is what brings the decision about: not left to chance.
        let inside =
            |plan: &&Plan| workload.name == POLICIES && kind(plan).contains(Failpoint::BodyReturned.name());
        for base in kills.iter().filter(inside) {
            if plans.passed.contains(Failpoint::DoubtDecided.name()) {
                break;
            }
            plans.deaths(workload, &base.lives, &[]);
        }
        plans
    }

    /// Deaths in the life after these, in which these deeds are done too.
    fn deaths(&mut self, workload: &Workload, before: &[Vec<Deed>], with: &[Deed]) -> Vec<Plan> {
        let begin = self.all.len();
        let mut add = |deed: Deed| {
            let mut lives = before.to_vec();
            lives.push([with, &[deed]].concat());
            self.all.push(Plan { workload: workload.name.to_string(), lives });
        };
        let passed = passed(workload, before, with);
        for (name, count) in &passed {
            let can_fail = CAN_FAIL.iter().any(|point| point.name() == name);
            for nth in 1..=*count {
                add(Deed::Failpoint { name: name.clone(), nth, what: "kill".to_string() });
                if can_fail && before.is_empty() && with.is_empty() {
                    add(Deed::Failpoint { name: name.clone(), nth, what: "fail".to_string() });
                }
            }
        }
        if with.is_empty() {
            for (name, count) in syscalls::count(workload, before) {
                (1..=count).for_each(|nth| add(Deed::Syscall { name: name.clone(), nth }));
            }
        }
        self.passed.extend(passed.into_keys());
        self.all[begin..].to_vec()
    }
}

/// Everything there is to play, and every failpoint that was passed on the way. Of each kind the first, and then one in
/// some; or all of them.
pub(crate) fn plans(workloads: &[Workload], store: &Store, full: bool) -> (Vec<Plan>, BTreeSet<String>) {
    let (mut chosen, mut passed, mut all) = (Vec::new(), BTreeSet::new(), 0);
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (workload, of) in workloads.iter().zip(Plans::of_all(workloads)) {
        all += of.all.len();
        passed.extend(of.passed);
        let is_chosen = |plan: &Plan| {
            let of = if store.is_short_by_workload() { workload.name } else { "any" };
            let n = seen.entry((of, kind(plan))).or_default();
            *n += 1;
            full || (*n - 1).is_multiple_of(store.short_stride())
        };
        chosen.extend(of.all.into_iter().filter(is_chosen).enumerate());
    }
    // All workloads side by side: what one of them would find is found soon.
    chosen.sort_by_key(|(n, _)| *n);
    println!("{} of {all} plans", chosen.len());
    (chosen.into_iter().map(|(_, plan)| plan).collect(), passed)
}

fn is_kill(plan: &Plan) -> bool {
    let last = plan.lives.last().and_then(|deeds| deeds.last());
    matches!(last, Some(Deed::Failpoint { what, .. }) if what == "kill")
}

/// What plans have in common that differ only in when.
fn kind(plan: &Plan) -> String {
    let last = plan.lives.last().and_then(|deeds| deeds.last());
    match last {
        Some(Deed::Failpoint { name, what, .. }) => format!("{} {name} {what}", plan.lives.len()),
        Some(Deed::Syscall { name, .. }) => format!("{} {name}", plan.lives.len()),
        _ => String::new(),
    }
}

/// How often each failpoint is passed in the life after these.
fn passed(workload: &Workload, before: &[Vec<Deed>], with: &[Deed]) -> BTreeMap<String, usize> {
    let room = tempfile::tempdir().expect("room");
    let log = room.path().join("passed");
    let mut lives = before.to_vec();
    lives.push(with.to_vec());
    History::play(&Plan { workload: workload.name.to_string(), lives }, &workload.template, Some(&log));
    let mut counts = BTreeMap::new();
    for name in fs::read_to_string(&log).unwrap_or_default().lines() {
        *counts.entry(name.to_string()).or_default() += 1;
    }
    counts
}

/// Plays plans side by side and checks each history.
pub(crate) fn play_all(plans: &[Plan], workloads: &[Workload], figures: &Mutex<Figures>) {
    // If a guard is off, one violation is what was wanted.
    let enough = if Guard::ALL.into_iter().any(broken) { 1 } else { VIOLATIONS_MAX };
    let next = AtomicUsize::new(0);
    let threads = workloads.first().map_or(1, |workload| workload.template.store.side_by_side());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    play(plan, workloads, figures);
                    let figures = figures.lock().expect("no panic");
                    figures.progress(plans.len());
                    if figures.violations.len() >= enough {
                        return;
                    }
                }
            });
        }
    });
}

fn play(plan: &Plan, workloads: &[Workload], figures: &Mutex<Figures>) {
    let workload = workloads.iter().find(|w| w.name == plan.workload).expect("plans name a workload");
    let history = History::play(plan, &workload.template, None);
    let verdict = check(&history, &workload.expected);
    figures.lock().expect("no panic").add(&history, verdict);
}

/// Failpoints that are in the code and that nothing passed.
pub(crate) fn missed(passed: &BTreeSet<String>, store: &Store) -> Vec<&'static str> {
    let all = Failpoint::ALL.iter().filter(|point| store.passes(**point));
    all.map(|point| point.name()).filter(|name| !passed.contains(*name)).collect()
}

/// Plays one plan and tells everything about it.
pub(crate) fn tell(plan: &Plan, workloads: &[Workload]) -> bool {
    let Some(workload) = workloads.iter().find(|workload| workload.name == plan.workload) else {
        println!("there is no workload `{}`", plan.workload);
        return false;
    };
    let history = History::play(plan, &workload.template, None);
    for (life, snapshot) in &history.lives {
        life.lines.iter().for_each(|line| println!("  {line}"));
        println!("-- {:?}", life.death);
        for (id, run) in &snapshot.runs {
            println!("   {id} {} recorded {:?} started {:?}", run.status, run.recorded, run.started);
        }
        println!("   rows {:?}, wished {:?}", snapshot.rows, snapshot.wished);
    }
    let verdict = check(&history, &workload.expected);
    verdict.violations.iter().for_each(|violation| println!("VIOLATION {violation}"));
    verdict.violations.is_empty()
}

/// Where databases are made: memory, if it is a file system; a process that is killed needs no disk.
pub(crate) fn room() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("there is room for a folder")
}
