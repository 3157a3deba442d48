//! The store trait, verb by verb: each takes its place in the writer's queue when it is called.

use std::sync::{Arc, atomic::Ordering};

use everstep_core::{
    Timestamp,
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, NewRun, Post,
        Posted, Receipt, RunId, Started, Store, StoreError, Transact, Transacted, Transfer, Turn, WorkerId,
        WorkerInfo, WorkerSeen,
    },
};
use tokio::sync::oneshot;

use crate::{
    batch::Batch,
    fault::Fault,
    op::{After, Call, Op},
    open::Sqlite,
    tx,
    write::{act, claim, cut, delete, entry, post, start, transact::Job, turn::Commit, worker},
};

impl Sqlite {
    fn push<T: Send + 'static>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Box<dyn Op>,
    ) -> Answer<T> {
        if tx::in_job() {
            // It would wait for the writer, on the writer.
            let text = "a transaction cannot wait for the store that runs it: use `start_in(tx, ..)` and \
                        `signal_in(tx, ..)` inside it, and do everything else after it";
            return Box::pin(std::future::ready(Err(StoreError::Unusable(text.into()))));
        }
        let (send, answer) = oneshot::channel();
        self.inner.queue.push(op(send));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Closed("the writer has ended".into())))
        })
    }

    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
        then: impl FnOnce(&mut T, &mut After<'_>) + Send + 'static,
    ) -> Answer<T> {
        self.call_with(0, work, then)
    }

    /// With payloads of so many bytes.
    pub(crate) fn call_with<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
        then: impl FnOnce(&mut T, &mut After<'_>) + Send + 'static,
    ) -> Answer<T> {
        self.push(|answer| Call::boxed(bytes, work, then, answer))
    }
}

impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn durability(&self) -> Durability {
        self.inner.durability
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.inner.bell
    }

    fn transfer(&self) -> Option<&dyn Transfer> {
        Some(self)
    }

    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        let hold = |fence: &mut Fence, after: &mut After<'_>| {
            if let Err(error) = after.locks.hold(fence.worker) {
                tracing::warn!(%error, "no lock file for this worker: its death will be seen by its lease only");
            }
        };
        self.call(move |batch| worker::enroll(batch, &info), hold)
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        self.call(move |batch| worker::beat(batch, fence), |(), _| ())
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.seen_workers()
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        let tidy = move |fenced: &mut bool, after: &mut After<'_>| {
            if *fenced {
                after.locks.remove(other);
            }
        };
        self.call(move |batch| worker::fence(batch, fence, other, beat), tidy)
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.call(move |batch| worker::free(batch, fence, other, limit), |_, _| ())
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.push(|answer| Box::new(worker::Leave::new(fence, answer)))
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let (fence, adopt) = claim.unzip();
        let started = self.call_with(
            runs.iter().map(|run| entry::bytes(&run.first)).sum(),
            move |batch| start::start(batch, &runs, fence),
            move |starts: &mut start::Starts, _| starts.adopt(adopt.as_ref()),
        );
        Box::pin(async move { Ok(started.await?.answers) })
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        self.call(move |batch| claim::claim(batch, fence, &claim, turn), |_, _| ())
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.call(move |batch| claim::reload(batch, fence, run), |_, _| ())
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.first_due(workflows)
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.call(move |batch| claim::nudged(batch, fence), |_, _| ())
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.inner.queue.push(Box::new(Commit::new(fence, turn, receipt.clone())));
    }

    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        self.push(|answer| Box::new(Job { fence, step, answer, outcome: None }))
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        self.call_with(post.letter.body.bytes.len(), move |batch| post::post(batch, &post), |_, _| ())
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.call(move |batch| cut::cut(batch, &cut), |_, _| ())
    }

    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        self.call_with(act::bytes(&does), move |batch| act::act(batch, &does, &act), |_, _| ())
    }

    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.call(move |batch| delete::delete(batch, &runs), |_, _| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use everstep_core::{
        journal::{Entry, Kind, Payload},
        store::{Durability, Settled},
    };

    use super::*;
    use crate::names::NameKind;

    struct Taker(Mutex<Vec<Claimed>>);

    impl Adopt for Taker {
        fn adopt(&self, run: Claimed, _: Entry) {
            self.0.lock().expect("nobody panicked").push(run);
        }
    }

    struct Slip(Mutex<Option<oneshot::Sender<Settled>>>);

    impl Receipt for Slip {
        fn settled(&self, settled: Settled) {
            let send = self.0.lock().expect("nobody panicked").take().expect("answered once");
            let _ = send.send(settled);
        }
    }

    fn entry(seq: u64, bytes: usize) -> Entry {
        Entry {
            seq,
            kind: Kind::StepDone.code(),
            key: None,
            attempt: 1,
            input: None,
            body: Payload::json(vec![b' '; bytes]),
            site: None,
            build: "b".into(),
            fingerprint: 0,
            at: Timestamp(1),
        }
    }

    fn run(id: &str) -> NewRun {
        NewRun { due: Timestamp(0), claim: true, ..NewRun::of(id.into(), "flow".into(), entry(0, 2)) }
    }

    /// A full disk, as a limit on the pages of the writer's connection.
    fn limit_pages(batch: &mut Batch<'_>) -> Result<(), Fault> {
        let pages: i64 = batch.conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        Ok(batch.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    }

    #[tokio::test]
    async fn without_space_turns_wait_and_clients_hear_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.db");
        let store = Sqlite::options().durability(Durability::Process).open(&path).expect("opens");
        let (fence, held) = claimed(&store).await;

        let outside = rusqlite::Connection::open(&path).expect("opens");
        outside
            .execute_batch("CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(3000000))")
            .expect("fills");
        store.call(limit_pages, |(), _| ()).await.expect("limits");

        let (send, settled) = oneshot::channel();
        let receipt: Arc<dyn Receipt> = Arc::new(Slip(Mutex::new(Some(send))));
        let (entries, load) = (vec![entry(1, 1_000_000)], held.load);
        let turn =
            Turn { run: held.row.run, load, entries, marks: vec![], takes: vec![], says: vec![], end: None };
        store.commit(fence, turn, &receipt);
        let refused = store.start(vec![run("b")], None).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");

        outside.execute_batch("DROP TABLE filler").expect("makes space");
        let settled = settled.await.expect("answered");
        assert!(matches!(settled, Settled::Durable { next: 2 }), "{settled:?}");
        store.start(vec![run("b")], None).await.expect("starts again");
    }

    async fn open(dir: &tempfile::TempDir) -> Sqlite {
        Sqlite::options().durability(Durability::Process).open(dir.path().join("app.db")).expect("opens")
    }

    /// An id that a rolled back transaction gave to a name goes to another name afterwards.
    #[tokio::test]
    async fn a_name_of_a_transaction_that_was_rolled_back_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let doomed = store.call(
            |batch| {
                let id = batch.names.intern(batch.conn, NameKind::Workflow, &"doomed".into())?;
                batch.texts.get(batch.conn, id)?;
                Ok(batch.conn.execute_batch("ROLLBACK; SELECT nothing")?)
            },
            |(), _| (),
        );
        doomed.await.expect_err("no such column");
        let named = store.call(
            |batch| {
                let id = batch.names.intern(batch.conn, NameKind::Workflow, &"kept".into())?;
                Ok(batch.texts.get(batch.conn, id)?)
            },
            |_, _| (),
        );
        assert_eq!(&*named.await.expect("interns"), "kept");
    }

    /// A refusal concerns one call: what that call has written until then must not be committed with the others'.
    #[tokio::test]
    async fn what_a_refused_call_has_written_is_not_committed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        store.start(vec![NewRun { claim: false, ..run("known") }], None).await.expect("starts");
        let outside = rusqlite::Connection::open(store.path()).expect("opens");
        outside.execute_batch("DELETE FROM everstep_journal; BEGIN IMMEDIATE").expect("damages and holds");
        let bad = store.start(vec![run("new"), run("known")], None);
        let good = store.start(vec![run("other")], None);
        outside.execute_batch("ROLLBACK").expect("ends");
        assert!(matches!(bad.await, Err(StoreError::Damaged(_))));
        good.await.expect("starts");
        let ids = |conn: &rusqlite::Connection| -> rusqlite::Result<String> {
            conn.query_row("SELECT group_concat(text_id) FROM everstep_run", [], |row| row.get(0))
        };
        assert_eq!(ids(&outside).expect("reads"), "known,other");
    }

    /// As above, noticed inside a user's transaction: it is no failure of the step.
    #[tokio::test]
    async fn without_space_a_job_is_repeated() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let (fence, held) = claimed(&store).await;
        let outside = rusqlite::Connection::open(store.path()).expect("opens");
        outside
            .execute_batch("CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(3000000)); CREATE TABLE mine (x)")
            .expect("fills");
        store.call(limit_pages, |(), _| ()).await.expect("limits");

        let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let job = move |tx: &crate::Tx<'_>| {
            let _ = called.send(());
            tx.execute("INSERT INTO mine VALUES (zeroblob(1000000))", [])?;
            Ok(Payload::json("1"))
        };
        let answer = store.transact(fence, step(&held, job));
        calls.recv().await.expect("called");
        calls.recv().await.expect("repeated");
        outside.execute_batch("DROP TABLE filler").expect("makes space");
        let answer = answer.await;
        assert!(matches!(answer, Ok(Transacted::Committed { n: 1, .. })), "{answer:?}");
    }

    /// After an error that closes the store, only a new opening goes on: it needs the WAL.
    #[tokio::test]
    async fn a_store_that_was_closed_by_an_error_opens_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        store.start(vec![run("a")], None).await.expect("starts");
        let mut waits = store.bell().foreign();
        waits.mark_unchanged();
        store.call(io_error, |(), _| ()).await.expect_err("fails");
        assert!(waits.has_changed().expect("rung"), "who waits for something looks again, and hears it");
        drop(store);
        let store = open(&dir).await;
        let again = store.start(vec![run("a")], None).await.expect("starts");
        assert!(matches!(again[..], [Started::Known(..)]), "{again:?}");
    }

    /// The writer waits for the job, and the job for the writer.
    #[tokio::test]
    async fn a_call_from_inside_a_job_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let (fence, held) = claimed(&store).await;
        let inner = store.clone();
        let answer = store.transact(
            fence,
            step(&held, move |_| {
                let call = inner.start(vec![run("b")], None);
                let runtime = tokio::runtime::Builder::new_current_thread().build()?;
                Err(runtime.block_on(call).expect_err("refused").to_string().into())
            }),
        );
        let answer = answer.await;
        assert!(
            matches!(&answer, Ok(Transacted::RolledBack(error)) if error.to_string().contains("start_in")),
            "{answer:?}"
        );
    }

    /// A job has the writer's own connection.
    #[tokio::test]
    async fn what_a_job_sets_on_the_connection_does_not_stay() {
        use rusqlite::config::DbConfig as C;
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let (fence, held) = claimed(&store).await;
        let answer = store.transact(
            fence,
            step(&held, |tx| {
                tx.busy_timeout(std::time::Duration::from_secs(60))?;
                tx.set_db_config(C::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
                tx.set_db_config(C::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
                Ok(Payload::json("1"))
            }),
        );
        let answer = answer.await;
        assert!(
            matches!(&answer, Ok(Transacted::RolledBack(error)) if error.to_string().contains("set_db_config")),
            "{answer:?}"
        );
        let settings = store.call(
            |batch| {
                let timeout: i64 = batch.conn.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
                let keys = batch.conn.db_config(C::SQLITE_DBCONFIG_ENABLE_FKEY)?;
                Ok((timeout, keys, batch.conn.db_config(C::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)?))
            },
            |_, _| (),
        );
        assert_eq!(settings.await.expect("asks"), (0, true, true));
    }

    /// The end waits for somebody else, but not for ever, and not once per transaction.
    #[tokio::test]
    async fn the_end_of_a_store_whose_file_is_held_comes_and_loses_nothing_acknowledged() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        store.start(vec![run("a")], None).await.expect("starts");
        let outside = rusqlite::Connection::open(store.path()).expect("opens");
        outside.execute_batch("BEGIN IMMEDIATE").expect("holds");
        let waiting: Vec<_> = (0..10_000).map(|n| store.start(vec![run(&format!("b{n}"))], None)).collect();
        drop(store);
        for answer in waiting {
            let answer = answer.await;
            assert!(matches!(answer, Err(StoreError::Closed(_) | StoreError::Full(_))), "{answer:?}");
        }
        outside.execute_batch("ROLLBACK").expect("ends");
        let store = open(&dir).await;
        let again = store.start(vec![run("a"), run("b0")], None).await.expect("starts");
        assert!(matches!(again[..], [Started::Known(..), Started::New(_)]), "{again:?}");
    }

    /// It panics for the runs that it is told of.
    struct Grim(Mutex<Option<oneshot::Sender<Settled>>>);

    impl Receipt for Grim {
        fn settled(&self, settled: Settled) {
            match self.0.lock().expect("nobody panicked").take() {
                Some(send) => drop(send.send(settled)),
                None => panic!("a receipt that nobody expects to"),
            }
        }
    }

    /// The symptom: drivers whose turns were durable slept for ever, because the ring that wakes them came after the
    /// receipts of the others, and one of those took the writer with it.
    #[tokio::test]
    async fn turns_that_were_told_are_rung_for_although_the_writer_panics_after_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir).await;
        let (fence, a) = claimed(&store).await;
        let taker = Arc::new(Taker(Mutex::default()));
        store.start(vec![run("b")], Some((fence, taker.clone()))).await.expect("starts");
        let b = taker.0.lock().expect("nobody panicked").pop().expect("adopted");
        // The writer is held while it has another call, so that both turns are in the next transaction.
        let ((entered, mut enters), (release, released)) =
            (tokio::sync::mpsc::unbounded_channel(), std::sync::mpsc::channel::<()>());
        let holds = store.call(
            move |_| {
                let _ = entered.send(());
                let _ = released.recv();
                Ok(())
            },
            |(), _| (),
        );
        enters.recv().await.expect("entered");
        let rung = store.bell().settled();
        let before = *rung.borrow();
        let (send, told) = oneshot::channel();
        for (held, send) in [(a, Some(send)), (b, None)] {
            let (run, load) = (held.row.run, held.load);
            let turn = Turn {
                run,
                load,
                entries: vec![entry(1, 2)],
                marks: vec![],
                takes: vec![],
                says: vec![],
                end: None,
            };
            store.commit(fence, turn, &(Arc::new(Grim(Mutex::new(send))) as Arc<dyn Receipt>));
        }
        drop(release);
        holds.await.expect("ends");
        let told = told.await.expect("told");
        assert!(matches!(told, Settled::Durable { next: 2 }), "{told:?}");
        let ended = store.beat(fence).await;
        assert!(matches!(ended, Err(StoreError::Closed(_))), "{ended:?}");
        assert_eq!(*rung.borrow(), before + 2, "once for the call, once for who was told");
    }

    /// The symptom: an engine that was fenced left the loads of all its runs in the memory of the store it had used.
    #[tokio::test]
    async fn the_loads_of_a_worker_that_was_fenced_elsewhere_are_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, other) = (open(&dir).await, open(&dir).await);
        let (fence, held) = claimed(&store).await;
        let (by, open_loads) = (other.enroll(info()).await.expect("enrolls"), || {
            store.call(|batch| Ok(batch.open_loads()), |_, _| ())
        });
        assert_eq!(open_loads().await.expect("counts"), 1);
        assert!(other.fence(by, fence.worker, 0).await.expect("fences"));
        let (send, settled) = oneshot::channel();
        let (run, load) = (held.row.run, held.load);
        let turn = Turn { run, load, entries: vec![], marks: vec![], takes: vec![], says: vec![], end: None };
        store.commit(fence, turn, &(Arc::new(Slip(Mutex::new(Some(send)))) as Arc<dyn Receipt>));
        let settled = settled.await.expect("answered");
        assert!(matches!(settled, Settled::Refused(StoreError::Fenced(_))), "{settled:?}");
        assert_eq!(open_loads().await.expect("counts"), 0);
    }

    fn info() -> WorkerInfo {
        WorkerInfo { name: "here".into(), build: "b".into(), at: Timestamp(0) }
    }

    /// A worker, and the run `a` that it has.
    async fn claimed(store: &Sqlite) -> (Fence, Claimed) {
        let fence = store.enroll(info()).await.expect("enrolls");
        let taker = Arc::new(Taker(Mutex::default()));
        store.start(vec![run("a")], Some((fence, taker.clone()))).await.expect("starts");
        let held = taker.0.lock().expect("nobody panicked").pop().expect("adopted");
        (fence, held)
    }

    fn step(
        held: &Claimed,
        job: impl FnMut(&crate::Tx<'_>) -> everstep_core::Result<Payload> + Send + 'static,
    ) -> Transact {
        let job = Box::new(crate::SqliteJob(Box::new(job)));
        Transact {
            run: held.row.run,
            load: held.load,
            key: "k".into(),
            at: Timestamp(1),
            withdrawn: Arc::default(),
            job,
        }
    }

    fn io_error(_: &mut Batch<'_>) -> Result<(), Fault> {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        Err(Fault::Sql(rusqlite::Error::SqliteFailure(code, None)))
    }
}
