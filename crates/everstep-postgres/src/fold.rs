//! Many turns and starts in one statement: the whole transaction of most drains, in one round trip.
//!
//! A run's row is changed at most once in one, which whoever puts turns together sees to. What the statement looks like is
//! in `statement`.

use everstep_core::store::{End, Fence, Settled, StoreError, WorkerId};

use crate::{
    batch::{Batch, Held},
    fault::Fault,
    op::Op,
    row::damaged,
    statement::{Done, Statement},
    write::{
        start::Start,
        turn::{Commit, RowChange, no_longer_ours, row_change},
    },
};

/// A turn that may be written: which one of all, and what its end changes.
struct Admitted {
    at: usize,
    held: Held,
    next: u64,
    change: Option<RowChange>,
}

/// Writes turns and starts of one worker. What became of each stands in it; those that are refused were not written and
/// hinder no other.
pub(crate) async fn write(
    batch: &mut Batch<'_>,
    turns: &mut [&mut Commit],
    starts: &mut [&mut Start],
) -> Result<(), Fault> {
    let owned = starts.iter().find_map(|start| start.fence);
    let fence = turns.first().map(|turn| turn.fence).or(owned);
    let admitted = admit(batch, turns);
    for start in starts.iter_mut() {
        start.prepare(batch).await?;
    }
    if starts.iter().any(|start| start.fence.is_none()) {
        // The statement asks again: this only has the words.
        batch.check_mark().await?;
    }
    if admitted.is_empty() && starts.iter().all(|start| start.is_refused() || start.is_empty()) {
        // A fenced worker hears that, whatever else is wrong with its turns.
        return check_refused(batch, fence, turns, starts).await;
    }
    let done = send(batch, fence, (turns, &admitted), starts).await?;
    if !done.live
        && let Some(fence) = fence
    {
        batch.fenced(fence.worker);
        turns
            .iter_mut()
            .for_each(|turn| turn.settled = Some(Settled::Refused(StoreError::Fenced(fence.worker))));
        starts.iter_mut().filter(|start| start.fence.is_some()).for_each(|start| start.refuse(fence));
    } else {
        settle(batch, turns, &admitted, &done).await?;
    }
    for start in starts.iter_mut() {
        start.wrote(batch, &done.started).await?;
    }
    Ok(())
}

async fn check_refused(
    batch: &mut Batch<'_>,
    fence: Option<Fence>,
    turns: &mut [&mut Commit],
    starts: &mut [&mut Start],
) -> Result<(), Fault> {
    let Some(fence) = fence else { return Ok(()) };
    match batch.check(fence).await {
        Err(Fault::Refuse(error)) => {
            turns.iter_mut().for_each(|turn| turn.settled = Some(Settled::Refused(error.clone())));
            starts.iter_mut().filter(|start| start.fence.is_some()).for_each(|start| start.refuse(fence));
            Ok(())
        }
        other => other,
    }
}

fn admit(batch: &mut Batch<'_>, turns: &mut [&mut Commit]) -> Vec<Admitted> {
    let mut admitted = Vec::with_capacity(turns.len());
    for (at, turn) in turns.iter_mut().enumerate() {
        match turn.admit(batch) {
            Ok((held, next)) => {
                let change =
                    |end: &End| row_change(turn.turn.run, end, held.status).expect("it was just looked at");
                let end = turn.turn.end.as_ref().filter(|end| !matches!(end, End::Restarted { .. }));
                admitted.push(Admitted { at, held, next, change: end.map(change) });
            }
            Err(error) => {
                if turn.own {
                    batch.close(turn.turn.load);
                }
                turn.settled = Some(Settled::Refused(error));
            }
        }
    }
    admitted
}

async fn send(
    batch: &mut Batch<'_>,
    fence: Option<Fence>,
    (turns, admitted): (&[&mut Commit], &[Admitted]),
    starts: &[&mut Start],
) -> Result<Done, Fault> {
    let mut statement = Statement::default();
    for Admitted { at, change, .. } in admitted {
        statement.push_turn(batch, &turns[*at].turn, change.as_ref()).await?;
    }
    for start in starts {
        statement.push_start(batch, start).await?;
    }
    statement.write(batch, fence.map_or(WorkerId(0), |fence| fence.worker)).await
}

async fn settle(
    batch: &mut Batch<'_>,
    turns: &mut [&mut Commit],
    admitted: &[Admitted],
    done: &Done,
) -> Result<(), Fault> {
    let missed = |admitted: &&Admitted| {
        let end = &turns[admitted.at].turn.end;
        match end {
            Some(End::Restarted { .. }) => true,
            Some(_) => !done.ended.contains(&turns[admitted.at].turn.run.0),
            None => false,
        }
    };
    let runs: Vec<_> = admitted.iter().filter(missed).map(|admitted| turns[admitted.at].turn.run.0).collect();
    let owners = if runs.is_empty() { Default::default() } else { batch.owners(runs).await? };
    let mut entries = done.started.len() as u64;
    for Admitted { at, held, next, change } in admitted {
        let turn = &mut *turns[*at];
        let (run, load) = (turn.turn.run, turn.turn.load);
        let is_ours = |owner: &i64| *owner == held.worker.0;
        let owner = owners.get(&run.0);
        let settled = match (&turn.turn.end, change) {
            (None, _) => Settled::Durable { next: *next },
            (Some(End::Restarted { .. }), _) => match owner.is_some_and(|(owner, _)| is_ours(owner)) {
                true => Settled::Durable { next: *next },
                false => Settled::Refused(no_longer_ours(run)),
            },
            (Some(_), _) if done.ended.contains(&run.0) => Settled::Durable { next: *next },
            (Some(_), _) => match owner {
                Some((owner, inbox_n)) if is_ours(owner) => {
                    batch.unadmit(load);
                    Settled::Moved { inbox_n: inbox_n.cast_unsigned() }
                }
                _ => Settled::Refused(no_longer_ours(run)),
            },
        };
        match &settled {
            Settled::Durable { .. } => {
                entries += turn.turn.entries.len() as u64;
                if let Some(at) = change.as_ref().and_then(|change| change.wake_at) {
                    batch.rings().due(at.0);
                }
                batch.rings().said |= turn.is_waited_for();
                if turn.turn.end.is_some() {
                    batch.close(load);
                }
            }
            Settled::Refused(_) => batch.close(load),
            Settled::Moved { .. } => {}
        }
        turn.settled = Some(settled);
    }
    match entries == done.entries {
        true => Ok(()),
        false => Err(damaged(&format!("{} entries were written in place of {entries}", done.entries)).into()),
    }
}

/// The turns and the starts among operations that fold.
pub(crate) fn split(ops: &mut [Op]) -> (Vec<&mut Commit>, Vec<&mut Start>) {
    let (mut turns, mut starts) = (Vec::with_capacity(ops.len()), Vec::new());
    for op in ops {
        match op {
            Op::Turn(turn) => {
                turn.settled = None;
                turns.push(&mut **turn);
            }
            Op::Start(start) => starts.push(&mut **start),
            Op::Call(_) | Op::Job(_) | Op::JobDone(..) => unreachable!("they do not fold"),
        }
    }
    (turns, starts)
}
