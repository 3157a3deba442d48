//! Signals that commit with the user's own rows: on a connection of his own, and in the transaction of a step.

use std::time::Duration;

use everstep::{
    Client, Code, Ctx, Engine, Result, Settings, Signal, Status, Workflow,
    sqlite::{SignalIn as _, Sqlite, StartIn as _, Transaction as _, rusqlite::Connection},
};

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

/// Books a payment of each order, and tells the order of it, in one transaction; the last one is for itself.
async fn cashier(ctx: Ctx, orders: Vec<String>, client: Client) -> Result<i64> {
    let own = ctx.id().to_string();
    ctx.transaction("book", move |tx| {
        for id in orders.iter().chain([&own]) {
            tx.execute("INSERT INTO payment VALUES (?1, 7)", [id])?;
            client.signal_in(tx, id.as_str(), PAID, 7)?;
        }
        Ok(())
    })
    .await?;
    ctx.signal(PAID).await
}

struct Shop {
    folder: tempfile::TempDir,
    own: Connection,
}

impl Shop {
    async fn new(settings: Settings) -> anyhow::Result<(Shop, Engine)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("shop.db");
        let store = Sqlite::open(&path)?;
        let builder = Engine::builder(store.clone()).register(ORDER, order);
        let engine = builder.state(Client::new(store)).register(CASHIER, cashier);
        let engine = engine.settings(settings).start().await?;
        let own = Connection::open(&path)?;
        own.busy_timeout(Duration::from_secs(10))?;
        own.execute_batch("CREATE TABLE payment (run TEXT, cents INTEGER)")?;
        Ok((Shop { folder, own }, engine))
    }

    fn payments(&self) -> anyhow::Result<i64> {
        Ok(self.own.query_row("SELECT count(*) FROM payment", [], |row| row.get(0))?)
    }

    /// A payment and its signal in one transaction, which is committed or not.
    fn pay(&mut self, client: &Client, id: &str, cents: i64, commit: bool) -> anyhow::Result<()> {
        let tx = self.own.transaction()?;
        tx.execute("INSERT INTO payment VALUES (?1, ?2)", (id, cents))?;
        client.signal_in(&tx, id, PAID, cents)?;
        match commit {
            true => tx.commit()?,
            false => tx.rollback()?,
        }
        Ok(())
    }
}

/// In memory or out of it: the run is woken by the commit of a connection that nobody of the engine's knows.
#[tokio::test]
async fn a_signal_commits_with_the_users_own_rows() -> anyhow::Result<()> {
    for park_after in [Duration::ZERO, Duration::MAX] {
        let settings = Settings { park_after, ..Settings::default() };
        let (mut shop, engine) = Shop::new(settings).await?;
        let run = engine.start(ORDER, "o-1", 2).await?;
        shop.pay(&engine, "o-1", 1_000, false)?;
        shop.pay(&engine, "o-1", 20, true)?;
        shop.pay(&engine, "o-1", 3, true)?;
        assert_eq!(run.result().await?, 23, "what was rolled back reached nobody");
        assert_eq!(shop.payments()?, 2);
        engine.shutdown().await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_process_wakes_the_run_of_a_worker() -> anyhow::Result<()> {
    let (shop, engine) = Shop::new(Settings::default()).await?;
    let run = engine.start(ORDER, "o-1", 1).await?;
    // A web process: the file, and no engine.
    let path = shop.folder.path().join("shop.db");
    let client = Client::new(Sqlite::open(&path)?);
    let mut web = Shop { own: Connection::open(&path)?, folder: tempfile::tempdir()? };
    web.pay(&client, "o-1", 5, true)?;
    assert_eq!(run.result().await?, 5);
    engine.shutdown().await?;
    Ok(())
}

#[tokio::test]
async fn a_key_makes_it_one_signal_in_transactions_and_outside() -> anyhow::Result<()> {
    let (mut shop, engine) = Shop::new(Settings::default()).await?;
    let run = engine.start(ORDER, "o-1", 2).await?;
    for _ in 0..2 {
        let tx = shop.own.transaction()?;
        engine.signal_in_once(&tx, "o-1", PAID, 20, "p-1")?;
        engine.signal_in_once(&tx, "o-1", PAID, 20, "p-1")?;
        tx.commit()?;
    }
    engine.signal("o-1", PAID, 20).key("p-1").await?;
    engine.signal("o-1", PAID, 3).key("p-2").await?;
    assert_eq!(run.result().await?, 23);
    assert!(run.undelivered().await?.is_empty());
    engine.shutdown().await?;
    Ok(())
}

/// The user hears it and decides about his own rows.
#[tokio::test]
async fn a_signal_to_a_run_that_is_over_or_not_there_is_an_error() -> anyhow::Result<()> {
    let (mut shop, engine) = Shop::new(Settings::default()).await?;
    assert_eq!(engine.run(ORDER, "o-1", 0).await?, 0);
    let tx = shop.own.transaction()?;
    tx.execute("INSERT INTO payment VALUES ('nobody', 1)", [])?;
    let over = engine.signal_in(&tx, "o-1", PAID, 1).expect_err("it is over");
    assert_eq!(over.code(), Code::NOT_ALLOWED);
    let missing = engine.signal_in(&tx, "o-2", PAID, 1).expect_err("it is not there");
    assert_eq!(missing.code(), Code::NOT_FOUND);
    let name = engine.signal_in(&tx, "o-1", "a/b", 1).expect_err("no name");
    assert_eq!(name.code(), Code::BAD_NAME);
    // One that begins in the same transaction gets it.
    let run = engine.start_in(&tx, ORDER, "o-2", 1)?;
    engine.signal_in(&tx, "o-2", PAID, 8)?;
    tx.commit()?;
    assert_eq!((run.result().await?, shop.payments()?), (8, 1));
    engine.shutdown().await?;
    Ok(())
}

/// One transaction of a step books, tells runs that wait in memory and out of it, and itself; what fails tells nobody.
#[tokio::test]
async fn a_transactional_step_tells_others_with_its_record() -> anyhow::Result<()> {
    for park_after in [Duration::ZERO, Duration::MAX] {
        let settings = Settings { park_after, ..Settings::default() };
        let (shop, engine) = Shop::new(settings).await?;
        let orders = ["o-1", "o-2"].map(str::to_string).to_vec();
        for id in &orders {
            engine.start(ORDER, id, 1).await?;
        }
        let unknown = [orders.clone(), vec!["nobody".to_string()]].concat();
        let refused = engine.run(CASHIER, "c-1", unknown).await.expect_err("one is not there");
        assert!(refused.to_string().contains("there is no run `nobody`"), "{refused}");
        assert_eq!(shop.payments()?, 0);
        assert_eq!(engine.run(CASHIER, "c-2", orders.clone()).await?, 7, "its own came, too");
        for id in &orders {
            let run = engine.get(ORDER, id).await?;
            assert_eq!((run.result().await?, run.status().await?), (7, Status::Completed));
        }
        assert_eq!(shop.payments()?, 3);
        engine.shutdown().await?;
    }
    Ok(())
}
