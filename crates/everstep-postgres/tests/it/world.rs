//! A store whose connections go through a proxy, and what its database has.

use everstep_cluster::{Cluster, proxy::Proxy};
use everstep_core::store::RunId;
use everstep_postgres::{Options, Postgres, tokio_postgres::Client};

use crate::fixture::Desk;

pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) proxy: Proxy,
    pub(crate) store: Postgres,
    pub(crate) direct: Client,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(|options| options).await
    }

    pub(crate) async fn with(options: impl FnOnce(Options) -> Options) -> World {
        let desk = Desk::new();
        desk.run_sql(&format!("CREATE TABLE {} (text text NOT NULL)", desk.table("mine")));
        let proxy = Proxy::start(&Desk::url()).await.expect("listens");
        let store = options(desk.options()).open(&proxy.url()).await.expect("opens");
        let direct = another_client().await;
        World { desk, proxy, store, direct }
    }

    pub(crate) fn table(&self, name: &str) -> String {
        self.desk.table(&format!("everstep_{name}"))
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        self.direct.query_one(sql, &[]).await.expect(sql).get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// What the database has of the runs whose ids end like this.
    pub(crate) async fn state(&self, tag: &str) -> String {
        let [run, journal, inbox, started, stuck, state, acts, archive] =
            ["run", "journal", "inbox", "started", "stuck", "state", "act", "archive"]
                .map(|name| self.table(name));
        let mine = self.desk.table("mine");
        let of = |what: &str, table: &str| {
            format!("(SELECT ' {table}:' || string_agg({what}, ',' ORDER BY {what}) FROM {table} x WHERE x.run = r.id)")
                .replace(&format!("' {table}:'"), &format!("' {}:'", table.rsplit("everstep_").next().unwrap_or("")))
        };
        let parts = [
            of("x.seq || '=' || x.kind || convert_from(x.body, 'UTF8')", &journal),
            of("x.n || '=' || x.name", &inbox),
            of("x.key || x.attempt", &started),
            of("x.reason::text", &stuck),
            of("x.name || convert_from(x.body, 'UTF8')", &state),
            of("x.n || x.verb", &acts),
            of("x.n || x.why", &archive),
        ]
        .map(|part| format!("coalesce({part}, '')"))
        .join(" || ");
        let runs = format!(
            "SELECT string_agg(replace(r.text_id, '{tag}', '') || ' ' || r.status || (CASE r.owner WHEN 0 THEN ' free' ELSE ' owned' END)
               || (CASE WHEN r.wake_at IS NULL THEN ' never' WHEN r.wake_at <= 0 THEN ' now' WHEN r.wake_at > 9e18 THEN '' ELSE ' due' END)
               || ' n' || r.inbox_n || ' g' || r.generation || {parts}, '; ' ORDER BY r.text_id)
             FROM {run} r WHERE r.text_id LIKE '%{tag}'"
        );
        let rows = format!(
            "SELECT string_agg(replace(text, '{tag}', ''), ',') FROM {mine} WHERE text LIKE '%{tag}'"
        );
        format!("{} rows {}", self.text(&runs).await, self.text(&rows).await)
    }

    /// Waits until so many connections of this schema wait for a lock.
    pub(crate) async fn waiting(&self, many: i64) {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
        while self.direct.query_one(waiting, &[&self.schema()]).await.expect("looks").get::<_, i64>(0) < many
        {
        }
    }

    /// What writes an entry of nobody's into a journal: the next one of its number waits for it, or cannot be written.
    pub(crate) fn takes_place(&self, run: RunId, seq: u64) -> String {
        format!(
            "INSERT INTO {} (run, seq, at, build, fingerprint, attempt, kind, codec, body)
             VALUES ({}, {seq}, 0, 0, 0, 0, 0, 0, '')",
            self.table("journal"),
            run.0
        )
    }

    /// The server's process for the connection that writes, when it has just written.
    pub(crate) async fn writer(&self) -> i32 {
        let last = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'WITH f AS%' AND query LIKE $1";
        self.direct.query_one(last, &[&self.schema()]).await.expect("there is one").get(0)
    }

    /// Waits until that process has ended.
    pub(crate) async fn ended(&self, backend: i32) {
        let is_there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
        while !self.direct.query(is_there, &[&backend]).await.expect("looks").is_empty() {}
    }

    fn schema(&self) -> String {
        format!("%{}%", self.desk.table("").trim_end_matches('.'))
    }
}

/// A connection that goes through nothing.
pub(crate) async fn another_client() -> Client {
    Cluster::shared().expect("a server").connect("postgres").await.expect("connects")
}
