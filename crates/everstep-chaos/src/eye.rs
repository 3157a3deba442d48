//! Who looks into the database from outside, past everything that breaks: how long takeovers take, what a worker had written
//! when it was fenced, what is there in the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep_cluster::Private;
use everstep_postgres::tokio_postgres::{Client, Row, types::ToSql};
use tokio::sync::Mutex as Turns;

use crate::{
    AnyResult,
    pulse::Pulse,
    snapshot::Written,
    time::{ms, now, pass},
};

const LOOK_MS: u64 = 40;
const WORKER: &str = "SELECT w.fenced, (SELECT count(*) FROM everstep.everstep_run r \
     WHERE r.owner = w.id AND r.wake_at IS NOT NULL) \
     FROM everstep.everstep_worker w JOIN everstep.everstep_name n ON n.id = w.build WHERE n.text = $1";
const WRITTEN: &str = "SELECT by, sum(entries)::int8, sum(rows)::int8 FROM (\
     SELECT n.text AS by, count(*) AS entries, 0 AS rows FROM everstep.everstep_journal j \
     JOIN everstep.everstep_name n ON n.id = j.build GROUP BY 1 \
     UNION ALL SELECT by, 0, count(*) FROM moved GROUP BY 1) AS w GROUP BY 1";
/// Against hanging only.
const HANGS: Duration = Duration::from_secs(60);

/// Looks, with a connection that is made anew when it is gone.
pub(crate) struct Eye {
    cluster: std::sync::Arc<Private>,
    client: Turns<Option<Client>>,
    fenced: Mutex<BTreeMap<String, Written>>,
    took: Mutex<Vec<Duration>>,
}

impl Eye {
    pub(crate) fn new(cluster: std::sync::Arc<Private>) -> Eye {
        Eye { cluster, client: Turns::default(), fenced: Mutex::default(), took: Mutex::default() }
    }

    /// The rows of a query, as soon as there is a server to ask.
    pub(crate) async fn asks(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> AnyResult<Vec<Row>> {
        let began = now();
        loop {
            let asked = self.try_to_ask(sql, args).await;
            match asked {
                Ok(rows) => return Ok(rows),
                Err(error) if began.elapsed() > HANGS => return Err(format!("{sql}: {error}").into()),
                Err(_) => pass(ms(LOOK_MS)).await,
            }
        }
    }

    async fn try_to_ask(&self, sql: &str, args: &[&(dyn ToSql + Sync)]) -> AnyResult<Vec<Row>> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = Some(self.cluster.connect("chaos").await?);
        }
        Ok(client.as_ref().expect("it was just made").query(sql, args).await?)
    }

    /// Waits until this worker is fenced and owns nothing, counted as a takeover since then or since the server came back,
    /// and remembers what it had written. A worker that the database does not know has nothing to take over.
    pub(crate) async fn sees_takeover(&self, name: &str, since: Instant, pulse: &Pulse) -> AnyResult<()> {
        loop {
            let rows = self.asks(WORKER, &[&name]).await?;
            let Some(row) = rows.first() else { return Ok(()) };
            let (fenced, owned): (bool, i64) = (row.get(0), row.get(1));
            if fenced {
                self.remember(name).await?;
            }
            if fenced && owned == 0 {
                let since = since.max(pulse.healed_at());
                self.took.lock().unwrap_or_else(PoisonError::into_inner).push(since.elapsed());
                return Ok(());
            }
            if since.elapsed() > HANGS {
                return Err(format!("nobody takes over from {name}: fenced {fenced}, {owned} runs").into());
            }
            pass(ms(LOOK_MS)).await;
        }
    }

    /// Remembers what a worker that does nothing just now had written when it was fenced, if it is.
    pub(crate) async fn sees_fence(&self, name: &str) -> AnyResult<bool> {
        let rows = self.asks(WORKER, &[&name]).await?;
        let fenced = rows.first().is_some_and(|row| row.get(0));
        if fenced {
            self.remember(name).await?;
        }
        Ok(fenced)
    }

    async fn remember(&self, name: &str) -> AnyResult<()> {
        if self.fenced().contains_key(name) {
            return Ok(());
        }
        // Who has written nothing is not told of.
        let written = self.written().await?.get(name).copied().unwrap_or_default();
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), written);
        Ok(())
    }

    /// What each worker has written.
    pub(crate) async fn written(&self) -> AnyResult<BTreeMap<String, Written>> {
        let rows = self.asks(WRITTEN, &[]).await?;
        let written = |row: &Row| (row.get(0), Written { entries: row.get(1), rows: row.get(2) });
        Ok(rows.iter().map(written).collect())
    }

    /// What everybody does in the database just now, and whom they wait for, for people.
    pub(crate) async fn activity(&self) -> AnyResult<String> {
        const ACTIVITY: &str = "SELECT concat_ws(' | ', pid, pg_blocking_pids(pid), state, wait_event_type, wait_event, \
             now() - state_change, left(query, 150)) FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY pid";
        let rows = self.asks(ACTIVITY, &[]).await?;
        Ok(rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect())
    }

    /// What the fenced had written by then.
    pub(crate) fn fenced(&self) -> BTreeMap<String, Written> {
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long takeovers took.
    pub(crate) fn takeovers(&self) -> Vec<Duration> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
