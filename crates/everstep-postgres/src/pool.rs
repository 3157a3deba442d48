//! Connections for reads and for users' transactions: made when they are wanted, kept for the next, bounded in number.

use std::sync::{Arc, Mutex, PoisonError};

use everstep_core::store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{conn::Conn, fault::Fault, shape::Shape};

/// Takes back what our own statements want of times in texts, and what only they want to hear.
const AS_THE_SERVER: &str = "RESET timezone; RESET client_min_messages";

/// Connections of one kind.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: Arc<Shape>,
    /// What is said first on each new connection.
    greeting: &'static str,
    idle: Mutex<Vec<Member>>,
    /// Numbers that no connection has.
    free: Mutex<Vec<i16>>,
    room: Arc<Semaphore>,
}

/// A connection and its number among those of its pool.
#[derive(Debug)]
struct Member {
    conn: Arc<Conn>,
    number: i16,
}

/// A connection that is in use; goes back when it is dropped, unless it is to be thrown away.
#[derive(Debug)]
pub(crate) struct Lent {
    pool: Arc<Pool>,
    member: Option<Member>,
    keep: bool,
    _room: OwnedSemaphorePermit,
}

impl Pool {
    /// With connections of these numbers.
    pub(crate) fn new(shape: Arc<Shape>, numbers: std::ops::Range<i16>) -> Arc<Pool> {
        Pool::greeting(shape, numbers, "")
    }

    /// As [`Pool::new`], for users' statements: planned, and in the zone of time, as the server has it.
    pub(crate) fn for_users(shape: Arc<Shape>, numbers: std::ops::Range<i16>) -> Arc<Pool> {
        Pool::greeting(shape, numbers, AS_THE_SERVER)
    }

    fn greeting(shape: Arc<Shape>, numbers: std::ops::Range<i16>, greeting: &'static str) -> Arc<Pool> {
        let room = Arc::new(Semaphore::new(numbers.len()));
        Arc::new(Pool { shape, greeting, idle: Mutex::default(), free: Mutex::new(numbers.collect()), room })
    }

    /// One of them, as soon as there is one. On the store's own runtime.
    pub(crate) async fn lend(self: &Arc<Pool>) -> Result<Lent, Fault> {
        let closed = |_| StoreError::Closed("the store was dropped".into());
        let room = self.room.clone().acquire_owned().await.map_err(closed)?;
        let idle = loop {
            match self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                Some(member) if member.conn.is_gone() => self.give_number(member.number),
                other => break other,
            }
        };
        let member = match idle {
            Some(member) => member,
            None => self.make().await?,
        };
        Ok(Lent { pool: self.clone(), member: Some(member), keep: false, _room: room })
    }

    async fn make(&self) -> Result<Member, Fault> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let number = number.expect("there is a number for each that there is room for");
        match self.connect().await {
            Ok(conn) => Ok(Member { conn: Arc::new(conn), number }),
            Err(fault) => {
                self.give_number(number);
                Err(fault)
            }
        }
    }

    async fn connect(&self) -> Result<Conn, Fault> {
        let conn = Conn::open(&self.shape).await?;
        // A session behind a pooler is set up by nobody.
        if !self.greeting.is_empty() && !self.shape.pooled {
            conn.script("set up the session", &self.greets(&conn)).await?;
        }
        Ok(conn)
    }

    fn greets(&self, conn: &Conn) -> String {
        match self.greeting {
            "" => String::new(),
            greeting => format!("{greeting}; {}", conn.dialect.end_of_session()),
        }
    }

    fn give_number(&self, number: i16) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }

    /// Nothing is lent any more.
    pub(crate) fn close(&self) {
        self.room.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Lent {
    pub(crate) fn number(&self) -> i16 {
        self.member.as_ref().expect("until it is dropped").number
    }

    /// Its connection, for a user's code.
    pub(crate) fn share(&self) -> Arc<Conn> {
        self.member.as_ref().expect("until it is dropped").conn.clone()
    }

    /// Whether the user's code still has it.
    pub(crate) fn is_shared(&self) -> bool {
        self.member.as_ref().is_some_and(|member| Arc::strong_count(&member.conn) > 1)
    }

    /// Takes back what an earlier user's code has set for the session. Behind a pooler it is nobody's to do.
    pub(crate) async fn renew(&self) -> Result<(), Fault> {
        let shape = &self.pool.shape;
        if shape.pooled {
            return Ok(());
        }
        let text =
            format!("RESET ALL; RESET ROLE; {}; {}", shape.settings(self.dialect), self.pool.greets(self));
        self.script("set up the session anew", &text).await
    }

    /// Nothing is under way on it: the next may have it.
    pub(crate) fn is_clean(&mut self) {
        self.keep = true;
    }
}

impl std::ops::Deref for Lent {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.member.as_ref().expect("until it is dropped").conn
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else { return };
        if self.keep && !member.conn.is_gone() && !self.pool.room.is_closed() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(member);
        } else {
            self.pool.give_number(member.number);
        }
    }
}
