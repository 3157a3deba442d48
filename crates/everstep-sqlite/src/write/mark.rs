//! What a copy says about this database: who else may write.

use everstep_core::{
    Timestamp,
    store::{CopyId, CopyMark, CopyStage, Needs},
};
use rusqlite::{Connection, params};

use crate::{
    batch::Batch,
    fault::Fault,
    row::{self, damaged},
};

/// The mark, if there is one.
pub(crate) fn read(conn: &Connection) -> Result<Option<CopyMark>, Fault> {
    row::one(conn, "SELECT copy, stage, other, at FROM everstep_copy", [], |row| {
        let stage: u8 = row.get(1)?;
        let unknown = || damaged(&format!("{stage} is no stage of a copy that this version knows"));
        Ok(CopyMark {
            copy: CopyId(u128::from_be_bytes(row.get(0)?)),
            stage: CopyStage::from_code(stage).ok_or_else(unknown)?,
            other: row.get::<_, String>(2)?.into(),
            at: Timestamp(row.get(3)?),
        })
    })
}

/// Whether whoever is neither a worker nor a copy may write.
pub(crate) fn check(conn: &Connection) -> Result<(), Fault> {
    read(conn)?.map_or(Ok(()), |mark| Err(mark.refusal().into()))
}

/// Changes the mark, if it is `from` and nothing is in the way.
pub(crate) fn set(
    batch: &mut Batch<'_>,
    from: Option<&CopyMark>,
    to: Option<&CopyMark>,
) -> Result<(), Fault> {
    let found = read(batch.conn)?;
    if found.as_ref() != from {
        return Err(CopyMark::changed(found.as_ref()).into());
    }
    let in_the_way = match CopyMark::needs(from, to)? {
        Needs::Nothing => None,
        Needs::Quiet => at_work(batch.conn)?,
        Needs::Empty => at_work(batch.conn)?.map_or_else(|| any_run(batch.conn), |why| Ok(Some(why)))?,
    };
    if let Some(why) = in_the_way {
        return Err(CopyMark::blocked(&why).into());
    }
    batch.conn.prepare_cached("DELETE FROM everstep_copy")?.execute([])?;
    if let Some(CopyMark { copy, stage, other, at }) = to {
        batch
            .conn
            .prepare_cached(
                "INSERT INTO everstep_copy (one, copy, stage, other, at) VALUES (1, ?1, ?2, ?3, ?4)",
            )?
            .execute(params![copy.0.to_be_bytes(), *stage as u8, &**other, at.0])?;
    }
    batch.mark_changed();
    Ok(())
}

/// Who may still write as a worker, or has runs that nobody has freed yet.
fn at_work(conn: &Connection) -> Result<Option<String>, Fault> {
    let worker = "SELECT id, name FROM everstep_worker WHERE fenced = 0 ORDER BY id LIMIT 1";
    let worker = row::one(conn, worker, [], |row| {
        Ok(format!("worker {} ({}) is at work", row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    if worker.is_some() {
        return Ok(worker);
    }
    // `wake_at IS NOT NULL` is what lets the partial index answer.
    let run = "SELECT owner, text_id FROM everstep_run WHERE owner > 0 AND wake_at IS NOT NULL LIMIT 1";
    row::one(conn, run, [], |row| {
        Ok(format!("worker {} still has run `{}`", row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })
}

fn any_run(conn: &Connection) -> Result<Option<String>, Fault> {
    row::one(conn, "SELECT text_id FROM everstep_run ORDER BY id LIMIT 1", [], |row| {
        Ok(format!("it has runs of its own, like `{}`", row.get::<_, String>(0)?))
    })
}
