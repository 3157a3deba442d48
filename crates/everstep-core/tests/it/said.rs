//! What clients read of what runs say. Nobody drives these runs but the test: it sends their turns itself.

use std::sync::{Arc, Mutex};

use everstep_core::{
    AttributeValue, COUNT_MAX, Client, Code, Ctx, ErrorKind, Item, Published, Result, Status, Stream, Stuck,
    StuckReason, Timestamp,
    journal::{Entry, Kind, Payload},
    store::{
        Adopt, Claimed, End, Fence, Inspect as _, Memory, NewRun, Receipt, RunId, Say, Settled, Store as _,
        Turn, WorkerInfo,
    },
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use crate::common::{W, engine, virtual_time};

const TOTAL: Published<u32> = Published::new("total");
const LINES: Stream<String> = Stream::new("lines");

#[derive(Default)]
struct Desk(Mutex<Vec<Claimed>>);

impl Adopt for Desk {
    fn adopt(&self, run: Claimed, _: Entry) {
        self.0.lock().expect("unpoisoned").push(run);
    }
}

/// Expects that what it hears of is durable.
struct Slip;

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        assert!(matches!(settled, Settled::Durable { .. }), "{settled:?}");
    }
}

/// A run whose turns the test sends.
struct Puppet {
    memory: Memory,
    fence: Fence,
    claimed: Claimed,
}

fn entry(seq: u64, kind: Kind) -> Entry {
    Entry {
        seq,
        kind: kind.code(),
        key: None,
        attempt: 0,
        input: None,
        body: Payload::json("1"),
        site: None,
        build: "b".into(),
        fingerprint: 0,
        at: Timestamp(1),
    }
}

impl Puppet {
    async fn start(memory: &Memory, id: &str) -> Puppet {
        let info = WorkerInfo { name: "test".into(), build: "b".into(), at: Timestamp(0) };
        let fence = memory.enroll(info).await.expect("enrolls");
        let desk = Arc::new(Desk::default());
        let run = NewRun { claim: true, ..NewRun::of(id.into(), "w".into(), entry(0, Kind::Started)) };
        let adopt: Arc<dyn Adopt> = desk.clone();
        memory.start(vec![run], Some((fence, adopt))).await.expect("starts");
        let claimed = desk.0.lock().expect("unpoisoned").pop().expect("adopted");
        Puppet { memory: memory.clone(), fence, claimed }
    }

    fn run(&self) -> RunId {
        self.claimed.row.run
    }

    fn turn(&self, entries: Vec<Entry>, says: Vec<Say>, end: Option<End>) {
        let (run, load) = (self.run(), self.claimed.load);
        let turn = Turn { run, load, entries, marks: vec![], takes: vec![], says, end };
        let receipt: Arc<dyn Receipt> = Arc::new(Slip);
        self.memory.commit(self.fence, turn, &receipt);
    }

    fn says(&self, say: Say) {
        self.turn(vec![], vec![say], None);
    }

    fn publishes(&self, json: &str) {
        self.says(Say::Published {
            name: "total".into(),
            body: Payload::json(json),
            seq: 1,
            at: Timestamp(2),
        });
    }

    fn emits(&self, n: u64, json: &str) {
        self.says(emitted(n, json));
    }

    fn ends(&self, status: Status) {
        let end = End::Finished { status, inbox_n: 0, at: Timestamp(9) };
        self.turn(vec![entry(1, Kind::Completed)], vec![], Some(end));
    }
}

fn emitted(n: u64, json: &str) -> Say {
    Say::Emitted { name: "lines".into(), n, body: Payload::json(json), at: Timestamp(3) }
}

fn told(items: &[Item<String>]) -> Vec<(u64, &str)> {
    items.iter().map(|item| (item.n, item.value.as_str())).collect()
}

#[tokio::test]
async fn a_published_value_is_read_while_the_run_runs_and_when_it_is_over() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.reopen()));
    assert_eq!(client.published("a", TOTAL).await.expect("reads"), None);
    run.publishes("7");
    assert_eq!(client.published("a", TOTAL).await.expect("reads"), Some(7));
    run.publishes("8");
    run.ends(Status::Completed);
    assert_eq!(client.published::<u64>("a", "total").await.expect("reads"), Some(8));
    assert_eq!(client.published::<u64>("a", "other").await.expect("reads"), None);
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    run.publishes("\"many\"");
    let error = client.published("a", TOTAL).await.expect_err("is a text");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Decode, Code::UNDECODABLE));
    let begin = "published value `total` of run `a` does not decode as `u32`:";
    assert!(error.to_string().starts_with(begin), "{error}");
    let codes = [
        client.published("b", TOTAL).await.expect_err("no run").code(),
        client.published::<u32>("a", "to/tal").await.expect_err("no name").code(),
        client.attributes("b").await.expect_err("no run").code(),
        client.stream("b", LINES).page(1).await.expect_err("no run").code(),
        client.stream("b", LINES).next().await.expect_err("no run").code(),
        client.stream::<u32>("a", "").next().await.expect_err("no name").code(),
        client.stream("", LINES).next().await.expect_err("no id").code(),
    ];
    let (missing, name) = (Code::NOT_FOUND, Code::BAD_NAME);
    assert_eq!(codes, [missing, name, missing, missing, missing, name, name]);
}

#[tokio::test]
async fn items_are_read_page_by_page() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    let mut items = client.stream("a", LINES);
    assert!(items.page(9).await.expect("reads").is_empty());
    for n in 0..5 {
        run.emits(n, &format!("\"line {n}\""));
    }
    let page = items.page(2).await.expect("reads");
    assert_eq!(told(&page), [(0, "line 0"), (1, "line 1")]);
    assert_eq!(page[0].at, Timestamp(3));
    assert_eq!(told(&items.page(9).await.expect("reads")), [(2, "line 2"), (3, "line 3"), (4, "line 4")]);
    assert!(items.page(9).await.expect("reads").is_empty());
    run.emits(5, "\"line 5\"");
    assert_eq!(told(&items.page(9).await.expect("reads")), [(5, "line 5")], "and on");
    let mut items = client.stream("a", LINES).from(3);
    assert_eq!(items.next().await.expect("reads").map(|item| item.n), Some(3));
    assert_eq!(told(&items.page(1).await.expect("reads")), [(4, "line 4")], "both go on where the other was");
    assert_eq!(items.from(0).next().await.expect("reads").map(|item| item.n), Some(0));
}

/// Follows the stream of run `a` in an opening while the run emits, and ends.
async fn follows(memory: &Memory, reader: Memory) {
    let (run, client) = (Puppet::start(memory, "a").await, Client::new(reader));
    let mut items = client.stream("a", LINES);
    for n in 0..3 {
        assert!(items.next().now_or_never().is_none(), "nothing is there yet");
        run.emits(n, &format!("\"line {n}\""));
        let item = items.next().await.expect("reads").expect("is there");
        assert_eq!((item.n, item.value), (n, format!("line {n}")));
    }
    let follower = tokio::spawn(async move {
        let rest: Vec<_> = items.into_stream().try_collect().await.expect("reads");
        rest.len()
    });
    tokio::task::yield_now().await;
    run.publishes("1");
    tokio::task::yield_now().await;
    run.turn(vec![], vec![emitted(3, "\"\""), emitted(4, "\"\"")], None);
    tokio::task::yield_now().await;
    run.emits(5, "\"\"");
    run.ends(Status::Completed);
    assert_eq!(follower.await.expect("no panic"), 3, "all, and then the end");
    let mut late = client.stream("a", LINES).from(5);
    assert_eq!(late.next().await.expect("reads").map(|item| item.n), Some(5));
    assert_eq!(late.next().await.expect("reads"), None);
}

#[tokio::test]
async fn a_stream_is_followed_to_the_end_of_its_run() {
    let memory = Memory::default();
    follows(&memory, memory.clone()).await;
}

#[tokio::test]
async fn a_stream_is_followed_in_another_process() {
    let memory = Memory::default();
    follows(&memory, memory.reopen()).await;
}

#[tokio::test]
async fn who_follows_a_run_waits_while_it_is_stuck() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    let follower = tokio::spawn(async move { client.stream("a", LINES).next().await });
    tokio::task::yield_now().await;
    let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail: "boom".into() };
    run.turn(vec![], vec![], Some(End::Stuck { stuck, inbox_n: 0, at: Timestamp(1) }));
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert!(!follower.is_finished());
    Client::new(memory).cancel("a", "").await.expect("asks");
    // Nobody drives it; who follows it is not in the way of anybody.
    follower.abort();
    assert!(follower.await.is_err_and(|e| e.is_cancelled()));
}

#[tokio::test]
async fn a_backlog_of_many_pages_is_followed_in_order() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    run.turn(vec![], (0..250).map(|n| emitted(n, "\"\"")).collect(), None);
    run.ends(Status::Failed);
    let numbers: Vec<u64> =
        client.stream("a", LINES).into_stream().map_ok(|item| item.n).try_collect().await.expect("reads");
    assert_eq!(numbers, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_item_that_does_not_decode_hides_no_other() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    run.turn(vec![], vec![emitted(0, "\"a\""), emitted(1, "1"), emitted(2, "\"c\"")], None);
    run.ends(Status::Completed);
    let mut items = client.stream("a", LINES);
    assert_eq!(items.next().await.expect("reads").map(|item| item.value).as_deref(), Some("a"));
    let error = items.next().await.expect_err("is a number");
    let begin = "item 1 of stream `lines` of run `a` does not decode as `alloc::string::String`:";
    assert!(error.to_string().starts_with(begin), "{error}");
    assert_eq!(items.next().await.expect("reads").map(|item| item.value).as_deref(), Some("c"));
    assert_eq!(items.next().await.expect("reads"), None);
    assert!(client.stream("a", LINES).page(9).await.is_err());
    assert_eq!(told(&client.stream("a", LINES).from(2).page(9).await.expect("reads")), [(2, "c")]);
    let all: Vec<_> = client.stream("a", LINES).into_stream().collect().await;
    assert_eq!(
        all.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false],
        "a stream ends with an error"
    );
}

#[tokio::test]
async fn attributes_are_read_and_found() {
    let memory = Memory::default();
    let (run, client) = (Puppet::start(&memory, "a").await, Client::new(memory.clone()));
    Puppet::start(&memory, "b").await;
    assert!(client.attributes("a").await.expect("reads").is_empty());
    let value = |value: AttributeValue| Some(value);
    for (name, value) in
        [("team", value("blue".into())), ("amount", value(7.into())), ("status", value(true.into()))]
    {
        run.says(Say::Attribute { name: name.into(), value });
    }
    let told = client.attributes("a").await.expect("reads");
    let expected =
        [("amount".into(), 7.into()), ("status".into(), true.into()), ("team".into(), "blue".into())];
    assert_eq!(told, expected);
    for (filter, ids) in [
        ("team = blue and amount > 6.5", &["a"][..]),
        ("attribute.status = true and status = running", &["a"]),
        ("team != blue", &[]),
        ("", &["b", "a"]),
    ] {
        let found = client.list(filter).await.expect("finds");
        assert_eq!(found.iter().map(|info| &*info.id).collect::<Vec<_>>(), ids, "{filter}");
        assert_eq!(client.count(filter).await.expect("counts"), ids.len() as u64, "{filter}");
    }
    let error = client.count("team is blue").await.expect_err("no filter");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Misuse, Code::BAD_FILTER));
    assert_eq!(COUNT_MAX, 10_001);
}

#[tokio::test]
async fn a_list_goes_on_after_a_cursor() {
    let memory = Memory::default();
    for id in ["a", "b", "c"] {
        Puppet::start(&memory, id).await;
    }
    let client = Client::new(memory.clone());
    let page = client.list("").limit(2).await.expect("lists");
    let cursor = page[1].cursor();
    let later = Client::new(memory.reopen());
    let rest = later.list("").after_cursor(&cursor).await.expect("lists");
    assert_eq!(rest.iter().map(|info| &*info.id).collect::<Vec<_>>(), ["a"]);
    assert!(later.list("").after_cursor(&rest[0].cursor()).await.expect("lists").is_empty());
    for bad in ["", "r", "7", "r-7", "r+7", "r7 ", "r 7", "R7", "r99999999999999999999", "r7\n"] {
        let error = client.list("").after_cursor(bad).await.expect_err(bad);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Misuse, Code::BAD_CURSOR), "{bad:?}");
    }
    let error = client.list("").after_cursor("x\n").await.expect_err("none");
    assert_eq!(error.to_string(), "`x\\n` is no cursor: pass on what `RunInfo::cursor` gave");
}

/// Tests of replay cut journals behind the engine's back: what the entries had emitted goes with them, as if their turn
/// had never been.
#[tokio::test]
async fn a_journal_that_is_truncated_has_not_emitted_what_is_gone() {
    let memory = Memory::default();
    let run = Puppet::start(&memory, "a").await;
    let entries = [Kind::Emitted, Kind::StepDone, Kind::Emitted, Kind::Emitted];
    let entries = entries.into_iter().zip(1..).map(|(kind, seq)| entry(seq, kind)).collect();
    let other = Say::Emitted { name: "other".into(), n: 0, body: Payload::json("1"), at: Timestamp(0) };
    run.turn(entries, vec![emitted(0, "1"), other, emitted(1, "2")], None);
    memory.truncate("a", 4);
    let items = async |name: &str| memory.stream(run.run(), name.into(), 0, 9).await.expect("reads").len();
    assert_eq!((items("lines").await, items("other").await), (1, 1));
    memory.truncate("a", 3);
    assert_eq!((items("lines").await, items("other").await), (1, 0));
    memory.truncate("a", 9);
    assert_eq!((items("lines").await, items("other").await), (1, 0));
    memory.truncate("a", 1);
    assert_eq!((items("lines").await, items("other").await), (0, 0));
}

/// The verbs are the engine's too.
#[test]
fn an_engine_reads_what_its_runs_say() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), everstep_core::Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n: u64| {
            ctx.publish(TOTAL, &1);
            ctx.set_attribute("team", "blue");
            assert!(ctx.patched("new"));
            Ok(n.to_string())
        })
        .await;
        assert_eq!(engine.run(W, "a", 1).await.expect("runs"), "1");
        assert_eq!(engine.published("a", TOTAL).await.expect("reads"), Some(1));
        assert_eq!(engine.stream("a", LINES).next().await.expect("reads"), None);
        // That it is patched is the engine's own affair.
        assert_eq!(engine.attributes("a").await.expect("reads"), [("team".into(), "blue".into())]);
        engine.shutdown().await.expect("shuts down");
    });
}
