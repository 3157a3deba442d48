//! What is in the database in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::{AnyResult, eye::Eye};

/// What one worker has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Entries of journals.
    pub(crate) entries: i64,
    /// Rows of the user's.
    pub(crate) rows: i64,
}

/// A run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunSeen {
    pub(crate) status: String,
    /// Number, kind and key of its entries, in order.
    pub(crate) entries: Vec<(i64, String, String)>,
}

/// The database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) runs: BTreeMap<String, RunSeen>,
    /// The user's rows: run and key.
    pub(crate) moved: Vec<(String, String)>,
    /// What those had written by then who were fenced, and have now.
    pub(crate) written: BTreeMap<String, (Written, Written)>,
    /// The workers that were fenced.
    pub(crate) fenced: BTreeSet<String>,
}

impl Snapshot {
    /// Everything, when everything is over.
    pub(crate) async fn take(eye: &Eye) -> AnyResult<Snapshot> {
        const RUNS: &str = "SELECT id, status FROM everstep.everstep_runs";
        const ENTRIES: &str =
            "SELECT run, seq, what, coalesce(key, '') FROM everstep.everstep_timeline ORDER BY run, seq";
        let mut snapshot = Snapshot::glance(eye).await?;
        for row in eye.asks(RUNS, &[]).await? {
            let seen = RunSeen { status: row.get(1), entries: Vec::new() };
            snapshot.runs.insert(row.get(0), seen);
        }
        for row in eye.asks(ENTRIES, &[]).await? {
            let run: &str = row.get(0);
            let run =
                snapshot.runs.get_mut(run).ok_or_else(|| format!("an entry of {run}, which is no run"))?;
            run.entries.push((row.get(1), row.get(2), row.get(3)));
        }
        Ok(snapshot)
    }

    /// What can be judged while everything goes on: without the runs.
    pub(crate) async fn glance(eye: &Eye) -> AnyResult<Snapshot> {
        const FENCED: &str = "SELECT n.text FROM everstep.everstep_worker w \
             JOIN everstep.everstep_name n ON n.id = w.build WHERE w.fenced";
        let mut snapshot = Snapshot::default();
        for row in eye.asks("SELECT run, key FROM moved", &[]).await? {
            snapshot.moved.push((row.get(0), row.get(1)));
        }
        for row in eye.asks(FENCED, &[]).await? {
            snapshot.fenced.insert(row.get(0));
        }
        // In this order: who is fenced in between has written nothing since.
        let then = eye.fenced();
        let now = eye.written().await?;
        let now = |name: &str| now.get(name).copied().unwrap_or_default();
        snapshot.written = then.into_iter().map(|(name, then)| (name.clone(), (then, now(&name)))).collect();
        Ok(snapshot)
    }
}
