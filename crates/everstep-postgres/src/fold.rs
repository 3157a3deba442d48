//! Many turns and starts in one statement: the whole transaction of most drains, in one round trip.
//!
//! Everything in a statement sees the database as it was before it. So a run's row is changed at most once in one, which
//! whoever puts turns together sees to; and what depends on that change (entries behind an end, a start's first entry) is
//! told by `guard` to follow it.

use everstep_core::{
    failpoint::{Guard, broken},
    store::{End, Fence, Settled, StoreError, WorkerId},
};
use foldhash::{HashSet, HashSetExt as _};

use crate::{
    batch::{Batch, Held},
    conn::{Sql, args, get, sql},
    fault::Fault,
    op::Op,
    row::{damaged, signed},
    write::{
        entry::Columns,
        start::Start,
        turn::{Commit, RowChange, keeps_what_it_took, no_longer_ours, row_change},
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
         wake_at = CASE WHEN u.seen IS NULL AND u.wake_at < 9223372036854775807
           THEN least(u.wake_at, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 + 60000000) ELSE u.wake_at END
       FROM unnest($3, $4, $5, $6, $7) AS u(id, status, wake_at, finished_at, seen)
       WHERE r.id = u.id AND r.owner = $1 AND (u.seen IS NULL OR r.inbox_n = u.seen) AND EXISTS (SELECT 1 FROM f)
       RETURNING r.id),
     s AS (
       INSERT INTO @run (id, text_id, workflow, status, owner, wake_at, created_at, began_at)
       SELECT u.id, u.text_id, u.workflow, u.status, u.owner, CASE WHEN u.wake_at = u.created_at
           THEN least(u.wake_at, (extract(epoch FROM clock_timestamp()) * 1000000)::int8) ELSE u.wake_at END,
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

/// A turn that may be written: which one of all, and what its end changes.
struct Admitted {
    at: usize,
    held: Held,
    next: u64,
    change: Option<RowChange>,
}

/// What a statement did.
struct Done {
    live: bool,
    entries: u64,
    ended: HashSet<i64>,
    started: HashSet<i64>,
}

/// Writes turns and starts of one worker. What became of each stands in it; those that are refused were not written and
/// hinder no other.
pub(crate) async fn write(
    batch: &mut Batch<'_>,
    turns: &mut [&mut Commit],
    starts: &mut [&mut Start],
) -> Result<(), Fault> {
    let owned = starts.iter().find_map(|start| start.fence);
    let fence = turns.first().map(|turn| turn.fence).or(owned);
    let admitted = admit(batch, turns);
    for start in starts.iter_mut() {
        start.prepare(batch).await?;
    }
    if starts.iter().any(|start| start.fence.is_none()) {
        // The statement asks again: this only has the words.
        batch.check_mark().await?;
    }
    if admitted.is_empty() && starts.iter().all(|start| start.is_refused() || start.is_empty()) {
        // A fenced worker hears that, whatever else is wrong with its turns.
        return check_refused(batch, fence, turns, starts).await;
    }
    let done = send(batch, fence, (turns, &admitted), starts).await?;
    if !done.live
        && let Some(fence) = fence
    {
        batch.fenced(fence.worker);
        turns
            .iter_mut()
            .for_each(|turn| turn.settled = Some(Settled::Refused(StoreError::Fenced(fence.worker))));
        starts.iter_mut().filter(|start| start.fence.is_some()).for_each(|start| start.refuse(fence));
    } else {
        settle(batch, turns, &admitted, &done).await?;
    }
    for start in starts.iter_mut() {
        start.wrote(batch, &done.started).await?;
    }
    Ok(())
}

async fn check_refused(
    batch: &mut Batch<'_>,
    fence: Option<Fence>,
    turns: &mut [&mut Commit],
    starts: &mut [&mut Start],
) -> Result<(), Fault> {
    let Some(fence) = fence else { return Ok(()) };
    match batch.check(fence).await {
        Err(Fault::Refuse(error)) => {
            turns.iter_mut().for_each(|turn| turn.settled = Some(Settled::Refused(error.clone())));
            starts.iter_mut().filter(|start| start.fence.is_some()).for_each(|start| start.refuse(fence));
            Ok(())
        }
        other => other,
    }
}

fn admit(batch: &mut Batch<'_>, turns: &mut [&mut Commit]) -> Vec<Admitted> {
    let mut admitted = Vec::with_capacity(turns.len());
    for (at, turn) in turns.iter_mut().enumerate() {
        match turn.admit(batch) {
            Ok((held, next)) => {
                let change =
                    |end: &End| row_change(turn.turn.run, end, held.status).expect("it was just looked at");
                let end = turn.turn.end.as_ref().filter(|end| !matches!(end, End::Restarted { .. }));
                admitted.push(Admitted { at, held, next, change: end.map(change) });
            }
            Err(error) => {
                if turn.own {
                    batch.close(turn.turn.load);
                }
                turn.settled = Some(Settled::Refused(error));
            }
        }
    }
    admitted
}

async fn send(
    batch: &mut Batch<'_>,
    fence: Option<Fence>,
    (turns, admitted): (&[&mut Commit], &[Admitted]),
    starts: &[&mut Start],
) -> Result<Done, Fault> {
    let worker = fence.map_or(WorkerId(0), |fence| fence.worker);
    let (worker, slot) = (worker.0, batch.slot_of(worker));
    let (mut columns, mut guards) = (Columns::default(), Vec::new());
    let (mut end_ids, mut statuses, mut wakes, mut finishes, mut seen) =
        (vec![], vec![], vec![], vec![], vec![]);
    let (mut take_runs, mut takes, mut take_guards) = (vec![], vec![], vec![]);
    for Admitted { at, change, .. } in admitted {
        let turn = &turns[*at].turn;
        let guard = if change.is_some() { WITH_END } else { ALONE };
        if let Some(change) = change {
            end_ids.push(turn.run.0);
            statuses.push(i16::from(change.status.code()));
            wakes.push(change.wake_at.map(|at| at.0));
            finishes.push(change.finished_at.map(|at| at.0));
            seen.push(change.inbox_n.map(signed));
        }
        for entry in &turn.entries {
            columns.push(batch, turn.run, entry).await?;
            guards.push(guard);
        }
        for n in turn.takes.iter().filter(|_| !keeps_what_it_took()) {
            take_runs.push(turn.run.0);
            takes.push(signed(*n));
            take_guards.push(guard);
        }
    }
    let mut rows = crate::write::start::Rows::default();
    for start in starts {
        for (run, first) in start.push(&mut rows) {
            columns.push(batch, run, first).await?;
            guards.push(WITH_START);
        }
    }
    let is_lean = end_ids.is_empty() && takes.is_empty() && rows.id.is_empty();
    let Columns {
        run,
        seq,
        at,
        site,
        build,
        fingerprint,
        attempt,
        kind,
        codec,
        input_codec,
        key,
        input,
        body,
    } = columns;
    let n = run.len() as u64;
    if is_lean && n == 1 {
        let args = args![
            worker,
            slot,
            run[0],
            seq[0],
            at[0],
            site[0],
            build[0],
            fingerprint[0],
            attempt[0],
            kind[0],
            codec[0],
            input_codec[0],
            &key[0],
            input[0],
            body[0],
        ];
        let entries = batch.execute(&fenced(&ENTRY), args).await?;
        return Ok(Done::lean(entries));
    }
    if is_lean && n > 0 {
        let args = args![
            worker,
            slot,
            run,
            seq,
            at,
            site,
            build,
            fingerprint,
            attempt,
            kind,
            codec,
            input_codec,
            key,
            input,
            body,
        ];
        let entries = batch.execute(&fenced(&ENTRIES), args).await?;
        return Ok(Done::lean(entries));
    }
    let args = args![
        worker,
        slot,
        end_ids,
        statuses,
        wakes,
        finishes,
        seen,
        rows.id,
        rows.text_id,
        rows.workflow,
        rows.status,
        rows.owner,
        rows.wake_at,
        rows.created_at,
        rows.began_at,
        take_runs,
        takes,
        take_guards,
        run,
        seq,
        at,
        site,
        build,
        fingerprint,
        attempt,
        kind,
        codec,
        input_codec,
        key,
        input,
        body,
        guards,
        rows.fenced,
        batch.accepts_moved(),
    ];
    let row =
        batch.change(&fenced(&FULL), args).await?.pop().ok_or_else(|| damaged("a statement gave nothing"))?;
    Ok(Done {
        live: get(&row, 0)?,
        entries: get::<i64>(&row, 1)?.cast_unsigned(),
        ended: get::<Vec<i64>>(&row, 2)?.into_iter().collect(),
        started: get::<Vec<i64>>(&row, 3)?.into_iter().collect(),
    })
}

/// The statement, without its fence if a test has switched that guard off.
pub(crate) fn fenced(statement: &Sql) -> Sql {
    match broken(Guard::Fence) {
        true => Sql(statement.0, statement.1.replace(" AND NOT fenced", "").into()),
        false => statement.clone(),
    }
}

impl Done {
    /// All entries or none: none means fenced.
    fn lean(entries: u64) -> Done {
        Done { live: entries > 0, entries, ended: HashSet::new(), started: HashSet::new() }
    }
}

async fn settle(
    batch: &mut Batch<'_>,
    turns: &mut [&mut Commit],
    admitted: &[Admitted],
    done: &Done,
) -> Result<(), Fault> {
    let missed = |admitted: &&Admitted| {
        let end = &turns[admitted.at].turn.end;
        match end {
            Some(End::Restarted { .. }) => true,
            Some(_) => !done.ended.contains(&turns[admitted.at].turn.run.0),
            None => false,
        }
    };
    let runs: Vec<_> = admitted.iter().filter(missed).map(|admitted| turns[admitted.at].turn.run.0).collect();
    let owners = if runs.is_empty() { Default::default() } else { batch.owners(runs).await? };
    let mut entries = done.started.len() as u64;
    for Admitted { at, held, next, change } in admitted {
        let turn = &mut *turns[*at];
        let (run, load) = (turn.turn.run, turn.turn.load);
        let is_ours = |owner: &i64| *owner == held.worker.0;
        let owner = owners.get(&run.0);
        let settled = match (&turn.turn.end, change) {
            (None, _) => Settled::Durable { next: *next },
            (Some(End::Restarted { .. }), _) => match owner.is_some_and(|(owner, _)| is_ours(owner)) {
                true => Settled::Durable { next: *next },
                false => Settled::Refused(no_longer_ours(run)),
            },
            (Some(_), _) if done.ended.contains(&run.0) => Settled::Durable { next: *next },
            (Some(_), _) => match owner {
                Some((owner, inbox_n)) if is_ours(owner) => {
                    batch.unadmit(load);
                    Settled::Moved { inbox_n: inbox_n.cast_unsigned() }
                }
                _ => Settled::Refused(no_longer_ours(run)),
            },
        };
        match &settled {
            Settled::Durable { .. } => {
                entries += turn.turn.entries.len() as u64;
                if let Some(at) = change.as_ref().and_then(|change| change.wake_at) {
                    batch.rings().due(at.0);
                }
                batch.rings().others |= turn.turn.end.is_some() || !turn.turn.says.is_empty();
                if turn.turn.end.is_some() {
                    batch.close(load);
                }
            }
            Settled::Refused(_) => batch.close(load),
            Settled::Moved { .. } => {}
        }
        turn.settled = Some(settled);
    }
    match entries == done.entries {
        true => Ok(()),
        false => Err(damaged(&format!("{} entries were written in place of {entries}", done.entries)).into()),
    }
}

/// The turns and the starts among operations that fold.
pub(crate) fn split(ops: &mut [Op]) -> (Vec<&mut Commit>, Vec<&mut Start>) {
    let (mut turns, mut starts) = (Vec::with_capacity(ops.len()), Vec::new());
    for op in ops {
        match op {
            Op::Turn(turn) => {
                turn.settled = None;
                turns.push(&mut **turn);
            }
            Op::Start(start) => starts.push(&mut **start),
            Op::Call(_) | Op::Job(_) | Op::JobDone(..) => unreachable!("they do not fold"),
        }
    }
    (turns, starts)
}
