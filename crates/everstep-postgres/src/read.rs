//! Reads, on connections of their own. Each is short: a transaction that is held open keeps dead rows from being cleared
//! away.

use std::{collections::HashMap, sync::Arc};

use everstep_core::{
    AttributeValue, Status, Stuck, Timestamp,
    journal::{Entry, Payload},
    store::{
        Act, Answer, Filter, Inspect, Kept, LetterId, Loaded, PATCHED, PatchRow, PublishedRow, Received,
        RunId, RunRow, StoreError, StreamRow, WorkerId, WorkerSeen,
    },
};
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use crate::{
    bounds::due,
    conn::Conn,
    fault::{Class, Fault, TRIES_MAX, class, told},
    find, kept,
    names::Texts,
    open::Postgres,
    pool::Pool,
    row::{self, entry_columns, signed, unsigned},
    sql::{Sql, args, get, sql},
    stopwatch::Stopwatch,
    text, whole,
};

/// Runs are read together up to so many: what is in memory at once stays bounded.
const TOGETHER: usize = 200;

/// A read, on a connection that it has alone; done again if that turns out to be gone.
pub(crate) type Work<T> =
    Box<dyn for<'c> Fn(&'c Conn, &'c Texts) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync>;

impl Postgres {
    /// Runs a read on the store's own runtime, to its end whoever waits for it.
    pub(crate) fn read<T: Send + 'static>(&self, work: Work<T>) -> Answer<T> {
        self.beside(&self.inner.readers, work)
    }

    /// What a worker must see to go on, whatever people look at meanwhile.
    fn look<T: Send + 'static>(&self, work: Work<T>) -> Answer<T> {
        self.beside(&self.inner.looks, work)
    }

    /// Does something beside the writer that may be done twice.
    pub(crate) fn beside<T: Send + 'static>(&self, pool: &Arc<Pool>, work: Work<T>) -> Answer<T> {
        if let Some(cause) = self.inner.closed.get() {
            return Box::pin(std::future::ready(Err(StoreError::Closed(cause.clone()))));
        }
        let (pool, texts) = (pool.clone(), self.inner.texts.clone());
        let (send, answer) = tokio::sync::oneshot::channel();
        self.inner.runtime.spawn(async move {
            let mut tries = 0;
            let read = loop {
                tries += 1;
                let read = async {
                    let mut lent = pool.lend().await?;
                    let read = work(&lent, &texts).await?;
                    lent.is_clean();
                    Ok(read)
                };
                match read.await {
                    Err(fault) if fault.is_again() && tries < TRIES_MAX => {}
                    // Not what took too long: it would again.
                    Err(Fault::Sql(name, error))
                        if tries < 3 && !matches!(class(&error), Class::Refused | Class::Blocked) =>
                    {
                        tracing::debug!(%error, name, "a read is done again");
                    }
                    read => break read.map_err(told),
                }
            };
            let _ = send.send(read);
        });
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Closed("the store was dropped".into())))
        })
    }

    /// See [`everstep_core::store::Store::workers`].
    pub(crate) fn seen_workers(&self) -> Answer<Vec<WorkerSeen>> {
        const WORKERS: Sql = sql(
            "look at the workers",
            "SELECT w.id, w.beat, w.fenced, n.text FROM @worker w JOIN @name n ON n.id = w.build
             WHERE NOT w.fenced OR EXISTS (
               SELECT 1 FROM @run WHERE owner = w.id AND wake_at IS NOT NULL) ORDER BY w.id",
        );
        self.look(Box::new(|conn, _| {
            Box::pin(async {
                let seen = |row: &Row| {
                    let (worker, beat) = (WorkerId(get(row, 0)?), unsigned(get(row, 1)?));
                    let (fenced, build) = (get(row, 2)?, text::meant(get(row, 3)?));
                    Ok(WorkerSeen { worker, build, beat, fenced, gone: false })
                };
                let rows = conn.rows(&WORKERS, &[]).await?;
                Ok(rows.iter().map(seen).collect::<Result<_, StoreError>>()?)
            })
        }))
    }

    /// See [`everstep_core::store::Store::next_due`].
    pub(crate) fn first_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        const FIRST: Sql = sql(
            "find what is due next",
            "SELECT min(f.wake_at)
             FROM unnest($1, $2, $3) AS u(text, first, since) JOIN @name n ON n.kind = 1 AND n.text = u.text, LATERAL (
               (SELECT r.wake_at FROM @run r
                WHERE r.owner = 0 AND r.workflow = n.id AND r.wake_at IS NOT NULL
                  AND r.wake_at >= u.first AND r.wake_at <= 0 ORDER BY r.wake_at LIMIT 1)
               UNION ALL
               (SELECT r.wake_at FROM @run r
                WHERE r.owner = 0 AND r.workflow = n.id AND r.wake_at IS NOT NULL AND r.wake_at >= u.since
                ORDER BY r.wake_at LIMIT 1)) AS f",
        );
        let names: Vec<_> = workflows.iter().map(|name| text::kept(name).into_owned()).collect();
        let bounds = self.inner.notices.bounds.clone();
        let (first, since): (Vec<_>, Vec<_>) =
            workflows.iter().map(|name| bounds.read_from(name, false)).unzip();
        self.look(Box::new(move |conn, _| {
            let (names, first, since) = (names.clone(), first.clone(), since.clone());
            let (workflows, bounds) = (workflows.clone(), bounds.clone());
            Box::pin(async move {
                let whole = workflows.iter().zip(&since).filter(|(_, since)| **since == i64::MIN);
                let (whole, watch): (Vec<_>, _) = (whole.map(|(name, _)| name).collect(), Stopwatch::start());
                let row = conn.one(&FIRST, args![names, first, &since]).await?;
                let at = row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten();
                if !whole.is_empty() {
                    bounds.has_read(&whole, at, watch.elapsed());
                }
                Ok(at.map(due))
            })
        }))
    }
}

/// Everything that `look` sees is of the same moment.
pub(crate) async fn in_one_look<T>(
    conn: &Conn,
    look: impl AsyncFnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.script("begin a look", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let seen = look().await;
    if let Err(fault) = conn.script("end a look", "COMMIT").await {
        // What was seen is seen: to make sense of it may have taken longer than the server lets a transaction stand still.
        tracing::debug!(error = %told(fault), "a look was ended by the server");
        conn.give_up();
    }
    seen
}

/// Journals, inboxes and started rows of runs.
pub(crate) async fn load(
    conn: &Conn,
    texts: &Texts,
    runs: &[RunId],
) -> Result<Vec<Result<Loaded, StoreError>>, Fault> {
    const ENTRIES: Sql = sql(
        "read journals",
        concat!(
            "SELECT ",
            entry_columns!(),
            ", j.run FROM @journal j WHERE j.run = ANY($1) ORDER BY j.run, j.seq"
        ),
    );
    const INBOX: Sql = sql(
        "read inboxes",
        "SELECT n, kind, name, body, codec, id, at, run FROM @inbox WHERE run = ANY($1) ORDER BY run, n",
    );
    const STARTED: Sql = sql(
        "read started rows",
        "SELECT key, attempt, at, abandoned, details, details_codec, run FROM @started WHERE run = ANY($1)
         ORDER BY run, key",
    );
    let ids: Vec<_> = runs.iter().map(|run| run.0).collect();
    let of_them = async |sql| conn.rows(sql, args![&ids]).await;
    let (of_journals, of_inboxes, of_started) = (ENTRIES, INBOX, STARTED);
    let (entries, inbox, started) =
        futures_util::join!(of_them(&of_journals), of_them(&of_inboxes), of_them(&of_started));
    let (entries, inbox, started) = (entries?, inbox?, started?);
    texts.learn(conn, row::names_of_entries(&entries, 0)).await?;
    let mut loaded: HashMap<i64, Result<Loaded, StoreError>> = HashMap::with_capacity(runs.len());
    let nothing = || Ok(Loaded { entries: Vec::new(), inbox: Vec::new(), started: Vec::new() });
    for run in runs {
        loaded.insert(run.0, nothing());
    }
    let mut add = |rows: &[Row], column: usize, add: &dyn Fn(&mut Loaded, &Row) -> Result<(), StoreError>| {
        for row in rows {
            let run: i64 = get(row, column)?;
            let of_run = loaded.entry(run).or_insert_with(nothing);
            if let Ok(so_far) = of_run
                && let Err(error) = add(so_far, row)
            {
                *of_run = Err(error);
            }
        }
        Ok::<_, StoreError>(())
    };
    add(&entries, 12, &|to, row| row::entry(texts, row, 0).map(|entry| to.entries.push(entry)))?;
    add(&inbox, 7, &|to, row| row::received(row, 0).map(|letter| to.inbox.push(letter)))?;
    add(&started, 6, &|to, row| row::started(row, 0).map(|started| to.started.push(started)))?;
    Ok(runs.iter().map(|run| loaded.get(&run.0).cloned().unwrap_or_else(nothing)).collect())
}

/// A read of the rows of one statement, each through a function.
macro_rules! read_all {
    ($store:expr, $sql:expr, [$($value:expr),*], $each:expr) => {
        $store.read(Box::new(move |conn, _| {
            Box::pin(async move {
                let rows = conn.rows(&$sql, args![$($value),*]).await?;
                Ok(rows.iter().map($each).collect::<Result<_, StoreError>>()?)
            })
        }))
    };
}

impl Inspect for Postgres {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.read(Box::new(move |conn, texts| {
            let id = id.clone();
            Box::pin(async move { row::run_by_id(conn, texts, &id).await })
        }))
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(Box::new(move |conn, texts| {
            let filter = filter.clone();
            Box::pin(async move { find::runs(conn, texts, &filter, before, limit).await })
        }))
    }

    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.read(Box::new(move |conn, _| {
            let filter = filter.clone();
            Box::pin(async move { find::count(conn, &filter, at_most).await })
        }))
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.look(Box::new(move |conn, texts| {
            Box::pin(async move {
                let loaded = in_one_look(conn, async || load(conn, texts, &[run]).await).await?;
                Ok(loaded.into_iter().next().expect("one for each")?)
            })
        }))
    }

    fn load_some(&self, mut runs: Vec<RunId>) -> Answer<Vec<Result<Loaded, StoreError>>> {
        runs.truncate(TOGETHER);
        self.look(Box::new(move |conn, texts| {
            let runs = runs.clone();
            Box::pin(async move { in_one_look(conn, async || load(conn, texts, &runs).await).await })
        }))
    }

    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        const INBOX: Sql = sql(
            "read an inbox",
            "SELECT n, kind, name, body, codec, id, at FROM @inbox WHERE run = $1 AND n > $2 ORDER BY n",
        );
        let after = signed(after);
        // A driver reads its letters by this.
        self.look(Box::new(move |conn, _| {
            Box::pin(async move {
                let rows = conn.rows(&INBOX, args![run.0, after]).await?;
                Ok(rows.iter().map(|row| row::received(row, 0)).collect::<Result<_, StoreError>>()?)
            })
        }))
    }

    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.look(Box::new(move |conn, texts| {
            Box::pin(async move { row::last_entry(conn, texts, run).await })
        }))
    }

    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.read(Box::new(move |conn, _| {
            Box::pin(async move { Ok(whole::stuck(conn, run).await?.map(|(stuck, _)| stuck)) })
        }))
    }

    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        const COUNTS: Sql = sql(
            "count all runs",
            "SELECT workflow, status, count(*) FROM @run GROUP BY workflow, status ORDER BY workflow, status",
        );
        self.read(Box::new(|conn, texts| {
            Box::pin(async move {
                let rows = conn.rows(&COUNTS, &[]).await?;
                texts.learn(conn, rows.iter().filter_map(|row| get(row, 0).ok())).await?;
                let count = |row: &Row| {
                    Ok((texts.get(get(row, 0)?)?, row::status(get(row, 1)?)?, unsigned(get(row, 2)?)))
                };
                Ok(rows.iter().map(count).collect::<Result<_, StoreError>>()?)
            })
        }))
    }

    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        const PUBLISHED: Sql = sql(
            "read a published value",
            "SELECT name, body, codec, seq, at FROM @state WHERE run = $1 AND name = $2",
        );
        self.read(Box::new(move |conn, _| {
            let name = text::kept(&name).into_owned();
            Box::pin(async move {
                let row = conn.one(&PUBLISHED, args![run.0, name]).await?;
                Ok(row.as_ref().map(row::published).transpose()?)
            })
        }))
    }

    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.read(Box::new(move |conn, _| Box::pin(whole::published(conn, run, limit))))
    }

    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        const ITEMS: Sql = sql(
            "read a stream",
            "SELECT n, body, codec, at FROM @stream WHERE run = $1 AND name = $2 AND n >= $3 ORDER BY n LIMIT $4",
        );
        let (from, limit) = (signed(from), signed(limit as u64));
        self.read(Box::new(move |conn, _| {
            let name = text::kept(&name).into_owned();
            Box::pin(async move {
                let rows = conn.rows(&ITEMS, args![run.0, name, from, limit]).await?;
                Ok(rows.iter().map(row::item).collect::<Result<_, _>>()?)
            })
        }))
    }

    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        const REPLY: Sql = sql("read a reply", "SELECT body, codec FROM @reply WHERE run = $1 AND id = $2");
        self.read(Box::new(move |conn, _| {
            Box::pin(async move {
                let row = conn.one(&REPLY, args![run.0, id.0.to_be_bytes().to_vec()]).await?;
                Ok(row.map(|row| row::payload(get(&row, 0)?, get(&row, 1)?)).transpose()?)
            })
        }))
    }

    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        const NAMES: Sql =
            sql("read names of streams", "SELECT DISTINCT name FROM @stream WHERE run = $1 ORDER BY name");
        read_all!(self, NAMES, [run.0], |row| row::text(row, 0))
    }

    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.read(Box::new(move |conn, _| Box::pin(whole::acts(conn, run, limit))))
    }

    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.read(Box::new(move |conn, _| {
            Box::pin(async move { in_one_look(conn, async || kept::of(conn, run).await).await })
        }))
    }

    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.read(Box::new(move |conn, _| Box::pin(whole::attributes(conn, run))))
    }

    fn patches(&self) -> Answer<Vec<PatchRow>> {
        /// The names that begin with it: `0` is the character after its `/`.
        const PATCHES: Sql = sql(
            "look at patches",
            "WITH p AS (
               SELECT a.name, r.workflow, min(a.number)::int8 AS first,
                 count(*) FILTER (WHERE r.status NOT IN (3, 4, 5)) AS open,
                 count(*) FILTER (WHERE r.status IN (3, 4, 5)) AS over
               FROM @name n JOIN @attribute a ON a.name = n.id JOIN @run r ON r.id = a.run
               WHERE n.kind = 2 AND n.text >= $1 AND n.text < $2 GROUP BY a.name, r.workflow)
             SELECT n.text, p.workflow, p.first, p.open, p.over,
               (SELECT count(*) FROM @run o WHERE o.workflow = p.workflow AND o.created_at < p.first
                  AND o.status NOT IN (3, 4, 5)
                  AND NOT EXISTS (SELECT 1 FROM @attribute x WHERE x.run = o.id AND x.name = p.name)),
               (SELECT count(*) FROM @run o WHERE o.workflow = p.workflow AND o.created_at < p.first
                  AND o.status IN (3, 4, 5)
                  AND NOT EXISTS (SELECT 1 FROM @attribute x WHERE x.run = o.id AND x.name = p.name))
             FROM p JOIN @name n ON n.id = p.name",
        );
        self.read(Box::new(|conn, texts| {
            Box::pin(async move {
                let end = PATCHED.replace('/', "0");
                let rows = conn.rows(&PATCHES, args![PATCHED, end]).await?;
                texts.learn(conn, rows.iter().filter_map(|row| get(row, 1).ok())).await?;
                let patch = |row: &Row| {
                    let name = row::text(row, 0)?;
                    let count = |column| Ok::<_, StoreError>(unsigned(get(row, column)?));
                    Ok(PatchRow {
                        patch: name.strip_prefix(PATCHED).unwrap_or(&name).into(),
                        workflow: texts.get(get(row, 1)?)?,
                        first: Timestamp(get(row, 2)?),
                        open: count(3)?,
                        over: count(4)?,
                        old_open: count(5)?,
                        old_over: count(6)?,
                    })
                };
                let mut patches = rows.iter().map(patch).collect::<Result<Vec<_>, StoreError>>()?;
                patches.sort_by(|a, b| (&a.patch, &a.workflow).cmp(&(&b.patch, &b.workflow)));
                Ok(patches)
            })
        }))
    }
}
