//! Children: started by a turn of another run, told of by their own, cancelled with their parent.

use everstep_core::store::{Letter, LetterId, NewRun, Parent, RunId, Started, Used};
use rusqlite::{Connection, params};

use super::{post, start};
use crate::{batch::Batch, fault::Fault, row};

/// Starts a child, or tells its parent what its id is used for.
pub(crate) fn start(batch: &mut Batch<'_>, new: &NewRun, answer: LetterId) -> Result<(), Fault> {
    let Started::Known(known, _) = start::start_one(batch, new, None, &mut Vec::new())? else {
        return Ok(());
    };
    let parent = parent_of(batch.conn, known.run)?;
    let last = row::last_entry(batch.conn, batch.texts, known.run)?;
    match (new.used(&known, parent.as_ref(), last.as_ref(), answer), &new.parent) {
        (Used::Heard(letter), Some(own)) => tell(batch, own.run, own.generation, &letter),
        _ => Ok(()),
    }
}

/// Whose child a run is.
fn parent_of(conn: &Connection, run: RunId) -> Result<Option<Parent>, Fault> {
    let sql =
        "SELECT parent, parent_generation, parent_key, policy, digest FROM everstep_run_extra WHERE run = ?1";
    Ok(row::one(conn, sql, [run.0], row::parent)?.flatten())
}

/// A letter to a run of this generation, whatever its status.
pub(crate) fn tell(batch: &mut Batch<'_>, run: RunId, generation: u32, letter: &Letter) -> Result<(), Fault> {
    match post::find_run(batch.conn, run)? {
        Some(to) if to.generation == generation => post::deliver(batch, &to, letter, false).map(drop),
        _ => Ok(()),
    }
}

/// The letter to the children of `parent` that are open: to the one of this key and of this generation, whose keys begin
/// anew, or to all that close with it.
pub(crate) fn cancel(
    batch: &mut Batch<'_>,
    parent: RunId,
    key: Option<&str>,
    letter: &Letter,
) -> Result<(), Fault> {
    // 3 to 5: over.
    let sql = "SELECT r.id FROM everstep_run_extra x JOIN everstep_run r ON r.id = x.run
               WHERE x.parent = ?1 AND ((?2 IS NULL AND x.policy = 1) OR (x.parent_key = ?2
                 AND x.parent_generation = (SELECT generation FROM everstep_run WHERE id = ?1)))
                 AND r.status NOT BETWEEN 3 AND 5";
    for child in row::all(batch.conn, sql, params![parent.0, key], |row| Ok(RunId(row.get(0)?)))? {
        if let Some(to) = post::find_run(batch.conn, child)? {
            // As a person's: one that is stuck or paused goes on, to undo what it did.
            post::deliver(batch, &to, letter, true)?;
        }
    }
    Ok(())
}
