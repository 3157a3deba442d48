//! Money moved on SQLite, exactly once: with the step's record, with the start of a run, and across a worker that goes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use everstep::{
    Code, Ctx, Engine, Error, Result, Settings, Status, Workflow,
    sqlite::{Sqlite, StartIn as _, Transaction as _, rusqlite::Connection},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Transfer {
    from: String,
    to: String,
    cents: i64,
}

fn transfer_of(cents: i64) -> Transfer {
    Transfer { from: "ada".to_string(), to: "bob".to_string(), cents }
}

const TRANSFER: Workflow<Transfer, i64> = Workflow::new("transfer");

/// Notifies the bank's clerk between the two halves; while `busy`, the clerk does not answer.
#[derive(Clone, Default)]
struct Clerk {
    asked: Arc<AtomicU64>,
    busy: bool,
}

async fn transfer(ctx: Ctx, t: Transfer, clerk: Clerk) -> Result<i64> {
    ctx.transaction("debit", {
        let t = t.clone();
        move |tx| {
            let taken = tx.execute(
                "UPDATE account SET cents = cents - ?2 WHERE id = ?1 AND cents >= ?2",
                (&t.from, t.cents),
            )?;
            if taken == 0 {
                return Err(Error::terminal("not enough money"));
            }
            Ok(())
        }
    })
    .await?;
    ctx.step("tell the clerk", async || {
        clerk.asked.fetch_add(1, Ordering::SeqCst);
        match clerk.busy {
            true => std::future::pending().await,
            false => Ok(()),
        }
    })
    .await?;
    ctx.transaction("credit", move |tx| {
        tx.execute("UPDATE account SET cents = cents + ?2 WHERE id = ?1", (&t.to, t.cents))?;
        Ok(tx.query_row("SELECT cents FROM account WHERE id = ?1", [&t.to], |row| row.get(0))?)
    })
    .await
}

struct Bank {
    folder: tempfile::TempDir,
    own: Connection,
}

impl Bank {
    fn new() -> anyhow::Result<Bank> {
        let folder = tempfile::tempdir()?;
        let own = Connection::open(folder.path().join("bank.db"))?;
        own.execute_batch(
            "CREATE TABLE account (id TEXT PRIMARY KEY, cents INTEGER NOT NULL);
             INSERT INTO account VALUES ('ada', 100), ('bob', 0);",
        )?;
        Ok(Bank { folder, own })
    }

    async fn engine(&self, clerk: Clerk) -> anyhow::Result<Engine> {
        let builder = Engine::builder(Sqlite::open(self.folder.path().join("bank.db"))?)
            .state(clerk)
            .register(TRANSFER, transfer)
            .settings(Settings { grace: std::time::Duration::ZERO, ..Settings::default() });
        Ok(builder.start().await?)
    }

    fn cents(&self, id: &str) -> anyhow::Result<i64> {
        Ok(self.own.query_row("SELECT cents FROM account WHERE id = ?1", [id], |row| row.get(0))?)
    }
}

#[tokio::test]
async fn money_moves_once_and_never_without_its_record() -> anyhow::Result<()> {
    let bank = Bank::new()?;
    let clerk = Clerk::default();
    let engine = bank.engine(clerk.clone()).await?;
    assert_eq!(engine.run(TRANSFER, "t-1", transfer_of(70)).await?, 70);
    let refused = engine.run(TRANSFER, "t-2", transfer_of(70)).await.expect_err("30 are left");
    assert_eq!(refused.to_string(), "not enough money");
    assert_eq!(engine.run(TRANSFER, "t-1", transfer_of(70)).await?, 70, "the same run");
    assert_eq!((bank.cents("ada")?, bank.cents("bob")?), (30, 70));
    assert_eq!(clerk.asked.load(Ordering::SeqCst), 1);
    engine.shutdown().await?;
    Ok(())
}

/// The worker goes between the two halves; the next one replays the first and does the second.
#[tokio::test]
async fn a_transfer_goes_on_with_another_worker() -> anyhow::Result<()> {
    let bank = Bank::new()?;
    let busy = Clerk { busy: true, ..Clerk::default() };
    let engine = bank.engine(busy.clone()).await?;
    let mut events = engine.events();
    engine.start(TRANSFER, "t-1", transfer_of(70)).await?;
    while busy.asked.load(Ordering::SeqCst) == 0 {
        events.next().await.expect("the engine is there");
        tokio::task::yield_now().await;
    }
    assert_eq!((bank.cents("ada")?, bank.cents("bob")?), (30, 0), "half of it is done");
    engine.shutdown().await?;

    let engine = bank.engine(Clerk { asked: busy.asked.clone(), busy: false }).await?;
    let run = engine.get(TRANSFER, "t-1").await?;
    assert_eq!(run.result().await?, 70);
    assert_eq!((bank.cents("ada")?, bank.cents("bob")?), (30, 70), "the first half was not done again");
    engine.shutdown().await?;
    Ok(())
}

/// A start in the user's own transaction: the wish and the run, or neither.
#[tokio::test]
async fn a_start_commits_with_the_users_own_rows() -> anyhow::Result<()> {
    let mut bank = Bank::new()?;
    let engine = bank.engine(Clerk::default()).await?;
    bank.own.execute("CREATE TABLE wish (id TEXT PRIMARY KEY)", [])?;
    let tx = bank.own.transaction()?;
    tx.execute("INSERT INTO wish VALUES ('w-1')", [])?;
    engine.start_in(&tx, TRANSFER, "w-1", transfer_of(5))?;
    tx.rollback()?;
    assert_eq!(engine.get(TRANSFER, "w-1").await.expect_err("rolled back").code(), Code::NOT_FOUND);

    let tx = bank.own.transaction()?;
    tx.execute("INSERT INTO wish VALUES ('w-1')", [])?;
    let run = engine.start_in(&tx, TRANSFER, "w-1", transfer_of(5))?;
    tx.commit()?;
    assert_eq!(run.result().await?, 5);
    assert_eq!(run.status().await?, Status::Completed);
    engine.shutdown().await?;
    Ok(())
}

/// What belongs to another store is refused with the names of both.
#[test]
fn a_transaction_of_another_store_is_refused() {
    let refused = crate::play(
        |builder| builder.state(Clerk::default()).register(TRANSFER, transfer),
        TRANSFER,
        transfer_of(1),
    );
    let error = refused.expect_err("memory is no SQLite");
    assert_eq!(error.code(), Code::WRONG_STORE);
    assert!(error.to_string().contains("`sqlite`") && error.to_string().contains("`memory`"), "{error}");
}

const LONG: Workflow<usize, String> = Workflow::new("long");

/// The limits of the settings hold for what a transaction records, too; nothing is changed when it is over them.
#[tokio::test]
async fn a_transaction_keeps_the_limit_of_its_result() -> anyhow::Result<()> {
    let bank = Bank::new()?;
    let engine = Engine::builder(Sqlite::open(bank.folder.path().join("bank.db"))?)
        .register(LONG, async |ctx: Ctx, bytes: usize| {
            ctx.transaction("text", move |tx| {
                tx.execute("UPDATE account SET cents = cents + 1", [])?;
                Ok("x".repeat(bytes - 2))
            })
            .await
        })
        .settings(Settings { payload_bytes_max: 100, ..Settings::default() })
        .start()
        .await?;
    assert_eq!(engine.run(LONG, "at the limit", 100).await?.len(), 98);
    let refused = engine.run(LONG, "over", 101).await.expect_err("one byte over");
    assert_eq!(refused.code(), Code::TOO_LARGE);
    assert_eq!(bank.cents("ada")?, 101, "the first one counts, the second is rolled back");
    engine.shutdown().await?;
    Ok(())
}
