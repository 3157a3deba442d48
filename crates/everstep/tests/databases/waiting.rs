//! Runs that wait, each for something else, and what brings each of them to its end.

use std::path::Path;

use everstep::{
    Builder, Client, Ctx, Published, Request, Result, Retry, Run, Signal, Status, StepCtx, Stream, With,
    Workflow, days, hours, sqlite::rusqlite::Connection,
};

use crate::story::{Any, WAITS, World};

const SIGNALLED: Workflow<u64, String> = Workflow::new("signalled");
const PROMISED: Workflow<u64, String> = Workflow::new("promised");
const PARENT: Workflow<u64, String> = Workflow::new("parent");
const SERVED: Workflow<u64, String> = Workflow::new("served");
const UNDONE: Workflow<u64, String> = Workflow::new("undone");
const LOOPED: Workflow<u64, String> = Workflow::new("looped");
const REWOUND: Workflow<u64, String> = Workflow::new("rewound");
const TELLING: Workflow<u64, String> = Workflow::new("telling");
const BACKS_OFF: Workflow<u64, String> = Workflow::new("backs_off");
const CANCELLED: Workflow<u64, String> = Workflow::new("cancelled");
const BEATS: Workflow<u64, String> = Workflow::new("beats");

/// Names of all of them.
pub const NAMES: [&str; 11] = [
    SIGNALLED.name(),
    PROMISED.name(),
    PARENT.name(),
    SERVED.name(),
    UNDONE.name(),
    LOOPED.name(),
    REWOUND.name(),
    TELLING.name(),
    BACKS_OFF.name(),
    CANCELLED.name(),
    BEATS.name(),
];

const WORD: Signal<u64> = Signal::new("word");
const GO: Signal<()> = Signal::new("go");
const ASK: Request<u64, u64> = Request::new("ask");
const TOKEN: Published<String> = Published::new("token");
const TURN: Published<u64> = Published::new("turn");
const PROGRESS: Published<String> = Published::new("progress");
const LINES: Stream<String> = Stream::new("lines");

async fn signalled(ctx: Ctx, n: u64, _: World) -> Result<String> {
    let n = ctx.step("before", async || Ok(n)).await?;
    let (first, second) = (ctx.signal(WORD).await?, ctx.signal(WORD).await?);
    Ok(format!("{n}: {first}, then {second}"))
}

async fn promised(ctx: Ctx, _: u64, _: World) -> Result<String> {
    let payment = ctx.promise::<u64>("payment");
    ctx.publish(TOKEN, &payment.token().to_string());
    Ok(format!("{} cents", payment.await?))
}

async fn parent(ctx: Ctx, n: u64, _: World) -> Result<String> {
    let child = ctx.start(SIGNALLED, format!("{}.child", ctx.id()), n).await?;
    Ok(format!("its child says {}", child.result().await?))
}

async fn served(ctx: Ctx, n: u64, _: World) -> Result<String> {
    let n = ctx.step("before", async || Ok(n)).await?;
    ctx.serving(ASK, async |question: u64| Ok(question * n), ctx.signal(GO)).await?;
    Ok("asked enough".to_string())
}

async fn undone(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let undo = async move |_: u64| {
        world.passes().await;
        Ok(())
    };
    ctx.step("book", async || Ok(n)).undo(undo).await?;
    Err("sold out".into())
}

async fn looped(ctx: Ctx, turn: u64, _: World) -> Result<String> {
    let turn = ctx.step("turn", async || Ok(turn)).await?;
    ctx.publish(TURN, &turn);
    if turn < 2 {
        ctx.restart(LOOPED, turn + 1).await;
    }
    ctx.signal(GO).await?;
    Ok(format!("turn {turn}"))
}

async fn rewound(ctx: Ctx, n: u64, _: World) -> Result<String> {
    let first = ctx.step("first", async || Ok(n)).await?;
    let word = ctx.signal(WORD).await?;
    let second = ctx.step("second", async || Ok(first + word)).await?;
    ctx.signal(GO).await?;
    Ok(format!("{first} and {second}"))
}

async fn telling(ctx: Ctx, n: u64, _: World) -> Result<String> {
    ctx.set_attribute("team", "blue");
    ctx.set_attribute("size", i64::try_from(n)?);
    ctx.publish(PROGRESS, &"half".to_string());
    for line in ["one", "two"] {
        ctx.emit(LINES, &line.to_string());
    }
    let patched = ctx.patched("new way");
    ctx.signal(GO).await?;
    ctx.emit(LINES, &"three".to_string());
    Ok(format!("patched: {patched}"))
}

async fn backs_off(ctx: Ctx, _: u64, _: World) -> Result<String> {
    let call = async |s: StepCtx| match s.attempt() {
        1 => Err("busy".into()),
        attempt => Ok(format!("attempt {attempt}")),
    };
    ctx.step("call", call).retry(Retry::fixed(2, hours(24 * 365))).await
}

async fn cancelled(ctx: Ctx, _: u64, world: World) -> Result<String> {
    ctx.on_cancel(async move |_: StepCtx| {
        world.passes().await;
        Ok(())
    });
    ctx.signal(GO).await?;
    Ok("not cancelled".to_string())
}

async fn beats(ctx: Ctx, n: u64, world: World) -> Result<String> {
    ctx.step("long", async |s: StepCtx| {
        let details: Option<u64> = s.last_details();
        s.heartbeat(&n);
        world.passes().await;
        Ok(format!("the attempt before had come to {details:?}"))
    })
    .await
}

pub fn register(builder: Builder<With<World>>) -> Builder<With<World>> {
    builder
        .register(SIGNALLED, signalled)
        .register(PROMISED, promised)
        .register(PARENT, parent)
        .register(SERVED, served)
        .register(UNDONE, undone)
        .register(LOOPED, looped)
        .register(REWOUND, rewound)
        .register(TELLING, telling)
        .register(BACKS_OFF, backs_off)
        .register(CANCELLED, cancelled)
        .register(BEATS, beats)
}

/// Those that leave memory, because nothing but time or somebody outside wakes them.
const PARKED: [&str; 12] = [
    "signalled",
    "promised",
    "promised-kept",
    "parent",
    "parent.child",
    "served",
    "looped",
    "rewound",
    "rewound-fork",
    "telling",
    "backs-off",
    "waits-skipped",
];

/// Starts them, and goes on until each waits for what the next process, or nobody, gives it.
pub async fn begin(client: &Client, path: &Path) -> Any<()> {
    let client = client.acting_as("ada");
    for id in ["signalled", "signalled-paused"] {
        let run = client.start(SIGNALLED, id, 7).await?;
        client.signal(id, "stray", 9u64).await?;
        client.signal(id, WORD, 1).await?;
        reaches(&run, 3).await?;
        if id == "signalled-paused" {
            pauses(&client, &run).await?;
        }
    }
    client.start(SIGNALLED, "signalled-late", 7).delay(days(365 * 100)).await?;
    for id in ["promised", "promised-kept"] {
        reaches(&client.start(PROMISED, id, 0).await?, 3).await?;
    }
    reaches(&client.start(PARENT, "parent", 8).await?, 2).await?;
    reaches(&client.get(SIGNALLED, "parent.child").await?, 2).await?;
    reaches(&client.start(SERVED, "served", 10).await?, 2).await?;
    reaches(&client.start(UNDONE, "undone", 0).await?, 4).await?;
    let looped = client.start(LOOPED, "looped", 0).await?;
    while client.published(looped.id(), TURN).await? != Some(2) {
        tokio::task::yield_now().await;
    }
    go_back(&client).await?;
    reaches(&client.start(TELLING, "telling", 5).await?, 7).await?;
    reaches(&client.start(BACKS_OFF, "backs-off", 0).await?, 2).await?;
    reaches(&client.start(WAITS, "waits-skipped", 24 * 365 * 100).await?, 2).await?;
    client.start(CANCELLED, "cancelled", 0).await?;
    client.cancel("cancelled", "not wanted").await?;
    client.start(BEATS, "beats", 3).await?;
    until(path, "SELECT count(*) FROM everstep_started WHERE details IS NOT NULL").await
}

/// A run that was taken back to a step, and one that was forked from it before.
async fn go_back(client: &Client) -> Any<()> {
    let run = client.start(REWOUND, "rewound", 4).await?;
    client.signal("rewound", WORD, 2).await?;
    reaches(&run, 4).await?;
    let fork = client.fork(REWOUND, "rewound", "rewound-fork").from("second").await?;
    pauses(client, &run).await?;
    client.rewind("rewound", "first").await?;
    reaches(&fork, 5).await?;
    reaches(&run, 4).await
}

/// Until those that leave memory have left it.
pub async fn park(client: &Client) -> Any<()> {
    for id in PARKED {
        let query = format!("id = \"{id}\" and status = waiting");
        while client.list(&query).await?.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// What comes while no worker is there.
pub async fn go_on(client: &Client, path: &Path) -> Any<()> {
    let client = client.acting_as("ada");
    let token = client.published("promised-kept", TOKEN).await?.ok_or("it has told its token")?;
    client.resolve(&token, 30u64).await?;
    client.start(SIGNALLED, "signalled-pending", 6).with_signal(WORD, 1).await?;
    let asked = client.request("served", ASK, 4).key("four");
    tokio::select! {
        answer = asked => Err(format!("nobody is there to answer {answer:?}").into()),
        sent = until(path, "SELECT count(*) FROM everstep_inbox WHERE kind = 2") => sent,
    }
}

/// Gives a run what it waits for; what is told of it.
pub async fn help(client: &Client, id: &str) -> Any<String> {
    match id {
        "signalled" | "signalled-pending" => client.signal(id, WORD, 2).await?,
        "signalled-paused" => {
            client.resume(id).await?;
            client.signal(id, WORD, 2).await?;
        }
        "signalled-late" => client.cancel(id, "too late").await?,
        "promised" => {
            let token = client.published(id, TOKEN).await?.ok_or("it has told its token")?;
            client.resolve(&token, 20u64).await?;
        }
        "parent" => {
            for word in [1, 2] {
                client.signal("parent.child", WORD, word).await?;
            }
        }
        "served" => {
            let answer = client.request(id, ASK, 4).key("four").await?;
            client.signal(id, GO, ()).await?;
            return Ok(format!("answers {answer}; "));
        }
        "looped" | "rewound-fork" => client.signal(id, GO, ()).await?,
        "rewound" => {
            client.signal(id, GO, ()).await?;
            let verbs: Vec<_> = client
                .acts(id)
                .await?
                .into_iter()
                .map(|act| format!("{} by {}", act.verb, act.who))
                .collect();
            return Ok(format!("{}; ", verbs.join(", ")));
        }
        "telling" => return told_by(client, id).await,
        "backs-off" | "waits-skipped" => client.skip_wait(id, None).await?,
        _ => {}
    }
    Ok(String::new())
}

async fn told_by(client: &Client, id: &str) -> Any<String> {
    let found = client.list("team = \"blue\" and size > 4").await?;
    let progress = client.published(id, PROGRESS).await?;
    let lines = client.stream(id, LINES).page(10).await?;
    client.signal(id, GO, ()).await?;
    let lines: Vec<_> = lines.into_iter().map(|line| format!("{} {}", line.n, line.value)).collect();
    Ok(format!("{} found, {progress:?}, {}; ", found.len(), lines.join(", ")))
}

async fn pauses(client: &Client, run: &Run<String>) -> Any<()> {
    client.pause(run.id(), "to look at it").await?;
    while run.status().await? != Status::Paused {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn reaches(run: &Run<String>, entries: u64) -> Any<()> {
    while run.journal_len().await? < entries {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Until a count is not zero.
async fn until(path: &Path, count: &str) -> Any<()> {
    let db = Connection::open(path)?;
    while db.query_row::<i64, _, _>(count, [], |row| row.get(0))? == 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}
