//! The processes of a play: a worker that runs what waits, and senders that have no worker. Both are told what to do by
//! lines on their standard input, and leave when it is closed.

use std::{process, time::Duration};

use everstep::{Client, Code, Engine, EngineError, Settings, sqlite::Sqlite};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    ledger::{Line, tell},
    waits::{self, NAMES, WAITS, Waits},
};
use crate::actor::AnyResult;

/// Short, so that runs leave memory and are read again.
const PARK_AFTER: Duration = Duration::from_millis(15);

/// The name of a run.
pub(super) fn id(run: usize) -> String {
    format!("run {run}")
}

/// Plays the part that `args` name; `None` if there is no such part.
pub async fn act(args: &[String]) -> Option<AnyResult<()>> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", database] => Some(work(database).await),
        ["sender", database] => Some(send(database).await),
        _ => None,
    }
}

async fn work(database: &str) -> AnyResult<()> {
    // However often it dies, its runs go on.
    let settings = Settings {
        park_after: PARK_AFTER,
        takeovers_max: u32::MAX,
        build: Some("signals".to_string()),
        ..Settings::default()
    };
    let engine = Engine::builder(Sqlite::open(database)?)
        .settings(settings)
        .register(WAITS, waits::waits)
        .start()
        .await?;
    tell(&Line::Ready(process::id()));
    let mut input = input();
    while input.recv().await.is_some() {}
    Ok(engine.shutdown().await?)
}

async fn send(database: &str) -> AnyResult<()> {
    let client = Client::new(Sqlite::open(database)?);
    tell(&Line::Ready(process::id()));
    let mut input = input();
    while let Some(order) = input.recv().await {
        let client = client.clone();
        tokio::spawn(async move { tell(&obey(&client, &order).await) });
    }
    Ok(())
}

/// What is said on the standard input, until it is closed.
fn input() -> UnboundedReceiver<String> {
    let (send, lines) = unbounded_channel();
    // Not tokio's stdin: its thread would hold up the end of the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What a sender is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Start(usize),
    Send(usize),
    Await(usize),
}

async fn obey(client: &Client, order: &str) -> Line {
    let words: Vec<&str> = order.splitn(3, ' ').collect();
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{order}` is no order"));
    match words[..] {
        ["start", run, input] => start(client, number(run), input).await,
        ["send", signal, rest] => {
            let rest: Vec<usize> = rest.split(' ').map(number).collect();
            post(client, number(signal), rest[0], rest[1], rest[2] == 1).await
        }
        ["await", run] => {
            let run = number(run);
            match outcome(client, run).await {
                Ok(_) => Line::Ended(run),
                Err(error) => Line::Broke(run, words_of(&error)),
            }
        }
        _ => panic!("`{order}` is no order"),
    }
}

async fn start(client: &Client, run: usize, input: &str) -> Line {
    let input: Waits = serde_json::from_str(input).expect("written by us");
    match client.start(WAITS, id(run), input).await {
        Ok(_) => Line::Started(run),
        Err(error) => Line::Broke(run, words_of(&error)),
    }
}

async fn post(client: &Client, signal: usize, run: usize, name: usize, keyed: bool) -> Line {
    tell(&Line::Sent(signal));
    let mut sending = client.signal::<usize>(id(run), NAMES[name], signal);
    if keyed {
        sending = sending.key(&signal.to_string());
    }
    match sending.await {
        Ok(()) => Line::Acked(signal),
        Err(error) if error.code() == Code::NOT_ALLOWED => Line::Refused(signal),
        Err(error) => Line::Erred(signal, words_of(&error)),
    }
}

/// Waits for the end of a run.
pub(super) async fn outcome(client: &Client, run: usize) -> Result<waits::Told, EngineError> {
    client.get(WAITS, id(run)).await?.result().await
}

fn words_of(error: &EngineError) -> String {
    format!("{} {error}", error.code())
}
