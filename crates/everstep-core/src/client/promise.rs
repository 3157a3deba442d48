//! Promises are kept: resolved or rejected, by their tokens.

use super::{Client, json_of};
use crate::{
    body::Data,
    digest::{Digest, letter_id},
    error::{Code, EngineError, ErrorKind},
    journal::{Failure, Reply, encode},
    status::StatusSet,
    store::{Letter, LetterId, LetterKind, Post, Posted, To},
    token::Token,
};

impl Client {
    /// Settles a promise with a value. The same value again is no error: whoever does not know whether it arrived sends it
    /// again.
    ///
    /// # Errors
    /// A token that no promise has, or never had: nobody learns which. A promise that was settled before with something
    /// else ([`Code::SETTLED`]), that has expired ([`Code::EXPIRED`]), or whose run is over. A value over its limit or one
    /// that does not come back from its own JSON; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged value.
    ///
    /// ```
    /// # use everstep_core::{Code, Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # async fn order(ctx: Ctx, _: ()) -> Result<u64> {
    /// #     let payment = ctx.promise("payment");
    /// #     ctx.publish("token", &payment.token().to_string());
    /// #     let paid: u64 = payment.await?;
    /// #     Ok(paid + ctx.signal::<u64>("tip").await?)
    /// # }
    /// # const ORDER: Workflow<(), u64> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let store = Memory::default();
    /// # let engine = Engine::builder(store.clone()).register(ORDER, order).start().await?;
    /// # let run = engine.start(ORDER, "o-1", ()).await?;
    /// # use everstep_core::store::Inspect;
    /// # let number = store.run("o-1".into()).await?.expect("there").run;
    /// # let token = loop {
    /// #     tokio::task::yield_now().await;
    /// #     let Some(row) = store.published(number, "token".into()).await? else { continue };
    /// #     break String::from_utf8_lossy(&row.body.bytes).trim_matches('"').to_string();
    /// # };
    /// engine.resolve(&token, 20u64).await?;
    /// engine.resolve(&token, 20u64).await?; // the same
    /// assert!(engine.resolve(&token, 21u64).await.is_err_and(|e| e.code() == Code::SETTLED));
    /// # engine.signal("o-1", "tip", 3u64).await?;
    /// # assert_eq!(run.result().await?, 23);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn resolve<T: Data>(&self, token: &str, value: T) -> Result<(), EngineError> {
        let json = json_of("the value of a promise", &value, self.payload_bytes_max())?;
        let digest = Digest::of_json(json.get().as_bytes()).map_err(|why| {
            let message = format!("the value of a promise has no digest: {why}");
            EngineError::new(ErrorKind::Misuse, Code::NOT_RECORDABLE, message)
        })?;
        self.settle(token, &format!("value {digest}"), &Reply::Value(json)).await
    }

    /// Settles a promise with an error: its wait gets one of kind [`Rejected`](crate::ErrorKind) with this message. The
    /// same message again is no error.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    ///
    /// # What survives a crash
    /// An acknowledged rejection.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, ErrorKind, Result, Workflow, store::Memory};
    /// # async fn order(ctx: Ctx, _: ()) -> Result<u64> {
    /// #     let payment = ctx.promise("payment");
    /// #     ctx.publish("token", &payment.token().to_string());
    /// #     payment.await
    /// # }
    /// # const ORDER: Workflow<(), u64> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let store = Memory::default();
    /// # let engine = Engine::builder(store.clone()).register(ORDER, order).start().await?;
    /// # let run = engine.start(ORDER, "o-1", ()).await?;
    /// # use everstep_core::store::Inspect;
    /// # let number = store.run("o-1".into()).await?.expect("there").run;
    /// # let token = loop {
    /// #     tokio::task::yield_now().await;
    /// #     let Some(row) = store.published(number, "token".into()).await? else { continue };
    /// #     break String::from_utf8_lossy(&row.body.bytes).trim_matches('"').to_string();
    /// # };
    /// engine.reject(&token, "the card was declined").await?;
    /// // The workflow passed it on:
    /// assert!(run.result().await.is_err_and(|e| e.kind() == ErrorKind::Rejected));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn reject(&self, token: &str, message: &str) -> Result<(), EngineError> {
        self.check_size("a rejection", message.len())?;
        let failure = Failure::of(ErrorKind::Rejected, Code::REJECTED, message.to_string());
        self.settle(token, &format!("error {message}"), &Reply::Failure(failure)).await
    }

    /// `what` tells settlements apart.
    async fn settle(&self, token: &str, what: &str, reply: &Reply) -> Result<(), EngineError> {
        let token = Token::read(token).ok_or_else(unknown)?;
        let kind = LetterKind::PromiseSettled;
        let letter = Letter {
            id: LetterId(letter_id(&token.to_string(), what)),
            ..self.letter(kind, "", encode(reply))
        };
        let post = Post { to: To::Promise(token.hash()), letter, only: StatusSet::OPEN, revive: false };
        let error = |code, message: &str| Err(EngineError::new(ErrorKind::NotAllowed, code, message));
        match self.send(post).await? {
            Posted::Added | Posted::Known => Ok(()),
            Posted::NoSuchRun => Err(unknown()),
            Posted::Settled => error(Code::SETTLED, "this promise was settled before, in another way"),
            Posted::Expired => {
                error(Code::EXPIRED, "this promise has expired: it was not settled in its time")
            }
            Posted::Refused(status) => {
                error(Code::NOT_ALLOWED, &format!("the run that made this promise is {status}"))
            }
        }
    }
}

/// Also of a text that is no token: whoever tries learns nothing from the difference.
fn unknown() -> EngineError {
    EngineError::new(ErrorKind::NotFound, Code::NOT_FOUND, "no promise has this token")
}
