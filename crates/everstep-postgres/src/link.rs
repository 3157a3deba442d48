//! The writer's connections: one that writes, and one beside it for what is not undone with a transaction.

use std::{sync::Arc, time::Duration};

use everstep_core::store::StoreError;

use crate::{
    back::{self, Remembered},
    conn::Conn,
    fault::{Fault, in_order},
    row::damaged,
    shape::Shape,
    sql::{Sql, args, get, sql},
    stopwatch::Stopwatch,
};

/// For so long a name is kept at least.
const SWEPT: Duration = Duration::from_secs(86_400);

/// How long the writer waits for a lock: all of the process waits with it. What does not get it by then is put aside.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Both connections, and how they are made anew.
#[derive(Debug)]
pub(crate) struct Link {
    shape: Arc<Shape>,
    /// Which opening of all this is.
    opening: i64,
    /// How many transactions it has named.
    named: i64,
    /// The name of the last transaction that was committed: no longer asked for.
    last: Vec<u8>,
    /// When that was.
    last_at: Option<Stopwatch>,
    /// The name of the transaction that was begun last.
    begun: Vec<u8>,
    /// Since when there are openings with this number: the number alone comes again when a database goes back.
    since: i64,
    pub(crate) main: Arc<Conn>,
    pub(crate) side: Arc<Conn>,
}

impl Link {
    pub(crate) async fn open(shape: &Arc<Shape>) -> Result<Link, Fault> {
        const OPEN: Sql = sql(
            "number an opening",
            "INSERT INTO @meta AS m (key, value) VALUES ('opening', 1)
             ON CONFLICT (key) DO UPDATE SET value = m.value + 1
             RETURNING value, :now",
        );
        let shape = &Arc::new(Shape { lock: LOCK_WAIT_MAX, ..Shape::clone(shape) });
        let (main, side) = (Conn::open(shape).await?, Conn::open(shape).await?);
        let numbered = in_order(async || main.one(&OPEN, &[]).await).await?;
        let row = numbered.ok_or_else(|| damaged("an opening has no number"))?;
        let (opening, since) = (get(&row, 0)?, get(&row, 1)?);
        let (main, side) = (Arc::new(main), Arc::new(side));
        let (shape, last, begun) = (shape.clone(), Vec::new(), Vec::new());
        Ok(Link { shape, opening, named: 0, last, last_at: None, begun, since, main, side })
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.main.is_gone() && !self.side.is_gone()
    }

    /// Makes the connections anew that are gone. If it is the one that writes, what it leads to is to be looked at: it
    /// may be another server.
    pub(crate) async fn mend(&mut self, remembered: Remembered) -> Result<(), Fault> {
        if self.main.is_gone() {
            let main = Conn::open(&self.shape).await?;
            in_order(async || self.look_back(&main, &remembered).await).await?;
            self.main = Arc::new(main);
        }
        if self.side.is_gone() {
            self.side = Arc::new(Conn::open(&self.shape).await?);
        }
        Ok(())
    }

    /// Begins a transaction of so many bytes under a name of its own, by which it is found after a lost reply.
    pub(crate) async fn begin(&mut self, bytes: usize) -> Result<Vec<u8>, Fault> {
        const NAME: Sql = sql(
            "name a transaction",
            "WITH old AS (DELETE FROM @commit WHERE id = $2)
             INSERT INTO @commit (id, at) VALUES ($1, (extract(epoch FROM now()) * 1000000)::int8)",
        );
        self.named += 1;
        let name = [self.opening, self.since, self.named].map(i64::to_be_bytes).concat();
        self.begun.clone_from(&name);
        let begin = self.shape.begin(bytes);
        let begun = self.main.script("begin", &begin);
        let named = async { self.main.execute(&NAME, args![&name, &self.last]).await };
        // Sent one behind the other, without waiting in between.
        let (begun, named) = futures_util::join!(begun, named);
        begun.and(named)?;
        Ok(name)
    }

    /// A transaction of this name is committed, and everybody knows.
    pub(crate) fn committed(&mut self, name: Vec<u8>) {
        (self.last, self.last_at) = (name, Some(Stopwatch::start()));
    }

    /// Whether a transaction of this name was committed; if not, it never will be: its name is taken, and a server that is
    /// still at it is waited for.
    pub(crate) async fn was_committed(&self, name: &Vec<u8>) -> Result<bool, Fault> {
        /// A name that was taken to this end has a time below 0: the reply may be lost too, and then it is asked again.
        const TAKE: Sql = sql(
            "ask for a transaction",
            "INSERT INTO @commit AS c (id, at) VALUES ($1, -(extract(epoch FROM now()) * 1000000)::int8)
             ON CONFLICT (id) DO UPDATE SET at = c.at RETURNING at > 0",
        );
        let row = self.main.one(&TAKE, args![name]).await?;
        Ok(get(&row.ok_or_else(|| damaged("the name of a transaction is neither there nor new"))?, 0)?)
    }

    /// Whether the database knows what it has told us that it knows.
    async fn look_back(&self, main: &Conn, remembered: &Remembered) -> Result<(), Fault> {
        const OPENED: Sql =
            sql("look for this opening", "SELECT 1 FROM @meta WHERE key = 'opening' AND value >= $1");
        const THERE: Sql =
            sql("look for the last transaction", "SELECT 1 FROM @commit WHERE id = $1 OR id = $2 LIMIT 1");
        let mut is_back = main.one(&OPENED, args![self.opening]).await?.is_none();
        // What is older may have been swept away. The next transaction takes the last one's name with it.
        if !is_back && self.last_at.is_some_and(|at| at.elapsed() < SWEPT / 2) {
            is_back = main.one(&THERE, args![&self.last, &self.begun]).await?.is_none();
        }
        match back::set_aside(main, remembered, is_back).await? {
            None => Ok(()),
            Some(lost) => Err(back::went_back(lost).into()),
        }
    }

    /// Forgets names that no opening asks for any more, because their processes died before they could; and workers that began
    /// thirty days ago, are fenced and have no run: every look at workers would pass them.
    pub(crate) async fn sweep(&self) -> Result<(), Fault> {
        const SWEEP: Sql = sql(
            "forget names of transactions",
            "DELETE FROM @commit WHERE abs(at) < (extract(epoch FROM now()) * 1000000)::int8 - 86400000000",
        );
        const WORKERS: Sql = sql(
            "forget workers",
            "DELETE FROM @worker w WHERE w.fenced AND w.started_at < (extract(epoch FROM now()) * 1000000)::int8 - 2592000000000
             AND NOT EXISTS (SELECT 1 FROM @run WHERE owner = w.id AND wake_at IS NOT NULL)",
        );
        const FENCES: Sql = sql(
            "forget fences",
            "DELETE FROM @slot s WHERE NOT EXISTS (SELECT 1 FROM @worker WHERE id = s.worker)",
        );
        self.side.execute(&SWEEP, &[]).await?;
        self.side.execute(&WORKERS, &[]).await?;
        self.side.execute(&FENCES, &[]).await.map(drop)
    }
}

/// What a caller hears while there is no database.
pub(crate) fn unreachable(why: &StoreError) -> StoreError {
    StoreError::Full(format!("PostgreSQL cannot be reached now: {why}").into())
}
