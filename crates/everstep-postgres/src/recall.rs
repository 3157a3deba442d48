//! What became of turns and starts whose reply was lost.
//!
//! The number of their worker's fence is changed first, so that nothing of them can still come. Then whoever is not fenced
//! is the only one who can have written what is there. Starts need no more than that: each is told by its own number.

use everstep_core::store::{End, Settled, StoreError};

use crate::{
    batch::Batch,
    fault::Fault,
    row::signed,
    sql::{Sql, args, get, sql},
    statement::fenced,
    write::{start::Start, turn::Commit},
};

/// Settles the turns among those whose reply was lost that are written; the others are not, and never will be by what was
/// sent before.
pub(crate) async fn recall(
    batch: &mut Batch<'_>,
    turns: &mut [&mut Commit],
    starts: &[&mut Start],
) -> Result<(), Fault> {
    /// A turn is written if its first entry is there, or its run is no longer this worker's. That the worker is not
    /// fenced is seen at the same moment: another one's entry may have the same number.
    const LOOK: Sql = sql(
        "look for turns whose reply was lost",
        "SELECT u.seq IS NOT NULL, j.run IS NOT NULL, r.owner
         FROM unnest($3, $4) WITH ORDINALITY AS u(run, seq, n)
         LEFT JOIN @journal j ON j.run = u.run AND j.seq = u.seq LEFT JOIN @run r ON r.id = u.run
         WHERE EXISTS (SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced) ORDER BY u.n",
    );
    let of_turns = turns.iter().find(|turn| turn.unsure).map(|turn| turn.fence);
    let of_starts = starts.iter().filter(|start| start.unsure).find_map(|start| start.fence);
    let Some(fence) = of_turns.or(of_starts) else { return Ok(()) };
    let is_live = batch.change_slot(fence.worker).await?;
    let mut unsure: Vec<_> = turns.iter_mut().filter(|turn| turn.unsure).collect();
    if !is_live || unsure.is_empty() {
        // Who is fenced hears it from the statement itself.
        return Ok(());
    }
    let wanted = |turn: &&mut &mut Commit| {
        let first = turn.turn.entries.first().map(|first| signed(first.seq));
        (turn.turn.run.0, first)
    };
    let (runs, seqs): (Vec<i64>, Vec<Option<i64>>) = unsure.iter().map(wanted).unzip();
    let args = args![fence.worker.0, batch.slot_of(fence.worker), runs, seqs];
    let rows = batch.conn.rows(&fenced(&LOOK), args).await?;
    for (turn, row) in unsure.iter_mut().zip(&rows) {
        let (has_entries, is_there): (bool, bool) = (get(row, 0)?, get(row, 1)?);
        let owner: Option<i64> = get(row, 2)?;
        let is_written = match has_entries {
            true => is_there,
            false => turn.turn.end.is_some() && owner != Some(fence.worker.0),
        };
        if is_written {
            settle(batch, turn);
        }
    }
    Ok(())
}

fn settle(batch: &mut Batch<'_>, turn: &mut Commit) {
    let admitted: Result<_, StoreError> = turn.admit(batch);
    // If its load has ended meanwhile, the statement says so.
    let Ok((_, next)) = admitted else { return };
    turn.settled = Some(Settled::Durable { next });
    if turn.turn.end.is_some() {
        batch.close(turn.turn.load);
        let wake_at = match &turn.turn.end {
            Some(End::Parked { wake_at, .. }) => *wake_at,
            Some(End::GivenBack { wake_at }) => Some(*wake_at),
            _ => None,
        };
        batch.rings().due(wake_at.map_or(0, |at| at.0));
    }
    batch.rings().said = true;
}
