//! Runs that are deleted, with everything of them.

use everstep_core::store::{Doomed, RunId};

use crate::{
    batch::Batch,
    fault::Fault,
    row::signed,
    sql::{Sql, args, sql},
};

/// Every table that keeps something of a run, by its column `run`. A test compares it with the schema.
const OF_A_RUN: [Sql; 13] = [
    sql("delete entries", "DELETE FROM @journal WHERE run = ANY($1)"),
    sql("delete letters", "DELETE FROM @inbox WHERE run = ANY($1)"),
    sql("delete names of letters", "DELETE FROM @inbox_seen WHERE run = ANY($1)"),
    sql("delete started rows", "DELETE FROM @started WHERE run = ANY($1)"),
    sql("delete why runs were stuck", "DELETE FROM @stuck WHERE run = ANY($1)"),
    sql("delete archives", "DELETE FROM @archive WHERE run = ANY($1)"),
    sql("delete attributes", "DELETE FROM @attribute WHERE run = ANY($1)"),
    sql("delete published values", "DELETE FROM @state WHERE run = ANY($1)"),
    sql("delete streams", "DELETE FROM @stream WHERE run = ANY($1)"),
    sql("delete what few runs have", "DELETE FROM @run_extra WHERE run = ANY($1)"),
    sql("delete acts", "DELETE FROM @act WHERE run = ANY($1)"),
    sql("delete promises", "DELETE FROM @promise WHERE run = ANY($1)"),
    sql("delete replies", "DELETE FROM @reply WHERE run = ANY($1)"),
];

/// Deletes runs; each by itself: whether it is not there any more.
pub(crate) async fn delete(batch: &mut Batch<'_>, runs: &[Doomed]) -> Result<Vec<bool>, Fault> {
    const DELETE: Sql = sql(
        "delete a run",
        "DELETE FROM @run
         WHERE id = $1 AND owner = 0 AND status = $2 AND generation = $3 AND inbox_n = $4
           AND (began_at IS NOT NULL) = $5",
    );
    batch.check_mark().await?;
    let (mut gone, mut deleted) = (Vec::new(), Vec::new());
    for doomed in runs {
        let Doomed { run, status, generation, inbox_n, began } = *doomed;
        let args = args![run.0, i16::from(status.code()), i64::from(generation), signed(inbox_n), began];
        if batch.execute(&DELETE, args).await? > 0 {
            deleted.push(run.0);
            // Who waits for its result would wait for ever.
            batch.rings().ended.push((run, status));
            gone.push(true);
        } else {
            gone.push(is_gone(batch, run).await?);
        }
    }
    if !deleted.is_empty() {
        for table in &OF_A_RUN {
            batch.execute(table, args![&deleted]).await?;
        }
        batch.rings().said = true;
    }
    Ok(gone)
}

async fn is_gone(batch: &Batch<'_>, run: RunId) -> Result<bool, Fault> {
    const LOOK: Sql = sql("look for a run", "SELECT 1 FROM @run WHERE id = $1");
    Ok(batch.conn.one(&LOOK, args![run.0]).await?.is_none())
}
