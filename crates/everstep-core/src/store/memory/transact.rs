//! Transactional steps: the user's rows and the record of the step in one commit.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{Memory, OpeningId, content::Content};
use crate::{
    error::{Error, Result, panic_message},
    failpoint::{Guard, broken},
    journal::Payload,
    store::{Answer, Fence, Letter, LetterId, LetterKind, Receipt, StoreError, Transact, Transacted, Turn},
};

/// The user's rows in the in-memory store: what a transactional step there may change.
pub type Rows = BTreeMap<String, String>;

/// The job of [`Transact`] for the in-memory store: changes the user's rows and returns the value to record. What it
/// changed is gone if it fails or panics.
///
/// It runs under the store's lock, as it would on the one connection of a database that writes: a call to the store
/// from inside waits for ever.
pub struct MemoryJob(pub MemoryBody);

/// What a transactional step does with the user's rows, and the value it records.
pub type MemoryBody = Box<dyn FnOnce(&mut Rows) -> Result<Payload> + Send>;

impl std::fmt::Debug for MemoryJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryJob")
    }
}

/// What waits while commits are held.
pub(super) enum Waiting {
    Turn(Fence, Turn, Arc<dyn Receipt>),
    Step(Fence, Transact, oneshot::Sender<Result<Transacted, StoreError>>),
}

impl Memory {
    /// See [`crate::store::Store::commit`].
    pub(super) fn commit_turn(&self, fence: Fence, turn: Turn, receipt: Arc<dyn Receipt>) {
        let mut content = self.content();
        if let Some(waiting) = &mut content.waiting {
            return waiting.push(Waiting::Turn(fence, turn, receipt));
        }
        drop(content);
        self.release(Waiting::Turn(fence, turn, receipt));
    }

    /// See [`crate::store::Store::transact`].
    pub(super) fn run_step(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        let (send, answer) = oneshot::channel();
        let mut content = self.content();
        match &mut content.waiting {
            Some(waiting) => waiting.push(Waiting::Step(fence, step, send)),
            None => {
                drop(content);
                self.release(Waiting::Step(fence, step, send));
            }
        }
        let ended = || StoreError::Closed("the store was dropped".into());
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(ended())) })
    }

    /// Applies what has waited, and answers it.
    pub(super) fn release(&self, waiting: Waiting) {
        let opening = self.0.number;
        let rings = match waiting {
            Waiting::Turn(fence, turn, receipt) => {
                let (settled, rings) = self.apply(|content| content.turn(opening, fence, &turn));
                receipt.settled(settled);
                self.0.bell.ring_settled();
                rings
            }
            Waiting::Step(fence, step, answer) => {
                let (done, rings) = self.apply(|content| content.transact(opening, fence, step));
                let _ = answer.send(done);
                rings
            }
        };
        self.ring(rings);
    }
}

impl Content {
    fn transact(
        &mut self,
        opening: OpeningId,
        fence: Fence,
        step: Transact,
    ) -> Result<Transacted, StoreError> {
        self.check_load(opening, fence, (step.load, step.run))?;
        if let Some(error) = &self.failing {
            return Err(error.clone());
        }
        let recorded =
            |letter: &Letter| letter.kind == LetterKind::Recorded as u16 && letter.name == step.key;
        let run = self.run(step.run)?;
        if let Some((n, letter)) = run.inbox.iter().find(|(_, letter)| recorded(letter)) {
            return Ok(Transacted::Committed { n: *n, body: letter.body.clone() });
        }
        if let Some(withdrawn) = step.withdrawn() {
            return Ok(withdrawn);
        }
        let Ok(job) = step.job.downcast::<MemoryJob>() else {
            let why = "this transaction was made for another store than the in-memory one";
            return Err(StoreError::Unusable(why.into()));
        };
        let mut rows = self.rows.clone();
        let done = catch_unwind(AssertUnwindSafe(|| (job.0)(&mut rows)));
        let body = match done.unwrap_or_else(|panic| Err(panicked(&*panic))) {
            Ok(body) => body,
            Err(error) => return Ok(Transacted::RolledBack(error)),
        };
        self.rows = rows;
        self.rings.changed = true;
        if broken(Guard::Once) {
            return Ok(Transacted::Committed { n: 0, body });
        }
        let kind = LetterKind::Recorded as u16;
        let run = self.run(step.run)?;
        // Nobody sends it a second time: its name is looked for by nobody.
        let id = LetterId(u128::from(run.row.inbox_n));
        let n = run.add(Letter { id, kind, name: step.key, body: body.clone(), at: step.at });
        Ok(Transacted::Committed { n, body })
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    Error::from(format!("panicked: {}", panic_message(panic)))
}
