//! What a copy says about this database: who else may write.

use everstep_core::{
    Timestamp,
    store::{CopyId, CopyMark, CopyStage, Needs},
};

use crate::{
    batch::Batch,
    conn::{Conn, Speaks},
    fault::Fault,
    row::{self, damaged},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// The mark, if there is one.
pub(crate) async fn read(conn: &impl Speaks) -> Result<Option<CopyMark>, Fault> {
    const READ: Sql = sql("read the mark of a copy", "SELECT copy, stage, other, at FROM @copy");
    let Some(row) = conn.one(&READ, &[]).await? else { return Ok(None) };
    let stage: i16 = get(&row, 1)?;
    let unknown = || damaged(&format!("{stage} is no stage of a copy that this version knows"));
    let copy: &[u8] = get(&row, 0)?;
    let copy = copy.try_into().map_err(|_| damaged("the name of a copy has not 16 bytes"))?;
    Ok(Some(CopyMark {
        copy: CopyId(u128::from_be_bytes(copy)),
        stage: u8::try_from(stage).ok().and_then(CopyStage::from_code).ok_or_else(unknown)?,
        other: row::text(&row, 2)?,
        at: Timestamp(get(&row, 3)?),
    }))
}

/// Whether clients and new workers may write.
pub(crate) fn allows(mark: Option<&CopyMark>, accept_moved: bool) -> Result<(), Fault> {
    match mark {
        None => Ok(()),
        Some(mark) if mark.stage == CopyStage::Moved && accept_moved => Ok(()),
        Some(mark) => Err(mark.refusal().into()),
    }
}

/// Changes the mark, if it is `from` and nothing is in the way.
pub(crate) async fn set(
    batch: &mut Batch<'_>,
    from: Option<&CopyMark>,
    to: Option<&CopyMark>,
) -> Result<(), Fault> {
    const CLEAR: Sql = sql("clear the mark of a copy", "DELETE FROM @copy");
    const SET: Sql = sql(
        "set the mark of a copy",
        "INSERT INTO @copy (one, copy, stage, other, at) VALUES (1, $1, $2, $3, $4)",
    );
    if batch.conn.dialect.locks_tables() {
        // Whoever has looked whether there is a mark is waited for; whoever looks now waits.
        let lock = "SET LOCAL lock_timeout = '20s'; LOCK TABLE @copy IN ACCESS EXCLUSIVE MODE";
        batch.conn.script("lock the mark of a copy", lock).await?;
    }
    let found = read(batch.conn).await?;
    if found.as_ref() != from {
        return Err(CopyMark::changed(found.as_ref()).into());
    }
    let in_the_way = match CopyMark::needs(from, to)? {
        Needs::Nothing => None,
        Needs::Quiet => at_work(batch.conn).await?,
        Needs::Empty => match at_work(batch.conn).await? {
            None => any_run(batch.conn).await?,
            why => why,
        },
    };
    if let Some(why) = in_the_way {
        return Err(CopyMark::blocked(&why).into());
    }
    batch.execute(&CLEAR, &[]).await?;
    if let Some(CopyMark { copy, stage, other, at }) = to {
        let args = args![copy.0.to_be_bytes().to_vec(), *stage as i16, kept(other), at.0];
        batch.execute(&SET, args).await?;
    }
    batch.mark_changed();
    Ok(())
}

/// Who may still write as a worker, or has runs that nobody has freed yet.
async fn at_work(conn: &Conn) -> Result<Option<String>, Fault> {
    const WORKER: Sql =
        sql("look for workers", "SELECT id, name FROM @worker WHERE NOT fenced ORDER BY id LIMIT 1");
    /// `wake_at IS NOT NULL` is what lets the partial index answer.
    const RUN: Sql = sql(
        "look for runs of workers",
        "SELECT owner, text_id FROM @run WHERE owner > 0 AND wake_at IS NOT NULL LIMIT 1",
    );
    if let Some(row) = conn.one(&WORKER, &[]).await? {
        return Ok(Some(format!("worker {} ({}) is at work", get::<i64>(&row, 0)?, row::text(&row, 1)?)));
    }
    let row = conn.one(&RUN, &[]).await?;
    let owned = |row: tokio_postgres::Row| {
        Ok::<_, Fault>(format!("worker {} still has run `{}`", get::<i64>(&row, 0)?, row::text(&row, 1)?))
    };
    row.map(owned).transpose()
}

async fn any_run(conn: &Conn) -> Result<Option<String>, Fault> {
    const ANY: Sql = sql("look for any run", "SELECT text_id FROM @run ORDER BY id LIMIT 1");
    let row = conn.one(&ANY, &[]).await?;
    let named = |row: tokio_postgres::Row| {
        Ok::<_, Fault>(format!("it has runs of its own, like `{}`", row::text(&row, 0)?))
    };
    row.map(named).transpose()
}
