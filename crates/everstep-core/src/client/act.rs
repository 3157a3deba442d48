//! Acts: who does what to a run, and why. Each is recorded in the transaction that does it.

use std::sync::{Arc, LazyLock};

use super::{Allowed, Client, Verb, not_found};
use crate::{
    error::{Code, EngineError, ErrorKind},
    failpoint::{Failpoint, fails, pass},
    name::check_run_id,
    status::{Status, StatusSet},
    store::{Act, Acted, Does, Letter, Post, StoreError},
};

/// Acts of one run that [`Client::acts`] tells at most: the last ones.
pub const ACTS_MAX: usize = 1_000;

impl Client {
    /// The same client for somebody else: what it does to runs is recorded under this name. Without it that is the user and
    /// the host of this process.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> { Ok(format!("hello {name}")) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.start(GREET, "ada", "Ada".to_string()).delay(days(1)).await?;
    /// engine.acting_as("grace").pause("ada", "she is on holiday").await?;
    /// let act = &engine.acts("ada").await?[0];
    /// assert_eq!((&*act.verb, &*act.who, &*act.why), ("pause", "grace", "she is on holiday"));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn acting_as(&self, who: &str) -> Client {
        Client { who: who.into(), ..self.clone() }
    }

    /// The same client with a reason: it is recorded with what it does to runs, where the verb is not given another one.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.sleep(days(1)).await;
    /// #     Ok(format!("hello {name}"))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// engine.because("she is here already").skip_wait("ada", None).await?;
    /// assert_eq!(run.result().await?, "hello Ada");
    /// assert_eq!(&*engine.acts("ada").await?[0].why, "she is here already");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn because(&self, why: &str) -> Client {
        Client { why: why.into(), ..self.clone() }
    }

    /// What people did to a run, in the order in which it was done: the verb, who, when, why. At most the last
    /// [`ACTS_MAX`]. Signals are no acts, and a start is in the journal.
    ///
    /// # Errors
    /// Not found; the store's.
    ///
    /// # What survives a crash
    /// An act is there if what it did is there.
    ///
    /// The example of [`Client::acting_as`] shows it.
    pub async fn acts(&self, id: &str) -> Result<Vec<Act>, EngineError> {
        let row = self.row(id).await?;
        Ok(self.store.acts(row.run, ACTS_MAX).await?)
    }

    /// The record of what is done now.
    pub(super) fn act(&self, verb: Verb, why: &str, detail: &str) -> Result<Act, EngineError> {
        let why = if why.is_empty() { self.why.clone() } else { why.into() };
        for (what, words) in [("a reason", &why), ("a name of who acts", &self.who)] {
            self.check_size(what, words.len())?;
        }
        let (verb, who) = (verb.word().into(), self.who.clone());
        Ok(Act { verb, who, why, at: self.clock.now(), detail: detail.into() })
    }

    /// A letter of a verb, for the statuses in which the verb goes through the inbox or does something itself.
    pub(super) fn post_of(
        &self,
        id: &str,
        letter: Letter,
        verb: Verb,
        revive: bool,
    ) -> Result<Post, EngineError> {
        check_run_id(id)?;
        Ok(Post { to: id.into(), letter, only: verb.taken_in(), revive })
    }

    /// Does it, and tells what became of it.
    pub(super) async fn make(&self, does: Does, act: Act) -> Result<Acted, EngineError> {
        if fails(Failpoint::LetterSent) {
            return Err(StoreError::Full("a failpoint failed".into()).into());
        }
        let acted = self.store.act(does, act).await?;
        pass(Failpoint::LetterDurable);
        Ok(acted)
    }

    /// Does it; what is not done is an error.
    pub(super) async fn done(&self, verb: Verb, id: &str, does: Does, act: Act) -> Result<(), EngineError> {
        let acted = self.make(does, act).await?;
        self.heard(verb, id, acted)
    }

    /// What whoever acts hears.
    pub(super) fn heard(&self, verb: Verb, id: &str, acted: Acted) -> Result<(), EngineError> {
        match acted {
            Acted::Done | Acted::Known => Ok(()),
            Acted::Refused(status) if verb.on(status) == Allowed::Already => Ok(()),
            Acted::Refused(status) => Err(refused(verb, id, status)),
            Acted::NoSuchRun => Err(not_found(id)),
            Acted::Moved => {
                let message = format!("run `{id}` has moved on meanwhile: look at it again");
                Err(EngineError::new(ErrorKind::NotAllowed, Code::NOT_ALLOWED, message))
            }
        }
    }
}

/// The verb does not fit the status.
pub(super) fn refused(verb: Verb, id: &str, status: Status) -> EngineError {
    let advice = match verb.on(status) {
        Allowed::Refused(advice) => format!(". {advice}"),
        _ => String::new(),
    };
    not_possible(verb, &format!("run `{id}` is {status}{advice}"))
}

/// The verb cannot be done, for this reason.
pub(super) fn not_possible(verb: Verb, why: &str) -> EngineError {
    let message = format!("`{}` is not possible: {why}", verb.word());
    EngineError::new(ErrorKind::NotAllowed, Code::NOT_ALLOWED, message)
}

impl Verb {
    /// The statuses in which it does something.
    pub(super) fn taken_in(self) -> StatusSet {
        let taken = |status: &Status| matches!(self.on(*status), Allowed::Directly | Allowed::ThroughInbox);
        StatusSet::of(&Status::ALL.into_iter().filter(taken).collect::<Vec<_>>())
    }
}

/// Who acts if nobody says: the user of this process, and where it is.
pub(super) fn this_process() -> Arc<str> {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("this host").to_string();
        let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME"));
        let user = user.unwrap_or_else(|_| format!("process {}", std::process::id()));
        let end = user.char_indices().nth(200).map_or(user.len(), |(at, _)| at);
        format!("{}@{host}", &user[..end]).into()
    });
    NAME.clone()
}
