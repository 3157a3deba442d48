//! Several workers on one database, each with an opening of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use everstep_cluster::proxy::{Direction, Fault, Moment, Proxy};
use everstep_core::{
    Client, Ctx, Engine, Event, Events, Result, Run, Settings, Signal, Status, Workflow, journal::Kind,
    seconds, store::Inspect as _,
};
use everstep_postgres::Postgres;

use crate::fixture::Desk;

pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// For whatever must not take for ever.
const SOON: Duration = Duration::from_secs(60);

pub(crate) const WHO: Workflow<u64, String> = Workflow::new("who");
pub(crate) const WAITS: Workflow<u64, String> = Workflow::new("waits");
pub(crate) const GO: Signal<u64> = Signal::new("go");
pub(crate) const END: Signal<u64> = Signal::new("end");

pub(crate) fn settings() -> Settings {
    Settings { lease: LEASE, park_after: Duration::from_millis(50), ..Settings::default() }
}

#[allow(clippy::disallowed_methods, reason = "a bound against hanging")]
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it comes soon")
}

async fn told(events: &mut Events, what: impl Fn(&Event) -> bool) {
    soon(async { while !events.next().await.is_some_and(|event| what(&event)) {} }).await;
}

/// Asks the database until it says so.
pub(crate) async fn until(says: impl AsyncFn() -> bool) {
    soon(async { while !says().await {} }).await;
}

/// A worker that tells its name as the result of `who`, and waits for a signal in `waits`.
pub(crate) async fn worker(desk: &Desk, name: &'static str, settings: Settings) -> (Engine, Postgres) {
    let store = desk.open().await;
    let who = move |ctx: Ctx, _: u64| async move { ctx.step("who", async || Ok(name.to_string())).await };
    let waits = move |ctx: Ctx, _: u64| async move {
        ctx.signal(GO).await?;
        ctx.step("who", async || Ok(name.to_string())).await
    };
    let engine = Engine::builder(store.clone()).register(WHO, who).register(WAITS, waits).settings(settings);
    (engine.start().await.expect("it starts"), store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cut_off_is_taken_over_and_writes_nothing_more() {
    cut_off_and_taken_over(false).await;
}

/// It had locked its fence, and the server waited for its next statement: the takeover waited for the lock, for 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cut_off_in_a_transaction_is_taken_over_as_soon() {
    cut_off_and_taken_over(true).await;
}

async fn cut_off_and_taken_over(in_transaction: bool) {
    let desk = Desk::new();
    let begun = Arc::new(AtomicU32::new(0));
    let counted = begun.clone();
    // The first body stands for ever, in the worker that is lost.
    let hangs = move |ctx: Ctx, _: u64| {
        let begun = counted.clone();
        async move {
            let body = async || match begun.fetch_add(1, Ordering::SeqCst) {
                0 => pending().await,
                n => Ok(format!("attempt {n}")),
            };
            ctx.step("hangs", body).await
        }
    };
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let cut_off = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    let lost = Engine::builder(cut_off.clone()).register(WHO, hangs.clone()).settings(settings());
    let lost = lost.start().await.expect("it starts");
    let mut events = lost.events();
    let run = lost.start(WHO, "r", 1).await.expect("it starts");
    told(&mut events, |event| matches!(event, Event::StepStarted { .. })).await;
    if in_transaction {
        let locks = Moment::after("FOR SHARE").if_it(|statement| statement.starts_with("SELECT 1 FROM"));
        let locked = proxy.at(locks, Fault::Hold(Direction::Both));
        let client = Client::new(desk.open().await);
        // It wants to claim that one.
        client.start(WHO, "s", 1).await.expect("it starts");
        soon(locked.happened()).await;
    }
    let other = desk.open().await;
    let taker = Engine::builder(other.clone()).register(WHO, hangs).settings(settings());
    let taker = taker.start().await.expect("it starts");
    let mut events = taker.events();
    proxy.set(Fault::Hold(Direction::Both));
    #[allow(clippy::disallowed_methods, reason = "how long people wait")]
    let began = Instant::now();
    told(&mut events, |event| matches!(event, Event::Completed { run } if **run == *"r")).await;
    let took = began.elapsed();
    assert!(took <= LEASE + seconds(2), "it took {took:?}");
    proxy.heal().await;
    assert!(soon(run.result()).await.expect("it is over").starts_with("attempt "));
    drop((lost, cut_off));
    let run = taker.get(WHO, "r").await.expect("is there");
    let journal = run.journal().await.expect("reads");
    let done = journal.iter().filter(|entry| entry.known_kind() == Some(Kind::StepDone)).count();
    assert_eq!((done, journal.len()), (1, 3), "{journal:?}");
    taker.shutdown().await.expect("it leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_share_what_comes() {
    let desk = Desk::new();
    let (first, _store) = worker(&desk, "first", settings()).await;
    let (second, _other) = worker(&desk, "second", settings()).await;
    let client = Client::new(desk.open().await);
    let by = async |run: Run<String>| soon(run.result()).await.expect("it completes");
    // Until both hear what comes: who has just started may not yet.
    let mut heard = BTreeSet::new();
    for n in 0.. {
        heard.insert(by(client.start(WHO, format!("first {n}"), n).await.expect("it starts")).await);
        if heard.len() == 2 {
            break;
        }
        assert!(n < 1_000, "{heard:?} has had all of them");
    }
    let mut shares = BTreeMap::new();
    let runs = client.start_batch(WHO, (0..300).map(|n| (format!("r{n}"), n))).await.expect("they start");
    for run in runs {
        *shares.entry(by(run.expect("it starts")).await).or_insert(0) += 1;
    }
    assert!(shares.len() == 2 && shares.values().all(|share| *share >= 10), "{shares:?}");
    for engine in [first, second] {
        engine.shutdown().await.expect("it leaves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shuts_down_frees_what_it_has_in_memory_at_once() {
    let desk = Desk::new();
    // Nobody is taken over in this test.
    let long = Settings { lease: seconds(600), park_after: Duration::MAX, ..settings() };
    let (leaves, store) = worker(&desk, "leaves", long.clone()).await;
    for n in 0..10 {
        leaves.start(WAITS, format!("r{n}"), n).await.expect("it starts");
    }
    let owned = async |n: u64| {
        let row = store.run(format!("r{n}").into()).await.expect("reads").expect("is there");
        row.owner.is_some()
    };
    for n in 0..10 {
        assert!(owned(n).await, "r{n} is in memory");
    }
    soon(leaves.shutdown()).await.expect("it leaves");
    for n in 0..10 {
        assert!(!owned(n).await, "r{n} is free");
    }
    let (next, _third) = worker(&desk, "next", long).await;
    for n in 0..10 {
        next.signal(format!("r{n}"), GO, n).await.expect("it is open");
        let run = next.get(WAITS, format!("r{n}")).await.expect("is there");
        assert_eq!(soon(run.result()).await.expect("it completes"), "next");
    }
    next.shutdown().await.expect("it leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_runs_have_no_owner_and_go_to_whoever_is_there() {
    let desk = Desk::new();
    let long = Settings { lease: seconds(600), ..settings() };
    let (first, store) = worker(&desk, "first", long.clone()).await;
    let run = first.start(WAITS, "r", 1).await.expect("it starts");
    until(async || run.status().await.expect("reads") == Status::Waiting).await;
    let row = store.run("r".into()).await.expect("reads").expect("is there");
    assert_eq!(row.owner, None);
    let (second, _other) = worker(&desk, "second", long).await;
    first.shutdown().await.expect("it leaves");
    second.signal("r", GO, 1).await.expect("it is open");
    assert_eq!(soon(run.result()).await.expect("it completes"), "second");
    second.shutdown().await.expect("it leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_to_a_worker_that_knows_its_workflow() {
    const LEFT: Workflow<u64, u64> = Workflow::new("left");
    const RIGHT: Workflow<u64, u64> = Workflow::new("right");
    async fn twice(ctx: Ctx, n: u64) -> Result<u64> {
        ctx.step("twice", async || Ok(2 * n)).await
    }
    let desk = Desk::new();
    let left = Engine::builder(desk.open().await).register(LEFT, twice).settings(settings());
    let right = Engine::builder(desk.open().await).register(RIGHT, twice).settings(settings());
    let (left, right) = (left.start().await.expect("it starts"), right.start().await.expect("it starts"));
    let (mut lefts, mut rights) = (left.events(), right.events());
    for n in 0..10 {
        // Each is started by the one that does not know it.
        let on_left = right.start(LEFT, format!("l{n}"), n).await.expect("it starts");
        let on_right = left.start(RIGHT, format!("r{n}"), n).await.expect("it starts");
        assert_eq!(soon(on_left.result()).await.expect("it completes"), 2 * n);
        assert_eq!(soon(on_right.result()).await.expect("it completes"), 2 * n);
    }
    for (events, mark) in [(&mut lefts, 'l'), (&mut rights, 'r')] {
        while let Some(event) = events.try_next() {
            let Event::StepStarted { run, .. } = &event else { continue };
            assert!(run.starts_with(mark), "{event:?}");
        }
    }
    for engine in [left, right] {
        engine.shutdown().await.expect("it leaves");
    }
}

async fn old(ctx: Ctx, n: u64) -> Result<String> {
    ctx.step("first", async || Ok(n)).await?;
    ctx.signal(GO).await?;
    ctx.step("middle", async || Ok(n)).await?;
    ctx.signal(END).await?;
    ctx.step("last", async || Ok("old".to_string())).await
}

async fn new(ctx: Ctx, n: u64) -> Result<String> {
    ctx.step("first", async || Ok(n)).await?;
    if ctx.patched("ask again") {
        ctx.step("second", async || Ok(n)).await?;
    }
    ctx.signal(GO).await?;
    ctx.step("middle", async || Ok(n)).await?;
    ctx.signal(END).await?;
    ctx.step("last", async || Ok("new".to_string())).await
}

/// Forward, and back again, with runs of both builds open across it.
#[tokio::test(flavor = "multi_thread")]
async fn no_run_is_stuck_while_a_worker_of_its_build_lives() {
    const MANY: u64 = 10;
    let desk = Desk::new();
    let of = |build: &str| Settings { build: Some(build.to_string()), ..settings() };
    let deploy_old = async || {
        let engine = Engine::builder(desk.open().await).register(WAITS, old).settings(of("1"));
        engine.start().await.expect("it starts")
    };
    let one = deploy_old().await;
    let client = Client::new(desk.open().await);
    let waiting = async |many: u64| {
        let counts = client.counts().await.expect("counts");
        assert!(counts.iter().all(|(_, status, _)| *status != Status::Stuck), "{counts:?}");
        counts.iter().any(|(_, status, n)| (*status, *n) == (Status::Waiting, many))
    };
    for n in 0..MANY {
        one.start(WAITS, format!("r{n}"), n).await.expect("it starts");
    }
    until(async || waiting(MANY).await).await;
    let two = Engine::builder(desk.open().await).register(WAITS, new).settings(of("2"));
    let two = two.start().await.expect("it starts");
    for n in MANY..2 * MANY {
        two.start(WAITS, format!("r{n}"), n).await.expect("it starts");
    }
    until(async || waiting(2 * MANY).await).await;
    // Both builds meet runs of both.
    for n in 0..2 * MANY {
        client.signal(format!("r{n}"), GO, n).await.expect("it is open");
    }
    let middle = async |n: u64| {
        let run = client.get(WAITS, format!("r{n}")).await.expect("is there");
        let journal = run.journal().await.expect("reads");
        journal.iter().any(|entry| entry.key.as_deref() == Some("middle"))
    };
    for n in 0..2 * MANY {
        until(async || middle(n).await).await;
    }
    until(async || waiting(2 * MANY).await).await;
    // All forward, and back: the new build stays until its runs are over.
    one.shutdown().await.expect("it leaves");
    let back = deploy_old().await;
    for n in 0..2 * MANY {
        client.signal(format!("r{n}"), END, n).await.expect("it is open");
    }
    for n in 0..2 * MANY {
        let run = client.get(WAITS, format!("r{n}")).await.expect("is there");
        let by = soon(run.result()).await.expect("it is not stuck");
        assert!(n < MANY || by == "new", "r{n} has a patch that the old code does not know");
    }
    for engine in [two, back] {
        engine.shutdown().await.expect("it leaves");
    }
}
