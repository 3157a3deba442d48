//! What a start can be told besides the workflow, the id and the input; and what becomes of a used id.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Client, Verb,
    act::refused,
    start::{difference, in_use},
};
use crate::{
    AttributeValue, Op, Signal,
    attribute::check_attribute,
    body::Data,
    error::EngineError,
    failpoint::{Failpoint, pass},
    journal::{Entry, Start as First, decode, encode},
    run::Run,
    status::{Status, StatusSet},
    store::{NewRun, Post, RunRow, Started},
};

/// So often a start cancels a run that has its id, before it says that others want the id too.
const CANCELS_MAX: usize = 10;

/// What a start does with an id whose run is over. The new run takes its place: the old journal goes to the archive, and
/// what the old run had of attributes, published values and letters is gone. Its streams go on: the number of an item is
/// good for ever, and a reader who goes on behind the last one that he has read misses nothing of the new run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reuse {
    /// The same start is the same run and has its outcome; another start is a conflict.
    #[default]
    Same,
    /// A conflict, also for the same start.
    Reject,
    /// A new run in the place of one that failed or was cancelled; else as [`Reuse::Same`].
    AfterFailure,
    /// A new run in the place of any.
    Always,
}

/// What a start does with an id whose run is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOpen {
    /// The same start is the same run; another start is a conflict.
    #[default]
    Same,
    /// A conflict, also for the same start.
    Fail,
    /// The handle of the open run, whatever its input was. Of another workflow: a conflict.
    UseExisting,
    /// Cancels it, waits for its end, and takes its place. A start that is dropped in between may have cancelled it only.
    CancelExisting,
}

/// The start of a run: set its options, then await it; that gives the run's handle once the start is durable.
///
/// # Cancel safety
/// Dropped before its first poll nothing is started. Dropped later the run may have been started; starting it again is
/// the same run.
#[must_use = "a run is not started until this is awaited"]
pub struct Start<O> {
    client: Client,
    run: Result<NewRun, EngineError>,
    reuse: Reuse,
    on_open: OnOpen,
    starting: Option<Op<'static, Result<Run<O>, EngineError>>>,
    ends: PhantomData<fn() -> O>,
}

impl<O> Start<O> {
    pub(super) fn new(client: Client, run: Result<NewRun, EngineError>) -> Self {
        let (reuse, on_open) = (Reuse::default(), OnOpen::default());
        Start { client, run, reuse, on_open, starting: None, ends: PhantomData }
    }

    /// The run begins so long from now; until then it is pending, and what reaches it is kept.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Status, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> { Ok(format!("hello {name}")) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).delay(days(1)).await?;
    /// assert_eq!(run.status().await?, Status::Pending);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn delay(self, wait: Duration) -> Self {
        self.with(|run| {
            run.due = run.first.at.after(wait);
            Ok(())
        })
    }

    /// The run ends within so long of its start, restarts and pauses included: then its running steps get their grace, what
    /// is registered is undone as by [`Client::cancel`], and it fails with [`Code::TIMEOUT`](crate::Code). A run that is
    /// stuck waits for a person all the same.
    ///
    /// # What survives a crash
    /// The deadline, and that it has passed. A clock that is wrong makes it early or late by its error.
    ///
    /// ```
    /// # use everstep_core::{Code, Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # use std::time::Duration;
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.sleep(days(1)).await;
    ///     Ok(format!("hello {name}"))
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).deadline(Duration::from_millis(20)).await?;
    /// assert!(run.result().await.is_err_and(|e| e.code() == Code::TIMEOUT));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn deadline(self, within: Duration) -> Self {
        self.with(|run| {
            let mut start: First = decode(&run.first.body).expect("made just now");
            start.deadline = Some(run.first.at.after(within).0);
            run.first.body = encode(&start);
            Ok(())
        })
    }

    /// Sends a signal with the start: in the same transaction if the run is new; to the open run if this is the same start
    /// as before, or [`OnOpen::UseExisting`].
    ///
    /// # Errors
    /// Those of [`Client::signal`], told by the start.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, OnOpen, Result, Signal, Workflow, store::Memory};
    /// const ITEM: Signal<String> = Signal::new("item");
    /// # const CART: Workflow<(), String> = Workflow::new("cart");
    /// # async fn cart(ctx: Ctx, _: ()) -> Result<String> {
    /// #     Ok(ctx.signal(ITEM).await? + " and " + &ctx.signal(ITEM).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(CART, cart).start().await?;
    /// for item in ["a desk", "a chair"] {
    ///     engine.start(CART, "ada", ()).with_signal(ITEM, item.to_string()).await?;
    /// }
    /// assert_eq!(engine.get(CART, "ada").await?.result().await?, "a desk and a chair");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn with_signal<T: Data>(self, name: impl Into<Signal<T>>, value: T) -> Self {
        let letter = self.client.signal_letter(name.into(), &value);
        self.with(|run| {
            run.letters.push(letter?);
            Ok(())
        })
    }

    /// Gives a new run an attribute from the beginning, by which it is found.
    ///
    /// # Errors
    /// A bad name or value, told by the start.
    pub fn attribute(self, name: &str, value: impl Into<AttributeValue>) -> Self {
        let value = value.into();
        self.with(|run| {
            check_attribute(name, &value)?;
            run.attributes.push((name.into(), value));
            Ok(())
        })
    }

    /// What becomes of an id whose run is over.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Reuse, Workflow, store::Memory};
    /// # const COUNT: Workflow<u64, u64> = Workflow::new("count");
    /// # async fn count(ctx: Ctx, n: u64) -> Result<u64> { Ok(n) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(COUNT, count).start().await?;
    /// engine.run(COUNT, "nightly", 1).await?;
    /// assert!(engine.start(COUNT, "nightly", 2).await.is_err());
    /// let again = engine.start(COUNT, "nightly", 2).reuse(Reuse::Always).await?;
    /// assert_eq!(again.result().await?, 2);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        let statuses = match reuse {
            Reuse::Same | Reuse::Reject => StatusSet::default(),
            Reuse::AfterFailure => StatusSet::of(&[Status::Failed, Status::Cancelled]),
            Reuse::Always => over(),
        };
        self.with(|run| {
            run.reuse = statuses;
            Ok(())
        })
    }

    /// What becomes of an id whose run is open.
    pub fn on_open(mut self, on_open: OnOpen) -> Self {
        self.on_open = on_open;
        self
    }

    fn with(mut self, set: impl FnOnce(&mut NewRun) -> Result<(), EngineError>) -> Self {
        if let Ok(run) = &mut self.run
            && let Err(error) = set(run)
        {
            self.run = Err(error);
        }
        self
    }
}

impl<O: 'static> Future for Start<O> {
    type Output = Result<Run<O>, EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let starting = this.starting.get_or_insert_with(|| {
            let (client, run) = (this.client.clone(), this.run.clone());
            let rule = (this.reuse, this.on_open);
            Op::new(async move { client.start_by(run?, rule).await })
        });
        Pin::new(starting).poll(cx)
    }
}

impl<O> std::fmt::Debug for Start<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start")
    }
}

impl Client {
    async fn start_by<O>(&self, mut run: NewRun, rule: (Reuse, OnOpen)) -> Result<Run<O>, EngineError> {
        for _ in 0..CANCELS_MAX {
            let (started, adoption) = self.submit(vec![run.clone()]).await?;
            pass(Failpoint::StartDurable);
            let (row, first) = match started.into_iter().next().expect("one answer for one start") {
                Started::New(number) => return Ok(self.new_handle(number, run.id, adoption.as_deref())),
                Started::Known(row, first) => (row, first),
            };
            match decide(rule, &run, &row, &first) {
                Decision::This => return self.join(run, *row).await,
                Decision::Conflict(why) => return Err(in_use(&row.id, &why)),
                Decision::CancelFirst => {
                    self.cancel(&row.id, "another start takes its place").await.or_else(over_meanwhile)?;
                    Run::<()>::new(self.store.clone(), row.run, row.id).over().await?;
                    run.reuse = over();
                }
            }
        }
        Err(in_use(&run.id, "others start runs under it again and again"))
    }

    /// The start found its run: what was to come with the start is sent to it.
    async fn join<O>(&self, run: NewRun, row: RunRow) -> Result<Run<O>, EngineError> {
        for letter in run.letters {
            if row.status.is_over() {
                return Err(refused(Verb::Signal, &row.id, row.status));
            }
            let post = Post { to: row.id.clone().into(), letter, only: StatusSet::OPEN, revive: false };
            let posted = self.send(post.clone()).await?;
            self.accept_signal(&post, posted)?;
        }
        Ok(Run::new(self.store.clone(), row.run, row.id))
    }
}

fn over() -> StatusSet {
    StatusSet::of(&[Status::Completed, Status::Failed, Status::Cancelled])
}

/// A run that has ended before it was cancelled is as good as cancelled.
fn over_meanwhile(error: EngineError) -> Result<(), EngineError> {
    match error.code() == crate::Code::NOT_ALLOWED {
        true => Ok(()),
        false => Err(error),
    }
}

/// What a used id means for a start.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    This,
    Conflict(String),
    CancelFirst,
}

fn decide((reuse, on_open): (Reuse, OnOpen), run: &NewRun, row: &RunRow, first: &Entry) -> Decision {
    let same = || match difference(run, row, first) {
        None => Decision::This,
        Some(difference) => Decision::Conflict(difference),
    };
    let used = || Decision::Conflict(format!("its run is {}", row.status));
    match (row.status.is_over(), reuse, on_open) {
        (true, Reuse::Reject, _) | (false, _, OnOpen::Fail) => used(),
        (true, Reuse::Same | Reuse::AfterFailure | Reuse::Always, _) | (false, _, OnOpen::Same) => same(),
        (false, _, OnOpen::CancelExisting) => Decision::CancelFirst,
        (false, _, OnOpen::UseExisting) if run.workflow == row.workflow => Decision::This,
        (false, _, OnOpen::UseExisting) => same(),
    }
}
