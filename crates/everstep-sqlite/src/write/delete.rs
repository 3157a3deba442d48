//! Runs that are deleted, with everything of them.

use everstep_core::store::{Doomed, RunId};

use crate::{
    batch::Batch,
    fault::Fault,
    names::NameKind,
    row::{self, signed},
};

/// Every table that keeps something of a run, by its column `run`. A test compares it with the schema.
const OF_A_RUN: [&str; 13] = [
    "everstep_journal",
    "everstep_inbox",
    "everstep_inbox_seen",
    "everstep_started",
    "everstep_stuck",
    "everstep_archive",
    "everstep_attribute",
    "everstep_state",
    "everstep_stream",
    "everstep_run_extra",
    "everstep_act",
    "everstep_promise",
    "everstep_reply",
];

/// Deletes runs; each by itself: whether it is not there any more.
pub(crate) fn delete(batch: &mut Batch<'_>, runs: &[Doomed]) -> Result<Vec<bool>, Fault> {
    batch.check_mark()?;
    runs.iter().map(|doomed| delete_one(batch, doomed)).collect()
}

fn delete_one(batch: &mut Batch<'_>, doomed: &Doomed) -> Result<bool, Fault> {
    let Doomed { run, status, generation, inbox_n, began } = *doomed;
    let workflow = row::one(
        batch.conn,
        "DELETE FROM everstep_run
         WHERE id = ?1 AND owner = 0 AND status = ?2 AND generation = ?3 AND inbox_n = ?4 AND (began_at IS NOT NULL) = ?5
         RETURNING (SELECT text FROM everstep_name WHERE id = workflow)",
        (run.0, status.code(), generation, signed(inbox_n), began),
        |row| Ok(row.get::<_, String>(0)?),
    )?;
    let Some(workflow) = workflow else { return is_gone(batch, run) };
    for table in OF_A_RUN {
        batch.conn.prepare_cached(&format!("DELETE FROM {table} WHERE run = ?1"))?.execute([run.0])?;
    }
    let workflow = batch.names.intern(batch.conn, NameKind::Workflow, &workflow.into())?;
    batch.uncount(workflow, status);
    // Who waits for its result would wait for ever.
    batch.rings.ended.push((run, status));
    Ok(true)
}

fn is_gone(batch: &Batch<'_>, run: RunId) -> Result<bool, Fault> {
    Ok(!batch.conn.prepare_cached("SELECT 1 FROM everstep_run WHERE id = ?1")?.exists([run.0])?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_table_that_keeps_something_of_a_run_is_emptied() {
        let mut conn = rusqlite::Connection::open_in_memory().expect("memory");
        crate::migrate::migrate(&mut conn).expect("makes the tables");
        let sql = "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
                   WHERE m.type = 'table' AND c.name = 'run' AND m.name LIKE 'everstep%'";
        let mut of_a_run = conn.prepare(sql).expect("reads");
        let tables = of_a_run.query_map([], |row| row.get::<_, String>(0)).expect("reads");
        let tables: BTreeSet<_> = tables.collect::<Result<_, _>>().expect("reads");
        assert_eq!(tables, OF_A_RUN.map(String::from).into());
    }
}
