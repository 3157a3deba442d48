//! Transactional steps: the user's rows and the record of the step in one commit, on a connection of its own.
//!
//! The writer starts it when its turn comes, after the turns before it, and goes on with others; what ends the step's
//! load waits for it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use everstep_core::{
    Error, Timestamp,
    failpoint::{Failpoint, Guard, broken, fails, pass},
    journal::Payload,
    said_by,
    store::{Bell, Fence, Letter, LetterId, LetterKind, StoreError, Transact, Transacted},
};
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;

use crate::{
    fault::{Class, Fault, class, is_duplicate, said, told},
    guest::Told,
    listen::Notices,
    pool::{Lent, Pool},
    row::{self, codec, unsigned},
    sql::{Sql, args, get, sql},
    stopwatch::{pause, within},
    text::kept,
    tx::{PostgresJob, Tx},
};

/// A transaction that the database cannot put in an order with others is repeated so often; then its step's own policy decides.
const TRIES_MAX: u32 = 10;

/// A transactional step on its way.
pub(crate) struct Job {
    pub(crate) fence: Fence,
    pub(crate) step: Transact,
    pub(crate) answer: oneshot::Sender<Result<Transacted, StoreError>>,
    /// What the gate said when its turn came.
    pub(crate) gate: Result<(), StoreError>,
    /// A commit of it was sent whose reply was lost.
    pub(crate) unsure: bool,
}

/// How the user's code ended.
enum Ran {
    Done(Payload),
    Failed(Error),
    /// In the middle: a statement may be under way.
    CutOff(Error),
}

/// How one try went.
enum Tried {
    Over(Result<Transacted, StoreError>),
    /// The database could not put it in an order with others, or ended its connection, and rolled it back.
    Disordered(Error),
    /// There was no database, or nobody knows whether it happened: look, and do it again.
    Unknown,
}

impl Job {
    /// Does it to its end, whoever waits for it.
    pub(crate) async fn run(mut self, pool: Arc<Pool>, bell: &Bell, notices: &Notices, limit: Duration) {
        let (mut tries, mut disordered) = (0u32, 0);
        let told = Arc::new(Told::default());
        let answer = loop {
            tries += 1;
            match self.attempt(&pool, limit, &told).await {
                Tried::Over(answer) => break answer,
                Tried::Disordered(error) if disordered >= TRIES_MAX => {
                    break Ok(Transacted::RolledBack(error));
                }
                Tried::Disordered(_) => disordered += 1,
                Tried::Unknown => {}
            }
            pause(Duration::from_millis(10 << tries.min(7))).await;
        };
        if let Ok(Transacted::Committed { .. }) = &answer {
            told.ring(bell, notices);
        }
        self.send(answer);
    }

    /// It did not and will not happen.
    pub(crate) fn fail(self, error: StoreError) {
        self.send(Err(error));
    }

    async fn attempt(&mut self, pool: &Arc<Pool>, limit: Duration, told: &Arc<Told>) -> Tried {
        let mut lent = match pool.lend().await {
            Ok(lent) => lent,
            Err(fault) => return again(fault),
        };
        if self.unsure {
            match self.settle_doubt(&lent).await {
                Ok(None) => self.unsure = false,
                Ok(Some(recorded)) => {
                    lent.is_clean();
                    return Tried::Over(Ok(recorded));
                }
                // Whatever it is: nobody knows yet.
                Err(fault) => {
                    let error = crate::fault::told(fault);
                    tracing::warn!(%error, "it is not known yet whether a step was committed");
                    return Tried::Unknown;
                }
            }
        }
        // Sent one behind the other, without waiting in between.
        let (renewed, before) = futures_util::join!(lent.renew(), self.before(&lent));
        let before = match renewed.and(before) {
            Ok(before) => before,
            // Nothing of the step was tried yet.
            Err(fault) if fault.is_again() => return Tried::Unknown,
            Err(fault) => return again(fault),
        };
        if let Some(answer) = before {
            lent.is_clean();
            return Tried::Over(answer);
        }
        self.transact(lent, limit, told).await
    }

    /// What became of a commit whose reply was lost. Before that is known nothing else is said of the step, and nothing of it is
    /// run: the server may be at it still. It has the run's row locked until it is done.
    async fn settle_doubt(&self, lent: &Lent) -> Result<Option<Transacted>, Fault> {
        const DECIDED: Sql = sql("wait for a step's commit", "SELECT 1 FROM @run WHERE id = $1 FOR UPDATE");
        lent.renew().await?;
        lent.script("look what became of a step", &lent.shape().begin(0)).await?;
        lent.rows(&DECIDED, args![self.step.run.0]).await?;
        let recorded = self.recorded(lent).await?;
        lent.script("have looked what became of a step", "COMMIT").await?;
        Ok(recorded)
    }

    /// What there is to say without doing it.
    async fn before(&mut self, lent: &Lent) -> Result<Option<Result<Transacted, StoreError>>, Fault> {
        const LIVE: Sql =
            sql("look at the fence", "SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced");
        let live = lent.one(&LIVE, args![self.fence.worker.0, lent.number()]).await?.is_some();
        if !live && !broken(Guard::Fence) {
            return Ok(Some(Err(StoreError::Fenced(self.fence.worker))));
        }
        if let Err(error) = &self.gate {
            return Ok(Some(Err(error.clone())));
        }
        if let Some(recorded) = self.recorded(lent).await? {
            return Ok(Some(Ok(recorded)));
        }
        // The last look before it is run: from here on it goes on to its end.
        if let Some(withdrawn) = self.step.withdrawn() {
            return Ok(Some(Ok(withdrawn)));
        }
        if !self.step.job.is::<PostgresJob>() {
            let text = "this transaction was made for another store than PostgreSQL";
            return Ok(Some(Err(StoreError::Unusable(text.into()))));
        }
        Ok(None)
    }

    /// What an earlier transaction of this step committed, if its answer was lost: it must not happen twice.
    async fn recorded(&self, lent: &Lent) -> Result<Option<Transacted>, Fault> {
        const RECORDED: Sql = sql(
            "look for the record of a step",
            "SELECT n, body, codec FROM @inbox WHERE run = $1 AND name = $2 AND kind = 5",
        );
        /// Its load may have heard of it by itself, and have taken it. 10: a step that is done.
        const TAKEN: Sql = sql(
            "look for the entry of a step",
            "SELECT 0::int8, body, codec FROM @journal WHERE run = $1 AND key = $2 AND kind = 10",
        );
        let mut found = lent.one(&RECORDED, args![self.step.run.0, kept(&self.step.key)]).await?;
        if found.is_none() && self.unsure {
            found = lent.one(&TAKEN, args![self.step.run.0, kept(&self.step.key)]).await?;
        }
        let committed = |row: tokio_postgres::Row| {
            let body = row::payload(get(&row, 1)?, get(&row, 2)?)?;
            Ok::<_, StoreError>(Transacted::Committed { n: unsigned(get(&row, 0)?), body })
        };
        Ok(found.map(committed).transpose()?)
    }

    async fn transact(&mut self, lent: Lent, limit: Duration, told: &Arc<Told>) -> Tried {
        // Whoever stands still in it longer than that would have been rolled back by himself.
        let begin = format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}; SAVEPOINT everstep_step",
            limit.as_millis().clamp(1, i32::MAX as u128)
        );
        if let Err(fault) = lent.script("begin a step's transaction", &begin).await {
            return again(fault);
        }
        pass(Failpoint::JobBegins);
        let body = match self.call(&lent, limit, told).await {
            Ran::Done(body) if !lent.is_shared() => body,
            Ran::Done(_) => {
                let why = "the transaction's body has kept its `Tx`: nothing was committed. Let it go before the body returns";
                return cut(&lent, Error::terminal(why)).await;
            }
            Ran::CutOff(error) => return cut(&lent, error).await,
            Ran::Failed(error) if lent.is_shared() => return cut(&lent, error).await,
            Ran::Failed(error) => return failed(lent, error, told).await,
        };
        pass(Failpoint::JobDone);
        match self.record(&lent, &body).await {
            Ok(n) => self.commit(lent, n, body).await,
            Err(fault) => not_recorded(lent, fault).await,
        }
    }

    /// Its record has the number `n`.
    async fn commit(&mut self, mut lent: Lent, n: u64, body: Payload) -> Tried {
        pass(Failpoint::JobRecorded);
        match lent.script("commit a step", "COMMIT").await {
            // As if its reply had been lost.
            Ok(()) if fails(Failpoint::TransactionCommitted) => {
                lent.is_clean();
                self.unsure = true;
                Tried::Unknown
            }
            Ok(()) => {
                lent.is_clean();
                Tried::Over(Ok(Transacted::Committed { n, body }))
            }
            // A constraint that is looked at at the end.
            Err(Fault::Sql(name, error)) if class(&error) == Class::Refused => {
                lent.is_clean();
                let why =
                    format!("the database refused the transaction at its commit: {}", said(name, &error));
                Tried::Over(Ok(Transacted::RolledBack(Error::from(why))))
            }
            // Perhaps it is committed: its record tells.
            Err(fault) => {
                self.unsure = true;
                again(fault)
            }
        }
    }

    /// Runs the user's code.
    async fn call(&mut self, lent: &Lent, limit: Duration, told: &Arc<Told>) -> Ran {
        let job = self.step.job.downcast_mut::<PostgresJob>().expect("it was looked at");
        let tx = Tx::of(lent.share(), told.clone());
        let body = AssertUnwindSafe(async { (job.0)(tx).await }).catch_unwind();
        match within(limit, body).await {
            Some(Ok(Ok(body))) => Ran::Done(body),
            // Nobody wants it any more, and it was left where it stood.
            Some(Ok(Err(error))) if self.step.withdrawn().is_some() => Ran::CutOff(error),
            Some(Ok(Err(error))) => Ran::Failed(error),
            Some(Err(panic)) => Ran::Failed(Error::from(format!("panicked: {}", said_by(&*panic)))),
            None => Ran::CutOff(Error::from(format!(
                "the transaction took longer than {limit:?} and was rolled back"
            ))),
        }
    }

    /// The fence comes last: a takeover must not wait for the user's code.
    async fn record(&self, lent: &Lent, body: &Payload) -> Result<u64, Fault> {
        /// From here on the fence is locked: as in every transaction of ours, not for long by who stands still. The role that
        /// a body has taken need not be one that may write here.
        const RELEASE: &str = "RELEASE SAVEPOINT everstep_step; RESET ROLE; SET LOCAL idle_in_transaction_session_timeout = '1s'";
        const FENCE: Sql = sql(
            "check the fence of a step",
            "SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced FOR SHARE",
        );
        const COUNT: Sql = sql(
            "count the record of a step",
            "UPDATE @run SET inbox_n = inbox_n + 1 WHERE id = $1 AND owner = $2 RETURNING inbox_n",
        );
        const RECORD: Sql = sql(
            "record a step",
            "INSERT INTO @inbox (run, n, kind, name, body, codec, id, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let Transact { run, key, at, .. } = &self.step;
        if let Err(Fault::Sql(_, error)) = lent.script("end a step's statements", RELEASE).await {
            if class(&error) != Class::Refused {
                return Err(Fault::Sql("end a step's statements", error));
            }
            let why = "the transaction's body has ended the transaction itself, or one of its statements failed and it went \
                       on: what it did after that is rolled back. Leave `COMMIT` and `ROLLBACK` to the step, and return \
                       errors of statements";
            return Err(StoreError::Failed(format!("{why} ({})", said("RELEASE", &error)).into()).into());
        }
        let worker = self.fence.worker;
        if lent.one(&FENCE, args![worker.0, lent.number()]).await?.is_none() && !broken(Guard::Fence) {
            return Err(StoreError::Fenced(worker).into());
        }
        if broken(Guard::Once) {
            return Ok(0);
        }
        let Some(row) = lent.one(&COUNT, args![run.0, worker.0]).await? else {
            return Err(super::turn::no_longer_ours(*run).into());
        };
        let n: i64 = get(&row, 0)?;
        // Nobody sends it a second time: its name only has to differ from others in this inbox.
        let id = LetterId(u128::from(unsigned(run.0)) << 64 | u128::from(unsigned(n)));
        let letter =
            Letter { id, kind: LetterKind::Recorded as u16, name: key.clone(), body: body.clone(), at: *at };
        insert(lent, &RECORD, run.0, n, &letter).await?;
        Ok(unsigned(n))
    }

    /// What the user's code holds is dropped here, and may do what it likes to itself, but not to the store.
    fn send(self, answer: Result<Transacted, StoreError>) {
        let key = self.step.key.clone();
        let sent = std::panic::catch_unwind(AssertUnwindSafe(move || {
            let _ = self.answer.send(answer);
            drop(self.step.job);
        }));
        if sent.is_err() {
            tracing::error!(step = %key, "something that a transaction held panicked when it was dropped");
        }
    }
}

async fn roll_back(lent: &mut Lent) {
    if lent.script("roll a step back", "ROLLBACK").await.is_ok() {
        lent.is_clean();
    }
}

/// The user's code failed.
async fn failed(mut lent: Lent, error: Error, told: &Told) -> Tried {
    roll_back(&mut lent).await;
    // Nothing is committed on a connection that ended under the body: that is no failure of the step's.
    match told.was_disordered() || is_disordered(&error) || lent.is_gone() {
        true => Tried::Disordered(error),
        false => Tried::Over(Ok(Transacted::RolledBack(error))),
    }
}

/// The user's code is done, and cannot be committed.
async fn not_recorded(mut lent: Lent, fault: Fault) -> Tried {
    roll_back(&mut lent).await;
    match fault {
        Fault::Refuse(StoreError::Failed(why)) => {
            Tried::Over(Ok(Transacted::RolledBack(Error::terminal(why.to_string()))))
        }
        Fault::Refuse(error) => Tried::Over(Err(error)),
        // Another transaction of this step was faster.
        Fault::Sql(_, error) if is_duplicate(&error) => again(Fault::Sql("record a step", error)),
        Fault::Sql(name, error) if class(&error) == Class::Refused => {
            Tried::Over(Ok(Transacted::RolledBack(Error::from(said(name, &error)))))
        }
        fault => again(fault),
    }
}

/// Ends the transaction with its connection, and whatever the body still does there.
async fn cut(lent: &Lent, error: Error) -> Tried {
    lent.cut().await;
    Tried::Over(Ok(Transacted::RolledBack(error)))
}

async fn insert(lent: &Lent, sql: &Sql, run: i64, n: i64, letter: &Letter) -> Result<(), Fault> {
    let Letter { id, kind, name, body, at: Timestamp(at) } = letter;
    let id = id.0.to_be_bytes().to_vec();
    let args = args![run, n, i32::from(*kind), kept(name), &*body.bytes, codec(body), id, *at];
    lent.execute(sql, args).await.map(drop)
}

/// What a fault leads to that is nobody's fault: look again, and repeat.
fn again(fault: Fault) -> Tried {
    match fault {
        Fault::Refuse(error @ (StoreError::Fenced(_) | StoreError::Closed(_) | StoreError::Damaged(_))) => {
            Tried::Over(Err(error))
        }
        Fault::Sql(name, error) if matches!(class(&error), Class::Again | Class::Blocked) => {
            Tried::Disordered(Error::from(said(name, &error)))
        }
        fault => {
            tracing::warn!(error = %told(fault), "a transaction is tried again");
            Tried::Unknown
        }
    }
}

/// Whether a body failed because the database could not put it in an order with others.
fn is_disordered(error: &Error) -> bool {
    let state = error.raised_as::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    [Some(&SqlState::T_R_SERIALIZATION_FAILURE), Some(&SqlState::T_R_DEADLOCK_DETECTED)].contains(&state)
}
