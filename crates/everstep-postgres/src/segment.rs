//! Operations in the order of the queue, as the statements that write them.

use std::ops::Range;

use everstep_core::{
    Status,
    store::{Fence, Loads},
};
use foldhash::{HashSet, HashSetExt as _};

use crate::{batch::Held, op::Op};

/// What is written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// In one statement.
    Fold(Range<usize>),
    /// By statements of its own.
    One(usize),
}

/// Puts together what may be: turns and starts of one worker, no run's row more than once, and nothing of a run behind
/// the end of its load.
pub(crate) fn of(ops: &mut [Op], loads: &Loads<Held>) -> Vec<Segment> {
    let mut segments = Vec::new();
    let (mut from, mut whose, mut ended) = (0, None, HashSet::new());
    for at in 0..=ops.len() {
        let fold = ops.get(at).and_then(|op| folds(op, loads));
        let goes_on = fold.is_some_and(|fence| may_join(fence, whose))
            && !matches!(&ops[at], Op::Turn(turn) if ended.contains(&turn.turn.run));
        if !goes_on {
            if from < at {
                sort(&mut ops[from..at]);
                segments.push(Segment::Fold(from..at));
            }
            (from, whose) = (at, None);
            ended.clear();
            if fold.is_none() {
                if at < ops.len() {
                    segments.push(Segment::One(at));
                }
                from = at + 1;
                continue;
            }
        }
        if let Some(Whose::Worker(fence)) = fold {
            whose = Some(fence);
        }
        if let Op::Turn(turn) = &ops[at]
            && turn.turn.end.is_some()
        {
            ended.insert(turn.turn.run);
        }
    }
    segments
}

#[derive(Clone, Copy)]
enum Whose {
    Worker(Fence),
    /// A client's: goes with anybody's.
    Nobody,
}

fn folds(op: &Op, loads: &Loads<Held>) -> Option<Whose> {
    match op {
        Op::Turn(turn) => {
            let held = loads.get(turn.turn.load, turn.turn.run).ok();
            // Why it was stuck is to be forgotten with its end.
            let needs_more = held.is_some_and(|held| held.status == Status::Stuck);
            (turn.is_plain() && !needs_more).then_some(Whose::Worker(turn.fence))
        }
        Op::Start(start) => start.is_plain().then_some(start.fence.map_or(Whose::Nobody, Whose::Worker)),
        Op::Call(_) | Op::Job(_) | Op::JobDone(..) => None,
    }
}

fn may_join(one: Whose, whose: Option<Fence>) -> bool {
    match (one, whose) {
        (Whose::Worker(fence), Some(of)) => fence == of,
        _ => true,
    }
}

/// In the order of runs, in which everybody locks them; turns of one run stay as they are.
fn sort(ops: &mut [Op]) {
    let is_turn = |op: &Op| matches!(op, Op::Turn(_));
    for turns in ops.chunk_by_mut(|a, b| is_turn(a) && is_turn(b)) {
        turns.sort_by_key(|op| match op {
            Op::Turn(turn) => turn.turn.run.0,
            _ => 0,
        });
    }
}
