//! How connections of one opening are made, and how they speak.

use std::time::Duration;

use everstep_core::store::WorkerId;

use crate::{address::Address, dialect::Dialect, hostile::Hostile};

/// In microseconds, as all times are.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8";
const SETTINGS: &str = "SET synchronous_commit = on; SET client_min_messages = warning; SET timezone = 'UTC';
    SET standard_conforming_strings = on";

/// A transaction holds a row of its worker's fence. If its process stands still, who takes over waits for it, and so only
/// for a moment longer than for the lease; said in each transaction, because behind a pooler a session has no settings.
const STILL_MAX: u64 = 1_000;
/// Bytes that a slow line carries in a millisecond: while a statement is on its way, its transaction stands still for the server.
const SLOW_LINE: u64 = 256;

/// Of all connections of an opening, or of one kind of them.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) address: Address,
    /// `"schema".everstep_`, for `@`.
    pub(crate) prefix: String,
    /// The schema's name.
    pub(crate) schema: String,
    /// A pooler stands between, which may give each transaction another connection of the server.
    pub(crate) pooled: bool,
    /// For how long a statement may run.
    pub(crate) limit: Duration,
    /// For how long a statement may wait for a lock.
    pub(crate) lock: Duration,
    /// For how long a transaction may stand still: its locks are in others' way, a takeover's among them.
    pub(crate) idle: Duration,
    /// How unkind the database is, in tests.
    pub(crate) hostile: Hostile,
}

impl Shape {
    /// A statement's text as the database gets it.
    pub(crate) fn text(&self, text: &str) -> String {
        text.replace(":now", NOW).replace("@@", &format!("\"{}\"", self.schema)).replace('@', &self.prefix)
    }

    /// What a session begins with.
    pub(crate) fn settings(&self, dialect: Dialect) -> String {
        let [limit, lock, idle] = [self.limit, self.limit.min(self.lock), self.idle].map(|of| of.as_millis());
        format!(
            "{SETTINGS}; {}; SET statement_timeout = {limit}; SET lock_timeout = {lock};
             SET idle_in_transaction_session_timeout = {idle}",
            dialect.session()
        )
    }

    /// What one of our transactions begins with that writes so many bytes, with the limits that a session has unless there is
    /// a pooler.
    pub(crate) fn begin(&self, bytes: usize) -> String {
        let still = STILL_MAX + bytes as u64 / SLOW_LINE;
        let begin = format!("BEGIN; SET LOCAL idle_in_transaction_session_timeout = {still}");
        if !self.pooled {
            return begin;
        }
        let [limit, lock] = [self.limit, self.limit.min(self.lock)].map(|of| of.as_millis());
        format!("{begin}; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {lock}")
    }

    /// The server ends a statement after its limit. If that is not heard either, nothing will be.
    pub(crate) fn patience(&self) -> Duration {
        self.limit + self.limit / 4
    }

    /// The channel of hints for all openings of one schema.
    pub(crate) fn channel(&self) -> String {
        format!("everstep {}", self.schema)
    }

    /// The channel of hints for one worker. Of such names the server takes 63 bytes: 40 are the schema's, 19 the number's.
    pub(crate) fn channel_of(&self, worker: WorkerId) -> String {
        format!("es {} {}", self.schema, worker.0)
    }
}
