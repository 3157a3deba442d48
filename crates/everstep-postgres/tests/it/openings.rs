//! Openings of one database: side by side, by roles that may do little, on a schema from later, on data from before.

use everstep_cluster::{Cluster, Mode, Settings, proxy::Proxy};
use everstep_core::{
    Client, Status, StuckReason, Workflow,
    store::{CopyId, CopyMark, CopyStage, Inspect as _, Store as _, StoreError},
};
use everstep_postgres::{Postgres, StartIn as _, tokio_postgres::IsolationLevel};
use futures_util::future::join_all;

use crate::{
    fixture::Desk,
    hand::{Hand, at, finished, new_run, parked},
};

async fn refused(opened: Result<Postgres, StoreError>) -> String {
    match opened {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    }
}

/// An address of the shared server for a role of this name, which may do nothing yet.
fn role(desk: &Desk, name: &str) -> String {
    desk.run_sql(&format!("CREATE ROLE {name} LOGIN"));
    let url = Desk::url();
    let at = url.find('@').expect("has a user");
    format!("postgres://{name}{}", &url[at..])
}

#[tokio::test(flavor = "multi_thread")]
async fn six_openings_make_one_schema() {
    let desk = Desk::new();
    let opened = join_all((0..6).map(|_| desk.open())).await;
    for (n, store) in opened.iter().enumerate() {
        Hand::of(store).await.start(new_run(&n.to_string())).await;
    }
    assert_eq!(opened[0].counts().await.expect("counts").iter().map(|(_, _, n)| n).sum::<u64>(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_with_advice() {
    let desk = Desk::new();
    drop(desk.open().await);
    desk.run_sql(&format!("UPDATE {} SET value = 99 WHERE key = 'schema'", desk.table("everstep_meta")));
    let why = refused(desk.options().open(&Desk::url()).await).await;
    assert!(why.contains("schema 99") && why.contains("run a newer version"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_of_a_schema_is_refused_before_anything_is_asked() {
    let long = "a".repeat(41);
    for name in ["", "Upper", "a b", "a\"b", "ü", "a;b", &long] {
        let why =
            refused(Postgres::options().schema(name).open("postgres://nobody@/nothing?host=/nowhere").await)
                .await;
        assert!(why.contains("is no schema's name"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_is_told_who_may() {
    let desk = Desk::new();
    let name = desk.table("").trim_end_matches('.').replace("test", "role");
    let url = role(&desk, &name);
    let why = refused(desk.options().open(&url).await).await;
    assert!(why.contains("as the owner of the schema") && why.contains("42501"), "{why}");
    // The right to create in the schema is enough: it need not be one to create schemas.
    let schema = desk.table("").trim_end_matches('.').to_string();
    desk.run_sql(&format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {name}"));
    let store = desk.options().open(&url).await.expect("opens");
    Hand::of(&store).await.start(new_run("a")).await;
    drop(store);
    desk.run_sql(&format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}"));
}

/// A worker whose count went back, as behind a pooler that hides a failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_made_before_ends_the_opening() {
    let desk = Desk::new();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let (mut lost, mut kept) = (hand.start(new_run("lost")).await, hand.start(new_run("kept")).await);
    lost.adds(1).await;
    kept.adds(1).await;
    for _ in 0..3 {
        store.beat(hand.fence).await.expect("renews");
    }
    let [worker, journal] = ["everstep_worker", "everstep_journal"].map(|name| desk.table(name));
    desk.run_sql(&format!(
        "UPDATE {worker} SET beat = 1; DELETE FROM {journal} WHERE seq = 1 AND run = {}",
        lost.run.0
    ));
    let Err(StoreError::Closed(why)) = store.beat(hand.fence).await else { panic!("it renews") };
    assert!(why.contains("went back in time") && why.contains("1 of the runs"), "{why}");
    assert!(kept.adds(2).await.contains("went back in time"));
    let again = desk.open().await;
    let stuck = again.stuck(lost.run).await.expect("reads").expect("is stuck");
    assert_eq!(stuck.reason, StuckReason::JournalDamaged);
    assert_eq!(again.run("kept".into()).await.expect("reads").expect("is there").status, Status::Running);
}

/// A failover to a server that had not got the last commits: an older copy of the cluster in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_commits_makes_their_runs_stuck_and_ends_the_opening() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let proxy = Proxy::start(&cluster.url("postgres")).await.expect("listens");
    let store = Postgres::open(&proxy.url()).await.expect("opens");
    let hand = Hand::of(&store).await;
    let (mut ahead, mut even) = (hand.start(new_run("ahead")).await, hand.start(new_run("even")).await);
    ahead.adds(1).await;
    even.adds(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let older = folder.path().join("older");
    cluster.stop(Mode::Fast).expect("stops");
    cluster.copy_to(&older).expect("copies");
    cluster.start().expect("starts");
    // No transaction with a name is among what is lost: the journals alone tell.
    assert_eq!(ahead.adds(2).await, "next 3");
    cluster.stop(Mode::Immediate).expect("stops");
    cluster.start_from(&older).expect("starts");
    let told = ahead.adds(3).await;
    assert!(told.contains("went back in time"), "{told}");
    assert!(matches!(store.run("even".into()).await, Err(StoreError::Closed(_))), "nothing goes on");
    let again = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    let stuck = again.stuck(ahead.run).await.expect("reads").expect("is stuck");
    assert_eq!(stuck.reason, StuckReason::JournalDamaged);
    let other = Hand::of(&again).await;
    assert_eq!(other.takes_over(&hand).await, 1);
    assert_eq!(other.claims().await[0].1.adds(2).await, "next 3", "the other goes on");
}

/// The same when it is a run that is lost altogether: its start is in no journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_a_named_transaction_ends_the_opening() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let store = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    let hand = Hand::of(&store).await;
    let folder = tempfile::tempdir().expect("a folder");
    let older = folder.path().join("older");
    cluster.stop(Mode::Fast).expect("stops");
    cluster.copy_to(&older).expect("copies");
    cluster.start().expect("starts");
    let mut held = hand.start(new_run("a")).await;
    assert_eq!(held.ends(parked()).await, "next 1");
    let second = Hand::of(&store).await;
    cluster.stop(Mode::Immediate).expect("stops");
    cluster.start_from(&older).expect("starts");
    let told = loop {
        match store.nudged(second.fence).await {
            Err(StoreError::Full(_)) => {}
            told => break told,
        }
    };
    assert!(matches!(told, Err(StoreError::Closed(_))), "{told:?}");
}

/// What was parked since is owned in the older copy, and what was taken over since is another's there.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_an_end_or_a_takeover_makes_their_runs_stuck() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let store = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    let (first, second) = (Hand::of(&store).await, Hand::of(&store).await);
    let mut parks = second.start(new_run("parks")).await;
    let mut ends = second.start(new_run("ends")).await;
    let moves = first.start(new_run("moves")).await.run;
    let mut stays = second.start(new_run("stays")).await;
    stays.adds(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let older = folder.path().join("older");
    cluster.stop(Mode::Fast).expect("stops");
    cluster.copy_to(&older).expect("copies");
    cluster.start().expect("starts");
    parks.adds(1).await;
    assert_eq!(parks.ends(parked()).await, "next 2");
    assert_eq!(ends.ends(finished()).await, "next 1");
    assert_eq!(second.takes_over(&first).await, 1);
    let mut claimed = second.claims().await;
    let (_, held) = claimed.iter_mut().find(|(id, _)| id == "moves").expect("is free");
    assert_eq!(held.adds(1).await, "next 2");
    cluster.stop(Mode::Immediate).expect("stops");
    cluster.start_from(&older).expect("starts");
    let told = stays.adds(2).await;
    assert!(told.contains("went back in time") && told.contains("3 of the runs"), "{told}");
    let again = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    for run in [parks.run, ends.run, moves] {
        let stuck = again.stuck(run).await.expect("reads").expect("is stuck");
        assert_eq!(stuck.reason, StuckReason::JournalDamaged);
        assert!(stuck.detail.contains("went back in time"), "{}", stuck.detail);
    }
    assert!(again.stuck(stays.run).await.expect("reads").is_none(), "nothing of it is lost");
}

/// Whoever read from it would miss what the primary has acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_taken_for_the_database() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    drop(Postgres::open(&cluster.url("postgres")).await.expect("opens"));
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("standby");
    cluster.stop(Mode::Fast).expect("stops");
    cluster.copy_to(&copy).expect("copies");
    std::fs::write(copy.join("standby.signal"), "").expect("writes");
    cluster.start_from(&copy).expect("starts");
    let why = refused(Postgres::open(&cluster.url("postgres")).await).await;
    assert!(why.contains("is a standby"), "{why}");
}

/// As after a copy: whoever says so goes on with it, in all ways of starting.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_moved_opens_and_goes_on_only_by_force() {
    let desk = Desk::new();
    let store = desk.open().await;
    let mark = |stage| Some(CopyMark { copy: CopyId(1), stage, other: "sqlite:app.db".into(), at: at(1) });
    let transfer = store.transfer().expect("moves");
    transfer.set_copy_mark(None, mark(CopyStage::Leaving)).await.expect("marks");
    transfer.set_copy_mark(mark(CopyStage::Leaving), mark(CopyStage::Moved)).await.expect("marks");
    drop(store);
    let why = refused(desk.options().open(&Desk::url()).await).await;
    assert!(why.contains("sqlite:app.db"), "{why}");
    let forced = desk.options().accept_moved(true).open(&Desk::url()).await.expect("opens");
    let hand = Hand::of(&forced).await;
    let mut held = hand.start(new_run("a")).await;
    assert_eq!(held.adds(1).await, "next 2");
    let mut client = desk.connects().await;
    let tx = client.transaction().await.expect("begins");
    let run = Client::new(forced.clone()).start_in(&tx, Workflow::<u64, u64>::new("flow"), "b", 1).await;
    run.expect("starts");
    tx.commit().await.expect("commits");
    assert!(forced.run("b".into()).await.expect("reads").is_some());
}

/// A transaction that sees an old state did not see the mark: what it started was acknowledged, and copied nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_a_transaction_that_sees_the_time_before_a_copy_is_refused() {
    let desk = Desk::new();
    let store = desk.open().await;
    let mut client = desk.connects().await;
    let tx = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await;
    let tx = tx.expect("begins");
    tx.query_one("SELECT 1", &[]).await.expect("sees");
    let mark = CopyMark { copy: CopyId(1), stage: CopyStage::Leaving, other: "x".into(), at: at(1) };
    store.transfer().expect("moves").set_copy_mark(None, Some(mark)).await.expect("marks");
    let run = Client::new(store).start_in(&tx, Workflow::<u64, u64>::new("flow"), "a", 1).await;
    let why = run.expect_err("is marked").to_string();
    assert!(why.contains("copy") || why.contains("copied"), "{why}");
}
