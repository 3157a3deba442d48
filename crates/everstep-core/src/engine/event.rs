//! What an engine tells its audience, after it is durable.

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast;

use crate::{journal::Kind, stuck::StuckReason};

/// Something that happened to a run of this engine.
///
/// An event about an entry is sent after its commit: what an event says is not taken back by a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A step's body begins.
    StepStarted {
        /// The run's id.
        run: Arc<str>,
        /// The step's key.
        key: Arc<str>,
        /// From 1.
        attempt: u32,
    },
    /// A step's result is durable.
    StepDone {
        /// The run's id.
        run: Arc<str>,
        /// The step's key.
        key: Arc<str>,
        /// From 1.
        attempt: u32,
    },
    /// A recorded entry answered instead of code.
    Skipped {
        /// The run's id.
        run: Arc<str>,
        /// The step's or timer's key.
        key: Arc<str>,
        /// What was recorded.
        kind: Kind,
    },
    /// An attempt failed, and another follows.
    AttemptFailed {
        /// The run's id.
        run: Arc<str>,
        /// The step's key.
        key: Arc<str>,
        /// The one that failed.
        attempt: u32,
        /// Its error's message.
        error: String,
        /// The pause before the next.
        retry_in: Duration,
    },
    /// A step failed for good.
    StepFailed {
        /// The run's id.
        run: Arc<str>,
        /// The step's key.
        key: Arc<str>,
        /// The last attempt.
        attempt: u32,
        /// Its error's message.
        error: String,
    },
    /// An attempt was started by an earlier worker, and nobody knows how it ended; the step's policy decides now.
    InDoubt {
        /// The run's id.
        run: Arc<str>,
        /// The step's key.
        key: Arc<str>,
        /// The attempt in doubt.
        attempt: u32,
    },
    /// The undo of a step begins; its attempts are told as those of the step `undo/<key>`.
    UndoBegun {
        /// The run's id.
        run: Arc<str>,
        /// The key of the step that is undone.
        key: Arc<str>,
    },
    /// A signal was taken into the journal.
    SignalTaken {
        /// The run's id.
        run: Arc<str>,
        /// The key of the wait that it is for.
        key: Arc<str>,
    },
    /// A request was taken into the journal.
    RequestTaken {
        /// The run's id.
        run: Arc<str>,
        /// The key of the wait that it is for.
        key: Arc<str>,
    },
    /// A promise's value, rejection or expiry was taken into the journal.
    PromiseSettled {
        /// The run's id.
        run: Arc<str>,
        /// The promise's key.
        key: Arc<str>,
    },
    /// A child's outcome was taken into the journal of its parent.
    ChildEnded {
        /// The parent's id.
        run: Arc<str>,
        /// The child's key.
        key: Arc<str>,
    },
    /// The function was woken by something that replay will not have.
    NotDurable {
        /// The run's id.
        run: Arc<str>,
        /// The line of the last durable call before it.
        after: String,
    },
    /// The run began anew with another input.
    Restarted {
        /// The run's id.
        run: Arc<str>,
        /// How often it has by now.
        generation: u32,
    },
    /// The run is over with a value.
    Completed {
        /// The run's id.
        run: Arc<str>,
    },
    /// The run is over with an error.
    Failed {
        /// The run's id.
        run: Arc<str>,
        /// The error's message.
        error: String,
    },
    /// The run is over by `cancel`.
    Cancelled {
        /// The run's id.
        run: Arc<str>,
    },
    /// A person has set the run aside, and nothing of it runs any more.
    Paused {
        /// The run's id.
        run: Arc<str>,
    },
    /// The run needs a person.
    Stuck {
        /// The run's id.
        run: Arc<str>,
        /// Why.
        reason: StuckReason,
        /// In full.
        detail: String,
    },
    /// This worker's code cannot go on with the run: it is left to a live worker of the build that wrote its newest
    /// entries.
    LeftToBuild {
        /// The run's id.
        run: Arc<str>,
        /// That build.
        build: Arc<str>,
    },
    /// The listener was too slow, and so many events were dropped for it.
    Missed(u64),
}

/// The events of one engine, from the call of [`Engine::events`](crate::Engine::events) on. Keeps 4,096 events for a
/// slow listener, then drops the oldest and says so with [`Event::Missed`].
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once the engine is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(n)) => Some(Event::Missed(n)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(n)) => Some(Event::Missed(n)),
            Err(_) => None,
        }
    }

    /// The same as a `Stream`.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = Event> + Send + 'static {
        futures_util::stream::unfold(self, async |mut events| Some((events.next().await?, events)))
    }
}
