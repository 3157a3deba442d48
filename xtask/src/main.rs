//! What CI runs, runnable by hand: `cargo xtask test`, `check`, `doc`.

use std::{
    env,
    process::{Command, ExitCode},
};

const HELP: &str = "\
cargo xtask COMMAND

  test    everything that must hold: formatting, lints, all tests, doc tests, examples, the size of the dependency tree
  check   only formatting and lints
  help    this text";

/// Different crates that `everstep` may bring along with its default features.
const CRATES_MAX: usize = 50;

type Step = fn() -> Result<(), String>;

fn main() -> ExitCode {
    let steps: &[(&str, Step)] = match env::args().nth(1).as_deref() {
        Some("test") => &[
            ("formatting", formatting),
            ("lints", lints),
            ("tests", tests),
            ("doc tests", doc_tests),
            ("documentation", documentation),
            ("dependencies", dependencies),
        ],
        Some("check") => &[("formatting", formatting), ("lints", lints)],
        Some("help") | None => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("`{other}` is no command\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    for (name, step) in steps {
        println!("== {name}");
        if let Err(why) = step() {
            eprintln!("{name} failed: {why}");
            return ExitCode::FAILURE;
        }
    }
    println!("all of {} steps hold", steps.len());
    ExitCode::SUCCESS
}

fn formatting() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])
}

fn lints() -> Result<(), String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"])
}

fn tests() -> Result<(), String> {
    if Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success()) {
        cargo(&["nextest", "run", "--workspace", "--all-features", "--locked"])
    } else {
        cargo(&[
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ])
    }
}

fn doc_tests() -> Result<(), String> {
    cargo(&["test", "--workspace", "--all-features", "--locked", "--doc"])
}

fn documentation() -> Result<(), String> {
    cargo(&["doc", "--workspace", "--all-features", "--locked", "--no-deps"])
}

fn dependencies() -> Result<(), String> {
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

fn cargo(args: &[&str]) -> Result<(), String> {
    println!("$ cargo {}", args.join(" "));
    let status = Command::new("cargo").args(args).status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", args.join(" "))) }
}
