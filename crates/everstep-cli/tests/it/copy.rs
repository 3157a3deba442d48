//! `everstep copy`: refused, killed and gone on with, given up; and what engines make of what has arrived.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::Arc,
};

use everstep_cluster::Cluster;
use everstep_core::{
    Client, Ctx, Engine, Result, Settings, Status, Timestamp, Workflow,
    store::{Claim, Inspect as _, RunId, Store as _, Transfer, Whole, WholeDigest, WorkerInfo},
};
use everstep_postgres::Postgres;
use everstep_sqlite::Sqlite;

use crate::{sample::runs, stage::Stage};

const COPY: [&str; 3] = ["copy", "sqlite:app.db", "sqlite:new.db"];
const ORDER: Workflow<u64, u64> = Workflow::new("order");

/// Waits for a person, unless the number is even.
async fn order(ctx: Ctx, n: u64) -> Result<u64> {
    let doubled = ctx.step("double", async || Ok(n * 2)).await?;
    ctx.emit("lines", &doubled);
    ctx.set_attribute("n", n as i64);
    if n.is_multiple_of(2) {
        return Ok(doubled);
    }
    let more: u64 = ctx.signal("more").await?;
    ctx.step("add", async || Ok(doubled + more)).await
}

async fn engine(store: Sqlite) -> Engine {
    let settings = Settings { park_after: std::time::Duration::ZERO, ..Settings::default() };
    Engine::builder(store).register(ORDER, order).settings(settings).start().await.expect("starts")
}

/// A database with so many orders, half of them open and parked; no worker is there any more.
async fn orders(stage: &Stage, n: u64) {
    let engine = engine(stage.open("app.db")).await;
    let all = (0..n).map(|n| (format!("o-{n}"), n));
    let started = engine.start_batch(ORDER, all).await.expect("starts");
    for (n, run) in (0..).zip(started) {
        let run = run.expect("it is new");
        if n % 2 == 0 {
            run.result().await.expect("ends");
        }
    }
    let waiting = "status = waiting";
    while engine.list(waiting).limit(n as usize + 1).await.expect("reads").len() < n as usize / 2 {
        tokio::task::yield_now().await;
    }
    engine.shutdown().await.expect("shuts down");
}

async fn digests(store: &dyn Transfer) -> Vec<WholeDigest> {
    let (mut all, mut after) = (Vec::new(), RunId(0));
    loop {
        let page = store.wholes(after, 1000).await.expect("reads");
        let Some(last) = page.last() else { return all };
        after = last.row.run;
        all.extend(page.iter().map(Whole::digest));
    }
}

/// Opened although its runs have moved: to be looked at.
fn looked_at(stage: &Stage, name: &str) -> Sqlite {
    Sqlite::options().for_copy(true).open(stage.path(name)).expect("opens")
}

#[tokio::test]
async fn runs_move_and_the_source_stays_closed() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&COPY);
    let digest = said.out.rsplit(' ').next().expect("it ends with it").trim_end();
    assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{said}");
    let told =
        "`sqlite:DIR/app.db` has moved to `sqlite:DIR/new.db`: 3 runs, 2 of them open, equal by digest ";
    assert_eq!((said.code, said.out.as_str()), (Some(0), format!("{told}{digest}\n").as_str()));
    assert_eq!(said.err, "copied 0 of 3 runs\ncopied 3 of 3 runs\nverified 3 of 3 runs\n");

    let refused = stage.everstep(&["list", "sqlite:app.db"]);
    let why = refused.failed(4);
    assert!(
        why.starts_with("everstep: EV0125: the runs of this store have moved to `sqlite:DIR/new.db`"),
        "{why}"
    );
    assert!(why.ends_with("`--force` shows what is here all the same\n"), "{why}");
    assert!(Sqlite::open(stage.path("app.db")).is_err());
    let here = stage.everstep(&["list", "sqlite:app.db", "--force"]);
    assert_eq!(here.done(), stage.everstep(&["list", "sqlite:new.db"]).done());
    let shown = stage.everstep(&["show", "sqlite:app.db", "emp-2", "--force"]);
    assert_eq!(shown.done(), stage.everstep(&["show", "sqlite:new.db", "emp-2"]).done());
    stage.everstep(&["journal", "sqlite:app.db", "emp-2", "--force"]).done();

    let again = stage.everstep(&COPY);
    assert_eq!(again.done(), "`sqlite:DIR/app.db` had moved to `sqlite:DIR/new.db` before\n");
    let elsewhere = stage.everstep(&["copy", "sqlite:app.db", "sqlite:third.db"]);
    assert!(elsewhere.failed(4).contains("have moved to `sqlite:DIR/new.db`"), "{elsewhere}");
    assert!(stage.everstep(&["copy", "--abandon", "sqlite:app.db"]).failed(4).contains("EV0125"));
}

#[tokio::test]
async fn by_force_an_engine_goes_on_with_what_is_left() {
    let stage = Stage::new();
    orders(&stage, 2).await;
    assert_eq!(stage.everstep(&COPY).code, Some(0));
    let forced = Sqlite::options().accept_moved(true).open(stage.path("app.db")).expect("opens");
    let engine = engine(forced).await;
    engine.signal("o-1", "more", 5u64).await.expect("sends");
    assert_eq!(engine.get(ORDER, "o-1").await.expect("is there").result().await.expect("ends"), 7);
    engine.shutdown().await.expect("shuts down");
    let there = looked_at(&stage, "new.db").run("o-1".into()).await.expect("reads").expect("is there");
    assert_eq!(there.status, Status::Waiting, "what is done here is not done there");
}

/// Open runs finish on PostgreSQL, and what has become of all comes back.
#[tokio::test]
async fn runs_move_to_postgres_and_back() {
    let stage = Stage::new();
    orders(&stage, 20).await;
    let before = digests(&looked_at(&stage, "app.db")).await;
    let database = Cluster::shared().expect("a server").database().await.expect("a database");
    let url = database.url();
    let moved = stage.everstep(&["copy", "sqlite:app.db", &url]);
    assert_eq!(moved.code, Some(0), "{moved}");
    let copies = Postgres::options().for_copy(true).open(&url).await.expect("opens");
    assert_eq!(digests(&copies).await, before);
    drop(copies);

    let settings = Settings { park_after: std::time::Duration::ZERO, ..Settings::default() };
    let store = Postgres::open(&url).await.expect("opens");
    let engine =
        Engine::builder(store).register(ORDER, order).settings(settings).start().await.expect("starts");
    engine.signal("o-1", "more", 5u64).await.expect("sends");
    assert_eq!(engine.get(ORDER, "o-1").await.expect("is there").result().await.expect("ends"), 7);
    engine.shutdown().await.expect("shuts down");

    let back = stage.everstep(&["copy", &url, "sqlite:back.db"]);
    assert_eq!(back.code, Some(0), "{back}");
    let listed = stage.everstep(&["list", "sqlite:back.db", "--limit", "30"]);
    assert_eq!(listed.done().matches("completed").count(), 11, "{listed}");
    let refused = stage.everstep(&["list", &url]);
    assert!(refused.failed(4).contains("EV0125"), "{refused}");
}

#[tokio::test]
async fn there_and_back_again() {
    let stage = Stage::with_runs("app.db", runs()).await;
    assert_eq!(stage.everstep(&COPY).code, Some(0));
    let into_the_old = stage.everstep(&["copy", "sqlite:new.db", "sqlite:app.db"]);
    assert!(into_the_old.failed(4).contains("have moved to `sqlite:DIR/new.db`"), "{into_the_old}");
    assert_eq!(stage.everstep(&["copy", "sqlite:new.db", "sqlite:third.db"]).code, Some(0));
    let (first, third) = (looked_at(&stage, "app.db"), looked_at(&stage, "third.db"));
    assert_eq!(digests(&first).await, digests(&third).await);
}

#[tokio::test]
async fn a_destination_with_other_runs_is_refused() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let client = Client::new(stage.open("new.db"));
    client.start(ORDER, "mine", 1).await.expect("starts");
    let said = stage.everstep(&COPY);
    assert_eq!(
        said.failed(4),
        "everstep: EV0126: `sqlite:DIR/new.db` has runs of its own, like `mine`: a copy goes into an empty store\n"
    );
    stage.everstep(&["list", "sqlite:app.db"]).done();
    client.start(ORDER, "mine too", 1).await.expect("nothing has changed");
    let said = stage.everstep(&["copy", "sqlite:app.db", "sqlite:./app.db"]);
    assert_eq!(said.failed(2), "everstep: `sqlite:DIR/app.db` cannot be copied into itself\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_worker_refuses_the_copy_and_goes_on() {
    let stage = Stage::new();
    let engine = engine(stage.open("app.db")).await;
    let run = engine.start(ORDER, "o-1", 1).await.expect("starts");
    let said = stage.everstep(&COPY);
    let why = said.failed(4);
    assert!(
        why.contains("everstep: EV0126: worker 1 is at work on `sqlite:DIR/app.db`: shut it down first"),
        "{why}"
    );
    assert!(why.starts_with("looks whether worker 1 is alive, for 10s at most\n"), "{why}");
    engine.signal("o-1", "more", 5u64).await.expect("sends");
    assert_eq!(run.result().await.expect("ends"), 7);
    engine.shutdown().await.expect("it was never fenced");
    assert_eq!(stage.everstep(&COPY).code, Some(0));
}

/// Its process is gone, and it has not left: what a SIGKILL leaves behind.
#[tokio::test]
async fn the_runs_of_a_dead_worker_are_freed_and_move() {
    let stage = Stage::new();
    orders(&stage, 2).await;
    let store = stage.open("app.db");
    let info = WorkerInfo { name: "dead".into(), build: "b".into(), at: Timestamp(0) };
    let fence = store.enroll(info).await.expect("enrolls");
    Client::new(store.clone()).signal("o-1", "more", 5u64).await.expect("sends");
    let claim = Claim { workflows: Arc::new(["order".into()]), due: Timestamp::NEVER, limit: 9 };
    assert_eq!(store.claim(fence, claim).await.expect("claims").len(), 1);
    drop(store);
    let said = stage.everstep(&COPY);
    assert_eq!(said.code, Some(0), "{said}");
    assert!(!said.err.contains("looks whether"), "its lock says at once that it is dead: {said}");
    let engine = engine(stage.open("new.db")).await;
    assert_eq!(engine.get(ORDER, "o-1").await.expect("is there").result().await.expect("ends"), 7);
    engine.shutdown().await.expect("shuts down");
}

/// Runs the copy and kills it after this line of its progress.
fn killed_after(stage: &Stage, line: u64) -> String {
    let mut child =
        stage.command(&COPY).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it is built");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut last = String::new();
    for _ in 0..line {
        last = lines.next().expect("there are more lines").expect("a text");
    }
    child.kill().expect("kills");
    let ended = child.wait().expect("ends");
    assert_eq!(ended.code(), None, "it was killed before it was done: {ended}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_twice_goes_on_and_open_runs_finish() {
    const RUNS: u64 = 4000;
    let seed = std::env::var("EVERSTEP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("EVERSTEP_SEED={seed}");
    let stage = Stage::new();
    orders(&stage, RUNS).await;

    // The first kill may come before a single run is there, the second comes after some.
    for line in [1 + seed % 8, 2 + seed / 8 % 8] {
        println!("killed after line {line}: {}", killed_after(&stage, line));
        for name in ["app.db", "new.db"] {
            let said = stage.everstep(&["list", &format!("sqlite:{name}")]);
            assert!(
                said.failed(4).contains("If the copy was broken off, run `everstep copy` again"),
                "{said}"
            );
            assert!(Sqlite::open(stage.path(name)).is_err());
        }
    }
    let said = stage.everstep(&COPY);
    assert_eq!(said.code, Some(0), "{said}");
    let told = format!("{RUNS} runs (");
    assert!(said.out.contains(&told) && said.out.contains("2000 of them open"), "{said}");

    let (from, to) = (looked_at(&stage, "app.db"), stage.open("new.db"));
    let all = digests(&from).await;
    assert_eq!((all.len() as u64, &all), (RUNS, &digests(&to).await));
    drop(from);

    let engine = engine(to).await;
    for n in (1..RUNS).step_by(2) {
        engine.signal(format!("o-{n}"), "more", 1u64).await.expect("sends");
    }
    for n in (1..RUNS).step_by(2) {
        let run = engine.get(ORDER, format!("o-{n}")).await.expect("is there");
        assert_eq!(run.result().await.expect("ends"), n * 2 + 1);
    }
    assert_eq!(engine.counts().await.expect("counts"), [("order".into(), Status::Completed, RUNS)]);
    engine.shutdown().await.expect("shuts down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_given_up_opens_the_source_again() {
    let stage = Stage::new();
    orders(&stage, 1000).await;
    killed_after(&stage, 1);
    let said = stage.everstep(&["copy", "--abandon", "sqlite:app.db"]);
    assert_eq!(
        said.done(),
        "the copy of `sqlite:DIR/app.db` is given up: it can be used again. Remove what it was copied into\n"
    );
    let said = stage.everstep(&["copy", "--abandon", "sqlite:app.db"]);
    assert_eq!(said.done(), "no copy of `sqlite:DIR/app.db` is under way\n");
    let engine = engine(stage.open("app.db")).await;
    engine.signal("o-1", "more", 5u64).await.expect("sends");
    assert_eq!(engine.get(ORDER, "o-1").await.expect("is there").result().await.expect("ends"), 7);
    engine.shutdown().await.expect("shuts down");
    let said = stage.everstep(&COPY);
    assert!(said.failed(4).contains("`sqlite:DIR/new.db`: runs are being copied into this store"), "{said}");
    assert_eq!(stage.everstep(&["copy", "sqlite:app.db", "sqlite:fresh.db"]).code, Some(0));
}

#[test]
fn a_copy_wants_two_stores() {
    let stage = Stage::new();
    assert_eq!(stage.everstep(&["copy", "sqlite:app.db"]).code, Some(2));
    assert_eq!(stage.everstep(&["copy", "--abandon", "sqlite:a.db", "sqlite:b.db"]).code, Some(2));
    let said = stage.everstep(&COPY);
    assert!(said.failed(3).starts_with("everstep: there is no database at `app.db`"), "{said}");
    assert!(!stage.path("new.db").exists());
    std::fs::write(stage.path("app.db"), "").expect("writes");
    let said = stage.everstep(&["copy", "sqlite:app.db", "postgres://ada:secret@127.0.0.1:1/app"]);
    let told = said.failed(1);
    assert!(told.contains("PostgreSQL did not answer `connect`") && !told.contains("secret"), "{told}");
}
