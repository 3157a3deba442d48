//! One connection: statements that are prepared once, or each time where a pooler may give each transaction another
//! server connection.

use std::{
    borrow::Cow,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use foldhash::HashMap;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::AbortHandle,
};
use tokio_postgres::{AsyncMessage, Client, Notification, Row, Statement};

use crate::{
    dialect::Dialect,
    fault::{Class, Fault, class},
    hostile::Whims,
    shape::Shape,
    sql::{Arg, Sql, get},
    stopwatch::within,
    tls,
};
use everstep_core::store::StoreError;

/// For how long the database may leave an attempt to connect without an answer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// A row that is free is stepped over so often in a row by no database that we know.
const LOOKS_MAX: u32 = 12;
/// For how long a server is asked to leave off.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// One connection.
pub(crate) struct Conn {
    client: Client,
    /// What keeps it going.
    going: AbortHandle,
    given_up: AtomicBool,
    shape: Arc<Shape>,
    pub(crate) dialect: Dialect,
    whims: Whims,
    known: Mutex<HashMap<Cow<'static, str>, Known>>,
}

#[derive(Clone)]
enum Known {
    Prepared(Statement),
    /// Its text, for a connection on which nothing stays prepared.
    Text(Arc<str>),
}

impl Conn {
    /// Connects, for what is written and read. To be called on the store's own runtime, which keeps the connection going.
    pub(crate) async fn open(shape: &Arc<Shape>) -> Result<Conn, Fault> {
        Ok(Conn::open_listening(shape).await?.0)
    }

    /// Connects, and hears hints.
    pub(crate) async fn open_listening(
        shape: &Arc<Shape>,
    ) -> Result<(Conn, UnboundedReceiver<Notification>), Fault> {
        let connected = within(CONNECT_WAIT, shape.address.connect()).await;
        let late = || StoreError::Full(format!("PostgreSQL has not answered for {CONNECT_WAIT:?}").into());
        let (client, mut connection) = connected.ok_or_else(late)?.map_err(not_connected)?;
        if connection.parameter("in_hot_standby") == Some("on") {
            let why = "this server is a standby, which takes no writes and may be behind: name the primary, or all servers, of \
                       which the primary is taken";
            return Err(StoreError::Full(why.into()).into());
        }
        let dialect = match shape.hostile.is_on() {
            true => Dialect::Hostile,
            false => Dialect::told_by(|name| connection.parameter(name)),
        };
        let (send, heard) = unbounded_channel();
        let going = tokio::spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(hint)) => drop(send.send(hint)),
                    Ok(_) => {}
                    // Whoever asks it again gets the same error for ever, and at once.
                    Err(error) => return tracing::debug!(%error, "a connection has ended"),
                }
            }
        });
        let conn = Conn {
            client,
            going: going.abort_handle(),
            given_up: AtomicBool::new(false),
            shape: shape.clone(),
            dialect,
            whims: shape.hostile.whims(),
            known: Mutex::default(),
        };
        if !shape.pooled {
            conn.script("set up the session", &shape.settings(dialect)).await?;
        }
        Ok((conn, heard))
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.client.is_closed() || self.given_up.load(Ordering::Relaxed)
    }

    /// Nothing is expected of it any more; what is under way on it ends with an error, and may have happened.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.going.abort();
    }

    /// What the database answers. A connection on which nothing is answered in time is given up, as one is that can do
    /// nothing more for us though it stands, on a server that became a standby.
    async fn answered<T>(
        &self,
        name: &'static str,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        let mut asked = pin!(asked);
        let answered = match within(self.shape.patience(), asked.as_mut()).await {
            Some(answered) => answered,
            None => {
                tracing::warn!(statement = name, "PostgreSQL does not answer: a connection is given up");
                self.give_up();
                asked.await
            }
        };
        answered.map_err(|error| {
            if class(&error) == Class::Gone {
                self.give_up();
            }
            Fault::Sql(name, error)
        })
    }

    /// How it was made.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Ends it, and what is under way on it: the server is asked to leave off, and rolls back. Whoever still has it gets
    /// nothing done any more.
    pub(crate) async fn cut(&self) {
        let leave_off = self.client.cancel_token();
        self.give_up();
        // Without this a long statement would keep its locks until it is done, and no longer.
        let _ = within(CUT_WAIT, self.shape.address.cancel(leave_off)).await;
    }

    /// For a user's own statements.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Statements without values, one after the other.
    pub(crate) async fn script(&self, name: &'static str, text: &str) -> Result<(), Fault> {
        self.is_let(name, text).await?;
        self.answered(name, self.client.batch_execute(&self.shape.text(text))).await
    }

    /// What the database of a test does in place of a statement.
    async fn is_let(&self, name: &'static str, text: &str) -> Result<(), Fault> {
        match self.whims.instead_of(text) {
            None => Ok(()),
            Some(instead) => self.answered(name, self.client.batch_execute(instead)).await,
        }
    }

    /// The rows of a statement.
    pub(crate) async fn rows(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, Fault> {
        self.is_let(sql.0, &sql.1).await?;
        let values = || args.iter().map(Arg::value).collect::<Vec<_>>();
        let mut rows = match self.known(sql, args).await? {
            Known::Prepared(statement) => {
                self.answered(sql.0, self.client.query(&statement, &values())).await?
            }
            Known::Text(text) => {
                self.answered(sql.0, self.client.query_typed(&text, &Arg::typed(args))).await?
            }
        };
        self.whims.step_over(&sql.1, &mut rows);
        Ok(rows)
    }

    /// One statement of so many bytes as a transaction: it has happened if there is an answer, and not if there is an error, unless
    /// the connection is gone. Where a session has no limits, they are sent before it and COMMIT behind it, without waiting in
    /// between.
    pub(crate) async fn within_limits<T>(
        &self,
        bytes: usize,
        statement: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        if !self.shape.pooled {
            return statement.await;
        }
        let begin = self.shape.begin(bytes);
        let begun = self.script("begin", &begin);
        let committed = self.script("commit", "COMMIT");
        let (begun, answer, committed) = futures_util::join!(begun, statement, committed);
        match answer {
            Ok(answer) => committed.map(|()| answer),
            // What has failed is rolled back by the COMMIT behind it; without a connection nobody knows.
            Err(fault) => Err(begun.err().filter(|_| !self.is_gone()).unwrap_or(fault)),
        }
    }

    /// The rows of a statement that steps over what others have locked: `enough` of them, or all. Their first column is their
    /// number. Where it steps over free ones too, it is asked again a few times for those that it has left out. Nobody is
    /// waited for: a transaction of somebody who is gone may keep a row for long.
    pub(crate) async fn free_rows(
        &self,
        sql: &Sql,
        args: &[Arg<'_>],
        enough: usize,
    ) -> Result<Vec<Row>, Fault> {
        let rows = self.rows(sql, args).await?;
        let (look, locks) = sql.1.rsplit_once(" FOR UPDATE").unwrap_or((&*sql.1, ""));
        if self.dialect.skips_exactly() || rows.len() >= enough || locks.is_empty() {
            return Ok(rows);
        }
        let mut order = HashMap::default();
        for row in self.rows(&Sql(sql.0, look.to_owned().into()), args).await? {
            let place = order.len();
            order.insert(get::<i64>(&row, 0)?, place);
        }
        let (mut found, mut looks) = (numbered(rows)?, 1);
        while found.len() < order.len() && looks < LOOKS_MAX {
            found.extend(numbered(self.rows(sql, args).await?)?);
            looks += 1;
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(number, _)| order.get(number).copied().unwrap_or(usize::MAX));
        found.truncate(enough);
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    /// The first row of a statement, if there is one.
    pub(crate) async fn one(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// The rows of a statement that is made anew each time: planned with its values.
    pub(crate) async fn once(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, Fault> {
        self.is_let(sql.0, &sql.1).await?;
        self.answered(sql.0, self.client.query_typed(&self.shape.text(&sql.1), &Arg::typed(args))).await
    }

    /// How many rows a statement changed.
    pub(crate) async fn execute(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<u64, Fault> {
        self.is_let(sql.0, &sql.1).await?;
        let values = || args.iter().map(Arg::value).collect::<Vec<_>>();
        match self.known(sql, args).await? {
            Known::Prepared(statement) => {
                self.answered(sql.0, self.client.execute(&statement, &values())).await
            }
            Known::Text(text) => {
                self.answered(sql.0, self.client.execute_typed(&text, &Arg::typed(args))).await
            }
        }
    }

    async fn known(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Known, Fault> {
        if let Some(known) = self.lock().get(&*sql.1) {
            return Ok(known.clone());
        }
        let text = self.shape.text(&sql.1);
        let known = if self.shape.pooled {
            Known::Text(text.into())
        } else {
            let types: Vec<_> = args.iter().map(|arg| arg.ty.clone()).collect();
            Known::Prepared(self.answered(sql.0, self.client.prepare_typed(&text, &types)).await?)
        };
        self.lock().insert(sql.1.clone(), known.clone());
        Ok(known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Cow<'static, str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the number in their first column.
fn numbered(rows: Vec<Row>) -> Result<HashMap<i64, Row>, Fault> {
    rows.into_iter().map(|row| Ok((get(&row, 0)?, row))).collect()
}

fn not_connected(error: tokio_postgres::Error) -> Fault {
    match tls::advice(&error) {
        Some(advice) => StoreError::Unusable(advice.into()).into(),
        None => Fault::Sql("connect", error),
    }
}

/// Whatever rows can be asked of: a connection of ours, or a user's.
pub(crate) trait Speaks {
    /// The rows of a statement.
    async fn rows(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, Fault>;

    /// The first row of a statement, if there is one.
    async fn one(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }
}

impl Speaks for Conn {
    async fn rows(&self, sql: &Sql, args: &[Arg<'_>]) -> Result<Vec<Row>, Fault> {
        Conn::rows(self, sql, args).await
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conn")
    }
}

#[cfg(test)]
mod tests {
    use everstep_cluster::{
        Cluster,
        proxy::{Fault as Broken, Proxy},
    };

    use super::*;
    use crate::{address::Address, hostile::Hostile};

    /// Whoever asks an ended connection again gets an answer at once, and so would never rest.
    #[tokio::test]
    async fn a_connection_that_was_cut_leaves_nothing_running() {
        let proxy =
            Proxy::start(&Cluster::shared().expect("a server").url("postgres")).await.expect("listens");
        let address = Address::parse(&proxy.url()).expect("is an address");
        let second = Duration::from_secs(1);
        let (prefix, schema) = (String::new(), String::new());
        let (limit, hostile) = (second * 30, Hostile::default());
        let (lock, idle) = (second, second);
        let shape = Shape { address, prefix, schema, pooled: false, limit, lock, idle, hostile };
        let conn = Conn::open(&Arc::new(shape)).await.expect("connects");
        proxy.set(Broken::Cut);
        let Err(Fault::Sql(_, error)) = conn.script("look", "SELECT 1").await else {
            panic!("it is answered")
        };
        assert_eq!(class(&error), Class::Gone, "{error}");
        assert!(conn.is_gone());
        let ended = async {
            while !conn.going.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        within(second * 10, ended).await.expect("it ends");
    }
}
