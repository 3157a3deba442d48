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

/// Compiles all tests, and the programs that they start.
pub(crate) fn build() -> Result<(), String> {
    test(&["--no-run"], None, &[])
}

pub(crate) fn tests() -> Result<(), String> {
    test(&[], None, &[])
}

/// The store on a PostgreSQL server of another version than [`tests`] has. What poolers and other databases do instead of
/// that server is the same for both.
pub(crate) fn another_server() -> Result<(), String> {
    let store = Some(Only { package: "everstep-postgres", not: ["hostile::", "pooled::"] });
    test(&[], store, &[("EVERSTEP_POSTGRES_VERSION", ANOTHER_POSTGRES)])
}

/// The tests of a package, without those whose names have one of these in them.
struct Only {
    package: &'static str,
    not: [&'static str; 2],
}

/// All tests, or some: what is compiled is the same, because features are those of all.
fn test(more: &[&str], only: Option<Only>, with: &[(&str, &str)]) -> Result<(), String> {
    const ALL: [&str; 3] = ["--workspace", "--all-features", "--locked"];
    let is_there =
        Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    if !is_there {
        let of = ["test", "--all-features", "--locked", "--lib", "--bins", "--tests", "--examples"];
        let (package, not) = match only {
            None => (vec!["--workspace"], Vec::new()),
            Some(Only { package, not: [one, other] }) => {
                (vec!["--package", package], vec!["--", "--skip", one, "--skip", other])
            }
        };
        return cargo_with(&[&of[..], &package, more, &not].concat(), with);
    }
    let together = tests_together();
    let some = only.map(|Only { package, not: [one, other] }| {
        format!("package({package}) - test({one}) - test({other})")
    });
    let some = some.as_ref().map_or(Vec::new(), |some| vec!["-E", some.as_str()]);
    cargo_with(&[&["nextest", "run", "--test-threads", &together], &ALL[..], &some, more].concat(), with)
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
