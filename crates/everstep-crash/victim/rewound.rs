//! A run that a person pauses and takes back to its second step, once, when it has taken a signal and made a third; and,
//! when it is over, another run that begins with a part of it.

use everstep::{Client, Ctx, EngineError, ErrorKind, Result, StepCtx, Stream, Workflow};

use crate::{
    Workload,
    outside::Visited,
    world::{World, say},
};

const REWOUND: Workflow<u64, String> = Workflow::new("rewound");
const READY: Stream<u64> = Stream::new("ready");
const WORD: &str = "word";
const GO: &str = "go";

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: REWOUND,
        register: |builder| builder.register(REWOUND, rewound),
        runs: vec![("w-1".to_string(), 1)],
        visit: |run, n| Box::pin(visit(run, n)),
    }
}

async fn rewound(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let mut told = Vec::new();
    for (stage, name) in ["first", "second", "third", "fourth"].into_iter().enumerate() {
        if name == "third" {
            told.push(format!("word={}", ctx.signal::<u64>(WORD).await?));
        }
        if name == "fourth" {
            ctx.emit(READY, &n);
            told.push(format!("go={}", ctx.signal::<u64>(GO).await?));
        }
        told.push(
            ctx.step(name, async |s: StepCtx| {
                world.effect(&ctx, &s, stage);
                Ok(format!("{}={n}", s.key()))
            })
            .await?,
        );
    }
    Ok(told.join(","))
}

async fn visit(mut to: Visited, n: u64) -> std::result::Result<(), EngineError> {
    to.signal(WORD, n + 10).await?;
    let id = to.id().to_string();
    to.client.stream(&id, READY).next().await?.expect("it tells before it can be over");
    if !to.client.acts(&id).await?.iter().any(|act| &*act.verb == "rewind") {
        to.client.pause(&id, "to take it back").await?;
        to.until_paused().await?;
        to.client.rewind(&id, "second").await?;
    }
    say(format!("rewound {id}"));
    to.signal(GO, n).await?;
    let _ = to.run.result().await;
    fork(&to.client, &id, n).await?;
    to.end_of(REWOUND, &fork_of(&id)).await
}

fn fork_of(id: &str) -> String {
    format!("{id}-fork")
}

/// The same from the third step on, in a run of its own; it waits for a signal of its own.
async fn fork(client: &Client, id: &str, n: u64) -> std::result::Result<(), EngineError> {
    let new = fork_of(id);
    match client.get(REWOUND, &*new).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            client.fork(REWOUND, id, &*new).from("third").await?;
        }
        Err(error) => return Err(error),
    }
    say(format!("started {new}"));
    if !client.get(REWOUND, &*new).await?.status().await?.is_over() {
        client.signal(&*new, GO, n).key(&n.to_string()).await?;
        say(format!("signalled {new} {GO} {n}"));
    }
    Ok(())
}
