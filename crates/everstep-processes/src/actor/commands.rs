//! What a test can ask for. Each command answers for itself when it is done, so that one that waits holds up no other.

use everstep::{Client, EngineError, Run, Workflow, journal::Answer};

use super::{
    say,
    workflows::{self, World},
};

/// Obeys until the end of the input.
pub(crate) async fn obey(client: &Client, world: &World) {
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    // Not tokio's stdin: its thread would hold up the end of the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let mut running = tokio::task::JoinSet::new();
    while let Some(line) = lines.recv().await {
        if line == "leave" {
            break;
        }
        let (client, world) = (client.clone(), world.clone());
        running.spawn(async move {
            let told = answer(&client, &world, &line).await;
            say(match told {
                Ok(told) => format!("{line}: {told}"),
                Err(error) => format!("{line}: {} {error}", error.code()),
            });
        });
    }
    running.abort_all();
}

async fn answer(client: &Client, world: &World, line: &str) -> Result<String, EngineError> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["start", workflow, id, n] => {
            client.start(named(workflow), id, number(n)).await?;
            Ok("started".to_string())
        }
        ["result", workflow, id] => {
            let run: Run<u64> = client.get(named(workflow), id).await?;
            Ok(format!("ok {}", run.result().await?))
        }
        ["status", workflow, id] => Ok(client.get(named(workflow), id).await?.status().await?.to_string()),
        ["cancel", id] => client.cancel(id, "asked to").await.map(|()| "ok".to_string()),
        ["retry", id] => client.retry(id).await.map(|()| "ok".to_string()),
        ["answer", id, value] => {
            client.answer(id, Answer::Done { value: value.to_string() }).await.map(|()| "ok".to_string())
        }
        ["open", run] => {
            world.open(run);
            Ok("ok".to_string())
        }
        _ => Ok("no such command".to_string()),
    }
}

fn named(workflow: &str) -> Workflow<u64, u64> {
    workflows::ALL
        .into_iter()
        .find(|known| known.name() == workflow)
        .unwrap_or_else(|| panic!("there is no workflow `{workflow}`"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}
