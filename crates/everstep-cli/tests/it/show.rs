//! `everstep show`.

use crate::{sample::runs, stage::Stage};

#[tokio::test]
async fn a_run_is_shown_with_everything_about_it() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["show", "sqlite:app.db", "emp-2"]);
    let long = "x".repeat(79);
    let expected = format!(
        "\
RUN         emp-2
workflow    onboard
status      stuck
created     2026-01-01T00:00:02.000Z
began       2026-01-01T00:00:02.000Z
generation  1
takeovers   2

stuck: in doubt at `notify`: attempt 2 did not return
what helps: look whether the effect happened, then `answer` with done, retry or fail; or `cancel`

attributes
NAME    VALUE
amount  1.5
team    \"core\"

published
NAME      VALUE  WHEN
progress  50     2026-01-01T00:00:04.000Z

inbox
N  KIND      NAME  VALUE                                                                              WHEN
2  signal    go    \"{long}…  2026-01-01T00:00:07.000Z
3  kind 999  new   1                                                                                  2026-01-01T00:00:07.000Z

steps under way
KEY     ATTEMPT  SINCE                     HEARTBEAT
notify  2        2026-01-01T00:00:06.000Z  50

acts
WHEN                      WHO       VERB   WHAT  WHY
2026-01-01T00:00:05.000Z  ada@here  retry        there is room now
"
    );
    assert_eq!(said.done(), expected);
    let full = stage.everstep(&["show", "sqlite:app.db", "emp-2", "--full"]);
    assert!(full.done().contains(&format!("\"{}\"", "x".repeat(100))), "{full}");
}

#[tokio::test]
async fn what_a_run_has_not_is_not_shown() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["show", "sqlite:app.db", "inv-1"]);
    assert_eq!(
        said.done(),
        "\
RUN       inv-1
workflow  invoice
status    waiting
created   2026-01-01T00:00:03.000Z
began     2026-01-01T00:00:03.000Z
wakes     2026-01-01T01:00:00.000Z
"
    );
}

#[tokio::test]
async fn a_run_is_shown_as_json() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["show", "sqlite:app.db", "emp-2", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(said.done()).expect("JSON");
    assert_eq!(shown["stuck"]["reason"], "in doubt");
    assert_eq!(shown["attributes"]["amount"], 1.5);
    assert_eq!(shown["published"][0]["value"], 50);
    assert_eq!(shown["inbox"][0]["kind"], "signal");
    assert_eq!(shown["started"][0]["heartbeat"], 50);
    assert_eq!(shown["acts"][0]["why"], "there is room now");
    assert_eq!((&shown["generation"], &shown["worker"]), (&1.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn a_run_that_is_not_there_is_told() {
    let stage = Stage::with_runs("app.db", runs()).await;
    for command in ["show", "journal"] {
        let said = stage.everstep(&[command, "sqlite:app.db", "emp-\x1b9"]);
        assert_eq!(said.failed(3), "everstep: EV0101: there is no run `emp-\\u{1b}9`\n");
    }
}
