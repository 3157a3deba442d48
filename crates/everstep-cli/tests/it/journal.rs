//! `everstep journal`.

use crate::{sample::runs, stage::Stage};

#[tokio::test]
async fn a_journal_says_what_happened_and_where() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["journal", "sqlite:app.db", "emp-2"]);
    assert_eq!(
        said.done(),
        r#"SEQ  TIME                      KEY          WHAT                VALUE OR ERROR             LINE
0    2026-01-01T00:00:00.000Z               started             {"name":"Grace"}
1    2026-01-01T00:00:01.000Z  approved     signal taken        true                       src/onboard.rs:11:9
2    2026-01-01T00:00:02.000Z  provision    attempt failed      error: no \u{1b}[31mroute  src/onboard.rs:12:9
3    2026-01-01T00:00:03.000Z  provision#2  failed (attempt 2)  error: no room             src/onboard.rs:13:9
4    2026-01-01T00:00:04.000Z  progress     published           {"codec":9,"hex":"0102"}   src/onboard.rs:14:9
5    2026-01-01T00:00:05.000Z  later        kind 9999                                      src/onboard.rs:15:9
"#
    );
}

#[tokio::test]
async fn a_journal_is_told_as_json() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["journal", "sqlite:app.db", "emp-1", "--json"]);
    assert_eq!(
        said.done(),
        r#"{
  "run": "emp-1",
  "generation": 0,
  "entries": [
    {
      "seq": 0,
      "time": "2026-01-01T00:00:00.000Z",
      "key": null,
      "what": "started",
      "attempt": 0,
      "value": "Ada",
      "line": null,
      "build": "build-1"
    },
    {
      "seq": 1,
      "time": "2026-01-01T00:00:01.000Z",
      "key": "create_record",
      "what": "done",
      "attempt": 1,
      "value": {"id": 7},
      "line": "src/onboard.rs:11:9",
      "build": "build-1"
    },
    {
      "seq": 2,
      "time": "2026-01-01T00:00:02.000Z",
      "key": null,
      "what": "run completed",
      "attempt": 0,
      "value": "welcome",
      "line": null,
      "build": "build-1"
    }
  ]
}
"#
    );
}
