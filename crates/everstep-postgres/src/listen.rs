//! What openings tell each other: a hint that there is something to look at, and a look from time to time, because hints
//! get lost.
//!
//! Hints are NOTIFYs on a connection of their own, outside of every transaction that writes (inside one they would hold a
//! lock of the whole server over its commit), and never more than one in some milliseconds.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use everstep_core::store::{Bell, WorkerId};
use tokio::sync::{Notify, mpsc::UnboundedReceiver};
use tokio_postgres::Notification;

use crate::{
    bounds::Bounds,
    conn::Conn,
    fault::{Class, Fault, class},
    hints::{Heard, Hints},
    shape::Shape,
    sql::{Sql, args, get, sql},
    stopwatch::{Stopwatch, pause, within},
    text::kept,
};

/// Commits of so long are told together.
const TOLD_TOGETHER: Duration = Duration::from_millis(10);
/// How often there is a look while hints come, and before a new connection is tried.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever waits for what a run does is rung at one in so many of these looks: each of them asks the database then, and the hint
/// is lost only if the process dies that owes it.
const LOOKS_OF_WAITING: u32 = 5;
/// The name in the hints of who hears none himself.
const DEAF: &str = "deaf";
/// How often there is a look while no hints can come: at first, and when nothing has happened for a while.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// How long the first hint, which an opening sends to itself, may take.
const TEST_WAIT: Duration = Duration::from_secs(2);

/// What one opening tells the others, and what it has itself to look for.
#[derive(Debug)]
pub(crate) struct Notices {
    wanted: Notify,
    untold: Mutex<Hints>,
    /// Where the claims of this opening's workers begin to look, and so do others who ask what is due.
    pub(crate) bounds: Arc<Bounds>,
    /// Workers have come or left.
    changed: Notify,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    workers: BTreeSet<WorkerId>,
    workflows: BTreeSet<Arc<str>>,
}

impl Notices {
    pub(crate) fn of(bounds: Arc<Bounds>) -> Notices {
        let (wanted, changed) = (Notify::default(), Notify::default());
        Notices { wanted, untold: Mutex::default(), bounds, changed, seen: Mutex::default() }
    }

    /// Others may have committed anything.
    fn ring_foreign(&self, bell: &Bell) {
        self.bounds.heard();
        bell.ring_foreign();
    }

    /// There is something for others.
    pub(crate) fn tell(&self, hints: Hints) {
        if !hints.is_empty() {
            self.untold.lock().unwrap_or_else(PoisonError::into_inner).add(hints);
            self.wanted.notify_one();
        }
    }

    fn untold(&self) -> Hints {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Workers of this opening look for runs of these workflows.
    pub(crate) fn looks_for(&self, workflows: &[Arc<str>]) {
        let mut seen = self.seen();
        for workflow in workflows {
            if !seen.workflows.contains(workflow) {
                seen.workflows.insert(workflow.clone());
            }
        }
    }

    /// This opening has a new worker.
    pub(crate) fn has_enrolled(&self, worker: WorkerId) {
        self.seen().workers.insert(worker);
        self.changed.notify_one();
    }

    /// A worker of this opening has left.
    pub(crate) fn has_left(&self, worker: WorkerId) {
        self.seen().workers.remove(&worker);
        self.changed.notify_one();
    }

    /// The workers of this opening.
    pub(crate) fn workers(&self) -> Vec<WorkerId> {
        self.seen().workers.iter().copied().collect()
    }

    fn workflows(&self) -> Vec<Arc<str>> {
        self.seen().workflows.iter().cloned().collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells and listens for as long as the opening lasts.
pub(crate) async fn run(shape: Arc<Shape>, bell: Arc<Bell>, notices: Arc<Notices>) {
    let (mut quiet, mut has_hints) = (LOOK_SOON, true);
    loop {
        if !shape.pooled
            && let Ok(line) = Line::open(&shape).await
        {
            // Whatever happened before it could be heard.
            notices.ring_foreign(&bell);
            line.run(&bell, &notices).await;
            // It may have ended with hints that it had still to give.
            notices.wanted.notify_one();
        }
        // No hints: look.
        let Ok(conn) = Conn::open(&shape).await else {
            pause(LOOK_EVERY).await;
            continue;
        };
        let (until, mut looked) = (Stopwatch::start(), Stopwatch::start());
        while !conn.is_gone() && (shape.pooled || until.elapsed() < LOOK_EVERY * 10) {
            tokio::select! {
                // Who hears nothing can still be heard.
                () = notices.wanted.notified() => {
                    pause(TOLD_TOGETHER).await;
                    let hints = notices.untold();
                    if has_hints {
                        match hints.send(&conn, DEAF).await {
                            Ok(()) => {}
                            // There are databases without: whoever told them again would only hear that again.
                            Err(Fault::Sql(_, error)) if class(&error) == Class::Refused => has_hints = false,
                            Err(_) => notices.tell(hints),
                        }
                    }
                    // What follows from what was done here may come soon.
                    quiet = LOOK_SOON;
                }
                () = pause(quiet.saturating_sub(looked.elapsed())) => {
                    quiet = (quiet * 2).min(LOOK_EVERY);
                    if has_something(&conn, &notices).await {
                        notices.ring_foreign(&bell);
                        quiet = LOOK_SOON;
                    } else if is_waited_for(&bell) {
                        // Each of those who wait asks the database now: the longer nothing happens, the more seldom.
                        bell.ring_foreign_said();
                    }
                    looked = Stopwatch::start();
                }
            }
        }
    }
}

/// Whether somebody here waits for what others do, besides workers.
fn is_waited_for(bell: &Bell) -> bool {
    bell.has_hearers() || bell.has_readers()
}

/// Whether something is due or has come for a worker of this opening: one query of a few index pages.
async fn has_something(conn: &Conn, notices: &Notices) -> bool {
    /// One by one and in order, or a server may choose to read the due runs of all workflows for each of them.
    const LOOK: Sql = sql(
        "look for something to do",
        "SELECT EXISTS (
           SELECT 1 FROM unnest($1, $3) AS u(text, since) JOIN @name n ON n.kind = 1 AND n.text = u.text, LATERAL (
             SELECT r.id FROM @run r
             WHERE r.owner = 0 AND r.workflow = n.id AND r.wake_at IS NOT NULL AND r.wake_at >= u.since
               AND r.wake_at <= (SELECT :now) ORDER BY r.wake_at LIMIT 1) AS f)
         OR EXISTS (
           SELECT 1 FROM unnest($1, $4) AS u(text, since) JOIN @name n ON n.kind = 1 AND n.text = u.text, LATERAL (
             SELECT r.id FROM @run r
             WHERE r.owner = 0 AND r.workflow = n.id AND r.wake_at IS NOT NULL
               AND r.wake_at >= u.since AND r.wake_at <= 0 ORDER BY r.wake_at LIMIT 1) AS f)
         OR EXISTS (
           SELECT 1 FROM unnest($2, $5) AS w(id, since) JOIN @name n ON n.kind = 1 AND n.text = ANY($1), LATERAL (
             SELECT r.id FROM @run r
             WHERE r.owner = w.id AND r.workflow = n.id AND r.wake_at IS NOT NULL
               AND r.wake_at >= w.since AND r.wake_at <= 0 ORDER BY r.wake_at LIMIT 1) AS f)",
    );
    let (workers, workflows) = (notices.workers(), notices.workflows());
    if workers.is_empty() {
        return false;
    }
    let workers: Vec<_> = workers.iter().map(|worker| worker.0).collect();
    let bounds = &notices.bounds;
    let very_late = bounds.looks_very_late();
    let (first, since): (Vec<_>, Vec<_>) =
        workflows.iter().map(|name| bounds.read_from(name, very_late)).unzip();
    let letters: Vec<_> = workers.iter().map(|worker| bounds.read_letters_from(*worker, very_late)).collect();
    let names: Vec<_> = workflows.iter().map(|name| kept(name).into_owned()).collect();
    let watch = Stopwatch::start();
    let looked = conn.one(&LOOK, args![names, &workers, &since, &first, &letters]).await;
    let Ok(Some(row)) = looked else { return false };
    let has_something = get(&row, 0).unwrap_or(false);
    let whole = workflows.iter().zip(since).filter(|(_, since)| *since == i64::MIN);
    let whole: Vec<_> = whole.map(|(name, _)| name).collect();
    if !whole.is_empty() {
        // If there is something, a claim sees whether it was hidden.
        bounds.has_read(if has_something { &[] } else { &whole }, None, watch.elapsed());
    }
    match has_something {
        true if very_late => bounds.found_very_late(),
        true => {}
        false => {
            let workers = workers.iter().zip(letters);
            workers.for_each(|(worker, from)| bounds.found_letters(*worker, from, None, watch.elapsed()));
        }
    }
    has_something
}

/// A connection that hears hints.
struct Line {
    conn: Conn,
    heard: UnboundedReceiver<Notification>,
    /// What tells this opening's own hints from others'.
    own: String,
    /// The workers of this opening on whose channels it listens.
    followed: BTreeSet<WorkerId>,
}

impl Line {
    async fn open(shape: &Arc<Shape>) -> Result<Line, Fault> {
        const NAME: Sql =
            sql("name a listener", "SELECT pg_backend_pid()::text || ' ' || clock_timestamp()::text");
        let (conn, heard) = Conn::open_listening(shape).await?;
        conn.script("listen", &format!("LISTEN \"{}\"", shape.channel())).await?;
        let own = conn.one(&NAME, &[]).await?;
        let own = own.map(|row| get(&row, 0)).transpose()?.unwrap_or_default();
        Ok(Line { conn, heard, own, followed: BTreeSet::new() })
    }

    /// Until the connection ends, or if its own first hint does not come: behind some poolers none ever does.
    async fn run(mut self, bell: &Bell, notices: &Notices) {
        if Hints::test(&self.conn, &self.own).await.is_err() || !self.hears_itself().await {
            tracing::warn!(
                "no hints of other processes can be heard (a pooler?): there will be looks instead"
            );
            return;
        }
        if self.follow(bell, notices).await.is_err() {
            return;
        }
        let (mut looked, mut looks, mut to_tell) = (Stopwatch::start(), 0u32, None);
        loop {
            let until_told =
                to_tell.map_or(LOOK_EVERY, |since: Stopwatch| TOLD_TOGETHER.saturating_sub(since.elapsed()));
            let until_look = LOOK_EVERY.saturating_sub(looked.elapsed());
            tokio::select! {
                () = notices.wanted.notified(), if to_tell.is_none() => to_tell = Some(Stopwatch::start()),
                () = notices.changed.notified() => {
                    if self.follow(bell, notices).await.is_err() {
                        return;
                    }
                }
                hint = self.heard.recv() => {
                    let Some(hint) = hint else { return };
                    self.ring(&hint, bell, notices);
                    while let Ok(hint) = self.heard.try_recv() {
                        self.ring(&hint, bell, notices);
                    }
                }
                () = pause(until_told.min(until_look)) => {
                    if to_tell.is_some_and(|since| since.elapsed() >= TOLD_TOGETHER) {
                        to_tell = None;
                        let hints = notices.untold();
                        if hints.send(&self.conn, &self.own).await.is_err() {
                            // The next line gives them.
                            return notices.tell(hints);
                        }
                    }
                    if looked.elapsed() >= LOOK_EVERY {
                        looked = Stopwatch::start();
                        looks += 1;
                        // A hint that was lost, or a time that came, is seen here.
                        if has_something(&self.conn, notices).await {
                            notices.ring_foreign(bell);
                        } else if looks % LOOKS_OF_WAITING == 0 && is_waited_for(bell) {
                            bell.ring_foreign_said();
                        }
                    }
                }
            }
        }
    }

    /// Listens for letters of the workers that this opening has now.
    async fn follow(&mut self, bell: &Bell, notices: &Notices) -> Result<(), Fault> {
        let workers: BTreeSet<_> = notices.workers().into_iter().collect();
        let shape = self.conn.shape();
        let listen = |verb: &str, worker: &WorkerId| format!("{verb} \"{}\";", shape.channel_of(*worker));
        let come = workers.difference(&self.followed).map(|worker| listen("LISTEN", worker));
        let left = self.followed.difference(&workers).map(|worker| listen("UNLISTEN", worker));
        let script: String = come.chain(left).collect();
        if !script.is_empty() {
            self.conn.script("listen for letters", &script).await?;
            self.followed = workers;
            // Whatever came before it could be heard.
            bell.ring_foreign_letters();
        }
        Ok(())
    }

    fn ring(&self, hint: &Notification, bell: &Bell, notices: &Notices) {
        let on_all = hint.channel() == self.conn.shape().channel();
        if let Some(heard) = Heard::read(on_all, hint.payload(), &self.own) {
            heard.ring(bell, &notices.bounds);
        }
    }

    async fn hears_itself(&mut self) -> bool {
        let own = async {
            while let Some(hint) = self.heard.recv().await {
                if hint.payload().ends_with(&*self.own) {
                    return true;
                }
            }
            false
        };
        within(TEST_WAIT, own).await.unwrap_or(false)
    }
}
