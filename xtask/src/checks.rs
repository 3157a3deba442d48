//! What must hold of the code itself: formatting, lints, tests, documentation, the number of dependencies.

use std::{num::NonZero, process::Command, thread};

use crate::{cargo, cargo_with};

/// Different crates that `everstep` may bring along with its default features.
const CRATES_MAX: usize = 50;
/// A major version of PostgreSQL that Debian's stable release does not have.
const ANOTHER_POSTGRES: &str = "17";

pub(crate) fn formatting() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])
}

pub(crate) fn lints() -> Result<(), String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"])
}

pub(crate) fn tests() -> Result<(), String> {
    test(&["--workspace"], &[])
}

/// The store on a PostgreSQL server of another version than [`tests`] has.
pub(crate) fn another_server() -> Result<(), String> {
    test(&["--package", "everstep-postgres"], &[("EVERSTEP_POSTGRES_VERSION", ANOTHER_POSTGRES)])
}

fn test(what: &[&str], with: &[(&str, &str)]) -> Result<(), String> {
    let is_there =
        Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let together = tests_together();
    let args: &[&str] = match is_there {
        true => &["nextest", "run", "--all-features", "--locked", "--test-threads", &together],
        false => &["test", "--all-features", "--locked", "--lib", "--bins", "--tests", "--examples"],
    };
    cargo_with(&[args, what].concat(), with)
}

/// Most tests wait for a disk, a server or a process most of the time: two for each processor keep it busy.
fn tests_together() -> String {
    (2 * thread::available_parallelism().map_or(1, NonZero::get)).to_string()
}

pub(crate) fn doc_tests() -> Result<(), String> {
    cargo(&["test", "--workspace", "--all-features", "--locked", "--doc"])
}

pub(crate) fn documentation() -> Result<(), String> {
    cargo(&["doc", "--workspace", "--all-features", "--locked", "--no-deps"])
}

pub(crate) fn dependencies() -> Result<(), String> {
    let out = Command::new("cargo")
        .args(["tree", "--package", "everstep", "--edges", "normal,build", "--prefix", "none", "--locked"])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    println!("{} different crates", names.len());
    match names.len() {
        0 => Err("the tree is empty".to_string()),
        n if n > CRATES_MAX => Err(format!("{n} crates, and {CRATES_MAX} are the most")),
        _ => Ok(()),
    }
}
