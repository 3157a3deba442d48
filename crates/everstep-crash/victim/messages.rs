//! Everything that reaches a run from outside while it waits: three promises, one of which nobody keeps, two requests and
//! two signals. It tells the tokens of its promises, and how far it is.

use std::time::Duration;

use everstep::{Ctx, EngineError, Error, Promise, Published, Request, Result, StepCtx, Stream, Workflow};

use crate::{
    Workload,
    outside::Visited,
    world::{World, say},
};

const MESSAGES: Workflow<u64, String> = Workflow::new("messages");
const TOKENS: Stream<String> = Stream::new("tokens");
const ASK: Request<u64, u64> = Request::new("ask");
const PROGRESS: Published<String> = Published::new("progress");
const WORD: &str = "word";

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: MESSAGES,
        register: |builder| builder.register(MESSAGES, messages),
        runs: (1..=2).map(|n| (format!("m-{n}"), n)).collect(),
        visit: |run, n| Box::pin(visit(run, n)),
    }
}

async fn messages(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let (paid, refused): (Promise<u64>, Promise<u64>) = (ctx.promise("paid"), ctx.promise("refused"));
    let late: Promise<u64> = ctx.promise("late").expires(Duration::from_millis(2));
    for token in [paid.token(), refused.token()] {
        ctx.emit(TOKENS, &token.to_string());
    }
    ctx.set_attribute("number", i64::try_from(n)?);
    let does = async |s: StepCtx, stage: usize| {
        world.effect(&ctx, &s, stage);
        Ok(format!("{}={n}", s.key()))
    };
    let mut told = vec![ctx.step("hand_out", async |s: StepCtx| does(s, 0).await).await?];
    // Whoever asks is served beside everything else, and each answer takes a step.
    let look = async |question: u64| {
        ctx.step("look", async |s: StepCtx| {
            world.effect_beside(&ctx, &s);
            Ok(question * 10 + n)
        })
        .await
    };
    let work = async {
        told.push(format!("paid={}", paid.await?));
        told.push(format!("refused={}", why(refused.await)));
        told.push(format!("late={}", why(late.await)));
        ctx.publish(PROGRESS, &"settled".to_string());
        told.push(ctx.step("note", async |s: StepCtx| does(s, 1).await).await?);
        for _ in 0..2 {
            told.push(format!("word={}", ctx.signal::<u64>(WORD).await?));
        }
        told.push(ctx.step("close", async |s: StepCtx| does(s, 2).await).await?);
        Ok::<_, Error>(told.join(","))
    };
    ctx.serving(ASK, look, work).await
}

fn why(settled: Result<u64>) -> String {
    settled.map_or_else(|error| error.code().to_string(), |value| value.to_string())
}

async fn visit(to: Visited, n: u64) -> std::result::Result<(), EngineError> {
    let id = to.id();
    let mut tokens = to.client.stream(id, TOKENS);
    for promise in ["paid", "refused"] {
        let token = tokens.next().await?.expect("it tells them before anything else");
        say(format!("read {id} {} {}", token.n, token.value));
        let settled = async {
            match promise {
                "paid" => to.client.resolve(&token.value, n * 100).await,
                _ => to.client.reject(&token.value, "no money").await,
            }
        };
        to.tell(settled, format!("settled {id} {promise}")).await?;
    }
    for question in 1..=2u64 {
        let answer = to.client.request(id, ASK, question).key(&question.to_string()).await?;
        say(format!("reply {id} {question} {answer}"));
    }
    for word in 1..=2 {
        to.signal(WORD, word).await?;
    }
    Ok(())
}
