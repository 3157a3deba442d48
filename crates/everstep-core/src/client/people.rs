//! What people do to a run: cancel it, answer for it, let it go on.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{
    Client, Verb,
    act::{not_possible, refused},
    back::{left, unreadable},
};
use crate::{
    error::{Code, EngineError, ErrorKind},
    failpoint::{Failpoint, fails, pass},
    journal::{Answer, Entry, Failure, Kind, Payload, Reply, decode, encode},
    status::{Status, StatusSet},
    store::{Cut, Does, Letter, LetterId, LetterKind, Loaded, Post, Posted, RunRow, StoreError, taken_by},
    stuck::StuckReason,
};

impl Client {
    /// Asks to cancel a run: nothing more is delivered to its function, its running steps may end within
    /// [`Settings::cancel_grace`](crate::Settings), what is registered is undone ([`Step::undo`](crate::Step::undo)), and
    /// it ends `cancelled`. Cancelling a cancelled run is no error, and one that fails or is cancelled already hears
    /// nothing of it.
    ///
    /// A stuck run is replayed to where it stood; one that cannot be (it has diverged, a record does not decode) is
    /// cancelled without undoing anything. A paused one goes on for it.
    ///
    /// # Errors
    /// Not found; over already; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged cancel.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.sleep(days(1)).await;
    ///     Ok(format!("hello {name}"))
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// # tokio::task::yield_now().await;
    /// engine.cancel("ada", "she has greeted us first").await?;
    /// assert!(run.result().await.is_err_and(|e| e.to_string().contains("greeted us first")));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn cancel(&self, id: &str, why: &str) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Cancel, "cancel", Payload::json(why.as_bytes()));
        let post = Post { only: StatusSet::OPEN, ..self.post_of(id, letter, Verb::Cancel, true)? };
        self.done(Verb::Cancel, id, Does::Post(post), self.act(Verb::Cancel, why, "")?).await
    }

    /// Ends a run at once, whatever it does or waits for: its function and its running bodies are dropped where they stand,
    /// nothing is undone, and it ends `cancelled`. For runs that cannot be cancelled: code that is gone, an undo that
    /// cannot succeed. What its steps have done stays. Killing a cancelled run is no error.
    ///
    /// # Errors
    /// Not found; over already; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged kill. A run that a worker has is killed by that worker, or by the next.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.sleep(days(1)).await;
    ///     Ok(format!("hello {name}"))
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// engine.kill("ada", "Grace: wrong Ada").await?;
    /// assert!(run.result().await.is_err_and(|e| e.to_string().contains("killed: Grace: wrong Ada")));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn kill(&self, id: &str, why: &str) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Kill, "kill", Payload::json(why.as_bytes()));
        let post = Post { only: StatusSet::OPEN, ..self.post_of(id, letter, Verb::Kill, true)? };
        self.done(Verb::Kill, id, Does::Post(post), self.act(Verb::Kill, why, "")?).await
    }

    /// Answers for the step that a stuck run waits for (in doubt, or its retries spent): the run goes on with the answer.
    ///
    /// # Errors
    /// Not found; a run that does not wait for an answer; a value that is no JSON; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, journal::Answer, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.step("greet", async || -> Result<String> { Err(format!("{name} is not in").into()) }).then_stuck().await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err()); // stuck: somebody has to look
    /// engine.answer("ada", Answer::Done { value: r#""hello from a person""#.to_string() }).await?;
    /// assert_eq!(run.result().await?, "hello from a person");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn answer(&self, id: &str, answer: Answer) -> Result<(), EngineError> {
        self.check_size(
            "an answer",
            match &answer {
                Answer::Done { value: text } | Answer::Fail { message: text } => text.len(),
                Answer::Retry => 0,
            },
        )?;
        if let Answer::Done { value } = &answer
            && let Err(why) = serde_json::from_str::<&RawValue>(value)
        {
            let message = format!("the answer's value is no JSON: {why}");
            return Err(EngineError::new(ErrorKind::Misuse, Code::NOT_ALLOWED, message));
        }
        let key = self.asking_step(id).await?;
        self.post_answer(Verb::Answer, id, &key, &answer).await
    }

    /// Lets a failed or stuck run go on from where it stood, under the current code; one whose undo failed goes on undoing.
    ///
    /// A failed run goes on before the failure that ended it, whose step is made again with its retries anew; what is
    /// taken back goes to the archive. If a promise that was rejected ended it, that promise may be settled anew, by the
    /// token that was handed out. If a child's failure ended it, retry that child first: it ends with the child's
    /// outcome. What was taken from outside behind that place is kept, and taken again. A stuck run is loaded again; one that waits for an answer about a step in doubt
    /// wants [`Client::answer`].
    ///
    /// # Errors
    /// Not found; neither failed nor stuck; in doubt; a failed run of which steps were undone, or whose deadline has
    /// passed: the message says where to [rewind](Client::rewind) or [fork](Client::fork) it; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # static SHE_IS_IN: AtomicBool = AtomicBool::new(false);
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.step("greet", async || match SHE_IS_IN.load(SeqCst) {
    ///         true => Ok(format!("hello {name}")),
    ///         false => Err("nobody is in".into()),
    ///     })
    ///     .await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err());
    /// SHE_IS_IN.store(true, SeqCst);
    /// engine.retry("ada").await?;
    /// assert_eq!(run.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn retry(&self, id: &str) -> Result<(), EngineError> {
        let row = self.row(id).await?;
        match row.status {
            Status::Failed => self.retry_failed(&row).await,
            Status::Stuck => self.retry_stuck(&row).await,
            status => Err(refused(Verb::Retry, id, status)),
        }
    }

    async fn retry_failed(&self, row: &RunRow) -> Result<(), EngineError> {
        let loaded = self.store.load(row.run).await?;
        let damaged = || {
            EngineError::new(
                ErrorKind::Store,
                Code::DAMAGED,
                format!("the journal of run `{}` has no failure at its end", row.id),
            )
        };
        let last = loaded
            .entries
            .last()
            .filter(|last| last.known_kind() == Some(Kind::Failed))
            .ok_or_else(damaged)?;
        may_retry(&row.id, &loaded.entries)?;
        let failure: Failure = decode(&last.body).map_err(|_| damaged())?;
        // An entry that was edited since is no failure any more.
        let cause = failure.cause.and_then(|seq| loaded.entries.get(usize::try_from(seq).ok()?));
        let cause = cause.filter(|entry| entry.known_kind() != Some(Kind::StepDone));
        let fails = loaded.entries.iter().find(|entry| entry.known_kind() == Some(Kind::Failing));
        let from = cause.map_or(fails.unwrap_or(last).seq, |entry| place_of(entry, &loaded.entries));
        let left = left(&loaded.entries, from, false).map_err(|why| unreadable(&row.id, &why))?;
        let kept = self.taken_again(&loaded, |entry| entry.seq >= from && !is_made_again(entry, cause));
        let (retried, reopens) = self.made_again(cause);
        let reseed = left.map(|left| self.reseed(&left));
        // It failed before it could be set aside. Whoever retries it lets it go on.
        let was_to_pause = loaded.inbox.iter().any(|it| it.letter.kind == LetterKind::Pause as u16);
        let resume = was_to_pause.then(|| self.resume_letter());
        let cut = Cut {
            run: row.run,
            only: StatusSet::of(&[Status::Failed]),
            inbox_n: row.inbox_n,
            last: Some(last.seq),
            from,
            letters: retried.into_iter().chain(kept).chain(reseed).chain(resume).collect(),
            reopens,
            why: "retry".to_string(),
            at: self.clock.now(),
        };
        self.cut(row, cut).await
    }

    /// What these entries took from outside, as letters.
    pub(super) fn taken_again(&self, loaded: &Loaded, of: impl Fn(&Entry) -> bool) -> Vec<Letter> {
        // A child that has ended again since is heard of already.
        let is_new = |kind: LetterKind, name: &str| {
            let is_of = |letter: &Letter| letter.kind == kind as u16 && *letter.name == *name;
            kind != LetterKind::ChildEnded || !loaded.inbox.iter().any(|received| is_of(&received.letter))
        };
        let gone = loaded.entries.iter().filter(|entry| of(entry));
        let kept = gone.filter_map(taken_by).filter(|(kind, name, _)| is_new(*kind, name));
        kept.map(|(kind, name, body)| self.letter(kind, &name, body)).collect()
    }

    /// What is to be done anew of the entry whose failure ended a run: its step is made again, its promise may be kept
    /// again.
    fn made_again(&self, cause: Option<&Entry>) -> (Option<Letter>, Vec<Arc<str>>) {
        let Some((entry, key)) = cause.and_then(|entry| Some((entry, entry.key.as_ref()?))) else {
            return (None, Vec::new());
        };
        match entry.known_kind() {
            Some(Kind::PromiseSettled) => (None, vec![key.clone()]),
            // It has its outcome, until a person retries it.
            Some(Kind::ChildEnded) => (None, Vec::new()),
            _ => (Some(self.letter(LetterKind::Answer, key, encode(&Answer::Retry))), Vec::new()),
        }
    }

    async fn retry_stuck(&self, row: &RunRow) -> Result<(), EngineError> {
        let stuck = self.store.stuck(row.run).await?;
        match stuck.map(|stuck| (stuck.reason, stuck.key)) {
            Some((StuckReason::InDoubt, _)) => Err(EngineError::new(
                ErrorKind::NotAllowed,
                Code::NOT_ALLOWED,
                format!(
                    "run `{}` waits for an answer about a step in doubt: use `answer` with done, retry or fail",
                    row.id
                ),
            )),
            Some((StuckReason::RetriesSpent | StuckReason::UndoFailed, Some(key))) => {
                self.post_answer(Verb::Retry, &row.id, &key, &Answer::Retry).await
            }
            _ => {
                let cut = Cut {
                    run: row.run,
                    only: StatusSet::of(&[Status::Stuck]),
                    inbox_n: row.inbox_n,
                    last: None,
                    from: u64::MAX,
                    letters: Vec::new(),
                    reopens: Vec::new(),
                    why: "retry".to_string(),
                    at: self.clock.now(),
                };
                self.cut(row, cut).await
            }
        }
    }

    async fn cut(&self, row: &RunRow, cut: Cut) -> Result<(), EngineError> {
        let act = self.act(Verb::Retry, "", "")?;
        self.done(Verb::Retry, &row.id, Does::Cut(cut), act).await
    }

    /// The step that a stuck run wants an answer about.
    async fn asking_step(&self, id: &str) -> Result<Arc<str>, EngineError> {
        let row = self.row(id).await?;
        if row.status != Status::Stuck {
            return Err(refused(Verb::Answer, id, row.status));
        }
        match self.store.stuck(row.run).await? {
            Some(stuck)
                if matches!(
                    stuck.reason,
                    StuckReason::InDoubt | StuckReason::RetriesSpent | StuckReason::UndoFailed
                ) =>
            {
                stuck.key.ok_or_else(|| refused(Verb::Answer, id, row.status))
            }
            Some(stuck) => Err(EngineError::new(
                ErrorKind::NotAllowed,
                Code::NOT_ALLOWED,
                format!("run `{id}` is stuck, but not waiting for an answer: {stuck}"),
            )),
            None => Err(refused(Verb::Answer, id, row.status)),
        }
    }

    async fn post_answer(&self, verb: Verb, id: &str, key: &str, answer: &Answer) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Answer, key, encode(answer));
        let post = Post { only: StatusSet::of(&[Status::Stuck]), ..self.post_of(id, letter, verb, true)? };
        let act = self.act(verb, "", key)?;
        self.done(verb, id, Does::Post(post), act).await
    }

    pub(super) async fn send(&self, post: Post) -> Result<Posted, EngineError> {
        if fails(Failpoint::LetterSent) {
            return Err(StoreError::Full("a failpoint failed".into()).into());
        }
        let posted = self.store.post(post).await?;
        pass(Failpoint::LetterDurable);
        Ok(posted)
    }

    pub(super) fn letter(&self, kind: LetterKind, name: &str, body: Payload) -> Letter {
        let id = LetterId(self.entropy.draw());
        Letter { id, kind: kind as u16, name: name.into(), body, at: self.clock.now() }
    }
}

/// Refuses what a retry would not help.
fn may_retry(id: &str, entries: &[Entry]) -> Result<(), EngineError> {
    // What was undone is not there any more, and a step that is made again keeps its idempotency key: whoever is called
    // with it would answer with what was taken back.
    if let Some(undone) = first_undone(entries) {
        let why = format!(
            "step `{undone}` of run `{id}` was undone, and so may be what came after it. `rewind` it to `{undone}` or before it, which makes those steps again under other idempotency keys, or `fork` it from there"
        );
        return Err(not_possible(Verb::Retry, &why));
    }
    if entries.iter().any(|e| e.known_kind() == Some(Kind::DeadlinePassed)) {
        let why = format!(
            "the deadline of run `{id}` has passed, and would end it again. `fork` it: a fork has no deadline"
        );
        return Err(not_possible(Verb::Retry, &why));
    }
    Ok(())
}

/// From where a run is made again that this entry has ended: a child whose id was in use is started again.
fn place_of(cause: &Entry, entries: &[Entry]) -> u64 {
    let starts = |entry: &&Entry| entry.known_kind() == Some(Kind::ChildStarted) && entry.key == cause.key;
    match is_conflict(cause) {
        true => entries.iter().rfind(starts).map_or(cause.seq, |start| start.seq),
        false => cause.seq,
    }
}

/// The step that was made first of those whose undo has begun.
fn first_undone(entries: &[Entry]) -> Option<&str> {
    let begun = |key: &str| {
        let is = |e: &Entry| e.known_kind() == Some(Kind::UndoBegun) && e.key.as_deref() == Some(key);
        entries.iter().any(is)
    };
    let made = entries.iter().filter(|e| e.known_kind() != Some(Kind::UndoBegun));
    made.filter_map(|e| e.key.as_deref()).find(|key| begun(key))
}

/// Whether what an entry has taken is to come anew.
fn is_made_again(entry: &Entry, cause: Option<&Entry>) -> bool {
    let ended_it = cause.is_some_and(|cause| cause.seq == entry.seq);
    ended_it && (entry.known_kind() != Some(Kind::ChildEnded) || is_conflict(entry))
}

fn is_conflict(entry: &Entry) -> bool {
    entry.known_kind() == Some(Kind::ChildEnded)
        && matches!(decode(&entry.body), Ok(Reply::Failure(failure)) if failure.kind == ErrorKind::Conflict)
}
