//! The programs of the proof, and how one is run.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::timed;

/// One program of the proof.
pub(crate) struct Part {
    pub(crate) what: &'static str,
    bin: &'static str,
    args: &'static [&'static str],
    /// It measures times: whatever runs beside it changes them.
    pub(crate) is_alone: bool,
}

const fn part(what: &'static str, bin: &'static str, args: &'static [&'static str]) -> Part {
    Part { what, bin, args, is_alone: false }
}

const fn alone(what: &'static str, bin: &'static str, args: &'static [&'static str]) -> Part {
    Part { what, bin, args, is_alone: true }
}

pub(crate) const CRASHES: Part = part("crashes", "crash", &[]);
pub(crate) const SERVER_CRASHES: Part = part("crashes on PostgreSQL", "crash", &["--store", "postgres"]);
const STALE: Part = part("stale workers", "stale", &[]);
const SIGNALS: Part = part("signals", "signals", &[]);
const MOVES: Part = part("moves", "moves", &[]);
const MOVES_UP: Part = part("moves to PostgreSQL", "moves", &["--to", "postgres"]);
const MOVES_BACK: Part = part("moves from PostgreSQL", "moves", &["--from", "postgres"]);
const POWER: Part = part("power loss", "disk", &["power"]);
const FAULTS: Part = part("I/O errors", "disk", &["faults"]);
const SIMULATION: Part = part("simulation", "sim", &[]);
const MODEL: Part = part("model", "model", &["check"]);
const WALKS: Part = part("model and stores", "model", &["walk"]);
const STORES: Part = part("store and store", "model", &["differential"]);
const SERVER: Part = part("store and PostgreSQL", "model", &["differential", "--store", "postgres"]);
const WEAVES: Part = part("interleavings", "everstep-weave", &[]);
pub(crate) const CHAOS: Part = alone("chaos", "chaos", &[]);
/// The same on a database that is as unkind as any that accepts our SQL.
const HOSTILE: Part = alone("hostile chaos", "chaos", &["--hostile"]);
const LOAD: Part = alone("old snapshot", "load", &[]);

pub(crate) const PARTS: [Part; 18] = [
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
pub(crate) const GUARDS: [(&str, Part); 9] = [
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
pub(crate) const CHAOS_GUARDS: [&str; 3] = ["doubt", "once", "fence"];

impl Part {
    /// As people call it.
    pub(crate) fn command(&self) -> String {
        [&[self.bin], self.args].concat().join(" ")
    }
}

/// To whom a part says what it says.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// To whoever looks, while it runs.
    AtOnce,
    /// When it is over, because others run beside it.
    AtItsEnd,
}

/// How a part ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// Its figures.
    pub(crate) last: String,
    /// In seconds.
    pub(crate) lasted: u64,
}

/// Runs a part and passes on what it says, under this title.
pub(crate) fn run(
    title: &str,
    part: &Part,
    more: &[&str],
    broken: Option<&str>,
    says: Says,
) -> Result<Ran, String> {
    let mut command = Command::new(built(part.bin)?);
    command.args(part.args).args(more);
    if let Some(guard) = broken {
        command.env("EVERSTEP_BREAK", guard);
    }
    let mut held_back = String::new();
    let mut say = |line: &str| match says {
        Says::AtOnce => println!("{line}"),
        Says::AtItsEnd => writeln!(held_back, "{line}").expect("a text takes every line"),
    };
    say(&format!("-- {title}"));
    say(&format!("$ {command:?}"));
    let (ended, lasted) = timed(|| {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut last = String::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            say(&line);
            last = line;
        }
        Ok((child.wait()?.code(), last))
    });
    print!("{held_back}");
    let (code, last) = ended.map_err(|error: std::io::Error| format!("{}: {error}", part.bin))?;
    Ok(Ran { code, last, lasted })
}

/// The path of a program that was made beside this one. Not `cargo run`: that would compile it anew for tests.
fn built(bin: &str) -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(me.with_file_name(bin))
}
