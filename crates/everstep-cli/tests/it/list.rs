//! `everstep list`.

use crate::{sample::runs, stage::Stage};

#[tokio::test]
async fn runs_are_listed_newest_first() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["list", "sqlite:app.db"]);
    assert_eq!(
        said.done(),
        "\
ID     WORKFLOW  STATUS     CREATED                   FINISHED
inv-1  invoice   waiting    2026-01-01T00:00:03.000Z
emp-2  onboard   stuck      2026-01-01T00:00:02.000Z
emp-1  onboard   completed  2026-01-01T00:00:01.000Z  2026-01-01T00:00:01.500Z
3 of 3 runs
"
    );
    let absolute = format!("sqlite:{}", stage.path("app.db").display());
    assert_eq!(stage.everstep(&["list", &absolute]).done(), said.out);
}

#[tokio::test]
async fn a_filter_says_which() {
    let stage = Stage::with_runs("app.db", runs()).await;
    for (filter, found) in [
        ("status = stuck", "emp-2"),
        ("workflow = onboard and status != stuck", "emp-1"),
        ("team = \"core\" and amount > 1", "emp-2"),
        ("created > 2026-01-01T00:00:02Z", "inv-1"),
        ("status = failed and created > -1d", ""),
    ] {
        let said = stage.everstep(&["list", "sqlite:app.db", filter]);
        let ids: Vec<_> = said.done().lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        match found {
            "" => assert_eq!(said.out, "no runs of 0\n", "{filter}"),
            found => assert_eq!(ids, [found, "1"], "{filter}"),
        }
    }
    let said = stage.everstep(&["list", "sqlite:app.db", "status = "]);
    let told = said.failed(2);
    assert!(told.starts_with("everstep: EV0104: cannot read the filter at character"), "{told}");
}

#[tokio::test]
async fn a_list_goes_on_page_by_page() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let page = |more: &[&str]| stage.everstep(&[&["list", "sqlite:app.db", "--limit", "2"], more].concat());
    let first = page(&[]);
    assert!(first.done().ends_with("2 of 3 runs; the next page: --after r2\n"), "{first}");
    let second = page(&["--after", "r2"]);
    assert!(second.done().contains("\nemp-1 ") && second.out.ends_with("\n1 of 3 runs\n"), "{second}");
    let said = page(&["--after", "two"]);
    assert!(said.failed(2).starts_with("everstep: EV0105: `two` is no cursor"), "{said}");
}

#[tokio::test]
async fn runs_are_counted_by_workflow_and_status() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["list", "sqlite:app.db", "--counts"]);
    assert_eq!(
        said.done(),
        "\
WORKFLOW  STATUS     RUNS
invoice   waiting    1
onboard   completed  1
onboard   stuck      1
"
    );
    let said = stage.everstep(&["list", "sqlite:app.db", "--counts", "--json"]);
    assert!(said.done().contains(r#""workflow": "invoice""#), "{said}");
}

#[tokio::test]
async fn a_list_is_told_as_json() {
    let stage = Stage::with_runs("app.db", runs()).await;
    let said = stage.everstep(&["list", "sqlite:app.db", "workflow = onboard", "--limit", "1", "--json"]);
    assert_eq!(
        said.done(),
        r#"{
  "runs": [
    {
      "id": "emp-2",
      "workflow": "onboard",
      "status": "stuck",
      "created": "2026-01-01T00:00:02.000Z",
      "finished": null
    }
  ],
  "count": 2,
  "next": "r2"
}
"#
    );
}

#[test]
fn what_is_not_there_is_not_made() {
    let stage = Stage::new();
    let said = stage.everstep(&["list", "sqlite:none.db"]);
    assert!(said.failed(3).starts_with("everstep: there is no database at `none.db`"), "{said}");
    assert!(!stage.path("none.db").exists());
    let said = stage.everstep(&["list", "none.db"]);
    assert!(
        said.failed(2).contains("there are `sqlite:app.db` and `postgres://user@host/database`"),
        "{said}"
    );
    let said = stage.everstep(&["list", "postgres://ada:secret@127.0.0.1:1/app"]);
    let told = said.failed(1);
    assert!(told.contains("PostgreSQL did not answer `connect`") && !told.contains("secret"), "{told}");
    std::fs::write(stage.path("text.db"), "this is a text, and long enough to be read as a page")
        .expect("writes");
    let said = stage.everstep(&["list", "sqlite:text.db"]);
    assert!(said.failed(1).starts_with("everstep: EV0120: "), "{said}");
}

#[test]
fn every_command_says_what_it_does() {
    let stage = Stage::new();
    let said = stage.everstep(&["--help"]);
    for command in ["list", "show", "journal", "copy"] {
        assert!(said.done().contains(&format!("\n  {command} ")), "{command}: {said}");
        let help = stage.everstep(&[command, "--help"]);
        assert!(help.done().contains(&format!("everstep {command} sqlite:app.db")), "{help}");
    }
    assert_eq!(stage.everstep(&["lost"]).code, Some(2));
}
