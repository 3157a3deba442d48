//! A run in a worker's memory: sends turns and hears what became of them.

use std::sync::{Arc, atomic::AtomicBool};

use everstep_core::store::{
    Answer, End, Fence, LoadId, Receipt, RunId, Settled, StoreError, Transact, Transacted, Turn,
};
use tokio::sync::mpsc;

use crate::{
    Deed,
    desk::Desk,
    sample::{at, steps},
    worker::Worker,
};

pub(crate) struct Load {
    desk: Desk,
    fence: Fence,
    pub(crate) run: RunId,
    pub(crate) load: LoadId,
    /// Whether its transactional steps are withdrawn.
    pub(crate) withdrawn: Arc<AtomicBool>,
    receipt: Arc<dyn Receipt>,
    settled: mpsc::UnboundedReceiver<Settled>,
}

struct Slip(mpsc::UnboundedSender<Settled>);

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        let _ = self.0.send(settled);
    }
}

/// What became of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Next(u64),
    Moved(u64),
    Refused,
    Fenced,
    /// An error that no rule asks for.
    Other(String),
}

impl Heard {
    pub(crate) fn of(settled: Settled) -> Heard {
        match settled {
            Settled::Durable { next } => Heard::Next(next),
            Settled::Moved { inbox_n } => Heard::Moved(inbox_n),
            Settled::Refused(error) => Heard::error(&error),
        }
    }

    /// An error as an answer to a turn would be.
    pub(crate) fn error(error: &StoreError) -> Heard {
        match error {
            StoreError::Refused(_) => Heard::Refused,
            StoreError::Fenced(_) => Heard::Fenced,
            other => Heard::Other(other.to_string()),
        }
    }
}

impl Load {
    pub(crate) fn new(worker: &Worker, run: RunId, load: LoadId) -> Load {
        let (send, settled) = mpsc::unbounded_channel();
        let receipt = Arc::new(Slip(send));
        let (desk, fence) = (worker.desk.clone(), worker.fence);
        Load { desk, fence, run, load, withdrawn: Arc::default(), receipt, settled }
    }

    /// A turn without anything in it.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            run: self.run,
            load: self.load,
            entries: vec![],
            marks: vec![],
            takes: vec![],
            says: vec![],
            end: None,
        }
    }

    pub(crate) fn send(&self, turn: Turn) {
        self.desk.store.commit(self.fence, turn, &self.receipt);
    }

    /// What became of the earliest turn that was not asked for yet.
    pub(crate) async fn hears(&mut self) -> Heard {
        Heard::of(self.settled.recv().await.expect("each turn is answered"))
    }

    /// Whether an answer is there that nobody has asked for.
    pub(crate) fn has_unheard(&self) -> bool {
        !self.settled.is_empty()
    }

    pub(crate) async fn commit(&mut self, turn: Turn) -> Heard {
        self.send(turn);
        self.hears().await
    }

    /// Adds steps of these numbers.
    pub(crate) async fn adds(&mut self, seqs: impl IntoIterator<Item = u64>) -> Heard {
        let turn = Turn { entries: steps(seqs), ..self.turn() };
        self.commit(turn).await
    }

    pub(crate) async fn ends(&mut self, end: Option<End>) -> Heard {
        let turn = Turn { end, ..self.turn() };
        self.commit(turn).await
    }

    /// A transactional step that does these deeds.
    pub(crate) fn transact(&self, key: &str, deeds: &[Deed]) -> Answer<Transacted> {
        self.transact_job(key, self.desk.bench.job(deeds.to_vec()))
    }

    pub(crate) fn transact_job(&self, key: &str, job: Box<dyn std::any::Any + Send>) -> Answer<Transacted> {
        let (run, load, withdrawn) = (self.run, self.load, self.withdrawn.clone());
        let step = Transact { run, load, key: key.into(), at: at(5), withdrawn, job };
        self.desk.store.transact(self.fence, step)
    }
}
