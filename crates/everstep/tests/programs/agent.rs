//! An agent: a loop whose length nobody knows, tools behind `dyn`, names of steps made from data.

use std::{collections::HashMap, sync::Arc};

use everstep::{BoxFuture, Ctx, Result, Retry, StepCtx, Workflow, minutes};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Turn {
    User(String),
    Call { tool: String, argument: String },
    Answer(String),
}

trait Tool: Send + Sync {
    fn call<'a>(&'a self, argument: &'a str) -> BoxFuture<'a, anyhow::Result<String>>;
}

struct Upper;
impl Tool for Upper {
    fn call<'a>(&'a self, argument: &'a str) -> BoxFuture<'a, anyhow::Result<String>> {
        Box::pin(async move { Ok(argument.to_uppercase()) })
    }
}

struct Length;
impl Tool for Length {
    fn call<'a>(&'a self, argument: &'a str) -> BoxFuture<'a, anyhow::Result<String>> {
        Box::pin(async move {
            anyhow::ensure!(!argument.is_empty(), "nothing to measure");
            Ok(argument.len().to_string())
        })
    }
}

#[derive(Clone)]
struct Tools(Arc<HashMap<&'static str, Box<dyn Tool>>>);

/// A model that calls what the question names, word by word, and then answers. Its first call fails.
async fn model(history: &[Turn], attempt: u32) -> anyhow::Result<Turn> {
    anyhow::ensure!(history.len() > 1 || attempt > 1, "the model is overloaded");
    let Turn::User(question) = &history[0] else { anyhow::bail!("no question") };
    let asked = history.iter().filter(|turn| matches!(turn, Turn::Call { .. })).count();
    Ok(match question.split(' ').nth(asked) {
        Some(tool) => Turn::Call { tool: tool.to_string(), argument: question.clone() },
        None => {
            let results: Vec<_> = history[1..]
                .iter()
                .filter_map(|turn| match turn {
                    Turn::User(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            Turn::Answer(results.join(", "))
        }
    })
}

const AGENT: Workflow<String, String> = Workflow::new("agent");

async fn agent(ctx: Ctx, question: String, tools: Tools) -> Result<String> {
    let mut history = vec![Turn::User(question)];
    loop {
        let turn = ctx
            .step("think", async |s: StepCtx| Ok(model(&history, s.attempt()).await?))
            .retry(Retry::exponential(5))
            .attempt_timeout(minutes(2))
            .await?;
        match &turn {
            Turn::Answer(text) => return Ok(text.clone()),
            Turn::Call { tool, argument } => {
                let found = tools.0.get(tool.as_str()).ok_or_else(|| format!("no tool `{tool}`"))?;
                let out = ctx
                    .step(&format!("tool:{tool}"), async || Ok(found.call(argument).await?))
                    .input(argument)
                    .await?;
                history.push(turn);
                history.push(Turn::User(out));
            }
            Turn::User(_) => Err("the model spoke for the user")?,
        }
    }
}

fn ask(question: &str) -> Result<String, everstep::EngineError> {
    let all: [(&'static str, Box<dyn Tool>); 2] = [("upper", Box::new(Upper)), ("length", Box::new(Length))];
    let tools = Tools(Arc::new(HashMap::from(all)));
    crate::play(
        move |builder| builder.state(tools.clone()).register(AGENT, agent),
        AGENT,
        question.to_string(),
    )
}

#[test]
fn an_agent_calls_its_tools_until_it_answers() {
    assert_eq!(ask("upper length upper").expect("it answers"), "UPPER LENGTH UPPER, 18, UPPER LENGTH UPPER");
    assert_eq!(ask("hammer").expect_err("no such tool").to_string(), "no tool `hammer`");
}
