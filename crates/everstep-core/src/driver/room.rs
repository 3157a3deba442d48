//! A place among the steps that a worker runs at once: taken before a step's body begins, given back when it has
//! ended. A run that gets none waits its turn; nobody who waits is passed over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Coming = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// What one run waits for.
#[derive(Default)]
pub(super) struct Room {
    spare: Option<OwnedSemaphorePermit>,
    coming: Option<Coming>,
    short: bool,
}

impl Room {
    /// A place, if there is one; if not, [`Room::poll_free`] waits for it.
    pub(super) fn take(&mut self, steps: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let place = self.spare.take().or_else(|| steps.clone().try_acquire_owned().ok());
        self.short = place.is_none();
        place
    }

    /// Whether a place came that was missing.
    pub(super) fn poll_free(&mut self, steps: &Arc<Semaphore>, cx: &mut Context<'_>) -> bool {
        if !self.short {
            return false;
        }
        let coming = self.coming.get_or_insert_with(|| {
            let steps = steps.clone();
            Box::pin(async move { steps.acquire_owned().await.ok() })
        });
        let Poll::Ready(place) = coming.as_mut().poll(cx) else { return false };
        *self = Room { spare: place, coming: None, short: false };
        true
    }
}
