//! The tables of `docs/` are those of the code.

use std::{fmt::Write as _, path::Path};
use thousands::Separable as _;

use everstep::{Allowed, Code, Retry, Settings, Status, StuckReason, Touches, Verb};

/// Compares the part of a page between `<!-- table: NAME -->` and the next `<!-- end -->` with `expected`.
fn check(page: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("docs/{page}: {e}"));
    let begin = format!("<!-- table: {name} -->\n");
    let shown = text.split_once(&begin).and_then(|(_, rest)| rest.split_once("<!-- end -->"));
    let shown = shown.map(|(table, _)| table).unwrap_or_else(|| panic!("docs/{page} has no table `{name}`"));
    assert_eq!(shown, expected, "docs/{page}, table `{name}`: it should be\n{expected}");
}

#[test]
fn the_page_of_errors_lists_every_code() {
    let mut table = "| Code | Meaning |\n|---|---|\n".to_string();
    for (code, meaning) in Code::TABLE {
        writeln!(table, "| `{code}` | {meaning} |").expect("a string takes everything");
    }
    check("errors.md", "codes", &table);
}

#[test]
fn the_page_of_errors_lists_every_reason_to_be_stuck() {
    let mut table = "| Stuck | What helps |\n|---|---|\n".to_string();
    for reason in StuckReason::ALL {
        writeln!(table, "| {reason} | {} |", reason.way_out()).expect("a string takes everything");
    }
    check("errors.md", "stuck", &table);
}

#[test]
fn the_page_of_verbs_shows_what_is_possible_when() {
    let mut table = format!("| |{}\n", Status::ALL.map(|status| format!(" {status} |")).concat());
    table += &format!("|---|{}\n", "---|".repeat(Status::ALL.len()));
    let mut advice = "| Verb | A run that is | Advice |\n|---|---|---|\n".to_string();
    for verb in Verb::ALL {
        let cells = Status::ALL.map(|status| match verb.on(status) {
            Allowed::Directly => " yes |",
            Allowed::ThroughInbox => " inbox |",
            Allowed::Already => " nothing to do |",
            Allowed::Refused(_) => " no |",
        });
        writeln!(table, "| `{}` |{}", verb.word(), cells.concat()).expect("a string takes everything");
        for status in Status::ALL {
            if let Allowed::Refused(text) = verb.on(status) {
                writeln!(advice, "| `{}` | {status} | {text} |", verb.word())
                    .expect("a string takes everything");
            }
        }
    }
    check("verbs.md", "verbs", &table);
    check("verbs.md", "advice", &advice);
}

#[test]
fn the_page_of_verbs_shows_what_they_touch() {
    let mut table = "| | attempts | idempotency keys | children | undos | signals already taken |\n|---|---|---|---|---|---|\n".to_string();
    for verb in Verb::ALL {
        let Touches { attempts, idempotency_keys, children, undos, signals } = verb.touches();
        let cells = [attempts, idempotency_keys, children, undos, signals].join(" | ");
        writeln!(table, "| `{}` | {cells} |", verb.word()).expect("a string takes everything");
    }
    check("verbs.md", "touches", &table);
}

/// Every field, by name: a new one does not compile here until it is in the table.
#[test]
fn the_page_of_settings_shows_the_defaults() {
    let Settings {
        lease,
        grace,
        cancel_grace,
        resident_runs_max,
        park_after,
        running_steps_max,
        entries_max,
        payload_bytes_max,
        retry,
        began_after,
        takeovers_max,
        build,
        not_durable,
    } = Settings::default();
    let retry = if retry.attempts() == Retry::none().attempts() { "none: one attempt" } else { "?" };
    let rows = [
        (
            "lease",
            format!("{lease:?}"),
            "a silent worker may be taken over after this; it renews every quarter of it",
        ),
        ("grace", format!("{grace:?}"), "how long `shutdown` waits for running steps"),
        (
            "cancel_grace",
            format!("{cancel_grace:?}"),
            "how long running steps may take to end when their run is cancelled",
        ),
        (
            "resident_runs_max",
            (resident_runs_max as u64).separate_with_commas(),
            "runs in memory at once; others wait in the store",
        ),
        (
            "park_after",
            format!("{park_after:?}"),
            "a run that only waited for so long leaves memory, unless something is due as soon again",
        ),
        (
            "running_steps_max",
            (running_steps_max as u64).separate_with_commas(),
            "step bodies that run at once; others begin when one has ended",
        ),
        (
            "entries_max",
            entries_max.separate_with_commas(),
            "entries of one generation of a run; from 100,000 on there is a warning",
        ),
        (
            "payload_bytes_max",
            format!("{} MiB", payload_bytes_max >> 20),
            "bytes of one encoded value: an input, a step's result, an outcome, an answer",
        ),
        ("retry", retry.to_string(), "for steps that do not say otherwise"),
        (
            "began_after",
            format!("{began_after:?}"),
            "a run that begins later than this records when it began",
        ),
        (
            "takeovers_max",
            takeovers_max.to_string(),
            "a run that was in a step when so many workers died is stuck",
        ),
        (
            "build",
            build.unwrap_or_else(|| "from the executable".to_string()),
            "the name of this code, which runs record",
        ),
        (
            "not_durable",
            not_durable.map_or("a warning; in a simulation stuck", |_| "?").to_string(),
            "what an await on something that is not durable is",
        ),
    ];
    let mut table = "| Setting | Default | What it bounds |\n|---|---|---|\n".to_string();
    for (name, default, meaning) in rows {
        writeln!(table, "| `{name}` | {default} | {meaning} |").expect("a string takes everything");
    }
    check("settings.md", "settings", &table);
}

#[test]
fn the_page_of_settings_shows_the_fixed_limits() {
    let rows = [
        ("`RUN_ID_BYTES_MAX`", everstep::RUN_ID_BYTES_MAX, "bytes of a run's id"),
        (
            "`NAME_BYTES_MAX`",
            everstep::NAME_BYTES_MAX,
            "bytes of the name of a step, scope, workflow, published value, stream or attribute",
        ),
        ("`ATTRIBUTE_BYTES_MAX`", everstep::ATTRIBUTE_BYTES_MAX, "bytes of a text that is an attribute"),
        ("`LIST_LIMIT`", everstep::LIST_LIMIT, "runs in one list, unless `.limit(n)` says otherwise"),
        ("`COUNT_MAX`", everstep::COUNT_MAX as usize, "runs that `count` counts: so many or more"),
        (
            "`CHECKED_AT_ONCE`",
            everstep::CHECKED_AT_ONCE,
            "runs that a check has in memory, unless `.at_once(n)` says otherwise",
        ),
        ("`PROBLEMS_KEPT`", everstep::PROBLEMS_KEPT, "findings of a check; those beyond are counted"),
        ("`ACTS_MAX`", everstep::ACTS_MAX, "acts of one run that `acts` tells: the last ones"),
        ("`BULK_TOLD_MAX`", everstep::BULK_TOLD_MAX, "runs that a bulk names with what went wrong"),
        ("`PURGE_BATCH`", everstep::PURGE_BATCH, "runs that `purge` deletes in one transaction"),
    ];
    let mut table = "| Constant | Value | What it bounds |\n|---|---|---|\n".to_string();
    for (name, value, meaning) in rows {
        writeln!(table, "| {name} | {value} | {meaning} |").expect("a string takes everything");
    }
    check("settings.md", "limits", &table);
}
