//! Opening a database: how it is reached, what is checked, and what the end of an opening is.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    thread::JoinHandle,
    time::Duration,
};

use everstep_core::{
    failpoint::{Failpoint, pass},
    store::{Bell, CopyStage, Durability, StoreError},
};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    address::Address,
    back::Beats,
    batch::Memory,
    bounds::Bounds,
    conn::Conn,
    fault::{Fault, in_order, told},
    guest::Outside,
    hostile::Hostile,
    ids::Ids,
    jobs::Jobs,
    link::Link,
    listen::{self, Notices},
    migrate,
    names::Texts,
    pool::Pool,
    queue::Queue,
    shape::Shape,
    stopwatch::pause,
    write::{mark, worker::SLOTS},
    writer::Writer,
};

/// Reads at the same time.
const READERS: i16 = 4;
/// And those that workers need to go on.
const LOOKERS: i16 = 4;
/// The longest time for which a renewal may be without an answer: with another one on a new connection it is still in time for
/// the lease that there is by default.
const BEAT_WAIT_MAX: Duration = Duration::from_secs(3);
/// For how long a statement may wait for a lock: then somebody is in the way who should not be.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);
/// A transaction of the writer stands still only with its process, or when the way to it is cut: no longer than that is a
/// takeover kept waiting.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// What was asked for before the store was closed is still written, unless the database lets us wait.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The schema, unless another one is named.
const SCHEMA: &str = "everstep";
/// A name longer than that is cut off by PostgreSQL.
const SCHEMA_BYTES_MAX: usize = 40;

/// A PostgreSQL database as a store. Cheap to clone: all clones are one opening, which ends with the last of them.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) notices: Arc<Notices>,
    /// For people.
    pub(crate) readers: Arc<Pool>,
    /// For workers.
    pub(crate) looks: Arc<Pool>,
    /// For renewals, which must wait for nobody.
    pub(crate) beats: Arc<Pool>,
    pub(crate) counts: Arc<Beats>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) shape: Arc<Shape>,
    /// See [`Options::accept_moved`].
    pub(crate) accept_moved: bool,
    pub(crate) outside: Arc<tokio::sync::Mutex<Outside>>,
    pub(crate) closed: Arc<OnceLock<Arc<str>>>,
    pub(crate) runtime: Handle,
    /// Counts claims, so that each begins with another workflow.
    pub(crate) turn: AtomicUsize,
    /// See [`Options::comparable`].
    pub(crate) comparable: bool,
    thread: Option<JoinHandle<()>>,
}

/// How to open a database.
///
/// ```no_run
/// use everstep_postgres::Postgres;
/// # async fn open() -> Result<(), everstep_core::store::StoreError> {
/// let store = Postgres::options()
///     .schema("billing") // made if it is not there
///     .open("postgres://app@db.internal/app")
///     .await?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    schema: String,
    pooled: bool,
    transaction_limit: Duration,
    comparable: bool,
    accept_moved: bool,
    for_copy: bool,
    answer_limit: Duration,
    hostile: Hostile,
}

impl Postgres {
    /// Connects to a database, and makes the schema `everstep` if it is not there. `url` is as libpq has it:
    /// `postgres://user:password@host:5432/database`, or `host=/run/postgresql dbname=app`; with `sslmode`, `sslrootcert`,
    /// `sslcert` and `sslkey` as there, encrypted by rustls. Several hosts are tried in their order, and
    /// `target_session_attrs=read-write` takes the one that is the primary.
    ///
    /// # Errors
    /// Says what is wrong with the address, the database or its schema, and what to do.
    pub async fn open(url: &str) -> Result<Postgres, StoreError> {
        Postgres::options().open(url).await
    }

    /// To open it in another way.
    pub fn options() -> Options {
        Options {
            schema: SCHEMA.to_string(),
            pooled: false,
            transaction_limit: Duration::from_secs(10),
            comparable: false,
            accept_moved: false,
            for_copy: false,
            answer_limit: Duration::from_secs(30),
            hostile: Hostile::default(),
        }
    }
}

impl Options {
    /// The schema of Everstep's tables; `everstep` if nothing is said. Lower-case letters, digits and `_`, at most 40.
    pub fn schema(mut self, name: impl Into<String>) -> Options {
        self.schema = name.into();
        self
    }

    /// Says that a pooler in transaction mode (pgbouncer, and the like) stands between: nothing is prepared, set or listened
    /// for beyond a transaction, and other processes are heard of by looks.
    ///
    /// The server's own `synchronous_commit` counts then; an opening is refused if that is `off`.
    pub fn pooled(mut self, pooled: bool) -> Options {
        self.pooled = pooled;
        self
    }

    /// How long the body of one transactional step may run; 10 s if nothing is said. Whatever it holds locked, others wait
    /// for.
    pub fn transaction_limit(mut self, limit: Duration) -> Options {
        self.transaction_limit = limit;
        self
    }

    /// Opens a database even if its runs have moved to another store, and goes on with it. What is done here is not done
    /// there, and each run that was open is open twice then.
    pub fn accept_moved(mut self, accept: bool) -> Options {
        self.accept_moved = accept;
        self
    }

    /// Opens a database also in the middle of a copy, for whoever copies or only looks: workers and clients are refused
    /// when they write, for as long as a copy says so. See [`Transfer`](everstep_core::store::Transfer).
    pub fn for_copy(mut self, copies: bool) -> Options {
        self.for_copy = copies;
        self
    }

    /// To be compared with other stores call by call: numbers of runs have no gap, at the price that all starts wait for each
    /// other, and what is due is judged by the caller's clock alone.
    #[cfg(feature = "testing")]
    pub fn comparable(mut self) -> Options {
        self.comparable = true;
        self
    }

    /// As if the database were as unkind as any that accepts Everstep's SQL may be, drawn from a seed: no hints, no advisory
    /// locks, commits and statements that it cannot put in an order with others (40001), `SKIP LOCKED` that steps over free
    /// rows too, and nothing that outlasts a transaction, as if [`pooled`](Options::pooled).
    #[cfg(feature = "testing")]
    pub fn hostile(mut self, seed: u64) -> Options {
        self.hostile = Hostile::of(seed);
        self.pooled = true;
        self
    }

    /// For how long the database may leave a statement of Everstep's own without an answer; 30 s if nothing is said. The
    /// connection is given up then, and what was under way is looked for on another one: nothing of it is lost or done twice.
    /// Reads have twice that time.
    pub fn answer_limit(mut self, limit: Duration) -> Options {
        self.answer_limit = limit;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub async fn open(self, url: &str) -> Result<Postgres, StoreError> {
        self.check_schema()?;
        let address = Address::parse(url)?;
        let prefix = format!("\"{}\".everstep_", self.schema);
        let shape = Shape {
            address,
            prefix,
            schema: self.schema.clone(),
            pooled: self.pooled,
            limit: self.answer_limit,
            lock: LOCK_WAIT_MAX,
            idle: IDLE_MAX.min(self.answer_limit),
            hostile: self.hostile.clone(),
        };
        self.start(Arc::new(shape)).await
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let schema = &self.schema;
        if !schema.is_empty() && schema.len() <= SCHEMA_BYTES_MAX && schema.chars().all(is_name) {
            return Ok(());
        }
        let why = format!(
            "`{schema}` is no schema's name for Everstep: use 1 to {SCHEMA_BYTES_MAX} of `a` to `z`, digits and `_`"
        );
        Err(StoreError::Unusable(why.into()))
    }

    async fn start(self, shape: Arc<Shape>) -> Result<Postgres, StoreError> {
        let (send, opened) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("everstep-postgres".into())
            .spawn(move || live(shape, self, send))
            .map_err(|e| StoreError::Unusable(format!("a thread cannot be started: {e}").into()))?;
        let gone = |_| StoreError::Closed("the store's thread has ended".into());
        let mut inner: Inner = opened.await.map_err(gone)??;
        inner.thread = Some(thread);
        Ok(Postgres { inner: Arc::new(inner) })
    }
}

/// The store's own thread: everything that talks to the database, apart from users' statements, runs here, where no code
/// of users can hold it up.
fn live(shape: Arc<Shape>, options: Options, opened: oneshot::Sender<Result<Inner, StoreError>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let why = format!("a runtime cannot be started: {error}");
            return drop(opened.send(Err(StoreError::Unusable(why.into()))));
        }
    };
    runtime.block_on(async {
        match prepare(&shape, &options).await {
            Ok(link) => serve(&shape, &options, link, opened).await,
            Err(error) => drop(opened.send(Err(error))),
        }
    });
    // A name of a host that is still looked up is waited for by nobody.
    runtime.shutdown_background();
}

/// Until the opening is closed.
async fn serve(
    shape: &Arc<Shape>,
    options: &Options,
    link: Link,
    opened: oneshot::Sender<Result<Inner, StoreError>>,
) {
    let inner = Inner::of(shape, options);
    let users = for_users(shape, options);
    let writer = writer(&inner, link, users.clone(), options);
    let pools = [inner.readers.clone(), inner.looks.clone(), inner.beats.clone(), users];
    let queue = inner.queue.clone();
    let _end = EndQueue(queue.clone());
    let listener = tokio::spawn(listen::run(shape.clone(), inner.bell.clone(), inner.notices.clone()));
    pass(Failpoint::StoreOpened);
    if opened.send(Ok(inner)).is_err() {
        return;
    }
    let overdue = async {
        queue.stopped().await;
        pause(CLOSE_WAIT_MAX.min(shape.limit)).await;
    };
    let write = async {
        tokio::select! {
            () = writer.run() => {}
            () = overdue => tracing::warn!("the store is closed while its database does not answer"),
        }
    };
    tokio::task::LocalSet::new().run_until(write).await;
    listener.abort();
    pools.iter().for_each(|pool| pool.close());
    pass(Failpoint::StoreClosed);
}

impl Inner {
    /// With nothing under way yet.
    fn of(shape: &Arc<Shape>, options: &Options) -> Inner {
        let bounds = Arc::new(if options.comparable { Bounds::none() } else { Bounds::default() });
        let patient = Shape { limit: shape.limit * 2, ..Shape::clone(shape) };
        let soon = Shape { limit: shape.limit.min(BEAT_WAIT_MAX), ..Shape::clone(shape) };
        Inner {
            queue: Arc::default(),
            bell: Arc::default(),
            notices: Arc::new(Notices::of(bounds)),
            readers: Pool::new(Arc::new(patient), 0..READERS),
            looks: Pool::new(shape.clone(), 0..LOOKERS),
            beats: Pool::new(Arc::new(soon), 0..1),
            counts: Arc::default(),
            texts: Arc::default(),
            shape: shape.clone(),
            accept_moved: options.accept_moved,
            outside: Arc::default(),
            closed: Arc::default(),
            runtime: Handle::current(),
            turn: AtomicUsize::new(0),
            comparable: options.comparable,
            thread: None,
        }
    }
}

/// Connections for transactional steps. The writer has fence row 0.
fn for_users(shape: &Shape, options: &Options) -> Arc<Pool> {
    let shape = Shape {
        limit: shape.limit.max(options.transaction_limit),
        // The user's code may take its time; it locks nothing of a takeover's.
        idle: options.transaction_limit + shape.idle,
        ..shape.clone()
    };
    Pool::for_users(Arc::new(shape), 1..SLOTS)
}

/// What writes for this opening.
fn writer(inner: &Inner, link: Link, users: Arc<Pool>, options: &Options) -> Writer {
    let (bell, notices) = (inner.bell.clone(), inner.notices.clone());
    Writer {
        link,
        queue: inner.queue.clone(),
        jobs: Jobs::new(users, bell.clone(), notices.clone(), options.transaction_limit),
        bell,
        notices: notices.clone(),
        texts: inner.texts.clone(),
        closed: inner.closed.clone(),
        memory: Memory {
            ids: if options.comparable { Ids::comparable() } else { Ids::default() },
            accept_moved: options.accept_moved,
            bounds: notices.bounds.clone(),
            ..Memory::default()
        },
        company: 0,
        takes: Duration::ZERO,
    }
}

async fn prepare(shape: &Arc<Shape>, options: &Options) -> Result<Link, StoreError> {
    let conn = Conn::open(shape).await.map_err(told)?;
    check_durability(&conn).await?;
    migrate::migrate(&conn).await?;
    in_order(async || check_mark(&conn, options).await).await.map_err(told)?;
    drop(conn);
    let link = Link::open(shape).await.map_err(told)?;
    if let Err(fault) = link.sweep().await {
        // The next opening does it.
        tracing::warn!(error = %told(fault), "what nobody asks for any more could not be cleared away");
    }
    Ok(link)
}

/// Whether a copy lets this opening in.
async fn check_mark(conn: &Conn, options: &Options) -> Result<(), Fault> {
    match mark::read(conn).await? {
        Some(mark) if mark.stage == CopyStage::Moved && options.accept_moved => Ok(()),
        Some(mark) if !options.for_copy => Err(mark.refusal().into()),
        _ => Ok(()),
    }
}

/// What a commit survives is the server's to say where no setting of ours holds.
async fn check_durability(conn: &Conn) -> Result<(), StoreError> {
    let rows = conn.client().simple_query("SHOW synchronous_commit").await;
    let rows = rows.map_err(|e| crate::fault::store_error("ask for synchronous_commit", &e))?;
    let level = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    });
    match level.as_deref() {
        Some("off") => Err(StoreError::Unusable(
            "the server commits without waiting for its disk (`synchronous_commit = off`), and behind a pooler Everstep cannot \
             change that: set it to `on` for this role or database (`ALTER ROLE app SET synchronous_commit = on`)"
                .into(),
        )),
        _ => Ok(()),
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        let Some(thread) = self.thread.take() else { return };
        // The store's own thread may drop the last handle, with a receipt that held one: it ends by itself then.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the store's thread panicked");
        }
    }
}

struct EndQueue(Arc<Queue>);

impl Drop for EndQueue {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Postgres")
    }
}

/// What its commits survive.
pub(crate) const DURABILITY: Durability = Durability::Power;
