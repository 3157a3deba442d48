//! A transactional step: the user's own rows and the step's record commit together, exactly once. And a start that
//! commits with the user's own rows.

use everstep::{
    Ctx, Engine, Error, Result, Workflow,
    sqlite::{Sqlite, StartIn as _, Transaction as _, rusqlite::Connection},
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
    ctx.transaction("move", move |tx| {
        let moved = tx
            .execute("UPDATE account SET cents = cents - ?2 WHERE id = ?1 AND cents >= ?2", (&from, cents))?;
        if moved == 0 {
            return Err(Error::terminal("not enough money"));
        }
        tx.execute("UPDATE account SET cents = cents + ?2 WHERE id = ?1", (&to, cents))?;
        Ok(tx.query_row("SELECT cents FROM account WHERE id = ?1", [&from], |row| row.get(0))?)
    })
    .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bank.db");
    let engine = Engine::builder(Sqlite::open(&path)?).register(TRANSFER, transfer).start().await?;

    // The application's own connection to the same file.
    let mut bank = Connection::open(&path)?;
    bank.execute_batch(
        "CREATE TABLE account (id TEXT PRIMARY KEY, cents INTEGER NOT NULL);
         CREATE TABLE wish (id TEXT PRIMARY KEY);
         INSERT INTO account VALUES ('ada', 100), ('bob', 0);",
    )?;

    for (wish, cents) in [("w-1", 70), ("w-2", 70)] {
        let tx = bank.transaction()?;
        tx.execute("INSERT INTO wish VALUES (?1)", [wish])?;
        let input = Transfer { from: "ada".into(), to: "bob".into(), cents };
        let run = engine.start_in(&tx, TRANSFER, wish, input)?;
        tx.commit()?; // the wish and the run, or neither
        match run.result().await {
            Ok(left) => println!("{wish}: {left} cents left"),
            Err(error) => println!("{wish}: {error}"),
        }
    }
    let bob: i64 = bank.query_row("SELECT cents FROM account WHERE id = 'bob'", [], |row| row.get(0))?;
    println!("bob has {bob}");
    engine.shutdown().await?;
    Ok(())
}
