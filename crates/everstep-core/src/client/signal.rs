//! Signals from outside.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Client, Verb, act::refused, json_of, not_found};
use crate::{
    Op, Signal,
    body::Data,
    digest::letter_id,
    error::EngineError,
    journal::Payload,
    name::{check_name, check_run_id},
    status::StatusSet,
    store::{Letter, LetterId, LetterKind, Post, Posted, To},
};

/// A signal to be sent; awaiting it returns once the signal is durable.
///
/// # Cancel safety
/// Dropped before its first poll nothing is sent. Dropped later it may have been sent; sent again with the same
/// [`SendSignal::key`] it is one signal.
#[must_use = "a signal is not sent until this is awaited"]
pub struct SendSignal {
    client: Client,
    post: Option<Result<Post, EngineError>>,
    sending: Option<Op<'static, Result<(), EngineError>>>,
}

impl SendSignal {
    /// Makes the signal known by `key`: sent to the same run under the same name and key however often, by however many
    /// processes, it is one signal. Keys are kept as long as the run.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Signal, Workflow, store::Memory};
    /// # const PAID: Signal<u64> = Signal::new("paid");
    /// # async fn order(ctx: Ctx, _: ()) -> Result<u64> {
    /// #     Ok(ctx.signal(PAID).await? + ctx.signal(PAID).await?)
    /// # }
    /// # const ORDER: Workflow<(), u64> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(ORDER, order).start().await?;
    /// # let run = engine.start(ORDER, "o-1", ()).await?;
    /// for (payment, amount) in [("p-1", 20), ("p-1", 20), ("p-2", 3)] {
    ///     engine.signal("o-1", PAID, amount).key(payment).await?;
    /// }
    /// assert_eq!(run.result().await?, 23);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn key(mut self, key: &str) -> Self {
        if let Some(Ok(post)) = &mut self.post {
            known_by(&mut post.letter, key);
        }
        self
    }
}

impl Future for SendSignal {
    type Output = Result<(), EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (client, post) = (&this.client, &mut this.post);
        let sending = this.sending.get_or_insert_with(|| {
            let (client, post) = (client.clone(), post.take().expect("made with it"));
            Op::new(async move {
                let post = post?;
                let posted = client.send(post.clone()).await?;
                client.accept_signal(&post, posted)
            })
        });
        Pin::new(sending).poll(cx)
    }
}

impl std::fmt::Debug for SendSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendSignal")
    }
}

impl Client {
    /// Sends a signal to a run. It is kept until a wait of the run takes it, also when it comes before the wait; signals
    /// of one name are taken in the order in which they were acknowledged.
    ///
    /// # Errors
    /// Not found; over already (the signal would be lost); a bad name; a value over its limit or one that does not come
    /// back from its own JSON; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged signal. One whose acknowledgement was lost may have been sent: give it a [`SendSignal::key`] and
    /// send it again.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Signal, Workflow, store::Memory};
    /// const APPROVED: Signal<bool> = Signal::new("approved");
    /// # async fn order(ctx: Ctx, _: ()) -> Result<bool> {
    /// #     Ok(ctx.signal(APPROVED).await? && ctx.signal::<bool>("also").await?)
    /// # }
    /// # const ORDER: Workflow<(), bool> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(ORDER, order).start().await?;
    /// # let run = engine.start(ORDER, "o-1", ()).await?;
    /// engine.signal("o-1", APPROVED, true).await?;
    /// engine.signal("o-1", "also", true).await?;
    /// assert!(run.result().await?);
    /// assert!(engine.signal("o-1", APPROVED, true).await.is_err()); // it is over
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn signal<T: Data>(&self, id: impl Into<String>, name: impl Into<Signal<T>>, value: T) -> SendSignal {
        let post = self.new_signal(id.into(), name.into(), &value, None);
        SendSignal { client: self.clone(), post: Some(post), sending: None }
    }

    /// What a signal writes; also the seam of the store crates' `signal_in`.
    #[doc(hidden)]
    pub fn new_signal<T: Data>(
        &self,
        id: String,
        name: Signal<T>,
        value: &T,
        key: Option<&str>,
    ) -> Result<Post, EngineError> {
        check_run_id(&id)?;
        let mut letter = self.signal_letter(name, value)?;
        if let Some(key) = key {
            known_by(&mut letter, key);
        }
        Ok(Post { to: id.into(), letter, only: StatusSet::OPEN, revive: false })
    }

    pub(super) fn signal_letter<T: Data>(&self, name: Signal<T>, value: &T) -> Result<Letter, EngineError> {
        check_name("signal", name.name())?;
        let json = json_of(&format!("signal `{}`", name.name()), value, self.payload_bytes_max())?;
        Ok(self.letter(LetterKind::Signal, name.name(), Payload::json(json.get())))
    }

    /// What the sender of a signal hears.
    #[doc(hidden)]
    pub fn accept_signal(&self, post: &Post, posted: Posted) -> Result<(), EngineError> {
        let To::Run(id) = &post.to else { unreachable!("a signal is for a run") };
        match posted {
            Posted::Added | Posted::Known => Ok(()),
            Posted::Refused(status) => Err(refused(Verb::Signal, id, status)),
            Posted::NoSuchRun | Posted::Settled | Posted::Expired => Err(not_found(id)),
        }
    }
}

/// A signal that has a key is the same whoever sends it, however often.
fn known_by(letter: &mut Letter, key: &str) {
    letter.id = LetterId(letter_id(&letter.name, key));
}
