//! The writer's connections: one that writes, and one beside it for what is not undone with a transaction.

use std::sync::Arc;

use everstep_core::store::StoreError;

use crate::{
    conn::{Conn, Shape, Sql, args, get, sql},
    fault::Fault,
    row::damaged,
};

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
    pub(crate) main: Arc<Conn>,
    pub(crate) side: Arc<Conn>,
}

impl Link {
    pub(crate) async fn open(shape: &Arc<Shape>) -> Result<Link, Fault> {
        const OPEN: Sql = sql(
            "number an opening",
            "INSERT INTO @meta AS m (key, value) VALUES ('opening', 1)
             ON CONFLICT (key) DO UPDATE SET value = m.value + 1 RETURNING value",
        );
        let (main, side) = (Conn::open(shape).await?, Conn::open(shape).await?);
        let row = main.one(&OPEN, &[]).await?.ok_or_else(|| damaged("an opening has no number"))?;
        let opening = get(&row, 0)?;
        let (main, side) = (Arc::new(main), Arc::new(side));
        Ok(Link { shape: shape.clone(), opening, named: 0, last: Vec::new(), main, side })
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.main.is_gone() && !self.side.is_gone()
    }

    /// Makes the connections anew that are gone.
    pub(crate) async fn mend(&mut self) -> Result<(), Fault> {
        if self.main.is_gone() {
            self.main = Arc::new(Conn::open(&self.shape).await?);
        }
        if self.side.is_gone() {
            self.side = Arc::new(Conn::open(&self.shape).await?);
        }
        Ok(())
    }

    /// Begins a transaction under a name of its own, by which it is found after a lost reply.
    pub(crate) async fn begin(&mut self) -> Result<Vec<u8>, Fault> {
        const NAME: Sql = sql(
            "name a transaction",
            "WITH old AS (DELETE FROM @commit WHERE id = $2)
             INSERT INTO @commit (id, at) VALUES ($1, (extract(epoch FROM now()) * 1000000)::int8)",
        );
        self.named += 1;
        let name = [self.opening.to_be_bytes(), self.named.to_be_bytes()].concat();
        let begun = self.main.script("begin", "BEGIN");
        let named = async { self.main.execute(&NAME, args![&name, &self.last]).await };
        // Sent one behind the other, without waiting in between.
        let (begun, named) = futures_util::join!(begun, named);
        begun.and(named)?;
        Ok(name)
    }

    /// A transaction of this name is committed, and everybody knows.
    pub(crate) fn committed(&mut self, name: Vec<u8>) {
        self.last = name;
    }

    /// Whether a transaction of this name was committed; if not, it never will be: its name is taken, and a server that is
    /// still at it is waited for.
    pub(crate) async fn was_committed(&self, name: &Vec<u8>) -> Result<bool, Fault> {
        const TAKE: Sql = sql(
            "ask for a transaction",
            "INSERT INTO @commit (id, at) VALUES ($1, (extract(epoch FROM now()) * 1000000)::int8)
             ON CONFLICT (id) DO NOTHING",
        );
        Ok(self.main.execute(&TAKE, args![name]).await? == 0)
    }

    /// Forgets names that no opening asks for any more: their processes died before they could.
    pub(crate) async fn sweep(&self) -> Result<(), Fault> {
        const SWEEP: Sql = sql(
            "forget names of transactions",
            "DELETE FROM @commit WHERE at < (extract(epoch FROM now()) * 1000000)::int8 - 86400000000",
        );
        self.side.execute(&SWEEP, &[]).await.map(drop)
    }
}

/// What a caller hears while there is no database.
pub(crate) fn unreachable(why: &StoreError) -> StoreError {
    StoreError::Full(format!("PostgreSQL cannot be reached now: {why}").into())
}
