//! The proof: programs that break Everstep in every way we know and end with a line of figures; and the guards, each
//! switched off once, which the program that can see it must notice.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{cargo, timed};

/// One program of the proof.
struct Part {
    what: &'static str,
    bin: &'static str,
    args: &'static [&'static str],
}

const CRASHES: Part = Part { what: "crashes", bin: "crash", args: &[] };
const SERVER_CRASHES: Part =
    Part { what: "crashes on PostgreSQL", bin: "crash", args: &["--store", "postgres"] };
const STALE: Part = Part { what: "stale workers", bin: "stale", args: &[] };
const SIGNALS: Part = Part { what: "signals", bin: "signals", args: &[] };
const MOVES: Part = Part { what: "moves", bin: "moves", args: &[] };
const MOVES_UP: Part = Part { what: "moves to PostgreSQL", bin: "moves", args: &["--to", "postgres"] };
const MOVES_BACK: Part = Part { what: "moves from PostgreSQL", bin: "moves", args: &["--from", "postgres"] };
const POWER: Part = Part { what: "power loss", bin: "disk", args: &["power"] };
const FAULTS: Part = Part { what: "I/O errors", bin: "disk", args: &["faults"] };
const SIMULATION: Part = Part { what: "simulation", bin: "sim", args: &[] };
const MODEL: Part = Part { what: "model", bin: "model", args: &["check"] };
const WALKS: Part = Part { what: "model and stores", bin: "model", args: &["walk"] };
const STORES: Part = Part { what: "store and store", bin: "model", args: &["differential"] };
const SERVER: Part =
    Part { what: "store and PostgreSQL", bin: "model", args: &["differential", "--store", "postgres"] };

const WEAVES: Part = Part { what: "interleavings", bin: "everstep-weave", args: &[] };

const CHAOS: Part = Part { what: "chaos", bin: "chaos", args: &[] };

/// The same on a database that is as unkind as any that accepts our SQL.
const HOSTILE: Part = Part { what: "hostile chaos", bin: "chaos", args: &["--hostile"] };

const LOAD: Part = Part { what: "old snapshot", bin: "load", args: &[] };

const PARTS: [Part; 18] = [
    CRASHES,
    SERVER_CRASHES,
    STALE,
    SIGNALS,
    MOVES,
    MOVES_UP,
    MOVES_BACK,
    POWER,
    FAULTS,
    SIMULATION,
    MODEL,
    WALKS,
    STORES,
    SERVER,
    WEAVES,
    CHAOS,
    HOSTILE,
    LOAD,
];

/// Each guard, and who sees that it is off: a kill shows neither a missing sync nor a stale worker.
const GUARDS: [(&str, Part); 9] = [
    ("fence", STALE),
    ("order", CRASHES),
    ("replay", CRASHES),
    ("once", CRASHES),
    ("sync", POWER),
    ("doubt", CRASHES),
    ("load", WALKS),
    ("quiesce", SIMULATION),
    ("take", SIGNALS),
];

/// Those that chaos sees too, on PostgreSQL: the first of them is enough for the short form.
const CHAOS_GUARDS: [&str; 3] = ["doubt", "once", "fence"];

/// Where the figures stand.
const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- figures: written by `cargo xtask prove --full` -->";
const END: &str = "<!-- end of figures -->";

/// Runs the parts that are named, or every part and every guard switched off.
pub(crate) fn prove(given: &[String]) -> Result<(), String> {
    let full = given.iter().any(|arg| arg == "--full");
    let named: Vec<&String> = given.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |what: &str| named.is_empty() || named.iter().any(|name| *name == what);
    if let Some(name) = named.iter().find(|name| !PARTS.iter().any(|part| part.what == **name)) {
        let all: Vec<_> = PARTS.iter().map(|part| part.what).collect();
        return Err(format!("`{name}` is no part; there are: {}", all.join(", ")));
    }
    build()?;
    for part in PARTS.iter().filter(|part| wanted(part.what)) {
        let figures = part_holds(part, full)?;
        if full {
            write(part, &figures)?;
        }
    }
    if !named.is_empty() {
        return Ok(());
    }
    GUARDS.iter().try_for_each(|(guard, part)| broken(guard, part))?;
    let many = if full { CHAOS_GUARDS.len() } else { 1 };
    CHAOS_GUARDS[..many].iter().try_for_each(|guard| broken(guard, &CHAOS))
}

/// Runs a part; its figures, and how long it took.
fn part_holds(part: &Part, full: bool) -> Result<String, String> {
    println!("-- {}", part.what);
    let (ran, lasted) = timed(|| run(part, if full { &["--full"] } else { &[] }, None));
    let ran = ran?;
    println!("-- {}: {lasted} s", part.what);
    match ran.code {
        Some(0) => Ok(format!("{} | {lasted} s", ran.last)),
        code => Err(format!("{}: `{}` ended with {code:?}", part.what, part.command())),
    }
}

/// Only the crashes, or one guard switched off; with `--store postgres`, on a server.
pub(crate) fn crash(given: &[String]) -> Result<(), String> {
    let on_server = given.iter().any(|arg| arg == "postgres");
    let there = |part| if on_server && part == CRASHES.what { Some(&SERVER_CRASHES) } else { None };
    let known = |guard: &str| GUARDS.iter().find(|(known, _)| *known == guard).map(|(_, part)| part);
    let named = |guard: &str| known(guard).map(|part| there(part.what).unwrap_or(part));
    alone(&CRASHES, given, named)
}

/// Only the chaos, or one guard switched off.
pub(crate) fn chaos(given: &[String]) -> Result<(), String> {
    alone(&CHAOS, given, |guard| CHAOS_GUARDS.contains(&guard).then_some(&CHAOS))
}

/// Runs one part, with what is given; with `--break GUARD`, the part that must notice.
fn alone<'p>(
    part: &Part,
    given: &[String],
    noticed_by: impl Fn(&str) -> Option<&'p Part>,
) -> Result<(), String> {
    build()?;
    if let Some(at) = given.iter().position(|arg| arg == "--break") {
        let guard = given.get(at + 1).ok_or("`--break` wants a guard's name")?;
        let part =
            noticed_by(guard).ok_or_else(|| format!("`{guard}` is no guard: see `cargo xtask help`"))?;
        return broken(guard, part);
    }
    let more: Vec<&str> = given.iter().map(String::as_str).collect();
    match run(part, &more, None)?.code {
        Some(0) => Ok(()),
        code => Err(format!("it ended with {code:?}")),
    }
}

/// Switches a guard off, which must be noticed.
fn broken(guard: &str, part: &Part) -> Result<(), String> {
    println!("-- without `{guard}`: {}", part.what);
    let (ran, lasted) = timed(|| run(part, &[], Some(guard)));
    let ran = ran?;
    match ran.code {
        Some(1) => {
            println!("-- without `{guard}`: noticed, {lasted} s");
            Ok(())
        }
        code => Err(format!("`{guard}` is off, and {} did not notice it: it ended with {code:?}", part.what)),
    }
}

/// All programs of the proof, optimised (but those whose profile says otherwise), with every assertion of the code on. What
/// comes from other crates is optimised in tests too: it is compiled once for both, as long as both want the same features of
/// it. A test is named so that those of tests count.
fn build() -> Result<(), String> {
    let optimised = ["--config", "profile.dev.opt-level=2", "--config", "profile.dev.debug=false"];
    let what = ["--workspace", "--all-features", "--bins", "--test", "types"];
    let not_these = ["--exclude", "everstep-bench", "--exclude", "xtask"];
    cargo(&[&["build", "--locked"], &optimised[..], &what[..], &not_these[..]].concat())
}

impl Part {
    /// As people call it.
    fn command(&self) -> String {
        [&[self.bin], self.args].concat().join(" ")
    }
}

/// How a part ended.
struct Ran {
    code: Option<i32>,
    /// Its figures.
    last: String,
}

/// Runs a part and passes on what it says.
fn run(part: &Part, more: &[&str], broken: Option<&str>) -> Result<Ran, String> {
    let mut command = Command::new(built(part.bin)?);
    command.args(part.args).args(more);
    if let Some(guard) = broken {
        command.env("EVERSTEP_BREAK", guard);
    }
    println!("$ {command:?}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", part.bin))?;
    let mut last = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        println!("{line}");
        last = line;
    }
    let status = child.wait().map_err(|e| format!("{}: {e}", part.bin))?;
    Ok(Ran { code: status.code(), last })
}

/// The path of a program that [`build`] has made, beside this one. Not `cargo run`: that would compile it anew for tests.
fn built(bin: &str) -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(me.with_file_name(bin))
}

/// Puts the figures of a part where they belong, in the order of the parts; those of the others stay.
fn write(part: &Part, figures: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{PAGE}: {error}");
    let page = fs::read_to_string(PAGE).map_err(failed)?;
    let (Some((before, rest)), Some((_, after))) = (page.split_once(BEGIN), page.split_once(END)) else {
        return Err(format!("{PAGE} has no lines `{BEGIN}` and `{END}`"));
    };
    let new = format!("| {} | `{}` | {figures} | {} |", part.what, part.command(), commit());
    let row = |part: &Part| format!("| {} |", part.what);
    let known = |part: &Part| rest.lines().find(|line| line.starts_with(&row(part))).map(str::to_string);
    let rows: Vec<String> = PARTS
        .iter()
        .filter_map(|other| if other.what == part.what { Some(new.clone()) } else { known(other) })
        .collect();
    let head = "| part | command | figures | time | commit |\n|---|---|---|---|---|";
    let page = format!("{before}{BEGIN}\n\n{head}\n{}\n\n{END}{after}", rows.join("\n"));
    fs::write(PAGE, page).map_err(failed)
}

/// What the figures are of.
fn commit() -> String {
    let out = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    out.map_or_else(|_| "?".to_string(), |out| String::from_utf8_lossy(&out.stdout).trim().to_string())
}
