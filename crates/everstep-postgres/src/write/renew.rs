//! The next generation of a run: restarted by its function, or another run in the place of one that is over.

use everstep_core::{
    Change,
    journal::Entry,
    store::{LetterKind, NewRun, Parent, RunId, RunRow},
};

use super::{claim::illegal, cut::archive, entry, post, say};
use crate::{
    batch::Batch,
    fault::Fault,
    names::NameKind,
    row::unsigned,
    sql::{Sql, args, get, sql},
    text::kept,
};

/// The old journal goes to the archive, and `first` is the new one's.
pub(crate) async fn restart(batch: &mut Batch<'_>, run: RunId, first: &Entry) -> Result<(), Fault> {
    const FORGET: Sql =
        sql("forget letters of a generation", "DELETE FROM @inbox WHERE run = $1 AND kind = ANY($2)");
    const BEGIN: Sql = sql(
        "begin a generation",
        "UPDATE @run SET generation = generation + 1, takeovers = 0, crash_seq = 0, began_at = $2 WHERE id = $1",
    );
    clear(batch, run, first, "restart").await?;
    let kinds = LetterKind::OF_A_KEY.map(|kind| i32::from(kind as u16)).to_vec();
    batch.execute(&FORGET, args![run.0, kinds]).await?;
    batch.execute(&BEGIN, args![run.0, first.at.0]).await?;
    entry::insert(batch, run, std::slice::from_ref(first)).await
}

async fn clear(batch: &mut Batch<'_>, run: RunId, first: &Entry, why: &str) -> Result<(), Fault> {
    const CLEAR: Sql = sql("forget started rows", "DELETE FROM @started WHERE run = $1");
    archive(batch, run, 0..=u64::MAX, (why, first.at)).await?;
    batch.execute(&CLEAR, args![run.0]).await.map(drop)
}

/// Makes room for `new` in the place of a run that is over, without its first entry. It is pending.
pub(crate) async fn give_place(
    batch: &mut Batch<'_>,
    old: &RunRow,
    new: &NewRun,
    workflow: i64,
) -> Result<(), Fault> {
    const BEGIN: Sql = sql(
        "reuse an id",
        "UPDATE @run SET generation = generation + 1, takeovers = 0, crash_seq = 0, workflow = $2, status = $3,
           owner = 0, created_at = $5,
           wake_at = CASE WHEN $4 = $5
             THEN least($4, :now) ELSE $4 END,
           began_at = NULL, finished_at = NULL
         WHERE id = $1",
    );
    const CLEARS: [Sql; 7] = [
        sql("clear an inbox", "DELETE FROM @inbox WHERE run = $1"),
        sql("clear names of letters", "DELETE FROM @inbox_seen WHERE run = $1"),
        sql("clear promises", "DELETE FROM @promise WHERE run = $1"),
        sql("clear replies", "DELETE FROM @reply WHERE run = $1"),
        sql("clear attributes", "DELETE FROM @attribute WHERE run = $1"),
        sql("clear published values", "DELETE FROM @state WHERE run = $1"),
        sql("clear what few runs have", "DELETE FROM @run_extra WHERE run = $1"),
    ];
    let status = old.status.after(Change::Reused).map_err(|e| illegal(old.run, e))?;
    clear(batch, old.run, &new.first, "reuse").await?;
    for clear in &CLEARS {
        batch.execute(clear, args![old.run.0]).await?;
    }
    let args = args![old.run.0, workflow, i16::from(status.code()), new.due.0, new.first.at.0];
    batch.execute(&BEGIN, args).await.map(drop)
}

pub(super) async fn insert_extra(
    batch: &mut Batch<'_>,
    run: RunId,
    trace: Option<&str>,
    parent: Option<&Parent>,
) -> Result<(), Fault> {
    const INSERT: Sql = sql(
        "write what few runs have",
        "INSERT INTO @run_extra (run, trace, parent, parent_key, policy, parent_generation, digest)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    let args = args![
        run.0,
        trace.map(kept),
        parent.map(|parent| parent.run.0),
        parent.map(|parent| kept(&parent.key)),
        parent.map(|parent| i16::from(parent.closes)),
        parent.map(|parent| i64::from(parent.generation)),
        parent.map(|parent| parent.digest.0.to_be_bytes().to_vec()),
    ];
    batch.execute(&INSERT, args).await.map(drop)
}

/// What a run has from the beginning, beside its first entry; how many messages it has received by now.
pub(crate) async fn furnish(batch: &mut Batch<'_>, run: RunId, new: &NewRun) -> Result<u64, Fault> {
    const COUNT: Sql = sql("count letters", "SELECT inbox_n FROM @run WHERE id = $1");
    const SET: Sql = sql("set the count of letters", "UPDATE @run SET inbox_n = $2 WHERE id = $1");
    if new.trace.is_some() || new.parent.is_some() {
        insert_extra(batch, run, new.trace.as_deref(), new.parent.as_ref()).await?;
    }
    for (name, value) in &new.attributes {
        let name = batch.intern(NameKind::Attribute, name).await?;
        say::set_attribute(batch, run, name, value).await?;
    }
    if new.letters.is_empty() {
        return Ok(0);
    }
    let before = batch.conn.one(&COUNT, args![run.0]).await?;
    let mut n: i64 = before.map(|row| get(&row, 0)).transpose()?.unwrap_or(0);
    for letter in &new.letters {
        n += i64::from(post::add(batch, run, n + 1, letter).await?);
    }
    batch.execute(&SET, args![run.0, n]).await?;
    Ok(unsigned(n))
}
