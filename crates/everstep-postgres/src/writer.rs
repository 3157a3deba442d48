//! The one task that writes: it drains the queue into one transaction, commits, and answers everybody after it.
//! It decides nothing about runs; that is in `write`.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};

use everstep_core::{
    failpoint::{Failpoint, fails, pass},
    store::{Bell, StoreError},
};

use crate::{
    back::Remembered,
    batch::{Batch, Effects, Memory},
    fault::{Class, Fault, TRIES_MAX, class, said, told},
    fold,
    jobs::Jobs,
    link::{Link, unreachable},
    listen::Notices,
    names::Texts,
    op::{After, Locked, Op},
    queue::{Linger, Queue, Taken},
    recall::recall,
    segment::{self, Segment},
    stopwatch::Stopwatch,
    write::post,
};

/// Company that has not come by then costs more than it saves: a commit takes about as long (performance.md A3).
const LINGER_MAX: Duration = Duration::from_micros(150);
/// Payloads of one transaction, a bit more or less: they are in memory twice, and everybody waits for them.
const BYTES_MAX: usize = 8 << 20;
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The writer's task.
pub(crate) struct Writer {
    pub(crate) link: Link,
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) jobs: Jobs,
    /// Why this opening is over, once it is.
    pub(crate) closed: Arc<OnceLock<Arc<str>>>,
    pub(crate) memory: Memory,
    /// Operations of the last transaction, and how long commits take.
    pub(crate) company: usize,
    pub(crate) takes: Duration,
}

/// What became of one transaction.
enum Tried {
    Committed,
    /// Rolled back; what was to blame is out of the batch.
    WithoutOne,
    /// Rolled back, and nobody knows for whose sake.
    Apart,
    /// Rolled back; at once again.
    Again(StoreError),
    Later(StoreError),
}

impl Writer {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        while let Taken::Ops(ops) = self.queue.take(self.linger()).await {
            self.write(ops).await;
        }
        self.queue.end();
    }

    fn linger(&self) -> Linger {
        // A single caller never waits: there was nobody to wait for the last time either.
        match self.company {
            0 | 1 => Linger::default(),
            until => Linger { until, at_most: self.takes.min(LINGER_MAX) },
        }
    }

    async fn write(&mut self, ops: Vec<Op>) {
        let mut ready = Vec::with_capacity(ops.len());
        let comparable = self.memory.ids.comparable;
        for op in if comparable { ops } else { self.jobs.sort(ops) } {
            match op {
                Op::Job(job) => {
                    // Behind all that came before it.
                    self.write_all(std::mem::take(&mut ready)).await;
                    let gate = self.memory.loads.get(job.step.load, job.step.run).copied();
                    match comparable {
                        true => self.jobs.run(*job, gate).await,
                        false => self.jobs.begin(*job, gate, &self.queue),
                    }
                }
                op => ready.push(op),
            }
        }
        self.write_all(ready).await;
    }

    async fn write_all(&mut self, mut ops: Vec<Op>) {
        while !ops.is_empty() {
            let rest = ops.split_off(fitting(&ops));
            self.write_together(std::mem::replace(&mut ops, rest)).await;
        }
    }

    async fn write_together(&mut self, mut ops: Vec<Op>) {
        if let Some(cause) = self.closed.get().cloned() {
            return self.fail_all(&mut ops, &StoreError::Closed(cause));
        }
        if !self.memory.ids.comparable {
            // Since they were sorted, a turn of the same run may have been put aside.
            ops = ops.into_iter().filter_map(|op| self.jobs.behind_aside(op)).collect();
        }
        let (mut wait, mut tries) = (WAIT_MIN, 0);
        while !ops.is_empty() {
            match self.attempt(&mut ops).await {
                Tried::Committed | Tried::WithoutOne => {}
                Tried::Apart => {
                    for op in ops {
                        Box::pin(self.write_together(vec![op])).await;
                    }
                    return;
                }
                Tried::Again(why) => {
                    tries += 1;
                    if tries > TRIES_MAX {
                        self.wait(&mut ops, &why, wait).await;
                        wait = (wait * 2).min(WAIT_MAX);
                    }
                }
                Tried::Later(why) => {
                    self.wait(&mut ops, &why, wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
            }
        }
    }

    /// One transaction with all of `ops`; they stay there unless they were committed or are to blame.
    async fn attempt(&mut self, ops: &mut Vec<Op>) -> Tried {
        if !self.link.is_whole()
            && let Err(error) = self.mend(ops).await
        {
            if matches!(error, StoreError::Closed(_)) {
                self.fail_all(ops, &error);
                return Tried::WithoutOne;
            }
            return Tried::Later(unreachable(&error));
        }
        if fails(Failpoint::TransactionBegins) {
            return Tried::Later(StoreError::Full("a failpoint failed".into()));
        }
        let segments = segment::of(ops, &self.memory.loads);
        let watch = Stopwatch::start();
        let company = ops.len();
        let tried = match &segments[..] {
            [Segment::Fold(_)] => self.attempt_fold(ops).await,
            _ => self.attempt_transaction(ops, segments).await,
        };
        if matches!(tried, Tried::Committed) {
            self.company = company;
            self.takes = (self.takes * 7 + watch.elapsed()) / 8;
        }
        tried
    }

    /// One statement is the whole transaction.
    async fn attempt_fold(&mut self, ops: &mut Vec<Op>) -> Tried {
        let (main, side) = (self.link.main.clone(), self.link.side.clone());
        let mut batch = Batch::of_one_statement(bytes_of(ops), (&main, &side), &self.texts, &mut self.memory);
        let written = write_folded(&mut batch, ops).await;
        let is_committed = batch.changes() > 0;
        let effects = batch.effects();
        let fault = match written {
            Ok(()) if fails(Failpoint::TransactionCommitted) => {
                // As if its reply had been lost.
                effects.undo(&mut self.memory);
                ops.iter_mut().for_each(Op::is_unsure);
                return Tried::Again(StoreError::Full("a failpoint failed".into()));
            }
            Ok(()) => {
                self.settle(ops, Vec::new(), effects);
                return Tried::Committed;
            }
            Err(fault) => fault,
        };
        effects.undo(&mut self.memory);
        if is_committed || is_lost(&fault) {
            ops.iter_mut().for_each(Op::is_unsure);
        }
        match fault {
            Fault::Sql(name, error) => match class(&error) {
                Class::Gone | Class::Again => Tried::Again(StoreError::Full(said(name, &error).into())),
                Class::Blocked => self.blocked(ops, StoreError::Full(said(name, &error).into())),
                Class::Later => Tried::Later(StoreError::Full(said(name, &error).into())),
                Class::Refused => self.blame(ops, StoreError::Failed(said(name, &error).into())),
            },
            Fault::Refuse(error @ StoreError::Full(_)) => Tried::Later(error),
            Fault::Refuse(error) => self.blame(ops, error),
        }
    }

    fn blame(&mut self, ops: &mut Vec<Op>, error: StoreError) -> Tried {
        match ops.len() {
            1 => {
                self.fail_all(ops, &error);
                Tried::WithoutOne
            }
            _ => Tried::Apart,
        }
    }

    /// Somebody has a row locked for long. Whoever else is in the batch does not wait for that, and neither does anybody when
    /// the turn is found that does.
    fn blocked(&mut self, ops: &mut Vec<Op>, why: StoreError) -> Tried {
        match &ops[..] {
            [Op::Turn(turn)] if !turn.unsure && !self.memory.ids.comparable => {
                tracing::warn!(run = turn.turn.run.0, %why, "a run is locked by somebody else: its turn waits");
                self.jobs.put_aside(ops.remove(0), &self.queue);
                Tried::WithoutOne
            }
            // Whoever waits for it hears of it, and nobody else.
            [op] if !op.is_patient() && !op.was_unsure() => {
                self.fail_all(ops, &why);
                Tried::WithoutOne
            }
            [_] => Tried::Later(why),
            _ => Tried::Apart,
        }
    }

    /// Several statements.
    async fn attempt_transaction(&mut self, ops: &mut Vec<Op>, segments: Vec<Segment>) -> Tried {
        let name = match self.link.begin(bytes_of(ops)).await {
            Ok(name) => name,
            Err(fault) => {
                let _ = self.link.main.script("roll back", "ROLLBACK").await;
                return later(fault);
            }
        };
        let (main, side) = (self.link.main.clone(), self.link.side.clone());
        let mut batch = Batch::new((&main, &side), &self.texts, &mut self.memory);
        let applied = apply(&mut batch, ops, segments).await;
        let effects = batch.effects();
        let refused = match applied {
            Ok(refused) => refused,
            Err((among, fault)) => {
                effects.undo(&mut self.memory);
                let _ = main.script("roll back", "ROLLBACK").await;
                return self.give_up(ops, &among, fault);
            }
        };
        if fails(Failpoint::TransactionWritten) {
            effects.undo(&mut self.memory);
            let _ = main.script("roll back", "ROLLBACK").await;
            return Tried::Later(StoreError::Full("a failpoint failed".into()));
        }
        match main.script("commit", "COMMIT").await {
            Ok(()) if !fails(Failpoint::TransactionCommitted) => {}
            Err(Fault::Sql(name, error)) if class(&error) != Class::Gone => {
                effects.undo(&mut self.memory);
                return later(Fault::Sql(name, error));
            }
            // No reply: perhaps it is committed.
            _ => match self.ask(&name, ops).await {
                Ok(true) => {}
                Ok(false) => {
                    effects.undo(&mut self.memory);
                    return Tried::Again(StoreError::Full("a commit was lost".into()));
                }
                Err(error) => {
                    effects.undo(&mut self.memory);
                    self.fail_all(ops, &error);
                    return Tried::WithoutOne;
                }
            },
        }
        self.link.committed(name);
        self.settle(ops, refused, effects);
        Tried::Committed
    }

    /// Makes connections anew. If the database turns out to have gone back in time, this opening is over.
    async fn mend(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let remembered = Remembered { runs: self.memory.lasts(ops), workers: self.notices.workers() };
        let mended = self.link.mend(remembered).await.map_err(told);
        if let Err(StoreError::Closed(cause)) = &mended {
            tracing::error!(%cause, "the store is closed");
            let _ = self.closed.set(cause.clone());
        }
        mended
    }

    /// Whether a transaction was committed, as soon as there is a database to ask.
    async fn ask(&mut self, name: &Vec<u8>, ops: &[Op]) -> Result<bool, StoreError> {
        let mut wait = WAIT_MIN;
        loop {
            let asked = match self.mend(ops).await {
                Ok(()) => self.link.was_committed(name).await.map_err(told),
                Err(error) => Err(error),
            };
            let why = match asked {
                Ok(was) => return Ok(was),
                Err(error @ StoreError::Closed(_)) => return Err(error),
                Err(error) => error,
            };
            if self.queue.is_stopping() {
                let why =
                    format!("the store was closed before it could ask whether this was committed: {why}");
                return Err(StoreError::Closed(why.into()));
            }
            self.wait(&mut Vec::new(), &unreachable(&why), wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn give_up(&mut self, ops: &mut Vec<Op>, among: &Range<usize>, fault: Fault) -> Tried {
        match fault {
            Fault::Sql(name, error) if class(&error) == Class::Blocked => {
                self.blocked(ops, StoreError::Full(said(name, &error).into()))
            }
            Fault::Sql(name, error) if class(&error) != Class::Refused => later(Fault::Sql(name, error)),
            Fault::Refuse(error @ StoreError::Full(_)) => Tried::Later(error),
            _ if among.len() > 1 => Tried::Apart,
            fault => {
                let error = told(fault);
                ops.remove(among.start).fail(error, &mut self.after());
                Tried::WithoutOne
            }
        }
    }

    fn settle(&mut self, ops: &mut Vec<Op>, refused: Vec<(usize, StoreError)>, effects: Effects) {
        effects.keep(&mut self.memory).ring(&self.bell, &self.notices);
        self.answer(std::mem::take(ops), refused);
        pass(Failpoint::TransactionAnswered);
    }

    fn answer(&mut self, ops: Vec<Op>, refused: Vec<(usize, StoreError)>) {
        let mut refused = refused.into_iter().peekable();
        let bell = self.bell.clone();
        let settled = RingSettled(&bell);
        let mut after = self.after();
        for (i, op) in ops.into_iter().enumerate() {
            match refused.next_if(|(at, _)| *at == i) {
                Some((_, error)) => op.fail(error, &mut after),
                None => op.settle(&mut after),
            }
        }
        let again = after.again;
        drop(settled);
        again.into_iter().for_each(|op| self.queue.push(op));
    }

    /// Nothing can be written now. Turns are repeated unchanged; clients hear why, those that come meanwhile too; but not
    /// those of whom nobody knows whether they happened.
    async fn wait(&mut self, ops: &mut Vec<Op>, why: &StoreError, wait: Duration) {
        tracing::warn!(%why, "nothing can be written to the database; trying again");
        let impatient = |op: &mut Op| !op.is_patient() && !op.was_unsure();
        self.fail_all(&mut ops.extract_if(.., impatient).collect(), why);
        if self.queue.is_stopping() {
            return self.fail_all(ops, &StoreError::Closed(why.to_string().into()));
        }
        let watch = Stopwatch::start();
        while let Some(left) = wait.checked_sub(watch.elapsed()) {
            self.fail_all(&mut self.queue.take_impatient(left).await, why);
            if self.queue.is_stopping() {
                break;
            }
        }
    }

    fn fail_all(&mut self, ops: &mut Vec<Op>, error: &StoreError) {
        for op in ops.drain(..) {
            op.fail(error.clone(), &mut self.after());
        }
    }

    fn after(&mut self) -> After<'_> {
        After { loads: &mut self.memory.loads, bell: &self.bell, again: Vec::new() }
    }
}

/// Writes them in one statement; those that a lost reply has left in doubt are looked for first.
async fn write_folded(batch: &mut Batch<'_>, ops: &mut [Op]) -> Result<(), Fault> {
    let (mut turns, mut starts) = fold::split(ops);
    recall(batch, &mut turns, &starts).await?;
    turns.retain(|turn| turn.settled.is_none());
    fold::write(batch, &mut turns, &mut starts).await
}

/// Applies all; those that were refused before they had written anything. Else among which the one is that is to blame.
async fn apply(
    batch: &mut Batch<'_>,
    ops: &mut [Op],
    segments: Vec<Segment>,
) -> Result<Vec<(usize, StoreError)>, (Range<usize>, Fault)> {
    let all = 0..ops.len();
    lock_in_order(batch, ops).await.map_err(|fault| (all, fault))?;
    let mut refused = Vec::new();
    for segment in segments {
        match segment {
            Segment::Fold(range) => {
                let (mut turns, mut starts) = fold::split(&mut ops[range.clone()]);
                fold::write(batch, &mut turns, &mut starts).await.map_err(|fault| (range, fault))?;
            }
            Segment::One(at) => {
                let before = batch.changes();
                match ops[at].apply(batch).await {
                    Ok(()) => {}
                    // Before it has written anything: concerns nobody else.
                    Err(Fault::Refuse(error)) if batch.changes() == before => refused.push((at, error)),
                    Err(fault) => return Err((at..at + 1, fault)),
                }
            }
        }
    }
    Ok(refused)
}

/// Locks what several operations lock, where one that is not a turn of a worker's own run is among them.
async fn lock_in_order(batch: &Batch<'_>, ops: &[Op]) -> Result<(), Fault> {
    let (mut runs, mut ids) = (Vec::new(), Vec::new());
    for locked in ops.iter().filter_map(Op::locks) {
        match locked {
            Locked::Run(run) => runs.push(run.0),
            Locked::Id(id) => ids.push(id),
        }
    }
    match ids.len() {
        0 => Ok(()),
        1 if runs.is_empty() => Ok(()),
        _ => post::lock_in_order(batch.conn, &runs, &ids).await,
    }
}

/// Whether no reply came.
fn is_lost(fault: &Fault) -> bool {
    matches!(fault, Fault::Sql(_, error) if class(error) == Class::Gone)
}

/// What follows from an error after which nothing has happened.
fn later(fault: Fault) -> Tried {
    match fault {
        Fault::Sql(name, error) => {
            let why = StoreError::Full(said(name, &error).into());
            match class(&error) {
                Class::Again | Class::Gone => Tried::Again(why),
                Class::Blocked | Class::Later | Class::Refused => Tried::Later(why),
            }
        }
        Fault::Refuse(error) => Tried::Later(error),
    }
}

/// Rings when it goes, also when a receipt panics and takes the writer with it: those that were told before wait to be
/// woken, and no later commit would do it.
struct RingSettled<'a>(&'a Bell);

impl Drop for RingSettled<'_> {
    fn drop(&mut self) {
        self.0.ring_settled();
    }
}

fn bytes_of(ops: &[Op]) -> usize {
    ops.iter().map(Op::bytes).sum()
}

/// How many go into one transaction.
fn fitting(ops: &[Op]) -> usize {
    let mut bytes = 0;
    let within = |op: &&Op| {
        let before = bytes;
        bytes += op.bytes();
        before < BYTES_MAX
    };
    ops.iter().take_while(within).count()
}
