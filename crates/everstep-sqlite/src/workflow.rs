//! What this store adds to workflows and clients: transactional steps, and starts and signals that commit with the user's
//! rows.

use std::panic::Location;

use everstep_core::{Client, Ctx, Data, EngineError, Outcome, Repeat, Run, Signal, Step, Workflow};
use rusqlite::Connection;

use crate::{SqliteJob, Tx, insert_letter, insert_start};

/// Transactional steps: `use everstep::sqlite::Transaction as _;`
pub trait Transaction {
    /// Runs `body` and records its result in one commit: exactly once.
    ///
    /// `body` runs on the store's own thread, so it is `'static` (`move |tx| ..`) and should be short: the time limit
    /// of [`crate::Options`] ends it. It may run more than once, each time with nothing of its earlier runs in the
    /// database.
    ///
    /// # What survives a crash
    /// Both the changes and the record, or neither: there is no doubt about such a step.
    ///
    /// # Errors
    /// What `body` returned; SQL that may not be used there; a constraint that fails at the commit. Nothing is
    /// changed then. On an engine with another store: misuse.
    ///
    /// ```
    /// use everstep_sqlite::{Sqlite, Transaction as _, rusqlite::Connection};
    /// # use everstep_core::{Ctx, Engine, Result, Workflow};
    ///
    /// async fn deposit(ctx: Ctx, cents: i64) -> Result<i64> {
    ///     ctx.transaction("deposit", move |tx| {
    ///         tx.execute("UPDATE account SET cents = cents + ?1", [cents])?;
    ///         Ok(tx.query_row("SELECT cents FROM account", [], |row| row.get(0))?)
    ///     })
    ///     .await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// # const DEPOSIT: Workflow<i64, i64> = Workflow::new("deposit");
    /// let engine = Engine::builder(Sqlite::open(&path)?).register(DEPOSIT, deposit).start().await?;
    /// Connection::open(&path)?.execute_batch("CREATE TABLE account (cents); INSERT INTO account VALUES (0)")?;
    /// assert_eq!(engine.run(DEPOSIT, "d-1", 5).await?, 5);
    /// assert_eq!(engine.run(DEPOSIT, "d-1", 5).await?, 5); // the same run: nothing moves
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn transaction<T, R, F>(&self, name: &str, body: F) -> Step<'static, T>
    where
        F: FnOnce(&Tx<'_>) -> R + Repeat + Send + 'static,
        R: Outcome<T>,
        T: Data;
}

impl Transaction for Ctx {
    #[track_caller]
    fn transaction<T, R, F>(&self, name: &str, body: F) -> Step<'static, T>
    where
        F: FnOnce(&Tx<'_>) -> R + Repeat + Send + 'static,
        R: Outcome<T>,
        T: Data,
    {
        self.transaction_on("sqlite", name, move |recorder| {
            let body = body.again();
            Box::new(SqliteJob(Box::new(move |tx| recorder.record(body.again()(tx).into_result()?))))
        })
    }
}

/// Starts that commit with the user's own rows: `use everstep::sqlite::StartIn as _;`
pub trait StartIn {
    /// Starts a run in `tx`, a transaction of the user's own connection to the same file, or the `tx` of a
    /// transactional step. The run exists if and when `tx` commits; a worker takes it up then.
    ///
    /// # Errors
    /// As [`Client::start`]; a file without Everstep's tables, or with those of another version.
    ///
    /// ```
    /// use everstep_sqlite::{Sqlite, StartIn as _, rusqlite::Connection};
    /// # use everstep_core::{Ctx, Engine, Result, Workflow};
    /// # const SHIP: Workflow<String, String> = Workflow::new("ship");
    /// # async fn ship(ctx: Ctx, order: String) -> Result<String> {
    /// #     ctx.step("ship", async || Ok(format!("{order} shipped"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// # let engine = Engine::builder(Sqlite::open(&path)?).register(SHIP, ship).start().await?;
    /// let mut own = Connection::open(&path)?;
    /// own.execute_batch("CREATE TABLE wish (id TEXT PRIMARY KEY)")?;
    ///
    /// let tx = own.transaction()?;
    /// tx.execute("INSERT INTO wish VALUES ('order-1')", [])?;
    /// let run = engine.start_in(&tx, SHIP, "order-1", "a book".to_string())?;
    /// tx.commit()?; // the wish and the run, or neither
    /// assert_eq!(run.result().await?, "a book shipped");
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn start_in<I: Data, O: Data>(
        &self,
        tx: &Connection,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> Result<Run<O>, EngineError>;
}

impl StartIn for Client {
    #[track_caller]
    fn start_in<I: Data, O: Data>(
        &self,
        tx: &Connection,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> Result<Run<O>, EngineError> {
        let run = self.new_run(workflow, id.into(), &input, Location::caller())?;
        let started = insert_start(tx, &run)?;
        self.accept_start(run, started)
    }
}

/// Signals that commit with the user's own rows: `use everstep::sqlite::SignalIn as _;`
pub trait SignalIn {
    /// Sends a signal in `tx`, a transaction of the user's own connection to the same file, or the `tx` of a transactional
    /// step. The run gets it if and when `tx` commits, and is woken then, whichever process has it.
    ///
    /// # What survives a crash
    /// What survives of `tx`: both or neither. A run that ends while `tx` is open ends before it or after it: SQLite has one
    /// writer, and `tx` is that from this call on.
    ///
    /// # Errors
    /// As [`Client::signal`]: not found, over already, a bad name or value; of the rest of `tx` nothing is undone. A file
    /// without Everstep's tables, or with those of another version; SQLite's own, after which nothing of the signal is
    /// written.
    ///
    /// ```
    /// use everstep_sqlite::{SignalIn as _, Sqlite, rusqlite::Connection};
    /// # use everstep_core::{Ctx, Engine, Result, Signal, Workflow};
    /// const PAID: Signal<i64> = Signal::new("paid");
    /// # const ORDER: Workflow<String, String> = Workflow::new("order");
    /// # async fn order(ctx: Ctx, item: String) -> Result<String> {
    /// #     let cents = ctx.signal(PAID).await?;
    /// #     Ok(format!("{item} for {cents}"))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// # let engine = Engine::builder(Sqlite::open(&path)?).register(ORDER, order).start().await?;
    /// let mut own = Connection::open(&path)?;
    /// own.execute_batch("CREATE TABLE payment (run TEXT, cents INTEGER)")?;
    /// let run = engine.start(ORDER, "order-1", "a book".to_string()).await?;
    ///
    /// let tx = own.transaction()?;
    /// tx.execute("INSERT INTO payment VALUES ('order-1', 1200)", [])?;
    /// engine.signal_in(&tx, "order-1", PAID, 1200)?;
    /// tx.commit()?; // the row and the signal, or neither
    /// assert_eq!(run.result().await?, "a book for 1200");
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn signal_in<T: Data>(
        &self,
        tx: &Connection,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
    ) -> Result<(), EngineError>;

    /// As [`SignalIn::signal_in`], known by `key`: sent to the same run under the same name and key however often, in
    /// transactions or by [`SendSignal::key`](everstep_core::SendSignal::key), it is one signal.
    fn signal_in_once<T: Data>(
        &self,
        tx: &Connection,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
        key: &str,
    ) -> Result<(), EngineError>;
}

impl SignalIn for Client {
    fn signal_in<T: Data>(
        &self,
        tx: &Connection,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
    ) -> Result<(), EngineError> {
        signal_in(self, tx, (id.into(), name.into()), &value, None)
    }

    fn signal_in_once<T: Data>(
        &self,
        tx: &Connection,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
        key: &str,
    ) -> Result<(), EngineError> {
        signal_in(self, tx, (id.into(), name.into()), &value, Some(key))
    }
}

fn signal_in<T: Data>(
    client: &Client,
    tx: &Connection,
    (id, name): (String, Signal<T>),
    value: &T,
    key: Option<&str>,
) -> Result<(), EngineError> {
    let post = client.new_signal(id, name, value, key)?;
    let posted = insert_letter(tx, &post)?;
    client.accept_signal(&post, posted)
}
