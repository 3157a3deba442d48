//! A user's own store around another; an engine in a struct; helpers that are generic over workflows; lists.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use everstep::{
    AttributeValue, Client, Ctx, Data, Engine, EngineError, Result, Status, Timestamp, Workflow, days,
    journal::{Entry, Payload},
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, Filter,
        Inspect, Kept, LetterId, Loaded, Memory, NewRun, PatchRow, Post, Posted, PublishedRow, Receipt,
        Received, RunId, RunRow, Started, Store, StreamRow, Transact, Transacted, Turn, WorkerId, WorkerInfo,
        WorkerSeen,
    },
};

/// Counts what goes through it; all else is the inner store's.
struct Counting<S> {
    inner: S,
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl<S> Counting<S> {
    fn count(&self, what: &'static str, n: usize) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += n;
    }
}

impl<S: Inspect> Inspect for Counting<S> {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.inner.run(id)
    }
    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.inner.find(filter, before, limit)
    }
    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.inner.count(filter, at_most)
    }
    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.inner.load(run)
    }
    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        self.inner.inbox(run, after)
    }
    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.inner.last(run)
    }
    fn stuck(&self, run: RunId) -> Answer<Option<everstep::Stuck>> {
        self.inner.stuck(run)
    }
    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.inner.counts()
    }
    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.inner.published(run, name)
    }
    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.inner.published_all(run, limit)
    }
    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.inner.stream(run, name, from, limit)
    }
    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.inner.reply(run, id)
    }
    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.inner.stream_names(run)
    }
    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.inner.patches()
    }
    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.inner.acts(run, limit)
    }
    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.inner.kept(run)
    }
    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.inner.attributes(run)
    }
}

impl<S: Store> Store for Counting<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    fn bell(&self) -> &Arc<Bell> {
        self.inner.bell()
    }
    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        self.inner.enroll(info)
    }
    fn beat(&self, fence: Fence) -> Answer<()> {
        self.inner.beat(fence)
    }
    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.inner.workers()
    }
    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.inner.fence(fence, other, beat)
    }
    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.inner.free(fence, other, limit)
    }
    fn leave(&self, fence: Fence) -> Answer<()> {
        self.inner.leave(fence)
    }
    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        self.count("starts", runs.len());
        self.inner.start(runs, claim)
    }
    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        self.inner.claim(fence, claim)
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.inner.reload(fence, run)
    }
    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.inner.next_due(workflows)
    }
    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.inner.nudged(fence)
    }
    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.count("entries", turn.entries.len());
        self.inner.commit(fence, turn, receipt)
    }
    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        self.inner.transact(fence, step)
    }
    fn post(&self, post: Post) -> Answer<Posted> {
        self.inner.post(post)
    }
    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.inner.cut(cut)
    }
    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        self.inner.act(does, act)
    }
    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.inner.delete(runs)
    }
}

const ECHO: Workflow<String, String> = Workflow::new("echo");
const DOUBLE: Workflow<u64, u64> = Workflow::new("double");

async fn echo(ctx: Ctx, text: String) -> Result<String> {
    if text == "wait" {
        ctx.sleep(days(1)).await;
    }
    Ok(text)
}

async fn double(ctx: Ctx, n: u64) -> Result<u64> {
    ctx.step("double", async || Ok(n * 2)).await
}

struct Service {
    engine: Engine,
}

impl Service {
    async fn open(&self) -> Result<Vec<String>, EngineError> {
        let open =
            self.engine.list("workflow = echo and status in (pending, running, waiting)").limit(10).await?;
        Ok(open.into_iter().map(|run| run.id.to_string()).collect())
    }
}

/// Works with an engine and with a client alone, for every workflow.
async fn start_all<I: Data + Clone, O: Data>(
    client: &Client,
    workflow: Workflow<I, O>,
    inputs: &[I],
) -> Result<Vec<O>, EngineError> {
    let numbered = inputs.iter().enumerate().map(|(n, input)| (format!("{workflow:?}-{n}"), input.clone()));
    let mut results = Vec::new();
    for run in client.start_batch(workflow, numbered).await? {
        results.push(run?.result().await?);
    }
    Ok(results)
}

#[tokio::test]
async fn a_store_can_be_wrapped_and_an_engine_shared() -> anyhow::Result<()> {
    let counts = Arc::default();
    let store = Counting { inner: Memory::default(), counts: Arc::clone(&counts) };
    let engine = Engine::builder(store).register(ECHO, echo).register(DOUBLE, double).start().await?;
    assert_eq!(start_all(&engine, ECHO, &["a".to_string(), "b".to_string()]).await?, ["a", "b"]);
    let client: Client = (*engine).clone();
    let doubled = tokio::spawn(async move { start_all(&client, DOUBLE, &[1, 2, 3]).await }).await??;
    assert_eq!(doubled, [2, 4, 6]);

    let waiting = engine.start(ECHO, "waiting", "wait".to_string()).await?;
    let service = Arc::new(Service { engine });
    let seen = service.clone();
    assert_eq!(tokio::spawn(async move { seen.open().await }).await??, ["waiting"]);
    service.engine.cancel("waiting", "not needed").await?;
    assert_eq!(
        waiting.result().await.expect_err("cancelled").to_string(),
        "run `waiting` was cancelled: not needed"
    );
    assert_eq!(waiting.status().await?, Status::Cancelled);
    assert_eq!(service.open().await?, Vec::<String>::new());

    let newest = service.engine.list("").limit(2).await?;
    let older = service.engine.list("").after(&newest[1]).limit(2).await?;
    let ids: Vec<_> = newest.iter().chain(&older).map(|run| &*run.id).collect();
    assert_eq!(ids, ["waiting", "double-2", "double-1", "double-0"]);
    Arc::into_inner(service).expect("no task has it").engine.shutdown().await?;

    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(counts["starts"], 6);
    // Each run its outcome, each doubling its step, the cancelled one what it was asked.
    assert_eq!(counts["entries"], 6 + 3 + 1);
    Ok(())
}

/// A store is behind `dyn`: a program may choose it when it begins.
#[tokio::test]
async fn a_store_may_be_chosen_at_run_time() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for on_disk in [false, true] {
        let builder = match on_disk {
            false => Engine::builder(Memory::default()),
            true => Engine::builder(everstep::sqlite::Sqlite::open(folder.path().join("chosen.db"))?),
        };
        let engine = builder.register(DOUBLE, double).start().await?;
        assert_eq!(engine.run(DOUBLE, "d", 21).await?, 42);
        engine.shutdown().await?;
    }
    Ok(())
}
