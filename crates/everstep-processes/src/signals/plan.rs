//! What is played with one seed: the runs and their moves, the signals and the order in which they are sent. Every run
//! that gets its repeatable signals ends: a wait without a time has one that nothing before it can have taken.

use super::waits::{END, Move, Told, Waits};
use crate::chance::Chance;

/// So long a wait lasts at most that has a time, in milliseconds.
const WAIT_MS_MAX: usize = 40;

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Sends and waits, at least.
    pub operations: usize,
    /// SIGKILLs of the worker, at least.
    pub kills: usize,
}

impl Size {
    /// The whole of it, or a tenth.
    pub fn of(full: bool) -> Size {
        let tenths = if full { 10 } else { 1 };
        Size { operations: 10_000 * tenths, kills: 20 * tenths }
    }
}

/// A signal of the plan; its number is its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// For this run.
    pub run: usize,
    /// Under this name.
    pub name: usize,
    /// Whether it has an idempotency key: it is sent again when nobody knows whether it came.
    pub keyed: bool,
}

/// A run of the plan.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) moves: Vec<Move>,
    /// Signals in the order in which they are sent; those with a key also twice or thrice.
    pub(crate) sends: Vec<usize>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) runs: Vec<Run>,
    pub(crate) signals: Vec<Planned>,
}

impl Plan {
    pub(crate) fn new(chance: &mut Chance, operations: usize) -> Plan {
        let mut plan = Plan { runs: Vec::new(), signals: Vec::new() };
        let mut planned = 0;
        while planned < operations {
            let run = plan.draw_run(chance);
            planned += run.sends.len() + run.moves.iter().map(|next| next.waits()).sum::<usize>() + 1;
            plan.runs.push(run);
        }
        plan
    }

    /// What a run begins with.
    pub(crate) fn input(&self, run: usize) -> Waits {
        Waits { run, moves: self.runs[run].moves.clone(), made: 0, told: Told::default() }
    }

    /// How often the runs tell what they saw, at least.
    pub(crate) fn sights(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.moves).filter(|next| **next == Move::Saw).count()
    }

    fn draw_run(&mut self, chance: &mut Chance) -> Run {
        let mut sends = Vec::new();
        // Sure to come, by name.
        let mut sure = [0; END];
        for _ in 0..chance.between(6, 40) {
            let (name, keyed) = (chance.below(END), !chance.one_in(3));
            sure[name] += usize::from(keyed);
            let signal = self.plan(name, keyed);
            sends.push(signal);
            // The copies come wherever they come, also before what was meant to be the first.
            while keyed && chance.one_in(5) {
                sends.insert(chance.below(sends.len() + 1), signal);
            }
        }
        // Sent too early, it leaves signals to nobody, and senders that hear that the run is over.
        let end = if chance.one_in(4) { chance.between(sends.len() / 2, sends.len()) } else { sends.len() };
        sends.insert(end, self.plan(END, true));
        Run { moves: draw_moves(chance, sure), sends }
    }

    fn plan(&mut self, name: usize, keyed: bool) -> usize {
        self.signals.push(Planned { run: self.runs.len(), name, keyed });
        self.signals.len() - 1
    }
}

/// Moves that take about all of `sure`, and never wait without a time for more than those.
fn draw_moves(chance: &mut Chance, sure: [usize; END]) -> Vec<Move> {
    let (mut moves, mut wanted) = (Vec::new(), [0; END]);
    for _ in 0..chance.between(4, 2 * sure.iter().sum::<usize>() + 4) {
        let (name, other, time) =
            (chance.below(END), chance.below(END), chance.below(WAIT_MS_MAX + 1) as u64);
        let is_sure = |name: usize, n: usize| wanted[name] + n <= sure[name];
        let next = match chance.below(16) {
            0..4 if is_sure(name, 1) => Move::Wait(name),
            4 | 5 if name != other && is_sure(name, 1) && is_sure(other, 1) => Move::Either(name, other),
            6 if is_sure(name, 2) => Move::Pair(name),
            7..9 => Move::Race(name, time),
            9 => Move::PairRace(name, time),
            10 => Move::Held(name, time),
            11 => Move::Nap(time),
            12 if chance.one_in(4) => Move::Restart,
            12..15 => Move::Saw,
            _ => Move::Timed(name, time),
        };
        match next {
            Move::Wait(name) | Move::Timed(name, _) | Move::Race(name, _) | Move::Held(name, _) => {
                wanted[name] += 1;
            }
            Move::Pair(name) | Move::PairRace(name, _) => wanted[name] += 2,
            Move::Either(one, other) => [one, other].into_iter().for_each(|name| wanted[name] += 1),
            Move::Saw | Move::Nap(_) | Move::Restart => {}
        }
        moves.push(next);
    }
    moves
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_run_can_end_with_what_is_sure_to_come() {
        let plan = Plan::new(&mut Chance::new(7), 10_000);
        for (n, run) in plan.runs.iter().enumerate() {
            let sent: BTreeSet<_> = run.sends.iter().copied().collect();
            let of = |name| sent.iter().map(|signal| plan.signals[*signal]).filter(move |s| s.name == name);
            assert!(sent.iter().all(|signal| plan.signals[*signal].run == n));
            assert_eq!(of(END).filter(|signal| signal.keyed).count(), 1);
            for name in 0..END {
                let sure = of(name).filter(|signal| signal.keyed).count();
                let mut taken = 0;
                for next in &run.moves {
                    let (waits, is_patient) = match *next {
                        Move::Wait(of) if of == name => (1, true),
                        Move::Either(one, other) if one == name || other == name => (1, true),
                        Move::Pair(of) if of == name => (2, true),
                        Move::Timed(of, _) | Move::Race(of, _) | Move::Held(of, _) if of == name => {
                            (1, false)
                        }
                        Move::PairRace(of, _) if of == name => (2, false),
                        _ => (0, false),
                    };
                    taken += waits;
                    assert!(
                        !is_patient || taken <= sure,
                        "run {n} waits for ever for {name}: {:?}",
                        run.moves
                    );
                }
            }
        }
    }

    #[test]
    fn the_same_seed_is_the_same_plan_and_has_of_everything() {
        let plan = |seed| Plan::new(&mut Chance::new(seed), 10_000);
        assert_eq!(format!("{:?}", plan(1)), format!("{:?}", plan(1)));
        assert_ne!(format!("{:?}", plan(1)), format!("{:?}", plan(2)));
        let plan = plan(1);
        let moves = || plan.runs.iter().flat_map(|run| &run.moves);
        let kinds: BTreeSet<_> =
            moves().map(|next| format!("{next:?}").split('(').next().map(str::to_string)).collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        let sends: usize = plan.runs.iter().map(|run| run.sends.len()).sum();
        assert!(sends > plan.signals.len() * 11 / 10, "few are sent twice: {sends}");
        assert!(plan.sights() > plan.runs.len(), "{}", plan.sights());
    }
}
