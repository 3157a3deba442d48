//! Requests: questions from outside that a run answers while it works. Here their names and how a workflow answers them;
//! how they are asked is in `client/request`, who gets which in `driver/mail`.

use std::{convert::Infallible, future::Future, panic::Location, pin::pin, sync::Arc, task::Poll};

use crate::{
    Ctx, Op,
    body::{Data, Outcome, Repeat, decodes_as},
    driver::{
        commands::{Call, Tells},
        run::{RunCore, Wants},
        table::Sort,
    },
    error::{Code, Error, ErrorKind, Result},
    journal::{Asked, Kind, Payload, Reply, decode, encode},
    name::typed_name,
    op::Wait,
    step::record,
    store::LetterId,
    stuck::StuckReason,
};

typed_name! {
    /// The name of a request that asks with a `Q` and is answered with an `A`: both ends agree by type. `Copy`, whatever
    /// its types are.
    ///
    /// ```
    /// use everstep_core::Request;
    /// const QUOTE: Request<String, u64> = Request::new("quote");
    /// assert_eq!(QUOTE.name(), "quote");
    /// ```
    Request<Q, A>, "request"
}

impl Ctx {
    /// Answers requests of this name, one after the other in the order in which they came, until it is dropped. It never
    /// ends by itself: poll it beside the work, in a `select!` or with [`Ctx::serving`].
    ///
    /// `handler` runs in the workflow like any of its code: it may make steps, and what it is told between two of them is
    /// the run's own state. An error that it returns is the answer.
    ///
    /// A request that nobody serves waits, as a signal does, until somebody does; when the run is over, or restarts, its
    /// asker hears that there is no answer.
    ///
    /// # What survives a crash
    /// That a request was taken, and its answer: what was answered is not answered again. The handler of a request that
    /// was taken and not answered is called again on replay, with what its steps have recorded.
    ///
    /// # Cancel safety
    /// Dropped while its handler works, the request goes to the next [`Ctx::serve`] of its name.
    ///
    /// # Panics
    /// A bad name, two of one name side by side, a call from where it cannot be, a full journal.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Request, Result, Signal, Workflow, select, store::Memory};
    /// const QUOTE: Request<u64, String> = Request::new("quote");
    /// const CLOSE: Signal<()> = Signal::new("close");
    /// async fn shop(ctx: Ctx, price: u64) -> Result<()> {
    ///     select! {
    ///         closed = ctx.signal(CLOSE) => closed,
    ///         never = ctx.serve(QUOTE, async |n: u64| Ok(format!("{n} for {}", n * price))) => match never {},
    ///     }
    /// }
    /// # const SHOP: Workflow<u64, ()> = Workflow::new("shop");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SHOP, shop).start().await?;
    /// let run = engine.start(SHOP, "corner", 3).await?;
    /// assert_eq!(engine.request("corner", QUOTE, 7).await?, "7 for 21");
    /// engine.signal("corner", CLOSE, ()).await?;
    /// # run.result().await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn serve<'a, Q, A, F, Fut>(&self, name: impl Into<Request<Q, A>>, handler: F) -> Op<'a, Infallible>
    where
        Q: Data,
        A: Data,
        F: FnOnce(Q) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<A>,
    {
        let (ctx, name, site) = (self.clone(), name.into().name(), Location::caller());
        let mut wait = ctx.await_request::<Q>(name, site);
        Op::new(async move {
            loop {
                let asked = wait.asked().await;
                let (open, reply) = (
                    asked.open,
                    match asked.question {
                        Ok(question) => ctx.answer_of(handler.again()(question).await.into_result()),
                        Err(failure) => Reply::Failure(failure),
                    },
                );
                open.answer(&reply, site);
                wait = ctx.await_request::<Q>(name, site);
            }
        })
    }

    /// Answers requests of this name as long as `work` goes on.
    ///
    /// # Errors
    /// Those of `work`.
    ///
    /// # Panics
    /// As [`Ctx::serve`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Request, Result, Workflow, seconds, store::Memory};
    /// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// const DONE: Request<(), u64> = Request::new("done");
    /// async fn work(ctx: Ctx, n: u64) -> Result<u64> {
    ///     let done = AtomicU64::new(0);
    ///     ctx.serving(DONE, async |()| Ok(done.load(Relaxed)), async {
    ///         for part in 0..n {
    ///             ctx.step("part", async || Ok(part)).await?;
    ///             done.store(part + 1, Relaxed);
    ///         }
    ///         ctx.signal::<()>("end").await?;
    ///         Ok(done.load(Relaxed))
    ///     })
    ///     .await
    /// }
    /// # const WORK: Workflow<u64, u64> = Workflow::new("work");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(WORK, work).start().await?;
    /// let run = engine.start(WORK, "w-1", 3).await?;
    /// assert!(engine.request("w-1", DONE, ()).await? <= 3);
    /// # engine.signal("w-1", "end", ()).await?;
    /// assert_eq!(run.result().await?, 3);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn serving<'a, Q, A, F, Fut, T, W>(
        &self,
        name: impl Into<Request<Q, A>>,
        handler: F,
        work: W,
    ) -> Op<'a, Result<T>>
    where
        Q: Data,
        A: Data,
        F: FnOnce(Q) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<A>,
        W: Future + Send + 'a,
        W::Output: Outcome<T>,
    {
        let serve = self.serve(name, handler);
        Op::new(async move {
            let (mut work, mut serve) = (pin!(work), serve);
            std::future::poll_fn(move |cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done.into_result());
                }
                match std::pin::Pin::new(&mut serve).poll(cx) {
                    Poll::Ready(never) => match never {},
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        })
    }

    fn await_request<Q: Data>(&self, name: &str, site: &'static Location<'static>) -> Requested<Q> {
        let core = self.core.clone();
        let (claim, op, _) = match self.claim(Sort::Request, name, site) {
            Ok(claimed) => claimed,
            Err(error) => panic!("{error}"),
        };
        let place = core.state().table.aside().requests.claim();
        let wants = Wants { request: Some((place, decodes_as::<Q>)), ..Wants::default() };
        let (key, wait) = (claim.key.clone(), Wait::new(core.clone(), claim, op, wants));
        Requested { core, key, wait, question: std::marker::PhantomData }
    }

    /// What a handler returned, as it is recorded.
    fn answer_of<A: Data>(&self, answer: Result<A>) -> Reply {
        let bytes_max = self.payload_bytes_max();
        let recorded = answer.and_then(|answer| record(answer, bytes_max)).and_then(|made| {
            decode(&made.payload).map_err(|why| Error::engine(ErrorKind::Decode, Code::NOT_RECORDABLE, why))
        });
        match recorded {
            Ok(value) => Reply::Value(value),
            Err(error) => Reply::Failure(error.to_failure(None).within(bytes_max)),
        }
    }
}

/// A wait for a request.
struct Requested<Q> {
    core: Arc<RunCore>,
    key: Arc<str>,
    wait: Wait,
    question: std::marker::PhantomData<fn() -> Q>,
}

/// A request that was taken.
struct Question<Q> {
    open: Open,
    question: Result<Q, crate::journal::Failure>,
}

impl<Q: Data> Requested<Q> {
    async fn asked(&mut self) -> Question<Q> {
        let arrived = (&mut self.wait).await;
        let payload = arrived.what.ok().flatten().expect("a request has a question");
        let open =
            Open { core: self.core.clone(), key: self.key.clone(), seq: arrived.seq, payload: Some(payload) };
        match open.read() {
            Ok(question) => Question { open, question },
            Err(why) => {
                let detail = format!(
                    "entry {} of request `{}` does not decode as `{}`: {why}",
                    open.seq,
                    self.key,
                    std::any::type_name::<Q>()
                );
                self.core.be_stuck(StuckReason::Undecodable, &self.key, detail);
                std::future::pending().await
            }
        }
    }
}

/// A request that is to be answered: given back if it is not.
struct Open {
    core: Arc<RunCore>,
    key: Arc<str>,
    seq: u64,
    payload: Option<Payload>,
}

impl Open {
    fn asked(&self) -> Result<Asked, String> {
        decode(self.payload.as_ref().expect("kept until it is answered"))
    }

    fn read<Q: Data>(&self) -> Result<Result<Q, crate::journal::Failure>, String> {
        let asked = self.asked()?;
        match asked.refused {
            Some(failure) => Ok(Err(failure)),
            None => decode(&Payload::json(asked.question.get())).map(Ok),
        }
    }

    fn answer(mut self, reply: &Reply, site: &'static Location<'static>) {
        let Ok(asked) = self.asked() else { return };
        self.payload = None;
        let call = Call { kind: Kind::RequestAnswered, key: self.key.clone(), site };
        self.core.command(call, || (encode(reply), Tells::Answered(LetterId(asked.id.0))));
        self.core.state().table.aside().asked.remove(&asked.id.0);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.core.give_back_request(&self.key, self.seq, payload);
        }
    }
}
