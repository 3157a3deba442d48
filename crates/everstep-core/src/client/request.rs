//! Requests from outside: asked, and their answers waited for.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Client, json_of, not_found};
use crate::{
    Op, Request,
    body::Data,
    digest::{Digest, letter_id},
    error::{Code, EngineError, ErrorKind},
    journal::{Asked, Reply, decode, encode},
    name::{check_name, check_run_id},
    status::{Status, StatusSet},
    store::{LetterId, LetterKind, Post, Posted, RunRow},
};

/// A request to be sent; awaiting it gives the answer.
///
/// # Cancel safety
/// Dropped before its first poll nothing is asked. Dropped later it may have been asked, and may be answered; asked again
/// with the same [`SendRequest::key`] it is one request, and has one answer.
#[must_use = "nothing is asked until this is awaited"]
pub struct SendRequest<A> {
    client: Client,
    to: Arc<str>,
    made: Option<Result<(Arc<str>, Asked), EngineError>>,
    asking: Option<Op<'static, Result<A, EngineError>>>,
    answer: PhantomData<fn() -> A>,
}

impl<A> SendRequest<A> {
    /// Makes the request known by `key`: asked of the same run under the same name and key however often, by however many
    /// processes, it is one request with one answer. Keys are kept as long as the run.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Request, Result, Workflow, store::Memory};
    /// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// # const NEXT: Request<(), u64> = Request::new("next");
    /// # async fn counter(ctx: Ctx, _: ()) -> Result<()> {
    /// #     let n = AtomicU64::new(0);
    /// #     ctx.serving(NEXT, async |()| Ok(n.fetch_add(1, Relaxed)), ctx.signal::<()>("end")).await
    /// # }
    /// # const COUNTER: Workflow<(), ()> = Workflow::new("counter");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(COUNTER, counter).start().await?;
    /// # let run = engine.start(COUNTER, "c-1", ()).await?;
    /// let first = engine.request("c-1", NEXT, ()).key("ticket 7").await?;
    /// let again = engine.request("c-1", NEXT, ()).key("ticket 7").await?;
    /// assert_eq!((first, again), (0, 0));
    /// # engine.signal("c-1", "end", ()).await?;
    /// # run.result().await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn key(mut self, key: &str) -> Self {
        if let Some(Ok((name, asked))) = &mut self.made {
            asked.id = Digest(letter_id(name, key));
        }
        self
    }
}

impl<A: Data> Future for SendRequest<A> {
    type Output = Result<A, EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (client, to, made) = (&this.client, &this.to, &mut this.made);
        let asking = this.asking.get_or_insert_with(|| {
            let (client, to, made) = (client.clone(), to.clone(), made.take().expect("made with it"));
            Op::new(async move {
                let (name, asked) = made?;
                client.ask(&to, &name, &asked).await
            })
        });
        Pin::new(asking).poll(cx)
    }
}

impl<A> std::fmt::Debug for SendRequest<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendRequest")
    }
}

impl Client {
    /// Asks a run something and waits for its answer, whichever process drives the run. A run that serves no such request
    /// yet is waited for.
    ///
    /// # Errors
    /// What the handler failed with. A run that is over, or ends or restarts without an answer
    /// ([`Code::NO_ANSWER`]); one that is stuck, with the verbs that help: asked again with the same key it is the same
    /// request. Not found; a bad name; a question over its limit or one that does not come back from its own JSON; an
    /// answer that does not decode as `A`; the store's.
    ///
    /// # What survives a crash
    /// A request that reached the run, and its answer.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Request, Result, Workflow, store::Memory};
    /// const LENGTH: Request<String, usize> = Request::new("length");
    /// # async fn review(ctx: Ctx, doc: String) -> Result<()> {
    /// #     let length = async |word: String| match word.is_empty() {
    /// #         true => Err("an empty word".into()),
    /// #         false => Ok(word.len() + doc.len()),
    /// #     };
    /// #     ctx.serving(LENGTH, length, ctx.signal::<()>("end")).await
    /// # }
    /// # const REVIEW: Workflow<String, ()> = Workflow::new("review");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(REVIEW, review).start().await?;
    /// # let run = engine.start(REVIEW, "doc-7", "text".to_string()).await?;
    /// assert_eq!(engine.request("doc-7", LENGTH, "word".to_string()).await?, 8);
    /// let error = engine.request("doc-7", LENGTH, String::new()).await.expect_err("the handler refuses it");
    /// assert_eq!(error.to_string(), "an empty word");
    /// # engine.signal("doc-7", "end", ()).await?;
    /// # run.result().await?;
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn request<Q: Data, A: Data>(
        &self,
        id: impl Into<String>,
        name: impl Into<Request<Q, A>>,
        question: Q,
    ) -> SendRequest<A> {
        let (to, name) = (id.into(), name.into().name());
        let made = self.new_request(&to, name, &question).map(|asked| (name.into(), asked));
        SendRequest {
            client: self.clone(),
            to: to.into(),
            made: Some(made),
            asking: None,
            answer: PhantomData,
        }
    }

    fn new_request<Q: Data>(&self, to: &str, name: &str, question: &Q) -> Result<Asked, EngineError> {
        check_run_id(to)?;
        check_name("request", name)?;
        let question = json_of(&format!("request `{name}`"), question, self.payload_bytes_max())?;
        Ok(Asked { id: Digest(self.entropy.draw()), question, refused: None })
    }

    async fn ask<A: Data>(&self, to: &Arc<str>, name: &str, asked: &Asked) -> Result<A, EngineError> {
        let id = LetterId(asked.id.0);
        let letter = crate::store::Letter { id, ..self.letter(LetterKind::Request, name, encode(asked)) };
        let post = Post { to: to.clone().into(), letter, only: StatusSet::OPEN, revive: false };
        match self.send(post).await? {
            Posted::Added | Posted::Known => {}
            Posted::Refused(status) => {
                let message = format!("`request` is not possible: run `{to}` is {status}");
                return Err(EngineError::new(ErrorKind::NotAllowed, Code::NOT_ALLOWED, message));
            }
            Posted::NoSuchRun | Posted::Settled | Posted::Expired => return Err(not_found(to)),
        }
        let row = self.row(to).await?;
        let reply = self.reply(&row, id).await?;
        match reply {
            Reply::Failure(failure) => Err(EngineError::from_failure(failure)),
            Reply::Value(value) => serde_json::from_str(value.get()).map_err(|why| {
                let message = format!("the answer to request `{name}` does not decode as asked for: {why}");
                EngineError::new(ErrorKind::Decode, Code::UNDECODABLE, message)
            }),
        }
    }

    /// The answer to a request that has reached its run.
    async fn reply(&self, asked: &RunRow, id: LetterId) -> Result<Reply, EngineError> {
        let (bell, run, to) = (self.store.bell(), asked.run, &asked.id);
        loop {
            // Listen, then look, then wait: nothing rings unheard in between.
            let (mut reading, mut listener) = (bell.read(run), bell.listen(run));
            // The row before the answer: what is over has given all its answers.
            let row = self.store.run(to.clone()).await?;
            // Another run may have taken its place; the next generation of the same one has its inbox.
            let row = row.filter(|row| row.run == run && row.created_at == asked.created_at);
            if let Some(body) = self.store.reply(run, id).await? {
                let damaged = |why| {
                    EngineError::new(
                        ErrorKind::Store,
                        Code::DAMAGED,
                        format!("the answer cannot be read: {why}"),
                    )
                };
                return decode(&body).map_err(damaged);
            }
            match row {
                Some(row) if row.status == Status::Stuck => {
                    let stuck = self.store.stuck(run).await?;
                    if let Some(stuck) = stuck {
                        return Err(EngineError::stuck(to, &stuck));
                    }
                }
                Some(row) if !row.status.is_over() => {
                    tokio::select! {
                        () = reading.said() => {}
                        _ = listener.next() => {}
                    }
                }
                _ => return Err(no_answer(to)),
            }
        }
    }
}

fn no_answer(id: &str) -> EngineError {
    let message = format!("run `{id}` has ended or begun anew without answering");
    EngineError::new(ErrorKind::NotAllowed, Code::NO_ANSWER, message)
}
