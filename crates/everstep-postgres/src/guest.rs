//! A user's own transaction as a place where ours may write: starts and letters that commit with the user's rows.
//!
//! Names and numbers of runs are not taken in it, or others would wait for its end to take theirs.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use everstep_core::{
    BoxFuture,
    store::{Bell, CopyMark, NewRun, Post, Posted, RunId, Started, StoreError},
};
use tokio_postgres::{
    Client, Error, Row, Transaction,
    error::SqlState as S,
    types::{ToSql, Type},
};

use crate::{
    alone::{Alone, alone},
    conn::{Conn, Speaks},
    fault::{Class, Fault, class, told},
    ids::Ids,
    listen::Notices,
    migrate,
    names::{NameKind, Names},
    open::{Inner, Postgres},
    read::Work,
    rings::Rings,
    row::damaged,
    shape::Shape,
    sql::{Arg, Sql, get, sql},
    tx::Tx,
    write::{mark, post, start},
};

/// A value of a statement, and its type.
pub type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// An open transaction of the user's own: of tokio-postgres, a client of it on which one was begun by `BEGIN`, or the
/// [`Tx`] of a transactional step. Whatever wraps one of them (a pool's object) is given as `&*object`.
pub trait OpenTransaction: sealed::Sealed + Sync {
    /// The rows of a statement.
    #[doc(hidden)]
    fn rows<'a>(&'a self, text: &'a str, values: &'a [Value<'a>]) -> BoxFuture<'a, Result<Vec<Row>, Error>>;

    /// How many rows a statement changed.
    #[doc(hidden)]
    fn changed<'a>(&'a self, text: &'a str, values: &'a [Value<'a>]) -> BoxFuture<'a, Result<u64, Error>>;

    /// Statements without values.
    #[doc(hidden)]
    fn script<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// It is a step's: who notes what is to be rung for after its commit.
    #[doc(hidden)]
    fn step(&self) -> Option<&Tx> {
        None
    }
}

mod sealed {
    /// Statements of ours depend on what a transaction does: nobody else makes one.
    pub trait Sealed {}
    impl Sealed for tokio_postgres::Client {}
    impl Sealed for tokio_postgres::Transaction<'_> {}
    impl Sealed for crate::Tx {}
}

macro_rules! open_transaction {
    ($of:ty, |$this:ident| $client:expr, |$tx:ident| $step:expr) => {
        impl OpenTransaction for $of {
            fn rows<'a>(
                &'a self,
                text: &'a str,
                values: &'a [Value<'a>],
            ) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
                let $this = self;
                Box::pin($client.query_typed(text, values))
            }

            fn changed<'a>(
                &'a self,
                text: &'a str,
                values: &'a [Value<'a>],
            ) -> BoxFuture<'a, Result<u64, Error>> {
                let $this = self;
                Box::pin($client.execute_typed(text, values))
            }

            fn script<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<(), Error>> {
                let $this = self;
                Box::pin($client.batch_execute(text))
            }

            fn step(&self) -> Option<&Tx> {
                let $tx = self;
                $step
            }
        }
    };
}
open_transaction!(Client, |client| client, |_tx| None);
open_transaction!(Transaction<'_>, |transaction| transaction, |_tx| None);
open_transaction!(Tx, |tx| &**tx, |tx| Some(tx));

/// What was started and sent in a step's transaction: rung for after its commit.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The database could not put what we did in an order with others.
    disordered: AtomicBool,
    rings: Mutex<Rings>,
}

impl Told {
    fn note(&self, rings: Rings) {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).add(rings);
    }

    /// Whether the database could not put something that was started or sent in it in an order with others; asked for
    /// once in each try.
    pub(crate) fn was_disordered(&self) -> bool {
        self.disordered.swap(false, Ordering::AcqRel)
    }

    /// It is committed.
    pub(crate) fn ring(&self, bell: &Bell, notices: &Notices) {
        let rings = std::mem::take(&mut *self.rings.lock().unwrap_or_else(PoisonError::into_inner));
        rings.ring(bell, notices);
    }
}

/// Where letters are written: the writer's transaction, or a user's.
pub(crate) trait Writes {
    type Reads: Speaks;
    fn reads(&self) -> &Self::Reads;
    /// Whether clients may write; nobody says otherwise before the transaction's end.
    async fn check_mark(&mut self) -> Result<(), Fault>;
    async fn execute(&mut self, sql: &Sql, args: &[Arg<'_>]) -> Result<u64, Fault>;
    fn rings(&mut self) -> &mut Rings;
    /// What is taken from the time now to say since when a run is due at once; `None` where nothing says so, because the
    /// commit may come much later.
    fn dates_from(&self) -> Option<i64>;
}

/// A user's transaction while we write in it.
pub(crate) struct Guest<'t> {
    tx: &'t dyn OpenTransaction,
    shape: &'t Shape,
    accept_moved: bool,
    /// What it sees is of one moment, and may be old.
    sees_one_moment: bool,
    rings: Rings,
    _alone: Alone,
}

impl Speaks for Guest<'_> {
    async fn rows(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, Fault> {
        let rows = self.tx.rows(&self.shape.text(&sql.1), &Arg::typed(args)).await;
        rows.map_err(|error| Fault::Sql(sql.0, error))
    }
}

impl<'t> Writes for Guest<'t> {
    type Reads = Guest<'t>;

    fn reads(&self) -> &Guest<'t> {
        self
    }

    async fn check_mark(&mut self) -> Result<(), Fault> {
        mark::allows(mark::read(self).await?.as_ref(), self.accept_moved)
    }

    async fn execute(&mut self, sql: &Sql, args: &[Arg<'_>]) -> Result<u64, Fault> {
        let changed = self.tx.changed(&self.shape.text(&sql.1), &Arg::typed(args)).await;
        changed.map_err(|error| Fault::Sql(sql.0, error))
    }

    fn rings(&mut self) -> &mut Rings {
        &mut self.rings
    }

    fn dates_from(&self) -> Option<i64> {
        None
    }
}

impl<'t> Guest<'t> {
    async fn script(&self, name: &'static str, text: &str) -> Result<(), Fault> {
        self.tx.script(text).await.map_err(|error| Fault::Sql(name, error))
    }

    /// Takes up work in it that an error does not undo the user's with.
    async fn enter(
        tx: &'t dyn OpenTransaction,
        Inner { shape, accept_moved, .. }: &'t Inner,
        identity: i64,
    ) -> Result<Guest<'t>, StoreError> {
        let _alone = alone(tx).await;
        let (accept_moved, rings) = (*accept_moved, Rings::default());
        let mut guest = Guest { tx, shape, accept_moved, sees_one_moment: false, rings, _alone };
        match guest.script("begin in a user's transaction", "SAVEPOINT everstep_guest").await {
            Ok(()) => {}
            Err(Fault::Sql(_, error)) if error.code() == Some(&S::NO_ACTIVE_SQL_TRANSACTION) => {
                let why =
                    "this connection has no open transaction: begin one (`client.transaction()`, or `BEGIN`)";
                return Err(StoreError::Unusable(why.into()));
            }
            Err(fault) => return Err(told(fault)),
        }
        match guest.check(identity).await {
            Ok(()) => Ok(guest),
            Err(error) => guest.leave(Err(error)).await,
        }
    }

    /// Whom to ring for after the commit, if that is ours.
    fn note(&self) {
        if let Some(step) = self.tx.step() {
            step.told().note(self.rings.clone());
        }
    }

    /// Whether it is a transaction of the store's own database, with a schema that we know.
    async fn check(&mut self, identity: i64) -> Result<(), Fault> {
        const LOOK: Sql = sql(
            "look at a user's database",
            "SELECT (SELECT value FROM @meta WHERE key = 'schema'), (SELECT value FROM @meta WHERE key = 'identity'),
               current_setting('transaction_isolation') <> 'read committed'",
        );
        let unusable = |why: String| Fault::Refuse(StoreError::Unusable(why.into()));
        let another = || {
            unusable(format!(
                "this transaction is of another database than the store, or its schema `{}` was made anew",
                self.shape.schema
            ))
        };
        let found = match self.one(&LOOK, &[]).await {
            Err(Fault::Sql(_, error))
                if [Some(&S::UNDEFINED_TABLE), Some(&S::INVALID_SCHEMA_NAME)].contains(&error.code()) =>
            {
                return Err(another());
            }
            found => found?.ok_or_else(|| damaged("a statement gave nothing"))?,
        };
        let schema: Option<i64> = get(&found, 0)?;
        self.sees_one_moment = get(&found, 2)?;
        if get::<Option<i64>>(&found, 1)? != Some(identity) {
            return Err(another());
        }
        match schema {
            Some(migrate::VERSION) => Ok(()),
            other => Err(unusable(format!(
                "this database has Everstep's schema {}, and this program writes to schema {}",
                other.unwrap_or(0),
                migrate::VERSION
            ))),
        }
    }

    /// Ends the work; an error leaves nothing of it, and the user's transaction goes on.
    async fn leave<T>(&self, done: Result<T, Fault>) -> Result<T, StoreError> {
        const BACK: &str = "ROLLBACK TO SAVEPOINT everstep_guest; RELEASE SAVEPOINT everstep_guest";
        match done {
            Ok(done) => {
                let released = self.script("end in a user's transaction", "RELEASE SAVEPOINT everstep_guest");
                released.await.map(|()| done).map_err(told)
            }
            Err(fault) => {
                if let (Some(step), Fault::Sql(_, error)) = (self.tx.step(), &fault)
                    && class(error) == Class::Again
                {
                    step.told().disordered.store(true, Ordering::Release);
                }
                // If even that fails, the transaction has failed as a whole, and its owner hears it.
                let _ = self.script("roll back in a user's transaction", BACK).await;
                Err(told(fault))
            }
        }
    }
}

/// The mark of a copy that has begun. One that begins now waits for the user's transaction, and is not waited for.
async fn mark_since(conn: &Conn) -> Result<Option<CopyMark>, Fault> {
    conn.script("begin to look for a mark", "BEGIN; SET LOCAL lock_timeout = 100").await?;
    let mark = mark::read(conn).await;
    conn.script("have looked for a mark", "ROLLBACK").await?;
    match mark {
        Err(fault) if fault.is_blocked() => Ok(None),
        mark => mark,
    }
}

/// What is taken from the database outside of users' transactions, and kept.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    names: Names,
    ids: Ids,
    identity: Option<i64>,
}

/// The numbers that a new run's rows carry, and of which database they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) run: RunId,
    pub(crate) workflow: i64,
    pub(crate) site: Option<i64>,
    pub(crate) build: i64,
}

impl Postgres {
    /// Starts a run in a user's transaction.
    pub(crate) async fn start_in(
        &self,
        tx: &dyn OpenTransaction,
        run: &NewRun,
    ) -> Result<Started, StoreError> {
        run.check()?;
        let (identity, numbers) = self.outside(Some(run.clone())).await?;
        let numbers = numbers.ok_or_else(|| damaged("a start has no numbers"))?;
        let mut guest = Guest::enter(tx, &self.inner, identity).await?;
        let started = start::insert(&mut guest, &self.inner.texts, run, numbers).await;
        let started = guest.leave(self.unless_marked(&guest, started).await).await?;
        if let Started::New(_) = started {
            guest.rings.due(run.due.0);
        }
        guest.note();
        Ok(started)
    }

    /// Sends a letter in a user's transaction.
    pub(crate) async fn post_in(
        &self,
        tx: &dyn OpenTransaction,
        letter: &Post,
    ) -> Result<Posted, StoreError> {
        let (identity, _) = self.outside(None).await?;
        let mut guest = Guest::enter(tx, &self.inner, identity).await?;
        let posted = post::post(&mut guest, letter).await;
        let posted = guest.leave(self.unless_marked(&guest, posted).await).await?;
        guest.note();
        Ok(posted)
    }

    /// What was done in a transaction that sees an old state, unless a copy has begun since that state. A copy that begins
    /// now waits for the transaction, which has looked for a mark.
    async fn unless_marked<T>(&self, guest: &Guest<'_>, done: Result<T, Fault>) -> Result<T, Fault> {
        let done = done?;
        if guest.sees_one_moment {
            let read: Work<_> = Box::new(|conn, _| Box::pin(mark_since(conn)));
            let mark = self.beside(&self.inner.readers, read).await?;
            mark::allows(mark.as_ref(), guest.accept_moved)?;
        }
        Ok(done)
    }

    /// Which database the store's is, and the numbers of a new run.
    async fn outside(&self, run: Option<NewRun>) -> Result<(i64, Option<Numbers>), StoreError> {
        const IDENTITY: Sql = sql("tell databases apart", "SELECT value FROM @meta WHERE key = 'identity'");
        let outside = self.inner.outside.clone();
        let work: Work<_> = Box::new(move |conn, _| {
            let (outside, run) = (outside.clone(), run.clone());
            Box::pin(async move {
                let Outside { names, ids, identity } = &mut *outside.lock().await;
                let identity = match *identity {
                    Some(identity) => identity,
                    None => {
                        let found = conn.one(&IDENTITY, &[]).await?;
                        let found = found.ok_or_else(|| damaged("the database has no identity"))?;
                        *identity.insert(get(&found, 0)?)
                    }
                };
                let Some(run) = run else { return Ok((identity, None)) };
                let site = match &run.first.site {
                    Some(site) => Some(names.site(conn, site).await?),
                    None => None,
                };
                let numbers = Numbers {
                    run: RunId(ids.next(conn).await?),
                    workflow: names.intern(conn, NameKind::Workflow, &run.workflow).await?,
                    site,
                    build: names.build(conn, &run.first.build).await?,
                };
                Ok((identity, Some(numbers)))
            })
        });
        self.beside(&self.inner.readers, work).await
    }
}
