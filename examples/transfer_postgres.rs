//! A transactional step on PostgreSQL: the user's own rows and the step's record commit together, exactly once. And a start
//! that commits with the user's own rows. `transfer.rs` is the same on SQLite; compare them.

use everstep::{
    Ctx, Engine, Error, Result, Workflow,
    postgres::{Postgres, StartIn as _, Transaction as _, tokio_postgres},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Transfer {
    from: String,
    to: String,
    cents: i64,
}

const TRANSFER: Workflow<Transfer, i64> = Workflow::new("transfer");

async fn transfer(ctx: Ctx, t: Transfer) -> Result<i64> {
    let Transfer { from, to, cents } = t;
    // It runs on the run's own task, and borrows.
    ctx.transaction("move", async |tx| {
        let debit = "UPDATE account SET cents = cents - $2 WHERE id = $1 AND cents >= $2 RETURNING cents";
        let Some(left) = tx.query_opt(debit, &[&from, &cents]).await? else {
            return Err(Error::terminal("not enough money"));
        };
        tx.execute("UPDATE account SET cents = cents + $2 WHERE id = $1", &[&to, &cents]).await?;
        Ok(left.get(0))
    })
    .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let url =
        everstep_examples::named_db().ok_or("where is the database? `--db postgres://user@host/database`")?;
    let engine = Engine::builder(Postgres::open(&url).await?).register(TRANSFER, transfer).start().await?;

    // The application's own connection to the same database.
    let (mut bank, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    bank.batch_execute(
        "CREATE TABLE account (id text PRIMARY KEY, cents int8);
         CREATE TABLE wish (id text PRIMARY KEY);
         INSERT INTO account VALUES ('ada', 100), ('bob', 0);",
    )
    .await?;

    for (wish, cents) in [("w-1", 70), ("w-2", 70)] {
        let tx = bank.transaction().await?;
        tx.execute("INSERT INTO wish VALUES ($1)", &[&wish]).await?;
        let input = Transfer { from: "ada".into(), to: "bob".into(), cents };
        let run = engine.start_in(&tx, TRANSFER, wish, input).await?;
        tx.commit().await?; // the wish and the run, or neither
        match run.result().await {
            Ok(left) => println!("{wish}: {left} cents left"),
            Err(error) => println!("{wish}: {error}"),
        }
    }
    let bob: i64 = bank.query_one("SELECT cents FROM account WHERE id = 'bob'", &[]).await?.get(0);
    println!("bob has {bob}");
    engine.shutdown().await?;
    Ok(())
}
