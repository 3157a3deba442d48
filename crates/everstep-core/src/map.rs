//! A map: one body for each item of a list, so many at a time, a scope each. `Goal` says when it has ended, and how;
//! `branches` runs them. Takes no entry of its own: what is recorded are the operations in the items.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    panic::Location,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use crate::{
    BoxFuture,
    body::{Outcome, Repeat},
    branches::Branches,
    ctx::{Ctx, OpenScope},
    error::{Code, Error, Result},
    op::Op,
};

impl Ctx {
    /// Runs `body` for each item, at most `limit` at a time, each in a scope of its own: `fetch/1`, `fetch/2`, ... by
    /// the place of the item in the list. The values come in the order of the items.
    ///
    /// All items must succeed; [`Map::each`], [`Map::at_most_failures`] and [`Map::at_least`] ask for something else.
    /// The items are taken at the call; the next one begins when one has ended. Bodies run on the run's own task, so
    /// they may borrow, and they are values that can be made again: they write to nothing outside. A body that returns
    /// `Result<()>` makes a `Vec<()>`, which costs nothing.
    ///
    /// # What survives a crash
    /// What the items' operations recorded: an item that had ended is not done again, one in the middle goes on where
    /// its steps stopped. The list must be the same on replay, so take it from the input or from a step. A higher
    /// `limit` in a new build replays old runs; a lower one may not, because items had begun that would not have.
    ///
    /// # Errors
    /// The first one of an item, and the other items that run are dropped; of several at once that of the first in the
    /// list. [`ErrorKind::Misuse`](crate::ErrorKind) for a limit of 0, and as in [`Ctx::step`]. An empty list is
    /// ready at once.
    ///
    /// # Cancel safety
    /// As [`Map`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn import(ctx: Ctx, rows: Vec<u64>) -> Result<Vec<u64>> {
    ///     let factor = 10;
    ///     ctx.map("row", rows, 8, async |ctx, row| {
    ///         let loaded = ctx.step("load", async || Ok(row * factor)).await?;
    ///         ctx.step("save", async || Ok(loaded + 1)).await
    ///     })
    ///     .await
    /// }
    /// # const W: Workflow<Vec<u64>, Vec<u64>> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, import).start().await?;
    /// assert_eq!(engine.run(W, "run-1", vec![3, 1, 2]).await?, [31, 11, 21]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn map<'a, I, T, F, Fut>(&self, name: &str, items: I, limit: usize, body: F) -> Map<'a, T>
    where
        I: IntoIterator,
        I::Item: Send + 'a,
        F: FnOnce(Ctx, I::Item) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<T>,
        T: Send + 'a,
    {
        let items: Vec<I::Item> = items.into_iter().collect();
        let (count, site) = (items.len(), Location::caller());
        let open = check_limit(name, limit).and_then(|()| self.open_scope("map", name, site));
        let open = open.map(|scope| {
            let ctx = scope.inner();
            let mut items = items.into_iter().zip(1..);
            let next = move || {
                let (item, place) = items.next()?;
                let work = body.again()(ctx.numbered(place), item);
                Some(Box::pin(async move { work.await.into_result() }) as BoxFuture<'a, Result<T>>)
            };
            (scope, Branches::new(limit, Box::new(next)))
        });
        let tally = Tally { items: count, succeeded: 0, failed: 0 };
        Map(Mutex::new(Items { open: Some(open), ends: (0..count).map(|_| None).collect(), tally }))
    }

    /// [`Ctx::map`] for bodies that give nothing: all items must succeed. To allow failures use `map` and its methods.
    ///
    /// # Errors, what survives a crash, cancel safety
    /// Those of [`Ctx::map`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn remind(ctx: Ctx, users: Vec<String>) -> Result<()> {
    ///     ctx.for_each("user", users, 8, async |ctx, user| {
    ///         ctx.step("mail", async || Ok(drop(user))).await
    ///     })
    ///     .await
    /// }
    /// # const W: Workflow<Vec<String>, ()> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, remind).start().await?;
    /// let run = engine.start(W, "run-1", ["ada", "grace"].map(String::from).to_vec()).await?;
    /// run.result().await?;
    /// let keys: Vec<_> = run.journal().await?.into_iter().filter_map(|entry| entry.key).collect();
    /// assert_eq!(keys, ["user/1/mail".into(), "user/2/mail".into()]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn for_each<'a, I, F, Fut>(&self, name: &str, items: I, limit: usize, body: F) -> Op<'a, Result<()>>
    where
        I: IntoIterator,
        I::Item: Send + 'a,
        F: FnOnce(Ctx, I::Item) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<()>,
    {
        let map = self.map(name, items, limit, body);
        Op::new(async move { map.await.map(drop) })
    }
}

fn check_limit(name: &str, limit: usize) -> Result<()> {
    if limit > 0 {
        return Ok(());
    }
    Err(Error::misuse(
        Code::BAD_MAP,
        format!(
            "map `{name}` with a limit of 0 would never begin: say how many items may run at a time, `usize::MAX` for all"
        ),
    ))
}

/// One body for each item of a list, made by [`Ctx::map`]. Awaited as it is, all items must succeed; its methods ask
/// for something else.
///
/// # Cancel safety
/// Does nothing before it is polled. Dropped, or over before all items have ended, it drops the items that run: of
/// their steps holds what holds of any [`Step`](crate::Step) that is dropped. An item that has not begun never does.
#[must_use = "a map does nothing until it is awaited"]
pub struct Map<'a, T>(Mutex<Items<'a, T>>);

impl<'a, T: Send + 'a> Map<'a, T> {
    /// Every item's own result, in the order of the items, whatever fails. A misuse is the result of each.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn halves(ctx: Ctx, numbers: Vec<u64>) -> Result<Vec<Option<u64>>> {
    ///     let halved = ctx.map("halve", numbers, 4, async |ctx, n| {
    ///         ctx.step("halve", async || if n % 2 == 0 { Ok(n / 2) } else { Err(format!("{n} is odd").into()) }).await
    ///     });
    ///     Ok(halved.each().await.into_iter().map(Result::ok).collect())
    /// }
    /// # const W: Workflow<Vec<u64>, Vec<Option<u64>>> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, halves).start().await?;
    /// assert_eq!(engine.run(W, "run-1", vec![2, 3, 8]).await?, [Some(1), None, Some(4)]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn each(self) -> Op<'a, Vec<Result<T>>> {
        let mut items = self.into_items();
        Op::new(async move {
            match poll_fn(|cx| items.poll(cx, Goal::Each)).await {
                Ok(ends) => all(ends),
                Err(misuse) => {
                    let misuse = misuse.to_failure(None);
                    items.ends.iter().map(|_| Err(Error::from_failure(misuse.clone(), None))).collect()
                }
            }
        })
    }

    /// Every item's own result, in the order of the items, as long as at most `failures` of them fail.
    ///
    /// # Errors
    /// That of the item that was one too many: no item begins after it, and those that run are dropped. Misuse as in
    /// [`Ctx::map`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn notify(ctx: Ctx, users: Vec<String>) -> Result<usize> {
    ///     let told = ctx.map("user", users, 4, async |ctx, user| {
    ///         ctx.step("mail", async || if user.contains('@') { Ok(()) } else { Err(format!("{user}?").into()) }).await
    ///     });
    ///     Ok(told.at_most_failures(1).await?.iter().filter(|result| result.is_ok()).count())
    /// }
    /// # const W: Workflow<Vec<String>, usize> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, notify).start().await?;
    /// let users = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    /// assert_eq!(engine.run(W, "run-1", users(&["a@b", "c", "d@e"])).await?, 2);
    /// assert!(engine.run(W, "run-2", users(&["a", "c", "d@e"])).await.is_err());
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn at_most_failures(self, failures: usize) -> Op<'a, Result<Vec<Result<T>>>> {
        let mut items = self.into_items();
        Op::new(async move { poll_fn(|cx| items.poll(cx, Goal::AtMostFailures(failures))).await.map(all) })
    }

    /// The first `successes` values, in the order of the items: ready as soon as so many have succeeded. No item begins
    /// after that, and those that run are dropped.
    ///
    /// To run all items and look afterwards how many succeeded, use [`Map::each`].
    ///
    /// # Errors
    /// That of the item after which so many cannot succeed any more. Misuse as in [`Ctx::map`], and if there are fewer
    /// items.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn replicate(ctx: Ctx, hosts: Vec<String>) -> Result<Vec<String>> {
    ///     let copies = ctx.map("copy", hosts, 3, async |ctx, host| {
    ///         ctx.step("copy", async || if host == "down" { Err("no answer".into()) } else { Ok(host) }).await
    ///     });
    ///     copies.at_least(2).await
    /// }
    /// # const W: Workflow<Vec<String>, Vec<String>> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, replicate).start().await?;
    /// let hosts = ["north", "down", "south"].map(String::from);
    /// assert_eq!(engine.run(W, "run-1", hosts.to_vec()).await?, ["north", "south"]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn at_least(self, successes: usize) -> Op<'a, Result<Vec<T>>> {
        let mut items = self.into_items();
        Op::new(async move {
            let ends = poll_fn(|cx| items.poll(cx, Goal::AtLeast(successes))).await?;
            Ok(ends.into_iter().flatten().flatten().collect())
        })
    }

    fn into_items(self) -> Items<'a, T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a map that goes on to the end of its last item.
fn all<T>(ends: Ends<T>) -> Vec<Result<T>> {
    ends.into_iter().map(|end| end.expect("every item has ended")).collect()
}

impl<T> Future for Map<'_, T> {
    type Output = Result<Vec<T>>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Vec<T>>> {
        let items = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        items.poll(cx, Goal::AtMostFailures(0)).map(|ends| ends?.into_iter().flatten().collect())
    }
}

// The items are boxed: moving a `Map` is always fine, so `&mut map` works in `select!` loops.
impl<T> Unpin for Map<'_, T> {}

impl<T> std::fmt::Debug for Map<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Map")
    }
}

/// How each item ended, as far as it has.
type Ends<T> = Vec<Option<Result<T>>>;

struct Items<'a, T> {
    /// What runs, or why it is refused; `None` once it is over.
    open: Option<Result<(OpenScope, Branches<'a, Result<T>>)>>,
    ends: Ends<T>,
    tally: Tally,
}

impl<T> Items<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>, goal: Goal) -> Poll<Result<Ends<T>>> {
        let (mut scope, mut branches) = self.open.take().expect("a map is not polled after it was ready")?;
        scope.polled();
        let mut last = None;
        let mut standing = goal.judge(self.tally);
        if standing == Standing::Open {
            branches.poll(cx, |item, end| {
                self.tally.count(&end);
                self.ends[item] = Some(end);
                last = Some(item);
                standing = goal.judge(self.tally);
                if standing == Standing::Open { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        }
        match standing {
            Standing::Open => {
                self.open = Some(Ok((scope, branches)));
                Poll::Pending
            }
            Standing::Reached => Poll::Ready(Ok(std::mem::take(&mut self.ends))),
            Standing::Missed => {
                let failed = last.and_then(|item| self.ends[item].take()).and_then(Result::err);
                Poll::Ready(Err(failed.unwrap_or_else(|| too_few(scope.key(), goal, self.tally.items))))
            }
        }
    }
}

/// Missed before any item began.
fn too_few(key: &str, goal: Goal, items: usize) -> Error {
    Error::misuse(
        Code::BAD_MAP,
        format!("map `{key}` has {items} items, and {goal}: ask for no more than there are"),
    )
}

/// What a map is to reach.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// That every item ends.
    Each,
    /// The same, with at most so many failures.
    AtMostFailures(usize),
    /// So many successes.
    AtLeast(usize),
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::Each => f.write_str("each is to end"),
            Goal::AtMostFailures(n) => write!(f, "at most {n} of them may fail"),
            Goal::AtLeast(n) => write!(f, "at least {n} of them are to succeed"),
        }
    }
}

/// How many items there are, and how those that have ended did.
#[derive(Clone, Copy, Debug)]
struct Tally {
    items: usize,
    succeeded: usize,
    failed: usize,
}

impl Tally {
    fn count<T>(&mut self, end: &Result<T>) {
        match end {
            Ok(_) => self.succeeded += 1,
            Err(_) => self.failed += 1,
        }
    }
}

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    Reached,
    /// It cannot be reached any more.
    Missed,
}

impl Goal {
    fn judge(self, tally: Tally) -> Standing {
        let Tally { items, succeeded, failed } = tally;
        match self {
            Goal::AtLeast(n) if succeeded >= n => Standing::Reached,
            Goal::AtLeast(n) if failed > items.saturating_sub(n) || n > items => Standing::Missed,
            Goal::AtMostFailures(n) if failed > n => Standing::Missed,
            _ if succeeded + failed == items => Standing::Reached,
            _ => Standing::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a goal stands for every number of successes and failures of so many items.
    fn standings(goal: Goal, items: usize) -> Vec<String> {
        let row = |failed| {
            let letter = |succeeded| match goal.judge(Tally { items, succeeded, failed }) {
                Standing::Open => '.',
                Standing::Reached => 'R',
                Standing::Missed => 'M',
            };
            (0..=items - failed).map(letter).collect()
        };
        (0..=items).map(row).collect()
    }

    /// A row for each number of failures, a column for each number of successes.
    #[test]
    fn every_goal_is_judged_after_every_end() {
        assert_eq!(standings(Goal::Each, 3), ["...R", "..R", ".R", "R"]);
        assert_eq!(standings(Goal::AtMostFailures(0), 3), ["...R", "MMM", "MM", "M"]);
        assert_eq!(standings(Goal::AtMostFailures(1), 3), ["...R", "..R", "MM", "M"]);
        assert_eq!(standings(Goal::AtMostFailures(3), 3), standings(Goal::Each, 3));
        assert_eq!(standings(Goal::AtMostFailures(usize::MAX), 3), standings(Goal::Each, 3));
        assert_eq!(standings(Goal::AtLeast(0), 3), ["RRRR", "RRR", "RR", "R"], "nothing has to run");
        assert_eq!(standings(Goal::AtLeast(2), 3), ["..RR", "..R", "MM", "M"]);
        assert_eq!(standings(Goal::AtLeast(3), 3), ["...R", "MMM", "MM", "M"]);
        assert_eq!(standings(Goal::AtLeast(4), 3), ["MMMM", "MMM", "MM", "M"], "there are not so many");
        assert_eq!(standings(Goal::AtLeast(usize::MAX), 1), ["MM", "M"]);
        for goal in [Goal::Each, Goal::AtMostFailures(0), Goal::AtLeast(0)] {
            assert_eq!(standings(goal, 0), ["R"], "no items: {goal}");
        }
        assert_eq!(standings(Goal::AtLeast(1), 0), ["M"]);
    }
}
