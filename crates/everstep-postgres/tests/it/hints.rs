//! What openings tell each other, what they look for when nothing is told, and how little that is while they are idle.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use everstep_cluster::proxy::{Direction, Fault, Moment, Proxy};
use everstep_core::{Client as Caller, Ctx, Engine, Settings, Status, store::Inspect as _};
use everstep_postgres::{
    Postgres,
    tokio_postgres::{self, AsyncMessage, Client, NoTls},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    fixture::Desk,
    workers::{END, GO, WAITS, WHO, settings, soon, until, worker},
};

/// Strikes without doing anything: so that it is counted.
fn harmless() -> Fault {
    Fault::Delay(Direction::Both, Duration::ZERO)
}

/// Hears what is told on these channels: where, and what.
async fn ear(channels: &[String]) -> (Client, UnboundedReceiver<(String, String)>) {
    let connected = tokio_postgres::connect(&Desk::url(), NoTls).await;
    let (client, mut connection) = connected.expect("connects");
    let (send, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(hint) = message
                && !hint.payload().starts_with("test ")
            {
                let _ = send.send((hint.channel().to_string(), hint.payload().to_string()));
            }
        }
    });
    for channel in channels {
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await.expect("listens");
    }
    (client, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_told_to_the_worker_that_has_the_run_and_to_nobody_else() {
    let desk = Desk::new();
    let stays = Settings { park_after: Duration::MAX, ..settings() };
    let (engine, store) = worker(&desk, "here", stays).await;
    let run = engine.start(WAITS, "r", 1).await.expect("starts");
    let owner = store.run("r".into()).await.expect("reads").expect("is there").owner.expect("is owned");
    let client = Caller::new(desk.open().await);
    let schema = desk.table("").trim_end_matches('.').to_string();
    let [all, own, another] = [
        format!("everstep {schema}"),
        format!("es {schema} {}", owner.0),
        format!("es {schema} {}", owner.0 + 1),
    ];
    let (_listens, mut heard) = ear(&[all.clone(), own.clone(), another]).await;
    client.signal("r", GO, 1).await.expect("is sent");
    soon(run.result()).await.expect("ends");
    let mut letters = 0;
    loop {
        let (channel, text) = soon(heard.recv()).await.expect("something is told");
        if channel == all {
            assert!(text.starts_with("said "), "nothing is due: {text}");
            break;
        }
        assert_eq!(channel, own);
        letters += 1;
    }
    assert_eq!(letters, 1, "before the end of the run is told");
    engine.shutdown().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_and_what_is_over_are_told_apart() {
    let desk = Desk::new();
    let all = format!("everstep {}", desk.table("").trim_end_matches('.'));
    let (engine, _store) = worker(&desk, "here", settings()).await;
    let client = Caller::new(desk.open().await);
    let (_listens, mut heard) = ear(&[all]).await;
    let run = client.start(WHO, "r", 1).await.expect("starts");
    soon(run.result()).await.expect("ends");
    let mut told = Vec::new();
    while told != ["due", "said"] {
        let (_, text) = soon(heard.recv()).await.expect("something is told");
        told.push(text.split_once(' ').expect("two words").0.to_string());
        assert!(told.len() < 3, "{told:?}");
    }
    engine.shutdown().await.expect("leaves");
}

/// Beside its beats it asks two questions a second at most, and opens no transaction.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "how often it asks is measured")]
async fn an_idle_worker_asks_little_and_writes_only_that_it_lives() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let store = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    let beats = proxy.at(Moment::before("SET beat = beat + 1").every(), harmless());
    let who = async |_: Ctx, _: u64| Ok(String::new());
    let engine = Engine::builder(store).register(WHO, who).start().await.expect("starts");
    // What it does when it begins is over.
    soon(beats.reaches(2)).await;
    let asked = proxy.at(Moment::before("").every(), harmless());
    let begun = proxy.at(Moment::before("BEGIN").every(), harmless());
    let (before, since) = (beats.count(), Instant::now());
    soon(beats.reaches(before + 4)).await;
    let took = since.elapsed().as_secs_f64();
    let beats = beats.count() - before;
    assert_eq!(begun.count(), 0, "transactions within {took} s");
    let most = beats + 2 * took.ceil() as usize;
    assert!((1..=most).contains(&asked.count()), "{} statements within {took} s", asked.count());
    engine.shutdown().await.expect("leaves");
}

/// Each claim in vain was a transaction that wrote, a hundred times a second.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "how often it asks is measured")]
async fn a_due_run_that_somebody_has_locked_is_tried_ever_more_seldom() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let client = Caller::new(desk.open().await);
    let run = client.start(WHO, "r", 1).await.expect("starts");
    let mut other = desk.connects().await;
    let locked = other.transaction().await.expect("begins");
    let lock = format!("SELECT 1 FROM {} FOR UPDATE", desk.table("everstep_run"));
    locked.batch_execute(&lock).await.expect("locks");
    let store = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    let claims = proxy.at(Moment::before("BEGIN").every(), harmless());
    let who = async |_: Ctx, _: u64| Ok("at last".to_string());
    let engine = Engine::builder(store).register(WHO, who).start().await.expect("starts");
    let (before, since) = (claims.count(), Instant::now());
    soon(claims.reaches(before + 24)).await;
    let took = since.elapsed();
    assert!(took > Duration::from_secs(1), "24 transactions within {took:?}");
    locked.rollback().await.expect("rolls back");
    assert_eq!(soon(run.result()).await.expect("ends"), "at last");
    engine.shutdown().await.expect("leaves");
}

/// Whoever drives runs behind a pooler hears no hints, and yet gives them: else those who wait elsewhere never wake.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_behind_a_pooler_is_told_to_those_who_wait_elsewhere() {
    let desk = Desk::new();
    let pooled = desk.options().pooled(true).open(&Desk::url()).await.expect("opens");
    ends_elsewhere(&desk, pooled, async || ()).await;
}

/// Whoever waited for one run behind a pooler asked the database fifty times a second, for as long as the run took.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "how often it asks is measured")]
async fn a_long_wait_behind_a_pooler_asks_ever_more_seldom() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let pooled = desk.options().pooled(true).open(&proxy.url_of("postgres")).await.expect("opens");
    let client = Caller::new(pooled);
    let run = client.start(WAITS, "r", 1).await.expect("starts");
    // Nobody drives it.
    let waiting = tokio::spawn(async move { run.result().await });
    let (asked, since) = (proxy.at(Moment::before("SELECT").every(), harmless()), Instant::now());
    soon(asked.reaches(20)).await;
    let took = since.elapsed();
    assert!(took > Duration::from_secs(2), "20 questions within {took:?}");
    waiting.abort();
}

/// The process that owed the hint could not give it. Those who wait look now and then themselves.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_which_the_hint_is_lost_is_seen_by_those_who_wait() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let near = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    let lost = async || {
        let hint = Moment::before("pg_notify").every();
        let lost = proxy.at(hint, Fault::Hold(Direction::ToServer));
        // Whatever it tells.
        let client = Caller::new(near.clone());
        client.signal("r", GO, 0).await.expect("is sent");
        soon(lost.happened()).await;
    };
    ends_elsewhere(&desk, near.clone(), lost).await;
    proxy.heal().await;
}

/// The line is cut before the server gets the hint: the next one begins with a hint to itself, and gives the other after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_is_cut_is_given_on_the_next_line() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let hints = proxy.at(Moment::after("pg_notify").every(), harmless());
    let near = desk.options().open(&proxy.url_of("postgres")).await.expect("opens");
    // To itself.
    soon(hints.reaches(1)).await;
    let cut = proxy.at(Moment::before("pg_notify"), Fault::Cut);
    let client = Caller::new(near.clone());
    client.start(WAITS, "r", 1).await.expect("starts");
    soon(cut.happened()).await;
    soon(hints.reaches(3)).await;
}

/// A run ends in an engine on `store` while somebody waits for it in another opening. `before` comes between.
async fn ends_elsewhere(desk: &Desk, store: Postgres, before: impl AsyncFnOnce()) {
    let waits = async |ctx: Ctx, _: u64| {
        ctx.signal(END).await?;
        Ok("over".to_string())
    };
    let engine = Engine::builder(store).register(WAITS, waits).settings(settings()).start().await;
    let engine = engine.expect("it starts");
    let elsewhere = Caller::new(desk.open().await);
    let run = elsewhere.start(WAITS, "r", 1).await.expect("starts");
    until(async || run.status().await.expect("looks") == Status::Waiting).await;
    let waiting = tokio::spawn(async move { run.result().await });
    before().await;
    engine.signal("r", END, 1).await.expect("is sent");
    assert_eq!(soon(waiting).await.expect("no panic").expect("ends"), "over");
    soon(engine.shutdown()).await.expect("leaves");
}
