//! The workflow that waits: a list of moves, drawn by chance, that takes signals in every way in which a function can
//! wait for them, and tells in the end what it got.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use everstep::{Ctx, Op, Result, Signal, Workflow, select, try_join};
use serde::{Deserialize, Serialize};

use super::ledger::{Line, tell};

/// Runs with moves.
pub const WAITS: Workflow<Waits, Told> = Workflow::new("waits");
/// The names of the signals; the last one ends a run.
pub const NAMES: [&str; 4] = ["a", "b", "c", "end"];
/// Where the last one stands.
pub const END: usize = NAMES.len() - 1;

/// What a run does next. Names by their place in [`NAMES`], times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    /// Waits for as long as it takes.
    Wait(usize),
    /// Waits for two names, and drops the wait that is later.
    Either(usize, usize),
    /// Two waits of one name side by side.
    Pair(usize),
    /// Waits with a timeout.
    Timed(usize, u64),
    /// Waits in a race with a timer.
    Race(usize, u64),
    /// Two waits of one name, in a race with a timer.
    PairRace(usize, u64),
    /// A wait that loses a race and is held, unpolled, for the length of a step.
    Held(usize, u64),
    /// A step that tells which signal came last.
    Saw,
    /// Sleeps.
    Nap(u64),
    /// Begins anew with what is left to do.
    Restart,
}

/// What a run has to do, and has done before it began anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waits {
    /// Its number in the plan.
    pub run: usize,
    /// All its moves.
    pub moves: Vec<Move>,
    /// How many of them were made.
    pub made: usize,
    /// What came of them.
    pub told: Told,
}

/// What a run tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The signals that its waits returned, in that order: name and number.
    pub got: Vec<(usize, usize)>,
    /// Waits that were begun.
    pub waits: usize,
}

impl Move {
    /// How many waits it begins.
    pub fn waits(self) -> usize {
        match self {
            Move::Wait(_) | Move::Timed(..) | Move::Race(..) | Move::Held(..) => 1,
            Move::Either(..) | Move::Pair(_) | Move::PairRace(..) => 2,
            Move::Saw | Move::Nap(_) | Move::Restart => 0,
        }
    }
}

pub(super) async fn waits(ctx: Ctx, mut waits: Waits) -> Result<Told> {
    while let Some(next) = waits.moves.get(waits.made).copied() {
        waits.made += 1;
        waits.told.waits += next.waits();
        match next {
            Move::Saw => saw(&ctx, &waits).await?,
            Move::Restart => ctx.restart(WAITS, waits.clone()).await,
            other => {
                let got = make(&ctx, other).await?;
                waits.told.got.extend(got);
            }
        }
    }
    waits.told.got.push((END, wait(&ctx, END).await?));
    waits.told.waits += 1;
    Ok(waits.told)
}

/// Makes a move; the signals that its waits returned, in that order.
async fn make(ctx: &Ctx, next: Move) -> Result<Vec<(usize, usize)>> {
    let of = |name: usize| move |signal: usize| (name, signal);
    Ok(match next {
        Move::Wait(name) => vec![(name, wait(ctx, name).await?)],
        Move::Either(one, other) => select! {
            signal = wait(ctx, one) => vec![(one, signal?)],
            signal = wait(ctx, other) => vec![(other, signal?)],
        },
        Move::Pair(name) => {
            let (first, second) = (wait(ctx, name), wait(ctx, name));
            let (first, second) = try_join!(first, second)?;
            vec![(name, first), (name, second)]
        }
        Move::Timed(name, within) => {
            ctx.timeout(ms(within), wait(ctx, name)).await?.map(of(name)).into_iter().collect()
        }
        Move::Race(name, within) => select! {
            signal = wait(ctx, name) => vec![(name, signal?)],
            () = ctx.sleep(ms(within)) => vec![],
        },
        Move::PairRace(name, within) => {
            pair_race(ctx, name, within).await?.into_iter().map(of(name)).collect()
        }
        Move::Held(name, within) => held(ctx, name, within).await?.map(of(name)).into_iter().collect(),
        Move::Nap(time) => {
            ctx.sleep(ms(time)).await;
            vec![]
        }
        Move::Saw | Move::Restart => vec![],
    })
}

async fn pair_race(ctx: &Ctx, name: usize, within: u64) -> Result<Vec<usize>> {
    let (first, second) = (wait(ctx, name), wait(ctx, name));
    // Whatever a wait has returned is the function's, whoever wins.
    let got = Mutex::new(Vec::new());
    let take = async |wait: Op<'static, Result<usize>>| {
        let signal = wait.await?;
        got.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
        Result::Ok(())
    };
    select! {
        both = both(take(first), take(second)) => both?,
        () = ctx.sleep(ms(within)) => {}
    }
    Ok(got.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn both(one: impl Future<Output = Result<()>>, other: impl Future<Output = Result<()>>) -> Result<()> {
    try_join!(one, other)?;
    Ok(())
}

async fn held(ctx: &Ctx, name: usize, within: u64) -> Result<Option<usize>> {
    let mut held = Box::pin(wait(ctx, name));
    let got = select! {
        signal = &mut held => Some(signal?),
        () = ctx.sleep(ms(within)) => None,
    };
    // What comes meanwhile is for a wait that nobody polls again.
    ctx.step("meanwhile", async || Ok(())).await?;
    drop(held);
    Ok(got)
}

/// Tells the world what came last, which no later life of the run may contradict.
async fn saw(ctx: &Ctx, waits: &Waits) -> Result<()> {
    let Some(((_, signal), before)) = waits.told.got.split_last() else { return Ok(()) };
    let line = Line::Saw(waits.run, before.len(), *signal);
    let saw = async || {
        tell(&line);
        Ok(())
    };
    ctx.step("saw", saw).await
}

fn wait(ctx: &Ctx, name: usize) -> Op<'static, Result<usize>> {
    ctx.signal(Signal::<usize>::new(NAMES[name]))
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}
