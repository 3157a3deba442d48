//! Setting a run aside, letting it go on, and waiting no longer.

use super::{Client, Verb};
use crate::{
    error::EngineError,
    journal::Payload,
    store::{Does, Letter, LetterKind},
};

impl Client {
    /// Sets a run aside until somebody resumes it. No worker takes it, and what reaches it is kept. Step bodies that run at
    /// the moment may end, and are recorded; nothing new begins. Pausing a paused run is no error.
    ///
    /// A run that a worker has is [`Status::Running`](crate::Status) until that worker has heard of it and the last body has ended.
    ///
    /// # Errors
    /// Not found; over already; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged pause.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Status, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).delay(days(1)).await?;
    /// engine.pause("ada", "she is on holiday").await?;
    /// assert_eq!(run.status().await?, Status::Paused);
    /// engine.resume("ada").await?; // and does not wait for tomorrow
    /// assert_eq!(run.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn pause(&self, id: &str, why: &str) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Pause, "pause", Payload::json(why.as_bytes()));
        let post = self.post_of(id, letter, Verb::Pause, false)?;
        self.done(Verb::Pause, id, Does::Pause(post), self.act(Verb::Pause, why, "")?).await
    }

    /// Lets a paused run go on at once, whatever it waited for. What became due meanwhile fires then, and what begins then
    /// counts from then. It takes back a pause that a worker has not come to yet. Resuming a run that is not set aside is no
    /// error.
    ///
    /// # Errors
    /// Not found; over already; stuck (it wants [`Client::retry`]); the store's.
    ///
    /// # What survives a crash
    /// An acknowledged resume.
    ///
    /// The example of [`Client::pause`] shows it.
    pub async fn resume(&self, id: &str) -> Result<(), EngineError> {
        let letter = self.resume_letter();
        let post = self.post_of(id, letter, Verb::Resume, true)?;
        self.done(Verb::Resume, id, Does::Post(post), self.act(Verb::Resume, "", "")?).await
    }

    pub(super) fn resume_letter(&self) -> Letter {
        self.letter(LetterKind::Resume, "resume", Payload::default())
    }
}

impl Client {
    /// Ends a wait of a run now: the timer of this key fires, or the backoff of the step of this key is over. Without a key
    /// it is the wait that would end first. If the run has no such wait when it hears of it, nothing happens.
    ///
    /// # Errors
    /// Not found; neither running nor waiting; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged wish, until the run has heard of it; then a timer's firing is in the journal, and a backoff may begin
    /// again if the worker dies inside the attempt.
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
    /// engine.skip_wait("ada", None).await?;
    /// assert_eq!(run.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn skip_wait(&self, id: &str, key: Option<&str>) -> Result<(), EngineError> {
        let key = key.unwrap_or_default();
        self.check_size("a key", key.len())?;
        let letter = self.letter(LetterKind::Skip, key, Payload::default());
        let post = self.post_of(id, letter, Verb::SkipWait, false)?;
        self.done(Verb::SkipWait, id, Does::Post(post), self.act(Verb::SkipWait, "", key)?).await
    }
}
