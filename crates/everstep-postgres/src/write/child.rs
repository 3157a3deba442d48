//! Children: started by a turn of another run, told of by their own, cancelled with their parent.

use everstep_core::store::{Letter, LetterId, NewRun, Parent, RunId, Started, Used};

use super::{post, start};
use crate::{
    batch::Batch,
    fault::Fault,
    row,
    sql::{Sql, args, get, sql},
    text::kept,
};

/// Starts a child, or tells its parent what its id is used for.
pub(crate) async fn start(batch: &mut Batch<'_>, new: &NewRun, answer: LetterId) -> Result<(), Fault> {
    let Started::Known(known, _) = start::start_one(batch, new, None, None, &mut Vec::new()).await? else {
        return Ok(());
    };
    let parent = parent_of(batch, known.run).await?;
    let last = row::last_entry(batch.conn, batch.texts, known.run).await?;
    match (new.used(&known, parent.as_ref(), last.as_ref(), answer), &new.parent) {
        (Used::Heard(letter), Some(own)) => tell(batch, own.run, own.generation, &letter).await,
        _ => Ok(()),
    }
}

/// Whose child a run is.
async fn parent_of(batch: &Batch<'_>, run: RunId) -> Result<Option<Parent>, Fault> {
    const PARENT: Sql = sql(
        "read whose child a run is",
        "SELECT parent, parent_generation, parent_key, policy, digest FROM @run_extra WHERE run = $1",
    );
    let row = batch.conn.one(&PARENT, args![run.0]).await?;
    Ok(row.map(|row| row::parent(&row)).transpose()?.flatten())
}

/// A letter to a run of this generation, whatever its status.
pub(crate) async fn tell(
    batch: &mut Batch<'_>,
    run: RunId,
    generation: u32,
    letter: &Letter,
) -> Result<(), Fault> {
    match post::find_run(batch.conn, run).await? {
        Some(to) if to.generation == i64::from(generation) => {
            post::deliver(batch, &to, letter, false).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// The letter to the children of `parent` that are open: to the one of this key and of this generation, whose keys begin
/// anew, or to all that close with it.
pub(crate) async fn cancel(
    batch: &mut Batch<'_>,
    parent: RunId,
    key: Option<&str>,
    letter: &Letter,
) -> Result<(), Fault> {
    /// 3 to 5: over. In the order of their numbers, in which everybody locks runs.
    const CHILDREN: Sql = sql(
        "find children to cancel",
        "SELECT r.id FROM @run_extra x JOIN @run r ON r.id = x.run
         WHERE x.parent = $1 AND (($2 IS NULL AND x.policy = 1) OR (x.parent_key = $2
           AND x.parent_generation = (SELECT generation FROM @run WHERE id = $1)))
           AND r.status NOT BETWEEN 3 AND 5 ORDER BY r.id",
    );
    for child in batch.conn.rows(&CHILDREN, args![parent.0, key.map(kept)]).await? {
        let found = post::find_run(batch.conn, RunId(get(&child, 0)?)).await?;
        if let Some(to) = found.filter(|to| !to.status.is_over()) {
            // As a person's: one that is stuck or paused goes on, to undo what it did.
            post::deliver(batch, &to, letter, true).await?;
        }
    }
    Ok(())
}
