//! Promises: values that somebody outside owes to a run, each by its token. Here how a workflow makes one and waits for
//! it; how it is settled is in `client/promise`, who gets what in `driver/links`.

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    Ctx, Op,
    body::{Data, decodes_as},
    driver::{
        commands::{Call, Tells},
        run::{RunCore, Wants},
        table::Sort,
    },
    error::{Error, Result},
    journal::{Kind, Made, decode, encode},
    op::Wait,
    stuck::StuckReason,
    time::Timestamp,
    token::{Place, Token},
};

/// A value that somebody outside owes to a run: `Client::resolve` with its token gives it.
///
/// Awaiting it gives the value. Owned, `Unpin`, `Send` and `Sync`: a step may borrow the token, and `&mut promise` waits
/// in a `select!` loop.
///
/// # Cancel safety
/// Dropped before it returned it takes nothing: what was sent to it is for nobody any more.
#[must_use = "a promise that is dropped can be kept by nobody"]
pub struct Promise<T>(Result<Open<T>, Option<Error>>);

struct Open<T> {
    token: String,
    core: Arc<RunCore>,
    key: Arc<str>,
    made_at: Timestamp,
    expires: Option<Timestamp>,
    wait: State<T>,
}

enum State<T> {
    /// Not polled yet.
    Made(Option<Wait>),
    Waiting(Op<'static, Result<T>>),
}

impl<T: Data> Promise<T> {
    /// The token that settles it, once: whoever has it may. Hand it out in a step.
    ///
    /// # Panics
    /// If the promise could not be made (a bad name, a second promise of that name side by side), with that error:
    /// what is handed out must be good for something.
    pub fn token(&self) -> &str {
        match &self.0 {
            Ok(open) => &open.token,
            Err(error) => panic!("a promise that could not be made has no token: {error:?}"),
        }
    }

    /// It is to be settled within this time of [`Ctx::now`] at the call that made it; then the wait gives an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout), and its token is good for nothing. Say it where the promise is made.
    ///
    /// Whoever settles it in the moment in which it expires may be told that he has, while the run takes it as expired.
    pub fn expires(mut self, within: Duration) -> Self {
        if let Ok(open) = &mut self.0 {
            open.expires = Some(open.made_at.after(within));
            open.core.promise_expires(&open.key, open.expires);
        }
        self
    }
}

impl<T: Data> Future for Promise<T> {
    type Output = Result<T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let open = match &mut self.0 {
            Ok(open) => open,
            Err(error) => return Poll::Ready(Err(error.take().expect("not polled after it was ready"))),
        };
        if let State::Made(wait) = &mut open.wait {
            let mut wait = wait.take().expect("taken at the first poll");
            wait.ends(open.expires);
            open.wait = State::Waiting(Op::new(wait.value("promise")));
        }
        match &mut open.wait {
            State::Waiting(wait) => Pin::new(wait).poll(cx),
            State::Made(_) => unreachable!("it waits since the first poll"),
        }
    }
}

impl<T> Unpin for Promise<T> {}

impl<T> std::fmt::Debug for Promise<T> {
    /// Without its token: what is written to a log is read by many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Promise").field("key", &self.0.as_ref().map(|open| &open.key)).finish_non_exhaustive()
    }
}

impl Ctx {
    /// Makes a promise: a value that somebody outside is to give, by the promise's token. Needs no await; the token is
    /// there at once, and whatever gets it (a step) begins when the promise is durable.
    ///
    /// # Errors
    /// Of the wait: what it was rejected with ([`ErrorKind::Rejected`](crate::ErrorKind)); a value that does not decode as
    /// `T`, which settles it all the same; [`Promise::expires`]. [`ErrorKind::Misuse`](crate::ErrorKind) as for steps.
    ///
    /// # What survives a crash
    /// The promise, its token, what it was settled with once that was acknowledged. A token that was handed out stays good
    /// for its key, also when a person takes back the end of the journal and the promise is made again there, with another
    /// token beside it.
    ///
    /// # Who can know a token
    /// It is 128 bits of the system's entropy. The table of promises keeps its SHA-256 alone, and the run's entry keeps it
    /// under a pad that is derived from the run's identity: neither gives it away by itself. Who reads the whole database
    /// can work it out, and so can who reads what your own steps have recorded of it.
    ///
    /// # Panics
    /// [`Promise::token`] says when.
    ///
    /// ```
    /// # use everstep_core::{Client, Ctx, Engine, EngineError, Promise, Result, Workflow, store::Memory};
    /// # async fn order_payment(_: &str, _: String) -> Result<()> { Ok(()) }
    /// async fn order(ctx: Ctx, item: String) -> Result<String> {
    ///     let payment: Promise<u64> = ctx.promise("payment");
    ///     ctx.step("ask_for_payment", async || order_payment(&item, payment.token().to_string()).await).await?;
    /// #   ctx.publish("token", &payment.token().to_string());
    ///     let cents = payment.await?;
    ///     Ok(format!("{item} for {cents} cents"))
    /// }
    /// # const ORDER: Workflow<String, String> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let store = Memory::default();
    /// # let engine = Engine::builder(store.clone()).register(ORDER, order).start().await?;
    /// let run = engine.start(ORDER, "desk-7", "a desk".to_string()).await?;
    /// # use everstep_core::store::Inspect;
    /// # let number = store.run("desk-7".into()).await?.expect("there").run;
    /// # let token = loop {
    /// #     tokio::task::yield_now().await;
    /// #     let Some(row) = store.published(number, "token".into()).await? else { continue };
    /// #     break String::from_utf8_lossy(&row.body.bytes).trim_matches('"').to_string();
    /// # };
    /// // The payment service calls back, with the token that it was given:
    /// engine.resolve(&token, 4_200u64).await?;
    /// assert_eq!(run.result().await?, "a desk for 4200 cents");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn promise<T: Data>(&self, name: &str) -> Promise<T> {
        let site = Location::caller();
        match self.claim(Sort::Promise, name, site) {
            Ok((claim, op, made_at)) => {
                let (core, key) = (self.core.clone(), claim.key.clone());
                let token = core.make_promise(&key, site);
                let wants = Wants { link: Some(decodes_as::<T>), ..Wants::default() };
                let wait = State::Made(Some(Wait::new(core.clone(), claim, op, wants)));
                let token = token.map(|token| token.to_string()).unwrap_or_default();
                Promise(Ok(Open { token, core, key, made_at, expires: None, wait }))
            }
            Err(error) => Promise(Err(Some(error))),
        }
    }
}

impl RunCore {
    /// The token of a promise: the journal's, or a new one. None comes of a damaged record: then the run is stuck.
    fn make_promise(&self, key: &Arc<str>, site: &'static Location<'static>) -> Option<Token> {
        let place = Place { incarnation: self.incarnation, generation: self.generation(), key };
        let call = Call { kind: Kind::PromiseMade, key: key.clone(), site };
        let mut new = None;
        let recorded = self.command(call, || {
            let token = Token(self.worker.entropy.draw());
            new = Some(token);
            (encode(&token.sealed(&place)), Tells::Promised { hash: token.hash(), expires: None })
        });
        let Some(body) = recorded else { return new };
        let token = decode::<Made>(&body).ok().and_then(|made| Token::unsealed(&made, &place));
        if token.is_none() {
            let detail = format!("the record of promise `{key}` gives no token");
            self.be_stuck(StuckReason::Undecodable, key, detail);
        }
        token
    }
}
