//! Transactional steps: the user's rows and the record of the step in one commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use everstep_core::{
    Error,
    failpoint::{Failpoint, Guard, broken, pass},
    journal::Payload,
    store::{Fence, Letter, LetterId, LetterKind, StoreError, Transact, Transacted},
};
use rusqlite::params;
use tokio::sync::oneshot;

use super::post;
use crate::{
    batch::Batch,
    fault::Fault,
    op::{After, Op, Weight},
    row::{self, unsigned},
    tx::{self, Ran, SqliteJob},
};

/// A transactional step on its way.
pub(crate) struct Job {
    pub(crate) fence: Fence,
    pub(crate) step: Transact,
    pub(crate) answer: oneshot::Sender<Result<Transacted, StoreError>>,
    pub(crate) outcome: Option<Transacted>,
}

impl Job {
    fn write(&mut self, batch: &mut Batch<'_>) -> Result<Transacted, Fault> {
        let Transact { run, load, .. } = self.step;
        batch.check(self.fence)?;
        batch.held(load, run, self.fence)?;
        if let Some(recorded) = self.recorded(batch)? {
            return Ok(recorded);
        }
        // The last look before it is run: from here on it goes on to its end.
        if let Some(withdrawn) = self.step.withdrawn() {
            return Ok(withdrawn);
        }
        let Some(job) = self.step.job.downcast_mut::<SqliteJob>() else {
            return Err(StoreError::Unusable(
                "this transaction was made for another store than SQLite".into(),
            )
            .into());
        };
        // The user's code may start runs and send signals, with what stands in the database.
        batch.flush()?;
        pass(Failpoint::JobBegins);
        match tx::run(batch.conn, job, batch.job_limit)? {
            Ran::Gone(error) => {
                self.outcome = Some(Transacted::RolledBack(error));
                Err(Fault::TransactionGone)
            }
            Ran::RolledBack(error) => Ok(Transacted::RolledBack(error)),
            Ran::Done { body, wakes } => {
                batch.rings.claimable |= wakes.claimable;
                batch.rings.inbox |= wakes.inbox;
                pass(Failpoint::JobDone);
                if broken(Guard::Once) {
                    return Ok(Transacted::Committed { n: 0, body });
                }
                let n = self.record(batch, &body)?;
                pass(Failpoint::JobRecorded);
                Ok(Transacted::Committed { n: unsigned(n), body })
            }
        }
    }

    /// What an earlier transaction of this step committed, if its answer was lost: it must not happen twice.
    fn recorded(&self, batch: &Batch<'_>) -> Result<Option<Transacted>, Fault> {
        let sql = "SELECT n, kind, name, body, codec, id, at FROM everstep_inbox WHERE run = ?1 AND name = ?2 AND kind = 5";
        let found = row::one(batch.conn, sql, params![self.step.run.0, &*self.step.key], row::received)?;
        Ok(found.map(|found| Transacted::Committed { n: found.n, body: found.letter.body }))
    }

    fn record(&self, batch: &Batch<'_>, body: &Payload) -> Result<i64, Fault> {
        let Transact { run, key, at, .. } = &self.step;
        let n: i64 = batch
            .conn
            .prepare_cached("UPDATE everstep_run SET inbox_n = inbox_n + 1 WHERE id = ?1 RETURNING inbox_n")?
            .query_row([run.0], |row| row.get(0))?;
        // Nobody sends it a second time: its name only has to differ from others in this inbox.
        let id = LetterId(u128::from(unsigned(run.0)) << 64 | u128::from(unsigned(n)));
        let kind = LetterKind::Recorded as u16;
        let letter = Letter { id, kind, name: key.clone(), body: body.clone(), at: *at };
        post::insert(batch.conn, *run, n, &letter)?;
        Ok(n)
    }

    /// What the user's code holds is dropped here, and may do what it likes to itself, but not to the writer.
    fn send(self, answer: Result<Transacted, StoreError>) {
        let key = self.step.key.clone();
        let sent = catch_unwind(AssertUnwindSafe(move || {
            let _ = self.answer.send(answer);
            drop(self.step.job);
        }));
        if sent.is_err() {
            tracing::error!(step = %key, "something that a transaction held panicked when it was dropped");
        }
    }
}

impl Op for Job {
    fn weight(&self) -> Weight {
        Weight::Job
    }

    fn bytes(&self) -> Option<usize> {
        None
    }

    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.outcome = Some(self.write(batch)?);
        Ok(())
    }

    fn settle(mut self: Box<Self>, _: &mut After<'_>) {
        let outcome = self.outcome.take().expect("settled after it was applied");
        self.send(Ok(outcome));
    }

    fn fail(self: Box<Self>, error: StoreError, _: &mut After<'_>) {
        self.send(Err(error));
    }

    fn unacceptable(self: Box<Self>, why: rusqlite::Error, _: &mut After<'_>) {
        let why = Error::from(format!("the database refused the transaction at its commit: {why}"));
        self.send(Ok(Transacted::RolledBack(why)));
    }
}
