//! The one statement: rows of turns and starts as columns, in the leanest shape that holds them, and what it did.
//!
//! Everything in a statement sees the database as it was before it. What depends on another change in it (entries behind
//! an end, a start's first entry) is told by `guard` to follow that.

use everstep_core::{
    failpoint::{Guard, broken},
    store::{Turn, WorkerId},
};
use foldhash::{HashSet, HashSetExt as _};

use crate::{
    batch::Batch,
    fault::Fault,
    row::{damaged, signed},
    sql::{Sql, args, get, sql},
    write::{
        entry::Columns,
        start::{Rows, Start},
        turn::{RowChange, keeps_what_it_took},
    },
};

/// Of an entry or a take: it comes with nothing else, with the end of its run's load, with the start of its run.
const ALONE: i16 = 0;
const WITH_END: i16 = 1;
const WITH_START: i16 = 2;

/// Of a start without a delay, and of a run that is given back, the database's clock says when: those who asked for them
/// may be an hour ahead, and nobody asked for that hour. The pause of who gives back is a minute at most, or for ever
/// (9223372036854775807).
const FULL: Sql = sql(
    "write turns and starts",
    "WITH f AS MATERIALIZED (SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced FOR SHARE),
     e AS (
       UPDATE @run r SET owner = 0, status = u.status, finished_at = u.finished_at,
         wake_at = CASE WHEN u.seen IS NULL AND u.wake_at = 0 THEN coalesce(:now - $35, 0)
           WHEN u.seen IS NULL AND u.wake_at < 9223372036854775807 THEN least(u.wake_at, :now + 60000000)
           ELSE u.wake_at END
       FROM unnest($3, $4, $5, $6, $7) AS u(id, status, wake_at, finished_at, seen)
       WHERE r.id = u.id AND r.owner = $1 AND (u.seen IS NULL OR r.inbox_n = u.seen) AND EXISTS (SELECT 1 FROM f)
       RETURNING r.id),
     s AS (
       INSERT INTO @run (id, text_id, workflow, status, owner, wake_at, created_at, began_at)
       SELECT u.id, u.text_id, u.workflow, u.status, u.owner, CASE WHEN u.wake_at = u.created_at
           THEN least(u.wake_at, :now) ELSE u.wake_at END,
         u.created_at, u.began_at
       FROM unnest($8, $9, $10, $11, $12, $13, $14, $15, $33)
         AS u(id, text_id, workflow, status, owner, wake_at, created_at, began_at, fenced)
       WHERE CASE WHEN u.fenced THEN EXISTS (SELECT 1 FROM f) ELSE $34 OR NOT EXISTS (SELECT 1 FROM @copy) END
       ON CONFLICT (text_id) DO NOTHING RETURNING id),
     x AS (
       DELETE FROM @inbox i USING unnest($16, $17, $18) AS u(run, n, guard)
       WHERE i.run = u.run AND i.n = u.n AND EXISTS (SELECT 1 FROM f)
         AND (u.guard = 0 OR u.run IN (SELECT id FROM e))),
     j AS (
       INSERT INTO @journal
         (run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body)
       SELECT u.run, u.seq, u.at, u.site, u.build, u.fingerprint, u.attempt, u.kind, u.codec, u.input_codec,
              u.key, u.input, u.body
       FROM unnest($19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
         AS u(run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body, guard)
       WHERE CASE u.guard WHEN 0 THEN EXISTS (SELECT 1 FROM f)
                          WHEN 1 THEN u.run IN (SELECT id FROM e)
                          ELSE u.run IN (SELECT id FROM s) END
       RETURNING 1)
     SELECT EXISTS (SELECT 1 FROM f), (SELECT count(*) FROM j), ARRAY(SELECT id FROM e), ARRAY(SELECT id FROM s)",
);

/// For drains that hold entries alone, as those of steps do: half the work of [`FULL`].
const ENTRIES: Sql = sql(
    "write entries of turns",
    "WITH f AS MATERIALIZED (SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced FOR SHARE)
     INSERT INTO @journal
       (run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body)
     SELECT * FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) WHERE EXISTS (SELECT 1 FROM f)",
);

/// For one entry: a run alone, whose steps wait for each other.
const ENTRY: Sql = sql(
    "write the entry of a turn",
    "INSERT INTO @journal
       (run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body)
     SELECT $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
     FROM (SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced FOR SHARE) f",
);

/// What is to be written.
#[derive(Default)]
pub(crate) struct Statement<'s> {
    ends: Ends,
    takes: Takes,
    starts: Rows<'s>,
    entries: Columns<'s>,
    guards: Vec<i16>,
}

/// Changes of runs' rows as columns.
#[derive(Default)]
struct Ends {
    run: Vec<i64>,
    status: Vec<i16>,
    wake_at: Vec<Option<i64>>,
    finished_at: Vec<Option<i64>>,
    seen: Vec<Option<i64>>,
}

/// What is taken out of inboxes, as columns.
#[derive(Default)]
struct Takes {
    run: Vec<i64>,
    n: Vec<i64>,
    guard: Vec<i16>,
}

/// What a statement did.
pub(crate) struct Done {
    /// Its worker is not fenced.
    pub(crate) live: bool,
    pub(crate) entries: u64,
    pub(crate) ended: HashSet<i64>,
    pub(crate) started: HashSet<i64>,
}

impl<'s> Statement<'s> {
    /// Adds a turn; `change` is what its end does to its run's row.
    pub(crate) async fn push_turn(
        &mut self,
        batch: &mut Batch<'_>,
        turn: &'s Turn,
        change: Option<&RowChange>,
    ) -> Result<(), Fault> {
        let guard = if change.is_some() { WITH_END } else { ALONE };
        if let Some(change) = change {
            self.ends.run.push(turn.run.0);
            self.ends.status.push(i16::from(change.status.code()));
            self.ends.wake_at.push(change.wake_at.map(|at| at.0));
            self.ends.finished_at.push(change.finished_at.map(|at| at.0));
            self.ends.seen.push(change.inbox_n.map(signed));
        }
        for entry in &turn.entries {
            self.entries.push(batch, turn.run, entry).await?;
            self.guards.push(guard);
        }
        for n in turn.takes.iter().filter(|_| !keeps_what_it_took()) {
            self.takes.run.push(turn.run.0);
            self.takes.n.push(signed(*n));
            self.takes.guard.push(guard);
        }
        Ok(())
    }

    /// Adds the runs of a start that was prepared.
    pub(crate) async fn push_start(&mut self, batch: &mut Batch<'_>, start: &'s Start) -> Result<(), Fault> {
        for (run, first) in start.push(&mut self.starts) {
            self.entries.push(batch, run, first).await?;
            self.guards.push(WITH_START);
        }
        Ok(())
    }

    /// Writes it, under the fence of this worker.
    pub(crate) async fn write(self, batch: &mut Batch<'_>, worker: WorkerId) -> Result<Done, Fault> {
        let fence = (worker.0, batch.slot_of(worker));
        let is_lean = self.ends.run.is_empty() && self.takes.run.is_empty() && self.starts.id.is_empty();
        match self.entries.run.len() {
            1 if is_lean => write_entry(batch, fence, &self.entries).await.map(Done::lean),
            n if is_lean && n > 0 => write_entries(batch, fence, self.entries).await.map(Done::lean),
            _ => self.write_full(batch, fence).await,
        }
    }

    async fn write_full(self, batch: &mut Batch<'_>, (worker, slot): (i64, i16)) -> Result<Done, Fault> {
        let Statement { ends, takes, starts, entries, guards } = self;
        let args = args![
            worker,
            slot,
            ends.run,
            ends.status,
            ends.wake_at,
            ends.finished_at,
            ends.seen,
            starts.id,
            starts.text_id,
            starts.workflow,
            starts.status,
            starts.owner,
            starts.wake_at,
            starts.created_at,
            starts.began_at,
            takes.run,
            takes.n,
            takes.guard,
            entries.run,
            entries.seq,
            entries.at,
            entries.site,
            entries.build,
            entries.fingerprint,
            entries.attempt,
            entries.kind,
            entries.codec,
            entries.input_codec,
            entries.key,
            entries.input,
            entries.body,
            guards,
            starts.fenced,
            batch.accepts_moved(),
            batch.dates_from(),
        ];
        let row = batch.change(&fenced(&FULL), args).await?.pop();
        let row = row.ok_or_else(|| damaged("a statement gave nothing"))?;
        Ok(Done {
            live: get(&row, 0)?,
            entries: get::<i64>(&row, 1)?.cast_unsigned(),
            ended: get::<Vec<i64>>(&row, 2)?.into_iter().collect(),
            started: get::<Vec<i64>>(&row, 3)?.into_iter().collect(),
        })
    }
}

async fn write_entry(
    batch: &mut Batch<'_>,
    (worker, slot): (i64, i16),
    of: &Columns<'_>,
) -> Result<u64, Fault> {
    let args = args![
        worker,
        slot,
        of.run[0],
        of.seq[0],
        of.at[0],
        of.site[0],
        of.build[0],
        of.fingerprint[0],
        of.attempt[0],
        of.kind[0],
        of.codec[0],
        of.input_codec[0],
        &of.key[0],
        of.input[0],
        of.body[0],
    ];
    batch.execute(&fenced(&ENTRY), args).await
}

async fn write_entries(
    batch: &mut Batch<'_>,
    (worker, slot): (i64, i16),
    of: Columns<'_>,
) -> Result<u64, Fault> {
    let args = args![
        worker,
        slot,
        of.run,
        of.seq,
        of.at,
        of.site,
        of.build,
        of.fingerprint,
        of.attempt,
        of.kind,
        of.codec,
        of.input_codec,
        of.key,
        of.input,
        of.body,
    ];
    batch.execute(&fenced(&ENTRIES), args).await
}

impl Done {
    /// All entries or none: none means fenced.
    fn lean(entries: u64) -> Done {
        Done { live: entries > 0, entries, ended: HashSet::new(), started: HashSet::new() }
    }
}

/// The statement, without its fence if a test has switched that guard off.
pub(crate) fn fenced(statement: &Sql) -> Sql {
    match broken(Guard::Fence) {
        true => Sql(statement.0, statement.1.replace(" AND NOT fenced", "").into()),
        false => statement.clone(),
    }
}
