//! I/O errors, in small. The figures are `disk faults`'s.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use everstep::{Code, Ctx, Engine, EngineError, Workflow, store::Durability};
use everstep_disk::{
    faults::{self, Loop, OWED_MAX, Tally, WAL_PAGES},
    life::{Setup, folder},
    recording::Recorder,
    story,
    vfs::{self, Call, Device, Done, Failure},
    witness::{Owed, Witness},
};
use tokio::sync::Notify;

const SETUP: Setup = Setup { durability: Durability::Power, wal_pages: WAL_PAGES };

fn run(call: Call, failure: Failure, forever: bool, stride: usize) -> Tally {
    let mut tally = Tally::default();
    Loop { call, failure, forever }.run(stride, 4, &story::parts(1, Durability::Power), &mut tally);
    assert_eq!(tally.failed, [], "{call:?} {failure:?}");
    assert_eq!(tally.loops, 1);
    tally
}

/// faults.md row 41: SQLite fails the commit whose sync failed and accepts later ones; the store must not. What was
/// acknowledged is there, in the file and after a crash that takes what the failed sync has left behind.
#[test]
fn a_sync_that_fails_ends_the_opening_and_loses_nothing() {
    let tally = run(Call::Sync, Failure::Io, false, 5);
    assert!(tally.faults > 5 && tally.closed > 1 && tally.not_opened > 1, "{tally:?}");
}

/// faults.md row 8: no error of a write is swallowed.
#[test]
fn a_write_that_fails_for_ever_ends_the_opening_and_loses_nothing() {
    let tally = run(Call::Write, Failure::ShortIo, true, 31);
    assert!(tally.faults > 5 && tally.closed > 1 && tally.not_opened > 1, "{tally:?}");
}

#[test]
fn a_disk_that_is_full_stops_nothing_for_good() {
    let tally = run(Call::Write, Failure::ShortFull, true, 31);
    assert!(tally.faults > 5 && tally.full > 1 && tally.closed == 0, "{tally:?}");
}

/// SQLite's answer to `PRAGMA journal_mode = WAL` comes before the commit that makes it true. When a sync of that failed,
/// the store worked on with a rollback journal: a commit could come undone with the journal's name, and after a crash the
/// file could not be opened ("its file `-wal` is gone").
#[test]
fn a_switch_to_the_wal_that_failed_is_no_opening() {
    for nth in 1..=3 {
        let fault = Loop { call: Call::Sync, failure: Failure::Io, forever: false }.at(nth);
        let told = faults::life_with(fault, SETUP, &story::parts(1, Durability::Power)).expect("holds");
        assert!(told.fired == 1 && told.not_opened, "sync {nth}: {told:?}");
    }
}

/// Fails all calls of one kind while it is on.
struct Switch {
    on: AtomicBool,
    call: Call,
    failure: Failure,
}

impl Switch {
    fn new(call: Call, failure: Failure) -> Arc<Switch> {
        Arc::new(Switch { on: AtomicBool::new(false), call, failure })
    }

    fn turn(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }
}

impl Device for Switch {
    fn before(&self, call: Call, _: &str) -> Option<Failure> {
        (call == self.call && self.on.load(Ordering::SeqCst)).then_some(self.failure)
    }

    fn after(&self, _: &str, _: Done<'_>) {}
}

const LONG: Workflow<u64, u64> = Workflow::new("long");

/// A run that waits in a step, and has entries to write for a long time when it may go on.
async fn engine(folder: &Path, gate: &Arc<Notify>, owed: &Owed) -> Engine {
    let inner = SETUP.open(folder, Some(vfs::NAME)).expect("opens");
    let recorder = Recorder::new(folder).expect("reads the folder");
    let gate = gate.clone();
    let long = move |ctx: Ctx, n: u64| {
        let gate = gate.clone();
        async move {
            let waits = async || {
                gate.notified().await;
                Ok(())
            };
            ctx.step("waits", waits).await?;
            for _ in 0..n {
                ctx.sleep(Duration::ZERO).await;
            }
            Ok(n)
        }
    };
    let store = Witness { inner, recorder, owed: owed.clone() };
    Engine::builder(store).register(LONG, long).start().await.expect("starts")
}

/// The end of the store is told to who waits for a result, and must be to who comes a moment later: he waited for ever.
#[tokio::test]
async fn who_asks_for_a_result_after_the_store_has_closed_hears_it() {
    let (folder, disk) = (folder(), Switch::new(Call::Sync, Failure::Io));
    let _watch = vfs::watch(folder.path(), disk.clone());
    let engine = engine(folder.path(), &Arc::default(), &Owed::default()).await;
    let run = engine.start(LONG, "r", 1).await.expect("starts");
    disk.turn(true);
    let closed = |error: EngineError| assert_eq!(error.code(), Code::STORE_CLOSED, "{error}");
    closed(engine.start(LONG, "late", 1).await.expect_err("the disk fails"));
    closed(run.result().await.expect_err("the store is closed"));
}

/// What waits for a disk without room is bounded, however much a run has to write.
#[tokio::test]
async fn a_full_disk_is_owed_a_bounded_number_of_turns() {
    // More entries than that many turns hold (`driver/drive.rs`: 256 rounds at most gather in one).
    const TIMERS: u64 = 30_000;
    let (folder, disk) = (folder(), Switch::new(Call::Write, Failure::Full));
    let _watch = vfs::watch(folder.path(), disk.clone());
    let (gate, owed) = (Arc::new(Notify::new()), Owed::default());
    let engine = engine(folder.path(), &gate, &owed).await;
    let run = engine.start(LONG, "r", TIMERS).await.expect("starts");
    disk.turn(true);
    gate.notify_one();
    let mut most = owed.most();
    most.wait_for(|most| *most > 64).await.expect("is counted");
    // One thread: whatever the run could still send, it sends now.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(*most.borrow() <= OWED_MAX, "{} turns", *most.borrow());
    disk.turn(false);
    assert_eq!(run.result().await.expect("goes on"), TIMERS);
    assert!(*most.borrow() <= OWED_MAX, "{} turns", *most.borrow());
    engine.shutdown().await.expect("leaves");
}
