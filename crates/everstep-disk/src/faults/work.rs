//! A life on a failing disk, as far as it comes: what is asked of the engine, and what it may say.

use std::{path::Path, sync::Arc, time::Duration};

use everstep::{Code, Engine, EngineError, ErrorKind};
use futures_util::{StreamExt as _, stream};

use super::{
    Told,
    failing::{Failing, Stage},
};
use crate::{
    life::{self, Setup, runtime},
    story::{self, Part, World},
    vfs,
    witness::Owed,
};

/// How long runs are waited for while calls fail for ever: they may wait for ever too.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the store may take for its last answers: half as long again as it waits for somebody else's lock.
const ANSWERS_WAIT: Duration = Duration::from_secs(15);
/// How often somebody asks again whose call has failed with an error that may pass.
const ASKED_MAX: usize = 5;
/// The life itself: from the making of the file to its close, however far it comes.
pub(super) fn live(folder: &Path, setup: Setup, parts: &[Part], disk: &Arc<Failing>) -> Result<Told, String> {
    let store = match setup.open(folder, Some(vfs::NAME)) {
        Ok(store) => store,
        Err(error) if disk.fired() == 0 => return Err(format!("it cannot be opened: {error}")),
        Err(_) => return Ok(Told { not_opened: true, ..Told::default() }),
    };
    disk.enter(Stage::Working);
    let (owed, world) = (Owed::default(), World::told_to(Some(disk.recorder.clone())));
    let said = runtime().block_on(async {
        let started = life::start(store, world, Some(&disk.recorder), owed.clone()).await;
        let engine = match started {
            Ok(engine) => engine,
            Err(error) => return said(&error, disk),
        };
        let said = work(&engine, parts, disk).await;
        disk.enter(Stage::Leaving);
        // What a store that is over says to whoever leaves it.
        let _ = engine.shutdown().await;
        said
    })?;
    runtime().block_on(all_answered(&owed))?;
    let owed_most = *owed.most().borrow();
    Ok(Told { owed_most, ..said })
}

/// The writer may be on its last ones while nobody is left who could wait for it.
async fn all_answered(owed: &Owed) -> Result<(), String> {
    let mut all = owed.all();
    #[allow(clippy::disallowed_methods, reason = "that nothing comes any more is no event")]
    let answered = tokio::time::timeout(ANSWERS_WAIT, all.wait_for(|all| *all == 0)).await.is_ok();
    if answered { Ok(()) } else { Err(format!("{} turns were never answered", *all.borrow())) }
}

/// The runs, and somebody who asks for another one as soon as a call has failed.
async fn work(engine: &Engine, parts: &[Part], disk: &Failing) -> Result<Told, String> {
    let told = tokio::spawn(life::tell(engine.events(), disk.recorder.clone()));
    let asks = async {
        disk.has_fired.notified().await;
        let asked = engine.start(parts[0].workflow, "late", 1).await;
        let said = asked.map_or_else(|error| said(&error, disk), |_| Ok(Told::default()));
        if disk.is_room() {
            disk.heal();
        }
        said
    };
    let runs = async {
        let runs = stream::iter(parts).map(|part| end(engine, part, disk)).buffered(parts.len());
        let fold = async |before: Result<Told, String>, said: Result<Told, String>| both(before?, said?);
        let all = runs.fold(Ok(Told::default()), fold);
        #[allow(
            clippy::disallowed_methods,
            reason = "while calls fail for ever a run may wait for ever, and no event says so"
        )]
        let all = tokio::time::timeout(PATIENCE * if disk.fault.forever { 1 } else { 20 }, all);
        match all.await {
            Ok(said) => said,
            Err(_) if disk.fault.forever => Ok(Told::default()),
            Err(_) => Err("a run does not end, though one call alone has failed".to_string()),
        }
    };
    tokio::pin!(asks, runs);
    let said = tokio::select! {
        asked = &mut asks => both(asked?, runs.await?),
        all = &mut runs => {
            disk.enter(Stage::Leaving);
            // It failed before, and nobody has asked since.
            let asked = if disk.fired() > 0 { asks.await? } else { Told::default() };
            both(all?, asked)
        }
    };
    told.abort();
    said
}

fn both(one: Told, other: Told) -> Result<Told, String> {
    Ok(Told { closed: one.closed || other.closed, full: one.full || other.full, ..one })
}

/// One run, by somebody who asks again when there is room again, and gives up when the opening is over.
async fn end(engine: &Engine, part: &Part, disk: &Failing) -> Result<Told, String> {
    let mut told = Told::default();
    for _ in 0..ASKED_MAX {
        let error = match life::end(engine, part, Some(&disk.recorder)).await {
            Ok(ending) if ending == story::ending(part) => return Ok(told),
            Ok(ending) => return Err(format!("run {} ended with {ending:?}", part.id)),
            Err(error) => error,
        };
        told = both(told, said(&error, disk)?)?;
        if told.closed {
            return Ok(told);
        }
        if error.code() == Code::STORE_FULL && disk.is_room() && disk.fault.forever {
            let _ = disk.has_healed.subscribe().wait_for(|healed| *healed).await;
        }
    }
    Ok(told)
}

/// Whether an error is one that a failing disk explains, and what it tells.
fn said(error: &EngineError, disk: &Failing) -> Result<Told, String> {
    if disk.fired() == 0 {
        return Err(format!("no call has failed, and somebody heard: {error}"));
    }
    match (error.kind(), error.code()) {
        (ErrorKind::Store, Code::STORE_CLOSED) => Ok(Told { closed: true, ..Told::default() }),
        (ErrorKind::Store, Code::STORE_FULL) => Ok(Told { full: true, ..Told::default() }),
        (ErrorKind::Store, Code::STORE) => Ok(Told::default()),
        _ => Err(format!("a failing disk does not explain: {} {error}", error.code())),
    }
}
