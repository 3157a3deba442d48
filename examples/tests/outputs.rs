//! Every example is run and its output compared.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use everstep_cluster::{Cluster, Database};

fn example(name: &str) -> PathBuf {
    let here = env::current_exe().expect("known");
    let built =
        here.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("examples").join(name);
    assert!(built.exists(), "{} is not built: `cargo build --examples`", built.display());
    built
}

/// Where an example runs: a folder of its own, and a PostgreSQL database of its own if it is to use one.
struct Place {
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    fn on_file() -> Place {
        Place { folder: tempfile::tempdir().expect("room"), database: None }
    }

    fn on_postgres() -> Place {
        let database = runtime().block_on(async { Cluster::shared()?.database().await });
        Place { database: Some(database.expect("a database")), ..Place::on_file() }
    }

    fn both() -> [Place; 2] {
        [Place::on_file(), Place::on_postgres()]
    }

    fn runs(&self, name: &str, args: &[&str]) -> Output {
        let mut command = Command::new(example(name));
        command.args(args).current_dir(self.folder.path());
        if let Some(database) = &self.database {
            command.args(["--db", &database.url()]);
        }
        command.output().expect("it runs")
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// How many runs this database holds.
fn runs_in(database: &Database) -> i64 {
    runtime().block_on(async {
        let client = database.connect().await.expect("connects");
        let count = client.query_one("SELECT count(*) FROM everstep.everstep_run", &[]).await;
        count.expect("an engine was here").get(0)
    })
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    text.into_owned()
}

#[track_caller]
fn check_at(place: &Place, name: &str, expected: &str) {
    let output = place.runs(name, &[]);
    let of = place.database.as_ref().map_or("SQLite", |_| "PostgreSQL");
    assert_eq!(said(&output), expected, "on {of}");
    assert!(output.status.success());
    // It has not done it elsewhere.
    assert!(place.database.as_ref().is_none_or(|database| runs_in(database) > 0));
}

/// It says the same on both stores.
#[track_caller]
fn check(name: &str, expected: &str) {
    Place::both().iter().for_each(|place| check_at(place, name, expected));
}

#[test]
fn every_example_is_run() {
    let here = include_str!("outputs.rs");
    let names: Vec<_> = include_str!("../Cargo.toml")
        .split("[[example]]\nname = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(names.contains(&"onboarding"), "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !here.contains(&format!("\"{name}\","))).collect();
    assert!(missing.is_empty(), "nobody runs {missing:?}");
}

#[test]
fn looping() {
    check("looping", "1 + .. + 10 = 55\njournal: 12 entries\n");
}

#[test]
fn scopes() {
    check("scopes", "best price 48\nsteps: left/gross, left/net, right/gross, right/net\n");
}

#[test]
fn map_many() {
    check(
        "map_many",
        "500 rows: 490 saved for 1960, the first that failed: row 50 has no price\nsteps of row 7: row/7/load, row/7/save\n1000 rows: one failure too many: row 550 has no price\n",
    );
}

#[test]
fn poll_until() {
    check(
        "poll_until",
        "export-7 is done after 35 polls\npolls before the last generation: Some(30)\nentries in its journal: 11\n",
    );
}

#[test]
fn approval() {
    check(
        "approval",
        "\
please decide about train
train is paid, approved by Ada
please decide about yacht
yacht is refused by Ada
please decide about lunch
nobody has decided about lunch in time
",
    );
}

#[test]
fn backoff() {
    check(
        "backoff",
        "attempt 1: 503, come back later; again in 50ms\nattempt 2: connection reset; again in 40ms\n200 from http://example/\n",
    );
}

#[test]
fn race() {
    check("race", "quick: after 1 ms / after 1 ms\nslow: too late / nobody\n");
}

#[test]
fn children() {
    check(
        "children",
        "sum 4950, late cancelled: true\nrun `closed` was cancelled: the run that started it is over\n\
         left over: false\n7 children, from `p/sum` on\n",
    );
}

#[test]
fn promise() {
    check("promise", "desk for 4200 cents\nEV0103\nno lamp: the card was declined\nEV0103\n");
}

#[test]
fn typed_errors() {
    check("typed_errors", "7: paid 7\n150: 50 missing\n666: failed with EV0001 the card is stolen\n");
}

#[test]
fn verify() {
    check("verify", "provider: charged 1900\nverify: looking for the charge\npaid 1900\n");
}

#[test]
fn check_before_a_deploy() {
    check(
        "check",
        "\
1 open runs checked: 0 can go on, 1 cannot
desk-7 (ship, pending): diverged: entry 1: recorded `pack` done (examples/check.rs:13:9, build monday), but the code has not asked for it; it asks for step `insure` (examples/check.rs:20:9) (build tuesday)
what helps (diverged): ask for the same in the same order, and put what is new behind `ctx.patched`; or keep the old code until these runs are over
exit code 1
1 open runs checked: 1 can go on, 0 cannot
exit code 0
",
    );
}

#[test]
fn testing_kit() {
    check_at(
        &Place::on_file(),
        "testing_kit",
        "\
approved: receipt 1, approved: Some(true)
after thirty days: receipt 2, approved: None
10 crashes, and each time \"receipt 3, approved: None\"
run o-4 under the same code: fine
under other code: fine is false
",
    );
}

#[test]
fn transfer() {
    let expected = "w-1: 30 cents left\nw-2: not enough money\nbob has 70\n";
    check_at(&Place::on_file(), "transfer", expected);
    check_at(&Place::on_postgres(), "transfer_postgres", expected);
}

#[test]
fn saga() {
    check(
        "saga",
        "\
-- crash
book the hotel to Rome
book the flight to Rome
cancel the flight to Rome
(killed before that is recorded)
-- run
cancel the flight to Rome
cancel the hotel to Rome
the trip failed: no car is left
  - started
  hotel done
  flight done
  car failed
  - failing
  flight undo begun
  undo/flight done
  hotel undo begun
  undo/hotel done
  - run failed
",
    );
}

/// Runs onboarding commands one after the other on one database, each in a process of its own.
fn onboarding(place: &Place, commands: &[&[&str]]) -> (String, String) {
    let mut told = String::new();
    for command in commands {
        told.push_str(&said(&place.runs("onboarding", command)));
        told.push_str("--\n");
    }
    let effects = fs::read_to_string(place.folder.path().join("onboarding.effects.txt")).unwrap_or_default();
    let steps: Vec<_> = effects.lines().filter_map(|line| line.split(':').next()).collect();
    (told, steps.join(" "))
}

const REST: &str = "\
[RUN] provision_laptop
[RUN] provision_access
[DONE] provision_laptop
[DONE] provision_access
[RUN] send_welcome_email
[DONE] send_welcome_email
onboarding emp-42 completed: laptop for the record of Ada, access for the record of Ada
--
";

#[test]
fn onboarding_goes_on_after_a_crash() {
    for place in Place::both() {
        let (told, effects) = onboarding(&place, &[&["crash", "--after", "create_record"], &["run"]]);
        let crashed = "[RUN] create_record\n[DONE] create_record\n[CRASH] killed after create_record\n--\n";
        assert_eq!(told, format!("{crashed}[SKIP] create_record (recorded)\n{REST}"));
        assert_eq!(effects, "create_record provision_laptop provision_access send_welcome_email");
    }
}

#[test]
fn onboarding_repeats_a_step_in_doubt_and_nothing_else() {
    for place in Place::both() {
        let (told, effects) = onboarding(&place, &[&["crash", "--in-doubt", "provision_access"], &["run"]]);
        let crashed = "\
[RUN] create_record
[DONE] create_record
[RUN] provision_laptop
[RUN] provision_access
[CRASH] killed in provision_access
--
";
        assert!(told.starts_with(crashed), "{told}");
        let doubts =
            ["provision_laptop", "provision_access"].into_iter().fold(REST.to_string(), |rest, step| {
                let run = format!("[RUN] {step}\n");
                rest.replace(
                    &run,
                    &format!("[IN DOUBT] {step}: its effect is there, its record is not\n{run}"),
                )
            });
        assert_eq!(told, format!("{crashed}[SKIP] create_record (recorded)\n{doubts}"));
        assert_eq!(
            effects,
            "create_record provision_laptop provision_access provision_laptop provision_access send_welcome_email",
            "the two steps in flight, and no other, were made again"
        );
    }
}

#[test]
fn a_completed_onboarding_runs_no_body() {
    for place in Place::both() {
        let (told, effects) = onboarding(&place, &[&["run"], &["run"]]);
        let skipped = "\
[SKIP] create_record (recorded)
[SKIP] provision_laptop (recorded)
[SKIP] provision_access (recorded)
[SKIP] send_welcome_email (recorded)
onboarding emp-42 completed: laptop for the record of Ada, access for the record of Ada
--
";
        assert_eq!(told, format!("[RUN] create_record\n[DONE] create_record\n{REST}{skipped}"));
        assert_eq!(effects.split(' ').count(), 4);
    }
}

#[test]
fn reset_forgets_everything() {
    for place in Place::both() {
        let gone = if place.database.is_some() { "the schema everstep" } else { "onboarding.db" };
        let (told, effects) = onboarding(&place, &[&["run"], &["reset"], &["run"]]);
        let run = format!("[RUN] create_record\n[DONE] create_record\n{REST}");
        assert_eq!(told, format!("{run}{gone} and its effects are gone\n--\n{run}"));
        assert_eq!(effects.split(' ').count(), 4);
    }
}

#[test]
fn a_database_deleted_by_hand_is_a_fresh_start() {
    let place = Place::on_file();
    let folder = &place.folder;
    let run = |args: &[&str]| said(&place.runs("onboarding", args));
    run(&["crash", "--in-doubt", "create_record"]);
    fs::remove_file(folder.path().join("onboarding.db")).expect("there");
    assert_eq!(
        run(&["run"]),
        format!("[RUN] create_record\n[DONE] create_record\n{}", &REST[..REST.len() - 3])
    );
    run(&["reset"]);
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0, "nothing is left");
}

#[test]
fn the_demo_crashes_and_resumes_in_two_processes() {
    for place in Place::both() {
        let told = said(&place.runs("onboarding", &["demo"]));
        let processes: Vec<_> =
            told.lines().filter_map(|line| line.strip_prefix("-- process ")?.split(' ').next()).collect();
        assert_eq!(processes.len(), 2);
        assert_ne!(processes[0], processes[1]);
        let order =
            ["[RUN] create_record", "[CRASH]", "[SKIP] create_record", "completed", "send_welcome_email 1"];
        let places: Vec<_> =
            order.iter().map(|part| told.find(part).unwrap_or_else(|| panic!("{part} in {told}"))).collect();
        assert!(places.is_sorted(), "{told}");
    }
}

/// The README shows one `SELECT` over the demo's run; only the times differ.
#[test]
fn the_readme_shows_what_the_database_holds() {
    let readme = include_str!("../../README.md");
    let shown = readme
        .split("```text\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the README has the table");
    let select = readme
        .split("```sql\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the README has the query");
    let place = Place::on_file();
    for command in [&["crash", "--after", "create_record"][..], &["run"]] {
        place.runs("onboarding", command);
    }
    let folder = &place.folder;
    let db =
        everstep::sqlite::rusqlite::Connection::open(folder.path().join("onboarding.db")).expect("there");
    let mut query = db.prepare(select).expect("the query is sound");
    let columns = query.column_count();
    let rows = query
        .query_map([], |row| {
            let text = |at| {
                Ok(match row.get_ref(at)? {
                    everstep::sqlite::rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                    other => other.as_str_or_null()?.unwrap_or("").to_string(),
                })
            };
            (1..columns).map(text).collect::<Result<Vec<String>, _>>()
        })
        .expect("readable");
    let held: Vec<String> = rows.map(|row| row.expect("text").join("|")).collect();
    let without_time = |line: &str| line.split_once('|').map_or(String::new(), |(_, rest)| rest.to_string());
    let shown: Vec<String> = shown.lines().map(without_time).collect();
    assert_eq!(
        shown,
        held,
        "the README shows:\n{}\nthe database holds:\n{}",
        shown.join("\n"),
        held.join("\n")
    );
}
