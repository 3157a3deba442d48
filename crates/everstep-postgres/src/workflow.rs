//! What this store adds to workflows and clients: transactional steps, and starts and signals that commit with the user's
//! rows.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, Location},
    pin::pin,
};

use everstep_core::{
    BoxFuture, Client, Ctx, Data, EngineError, Error, Outcome, Recorder, Repeat, Result, Run, Signal, Step,
    Workflow, journal::Payload, said_by,
};
use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::sync::{mpsc, oneshot};

use crate::{Postgres, PostgresJob, Tx, guest::OpenTransaction};

/// The store's name, as [`everstep_core::store::Store::name`] says it.
const NAME: &str = "postgres";

/// Transactional steps: `use everstep::postgres::Transaction as _;`
pub trait Transaction {
    /// Runs `body` and records its result in one commit: exactly once.
    ///
    /// `body` gets an open transaction, a [`Tx`], on a connection of the store's; it runs on the run's own task, as other
    /// steps' bodies do, and may borrow. It should be short: whatever it holds locked others wait for, and the limit of
    /// [`Options::transaction_limit`](crate::Options::transaction_limit) ends it. It may run more than once, each time with
    /// nothing of its earlier runs in the database: on a transaction that the database could not put in an order with
    /// others (SQLSTATE 40001, 40P01), or whose commit nobody knows about, it runs again.
    ///
    /// # What survives a crash
    /// Both the changes and the record, or neither: there is no doubt about such a step.
    ///
    /// # Errors
    /// What `body` returned; a constraint that fails at the commit; a statement that failed and was passed over; a body that
    /// has ended the transaction itself, or has kept its `Tx`. Nothing is changed then (apart from what a body committed
    /// itself). On an engine with another store: misuse.
    ///
    /// # Cancel safety
    /// Dropped, or out of time, while the body runs, the body is dropped where it stands and nothing is changed. Dropped
    /// later, the record says whether it was committed, and is kept.
    ///
    /// ```
    /// use everstep_postgres::{Postgres, Transaction as _};
    /// # use everstep_core::{Ctx, Engine, Result, Workflow};
    ///
    /// async fn deposit(ctx: Ctx, cents: i64) -> Result<i64> {
    ///     ctx.transaction("deposit", async |tx| {
    ///         let row = tx.query_one("UPDATE account SET cents = cents + $1 RETURNING cents", &[&cents]).await?;
    ///         Ok(row.get(0))
    ///     })
    ///     .await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # const DEPOSIT: Workflow<i64, i64> = Workflow::new("deposit");
    /// # let database = everstep_cluster::Cluster::shared()?.database().await?;
    /// # let own = database.connect().await?;
    /// # own.batch_execute("CREATE TABLE account (cents int8); INSERT INTO account VALUES (0)").await?;
    /// # let url = database.url();
    /// let engine = Engine::builder(Postgres::open(&url).await?).register(DEPOSIT, deposit).start().await?;
    /// assert_eq!(engine.run(DEPOSIT, "d-1", 5).await?, 5);
    /// assert_eq!(engine.run(DEPOSIT, "d-1", 5).await?, 5); // the same run: nothing moves
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn transaction<'a, T, F, Fut>(&self, name: &str, body: F) -> Step<'a, T>
    where
        F: FnOnce(Tx) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<T>,
        T: Data;
}

impl Transaction for Ctx {
    #[track_caller]
    fn transaction<'a, T, F, Fut>(&self, name: &str, body: F) -> Step<'a, T>
    where
        F: FnOnce(Tx) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<T>,
        T: Data,
    {
        self.transaction_beside(NAME, name, move |recorder| {
            let (meet, meetings) = mpsc::unbounded_channel();
            let job = PostgresJob(Box::new(move |tx| Box::pin(hand_over(meet.clone(), tx))));
            (Box::new(job), Some(Box::pin(run(body.again(), recorder, meetings))))
        })
    }
}

/// Where the store's job and the body, which runs elsewhere, meet: the transaction goes there, and what the body returned
/// comes back. The transaction comes first, so that it is let go first.
type Meeting = (Tx, oneshot::Sender<Result<Payload>>);

/// The job's side, on the store's own thread.
async fn hand_over(meet: mpsc::UnboundedSender<Meeting>, tx: Tx) -> Result<Payload> {
    let (back, returned) = oneshot::channel();
    let gone = || Error::from("the step was dropped while its transaction was open: it was rolled back");
    // The body may be gone already: it does not begin any more.
    meet.send((tx, back)).map_err(|_| gone())?;
    returned.await.unwrap_or_else(|_| Err(gone()))
}

/// The body's side, on the run's own task. More than once if the database could not put the transaction in an order with
/// others.
async fn run<T, F, Fut>(body: F, recorder: Recorder, mut meetings: mpsc::UnboundedReceiver<Meeting>)
where
    F: FnOnce(Tx) -> Fut + Repeat,
    Fut: Future,
    Fut::Output: Outcome<T>,
    T: Data,
{
    while let Some((tx, mut back)) = meetings.recv().await {
        let attempt = body.again();
        let attempt = async move {
            let value = attempt(tx).await.into_result().map_err(in_full)?;
            recorder.record(value)
        };
        let attempt = AssertUnwindSafe(attempt).catch_unwind();
        let returned = match select(pin!(attempt), pin!(back.closed())).await {
            Either::Left((returned, _)) => returned,
            // The store has given up: its time is over. The body ends where it stands, and the transaction with it.
            Either::Right(_) => continue,
        };
        let _ = back.send(
            returned.unwrap_or_else(|panic| Err(Error::from(format!("panicked: {}", said_by(&*panic))))),
        );
    }
}

/// What the database has said, where it is all that the body says: its own first words are `db error`.
fn in_full(error: Error) -> Error {
    let said =
        error.raised_as::<tokio_postgres::Error>().filter(|said| said.to_string() == error.to_string());
    match said.and_then(tokio_postgres::Error::as_db_error) {
        Some(db) => {
            let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let text = format!("PostgreSQL: SQLSTATE {}: {}{detail}", db.code().code(), db.message());
            error.saying(text)
        }
        None => error,
    }
}

/// Starts that commit with the user's own rows: `use everstep::postgres::StartIn as _;`
pub trait StartIn {
    /// Starts a run in `tx`, an open transaction of the user's own connection to the same database, or the `tx` of a
    /// transactional step. The run exists if and when `tx` commits; a worker takes it up then, within about a second: nobody
    /// tells it, it looks. (After a transactional step the workers of this process look at once, and others are told.)
    ///
    /// The schema is that of the client's store, whatever the `search_path` of `tx` is; the role of `tx` needs the rights of a
    /// worker on it.
    ///
    /// # What survives a crash
    /// What survives of `tx`: both or neither.
    ///
    /// # Errors
    /// As [`Client::start`]; a connection without an open transaction, or to another database; a client of another store.
    /// Of the rest of `tx` nothing is undone. An id that somebody else is just starting in an open transaction is waited
    /// for, as a row with a unique key is.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the run may be in `tx`, or not: roll back, or start it again.
    ///
    /// ```
    /// use everstep_postgres::{Postgres, StartIn as _};
    /// # use everstep_core::{Ctx, Engine, Result, Workflow};
    /// # const SHIP: Workflow<String, String> = Workflow::new("ship");
    /// # async fn ship(ctx: Ctx, order: String) -> Result<String> {
    /// #     ctx.step("ship", async || Ok(format!("{order} shipped"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = everstep_cluster::Cluster::shared()?.database().await?;
    /// # let mut own = database.connect().await?;
    /// # let engine = Engine::builder(Postgres::open(&database.url()).await?).register(SHIP, ship).start().await?;
    /// own.batch_execute("CREATE TABLE wish (id text PRIMARY KEY)").await?;
    ///
    /// let tx = own.transaction().await?;
    /// tx.execute("INSERT INTO wish VALUES ('order-1')", &[]).await?;
    /// let run = engine.start_in(&tx, SHIP, "order-1", "a book".to_string()).await?;
    /// tx.commit().await?; // the wish and the run, or neither
    /// assert_eq!(run.result().await?, "a book shipped");
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn start_in<'t, I: Data, O: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> BoxFuture<'t, Result<Run<O>, EngineError>>;
}

impl StartIn for Client {
    #[track_caller]
    fn start_in<'t, I: Data, O: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> BoxFuture<'t, Result<Run<O>, EngineError>> {
        let run = self.new_run(workflow, id.into(), &input, Location::caller());
        Box::pin(async move {
            let run = run?;
            let store = self.store_of::<Postgres>("start_in", NAME)?;
            let started = store.start_in(tx, &run).await?;
            self.accept_start(run, started)
        })
    }
}

/// Signals that commit with the user's own rows: `use everstep::postgres::SignalIn as _;`
pub trait SignalIn {
    /// Sends a signal in `tx`, an open transaction of the user's own connection to the same database, or the `tx` of a
    /// transactional step. The run gets it if and when `tx` commits, and is woken then, whichever process has it, within
    /// about a second.
    ///
    /// The run's row is locked from this call on until `tx` ends, and its worker may have to wait for it: let it be one of
    /// the last statements, and `tx` short.
    ///
    /// # What survives a crash
    /// What survives of `tx`: both or neither. A run that ends while `tx` is open ends before it or after it.
    ///
    /// # Errors
    /// As [`Client::signal`]: not found, over already, a bad name or value; of the rest of `tx` nothing is undone. A
    /// connection without an open transaction, or to another database; a client of another store.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the signal may be in `tx`, or not: roll back, or send it again with a key.
    ///
    /// ```
    /// use everstep_postgres::{Postgres, SignalIn as _};
    /// # use everstep_core::{Ctx, Engine, Result, Signal, Workflow};
    /// const PAID: Signal<i64> = Signal::new("paid");
    /// # const ORDER: Workflow<String, String> = Workflow::new("order");
    /// # async fn order(ctx: Ctx, item: String) -> Result<String> {
    /// #     let cents = ctx.signal(PAID).await?;
    /// #     Ok(format!("{item} for {cents}"))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    /// # let database = everstep_cluster::Cluster::shared()?.database().await?;
    /// # let mut own = database.connect().await?;
    /// # let engine = Engine::builder(Postgres::open(&database.url()).await?).register(ORDER, order).start().await?;
    /// own.batch_execute("CREATE TABLE payment (run text, cents int8)").await?;
    /// let run = engine.start(ORDER, "order-1", "a book".to_string()).await?;
    ///
    /// let tx = own.transaction().await?;
    /// tx.execute("INSERT INTO payment VALUES ('order-1', 1200)", &[]).await?;
    /// engine.signal_in(&tx, "order-1", PAID, 1200).await?;
    /// tx.commit().await?; // the row and the signal, or neither
    /// assert_eq!(run.result().await?, "a book for 1200");
    /// # engine.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    fn signal_in<'t, T: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
    ) -> BoxFuture<'t, Result<(), EngineError>>;

    /// As [`SignalIn::signal_in`], known by `key`: sent to the same run under the same name and key however often, in
    /// transactions or by [`SendSignal::key`](everstep_core::SendSignal::key), it is one signal.
    fn signal_in_once<'t, T: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
        key: &str,
    ) -> BoxFuture<'t, Result<(), EngineError>>;
}

impl SignalIn for Client {
    fn signal_in<'t, T: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
    ) -> BoxFuture<'t, Result<(), EngineError>> {
        signal_in(self, tx, (id.into(), name.into()), &value, None)
    }

    fn signal_in_once<'t, T: Data>(
        &'t self,
        tx: &'t impl OpenTransaction,
        id: impl Into<String>,
        name: impl Into<Signal<T>>,
        value: T,
        key: &str,
    ) -> BoxFuture<'t, Result<(), EngineError>> {
        signal_in(self, tx, (id.into(), name.into()), &value, Some(key))
    }
}

fn signal_in<'t, T: Data>(
    client: &'t Client,
    tx: &'t impl OpenTransaction,
    (id, name): (String, Signal<T>),
    value: &T,
    key: Option<&str>,
) -> BoxFuture<'t, Result<(), EngineError>> {
    let post = client.new_signal(id, name, value, key);
    Box::pin(async move {
        let post = post?;
        let store = client.store_of::<Postgres>("signal_in", NAME)?;
        let posted = store.post_in(tx, &post).await?;
        client.accept_signal(&post, posted)
    })
}
