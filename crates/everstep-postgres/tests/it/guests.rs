//! Starts and signals that commit with the user's own rows.

use std::time::Duration;

use everstep_core::{
    Client, Code, Ctx, Engine, Result, Settings, Signal, Simulation, Status, Workflow, store::Memory,
};
use everstep_postgres::{
    SignalIn as _, StartIn as _, Transaction as _,
    tokio_postgres::{self, IsolationLevel},
};

use crate::fixture::Desk;

const PAID: Signal<i64> = Signal::new("paid");
const ORDER: Workflow<u32, i64> = Workflow::new("order");
const CASHIER: Workflow<Vec<String>, i64> = Workflow::new("cashier");

/// Waits for so many payments.
async fn order(ctx: Ctx, payments: u32) -> Result<i64> {
    let mut sum = 0;
    for _ in 0..payments {
        sum += ctx.signal(PAID).await?;
    }
    Ok(sum)
}

/// Books a payment of each order, tells the order of it, and starts one more, in one transaction; the last signal is for
/// itself.
async fn cashier(ctx: Ctx, orders: Vec<String>, (client, payment): (Client, String)) -> Result<i64> {
    let own = ctx.id().to_string();
    ctx.transaction("book", async |tx| {
        for id in orders.iter().chain([&own]) {
            tx.execute(&format!("INSERT INTO {payment} VALUES ($1, 7)"), &[id]).await?;
            client.signal_in(&tx, id.as_str(), PAID, 7).await?;
        }
        client.start_in(&tx, ORDER, format!("{own}/next"), 0).await?;
        Ok(())
    })
    .await?;
    ctx.signal(PAID).await
}

struct Shop {
    desk: Desk,
    own: tokio_postgres::Client,
}

impl Shop {
    async fn new(settings: Settings) -> (Shop, Engine) {
        let desk = Desk::new();
        let payment = desk.table("payment");
        desk.run_sql(&format!("CREATE TABLE {payment} (run text, cents int8)"));
        let store = desk.open().await;
        let builder = Engine::builder(store.clone()).register(ORDER, order);
        let builder = builder.state((Client::new(store), payment)).register(CASHIER, cashier);
        let engine = builder.settings(settings).start().await.expect("starts");
        let own = everstep_cluster::Cluster::shared().expect("a server").connect("postgres").await;
        (Shop { desk, own: own.expect("connects") }, engine)
    }

    async fn payments(&self) -> i64 {
        let count = format!("SELECT count(*) FROM {}", self.desk.table("payment"));
        self.own.query_one(&count, &[]).await.expect("counts").get(0)
    }

    /// A payment and its signal in one transaction, which is committed or not.
    async fn pay(&mut self, client: &Client, id: &str, cents: i64, commit: bool) {
        let insert = format!("INSERT INTO {} VALUES ($1, $2)", self.desk.table("payment"));
        let tx = self.own.transaction().await.expect("begins");
        tx.execute(&insert, &[&id, &cents]).await.expect("pays");
        client.signal_in(&tx, id, PAID, cents).await.expect("sends");
        let ended = if commit { tx.commit().await } else { tx.rollback().await };
        ended.expect("ends");
    }
}

/// In memory or out of it: the run is woken by the commit of a connection that nobody of the engine's knows.
#[tokio::test]
async fn a_signal_commits_with_the_users_own_rows() {
    for park_after in [Duration::ZERO, Duration::MAX] {
        let (mut shop, engine) = Shop::new(Settings { park_after, ..Settings::default() }).await;
        let run = engine.start(ORDER, "o-1", 2).await.expect("starts");
        shop.pay(&engine, "o-1", 1_000, false).await;
        shop.pay(&engine, "o-1", 20, true).await;
        shop.pay(&engine, "o-1", 3, true).await;
        assert_eq!(run.result().await.expect("ends"), 23, "what was rolled back reached nobody");
        assert_eq!(shop.payments().await, 2);
        engine.shutdown().await.expect("ends");
    }
}

#[tokio::test]
async fn a_start_commits_with_the_users_own_rows() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    for level in [IsolationLevel::ReadCommitted, IsolationLevel::Serializable] {
        let id = format!("{level:?}");
        let tx = shop.own.build_transaction().isolation_level(level).start().await.expect("begins");
        let run = engine.start_in(&tx, ORDER, &*id, 1).await.expect("starts");
        engine.signal_in(&tx, &*id, PAID, 8).await.expect("it is there inside");
        tx.rollback().await.expect("ends");
        assert_eq!(engine.get(ORDER, &*id).await.expect_err("rolled back").code(), Code::NOT_FOUND);
        drop(run);

        let tx = shop.own.build_transaction().isolation_level(level).start().await.expect("begins");
        let run = engine.start_in(&tx, ORDER, &*id, 1).await.expect("starts");
        engine.start_in(&tx, ORDER, &*id, 1).await.expect("the same start");
        let other = engine.start_in(&tx, ORDER, &*id, 2).await.expect_err("another input");
        assert_eq!(other.code(), Code::CONFLICT);
        engine.signal_in(&tx, &*id, PAID, 9).await.expect("sends");
        tx.commit().await.expect("the transaction has not failed");
        assert_eq!(run.result().await.expect("ends"), 9);
        assert_eq!(run.status().await.expect("reads"), Status::Completed);
    }
    engine.shutdown().await.expect("ends");
}

/// A web process: a client, and no engine.
#[tokio::test]
async fn another_process_wakes_the_run_of_a_worker() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    let run = engine.start(ORDER, "o-1", 1).await.expect("starts");
    let client = Client::new(shop.desk.open().await);
    shop.pay(&client, "o-1", 5, true).await;
    assert_eq!(run.result().await.expect("ends"), 5);
    engine.shutdown().await.expect("ends");
}

#[tokio::test]
async fn a_key_makes_it_one_signal_in_transactions_and_outside() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    let run = engine.start(ORDER, "o-1", 2).await.expect("starts");
    for _ in 0..2 {
        let tx = shop.own.transaction().await.expect("begins");
        engine.signal_in_once(&tx, "o-1", PAID, 20, "p-1").await.expect("sends");
        engine.signal_in_once(&tx, "o-1", PAID, 20, "p-1").await.expect("it is known");
        tx.commit().await.expect("commits");
    }
    engine.signal("o-1", PAID, 20).key("p-1").await.expect("it is known");
    engine.signal("o-1", PAID, 3).key("p-2").await.expect("sends");
    assert_eq!(run.result().await.expect("ends"), 23);
    assert!(run.undelivered().await.expect("reads").is_empty());
    engine.shutdown().await.expect("ends");
}

/// The user hears it and decides about his own rows.
#[tokio::test]
async fn what_cannot_be_sent_is_an_error_and_undoes_nothing() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    assert_eq!(engine.run(ORDER, "o-1", 0).await.expect("ends"), 0);
    let insert = format!("INSERT INTO {} VALUES ('nobody', 1)", shop.desk.table("payment"));
    let tx = shop.own.transaction().await.expect("begins");
    tx.execute(&insert, &[]).await.expect("inserts");
    let over = engine.signal_in(&tx, "o-1", PAID, 1).await.expect_err("it is over");
    assert_eq!(over.code(), Code::NOT_ALLOWED);
    let missing = engine.signal_in(&tx, "o-2", PAID, 1).await.expect_err("it is not there");
    assert_eq!(missing.code(), Code::NOT_FOUND);
    let name = engine.signal_in(&tx, "o-1", "a/b", 1).await.expect_err("no name");
    assert_eq!(name.code(), Code::BAD_NAME);
    tx.commit().await.expect("the transaction has not failed");
    assert_eq!(shop.payments().await, 1);
    engine.shutdown().await.expect("ends");
}

/// Nobody has asked for that time.
#[tokio::test]
async fn a_start_in_a_transaction_by_a_clock_that_is_ahead_waits_for_nothing() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    let world = Simulation::new(1);
    world.set_clock_error(100 * 365 * 86_400 * 1_000_000);
    let ahead = Client::simulated(shop.desk.open().await, &world);
    let tx = shop.own.transaction().await.expect("begins");
    ahead.start_in(&tx, ORDER, "o-1", 0).await.expect("starts");
    tx.commit().await.expect("commits");
    let run = engine.get(ORDER, "o-1").await.expect("is there");
    assert_eq!(run.result().await.expect("ends"), 0);
    engine.shutdown().await.expect("ends");
}

/// They are written one after the other: what undoes the one that fails leaves the other alone.
#[tokio::test]
async fn two_side_by_side_in_a_transaction_do_not_undo_each_other() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    engine.start(ORDER, "o-1", 1).await.expect("starts");
    shop.desk
        .run_sql(&format!("ALTER TABLE {} ADD CHECK (name <> 'never')", shop.desk.table("everstep_inbox")));
    let tx = shop.own.transaction().await.expect("begins");
    let (started, sent, second) = tokio::join!(
        engine.start_in(&tx, ORDER, "o-2", 0),
        engine.signal_in(&tx, "o-1", Signal::<i64>::new("never"), 1),
        engine.start_in(&tx, ORDER, "o-3", 0),
    );
    let (started, second) = (started.expect("starts"), second.expect("starts"));
    assert!(sent.expect_err("the database refuses it").to_string().contains("23514"));
    tx.commit().await.expect("the transaction has not failed");
    assert_eq!(started.result().await.expect("it is there") + second.result().await.expect("as well"), 0);
    engine.shutdown().await.expect("ends");
}

/// The database could not put a signal of a step's transaction in an order with others: the step is not asked.
#[tokio::test]
async fn a_signal_without_a_place_in_the_order_has_its_transaction_run_again() {
    let (shop, engine) = Shop::new(Settings::default()).await;
    engine.start(ORDER, "o-1", 1).await.expect("starts");
    let [inbox, once, refuse] = ["everstep_inbox", "once", "refuse"].map(|name| shop.desk.table(name));
    shop.desk.run_sql(&format!(
        "CREATE SEQUENCE {once};
         CREATE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF nextval('{once}') = 1 THEN RAISE EXCEPTION 'oh' USING ERRCODE = '40001'; END IF;
           RETURN new;
         END $$;
         CREATE TRIGGER refuses BEFORE INSERT ON {inbox} FOR EACH ROW WHEN (new.name = 'paid')
           EXECUTE FUNCTION {refuse}()"
    ));
    assert_eq!(engine.run(CASHIER, "c-1", vec!["o-1".into()]).await.expect("ends"), 7);
    assert_eq!(shop.payments().await, 2, "what the first try booked is not there");
    engine.shutdown().await.expect("ends");
}

/// A client on which the user has begun a transaction by hand will do; one without a transaction will not.
#[tokio::test]
async fn without_a_transaction_nothing_is_written() {
    let (shop, engine) = Shop::new(Settings::default()).await;
    let refused = engine.start_in(&shop.own, ORDER, "o-1", 0).await.expect_err("nothing is open");
    assert!(refused.to_string().contains("no open transaction"), "{refused}");
    shop.own.batch_execute("BEGIN").await.expect("begins");
    let run = engine.start_in(&shop.own, ORDER, "o-1", 0).await.expect("starts");
    shop.own.batch_execute("COMMIT").await.expect("commits");
    assert_eq!(run.result().await.expect("ends"), 0);
    engine.shutdown().await.expect("ends");
}

/// Numbers of one database mean nothing in another.
#[tokio::test]
async fn a_transaction_of_another_database_is_refused() {
    let (shop, engine) = Shop::new(Settings::default()).await;
    let cluster = everstep_cluster::Cluster::shared().expect("a server");
    let database = cluster.database().await.expect("is made");
    let mut elsewhere = database.connect().await.expect("connects");
    let mut refused = async || {
        let tx = elsewhere.transaction().await.expect("begins");
        let started = engine.start_in(&tx, ORDER, "o-1", 0).await.expect_err("elsewhere").to_string();
        let sent = engine.signal_in(&tx, "o-1", PAID, 1).await.expect_err("elsewhere").to_string();
        tx.execute("SELECT 1", &[]).await.expect("the transaction has not failed");
        [started, sent]
    };
    let without_tables = refused().await;
    let other = shop.desk.options().open(&database.url()).await.expect("the same schema, elsewhere");
    let with_tables = refused().await;
    for text in without_tables.iter().chain(&with_tables) {
        assert!(text.contains("of another database than the store"), "{text}");
    }
    drop(other);
    engine.shutdown().await.expect("ends");
}

#[tokio::test]
async fn a_client_of_another_store_is_named() {
    let (mut shop, engine) = Shop::new(Settings::default()).await;
    let client = Client::new(Memory::default());
    let tx = shop.own.transaction().await.expect("begins");
    let started = client.start_in(&tx, ORDER, "o-1", 0).await.expect_err("memory");
    let sent = client.signal_in(&tx, "o-1", PAID, 1).await.expect_err("memory");
    for error in [started, sent] {
        assert_eq!(error.code(), Code::WRONG_STORE);
        let text = error.to_string();
        assert!(text.contains("`postgres`") && text.contains("`memory`"), "{text}");
    }
    tx.rollback().await.expect("ends");
    engine.shutdown().await.expect("ends");
}

/// One transaction of a step books, tells runs that wait in memory and out of it, and itself, and starts another; what fails
/// tells nobody.
#[tokio::test]
async fn a_transactional_step_tells_others_with_its_record() {
    for park_after in [Duration::ZERO, Duration::MAX] {
        let (shop, engine) = Shop::new(Settings { park_after, ..Settings::default() }).await;
        let orders = ["o-1", "o-2"].map(str::to_string).to_vec();
        for id in &orders {
            engine.start(ORDER, id, 1).await.expect("starts");
        }
        let unknown = [orders.clone(), vec!["nobody".to_string()]].concat();
        let refused = engine.run(CASHIER, "c-1", unknown).await.expect_err("one is not there");
        assert!(refused.to_string().contains("there is no run `nobody`"), "{refused}");
        assert_eq!(shop.payments().await, 0);
        assert_eq!(engine.run(CASHIER, "c-2", orders.clone()).await.expect("ends"), 7, "its own came, too");
        for id in orders.iter().map(|id| (id.as_str(), 7)).chain([("c-2/next", 0)]) {
            let run = engine.get(ORDER, id.0).await.expect("is there");
            assert_eq!(run.result().await.expect("ends"), id.1);
        }
        assert_eq!(shop.payments().await, 3);
        engine.shutdown().await.expect("ends");
    }
}
