//! What CI runs, runnable by hand.

mod checks;
mod programs;
mod proof;

use std::{
    env,
    process::{Command, ExitCode},
    time::Instant,
};

const HELP: &str = "\
cargo xtask COMMAND

  test [--full]   everything that must hold: formatting, lints, all tests, doc tests, examples, the size of the dependency
                  tree, the proof; installs the programs that tests use, with apt-get as root, and PostgreSQL of another
                  version with npm
  check           only formatting and lints
  prove [--full] [PART]
                  the proof: crashes, power loss, I/O errors, stale workers, signals, moves, simulation, models, chaos, load
                  beside an old snapshot, and every guard switched off once, or only the parts that are named; in full, it
                  writes the figures into docs/reliability.md
  crash [--full]  only the crashes, with `--store postgres` those on a server; `--only PLAN` plays one, `--break GUARD`
                  switches a guard off (fence, order, replay, once, sync, doubt, load, quiesce, take) and wants it to be
                  noticed
  chaos [--full]  only PostgreSQL, while workers, server and network break; `--hostile`, `--seconds N`, `--seed N`,
                  `--break GUARD` (fence, once, doubt)
  bench           our workloads against the raw limit of this disk, or with `--store postgres` of a server on it; what
                  follows goes to everstep-bench
  help            this text";

type Step = fn(&[String]) -> Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let steps: &[(&str, Step)] = match args.first().map(String::as_str) {
        Some("test") => &[
            ("formatting", |_| checks::formatting()),
            ("lints", |_| checks::lints()),
            ("build", |_| checks::build()),
            ("programs", |_| programs::install_with_what_is_built()),
            ("tests", |_| checks::tests()),
            ("another PostgreSQL", |_| checks::another_server()),
            ("doc tests", |_| checks::doc_tests()),
            ("documentation", |_| checks::documentation()),
            ("dependencies", |_| checks::dependencies()),
            ("proof", proof::prove),
        ],
        Some("prove") => &[("programs", |_| programs::install()), ("proof", proof::prove)],
        Some("crash") => &[("programs", |_| programs::install()), ("crashes", proof::crash)],
        Some("chaos") => &[("programs", |_| programs::install()), ("chaos", proof::chaos)],
        Some("bench") => &[("benchmarks", bench)],
        Some("check") => &[("formatting", |_| checks::formatting()), ("lints", |_| checks::lints())],
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
        let (done, lasted) = timed(|| step(&args[1..]));
        if let Err(why) = done {
            eprintln!("{name} failed: {why}");
            return ExitCode::FAILURE;
        }
        println!("== {name}: {lasted} s");
    }
    if steps.len() > 2 {
        println!("all of {} steps hold", steps.len());
    }
    ExitCode::SUCCESS
}

/// Does something; how many seconds it took.
#[allow(clippy::disallowed_methods, reason = "people want to know what takes long")]
fn timed<T>(what: impl FnOnce() -> T) -> (T, u64) {
    let began = Instant::now();
    (what(), began.elapsed().as_secs())
}

fn bench(given: &[String]) -> Result<(), String> {
    let mut args = vec!["run", "--release", "--package", "everstep-bench", "--locked", "--"];
    args.extend(given.iter().map(String::as_str));
    cargo(&args)
}

fn cargo(args: &[&str]) -> Result<(), String> {
    cargo_with(args, &[])
}

fn cargo_with(args: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    run_with("cargo", args, variables)
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    run_with(program, args, &[])
}

fn run_with(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    let set: String = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    println!("$ {set}{program} {}", args.join(" "));
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().copied());
    let status = command.status().map_err(|e| format!("{program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} ended with {status}", args.join(" "))) }
}
