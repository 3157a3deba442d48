//! What is written inside a transaction of the user's, on the user's own connection or in a transactional step: it
//! exists exactly if that transaction commits.

use everstep_core::store::StoreError;
use rusqlite::Connection;

use super::mark;
use crate::{
    fault::{Class, Fault, class, store_error},
    migrate, tx,
};

/// Does `work` so that an error, or what it does not want to `keep`, leaves nothing, whatever the user does next.
pub(super) fn inside<T>(
    conn: &Connection,
    keep: impl FnOnce(&T) -> bool,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, StoreError> {
    let _ours = tx::lift_guard();
    conn.execute_batch("SAVEPOINT everstep_inside").map_err(store_error)?;
    let done = work(conn);
    let end = match &done {
        Ok(done) if keep(done) => "RELEASE everstep_inside",
        _ => "ROLLBACK TO everstep_inside; RELEASE everstep_inside",
    };
    let ended = conn.execute_batch(end).map_err(store_error);
    match done {
        Ok(done) => ended.map(|()| done),
        Err(Fault::Refuse(error)) => Err(error),
        Err(Fault::Sql(error)) => Err(store_error(error)),
        Err(Fault::TransactionGone) => unreachable!("only jobs of the writer end transactions"),
    }
}

/// What the first statement of ours in a user's transaction gave. It must be a write: a transaction that has read cannot
/// wait for somebody else's, it fails at once. It also says why there is no such table, and sees whether the runs have
/// moved: of an opening by force nobody knows here.
pub(super) fn first<T>(conn: &Connection, first: rusqlite::Result<T>) -> Result<T, Fault> {
    if !matches!(&first, Err(error) if class(error) != Class::Refused) {
        migrate::check_version(conn)?;
    }
    let first = first?;
    mark::check(conn)?;
    Ok(first)
}
