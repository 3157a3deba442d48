//! What CI runs, runnable by hand.

use std::{
    env,
    process::{Command, ExitCode},
};

const HELP: &str = "\
cargo xtask COMMAND

  test       everything that must hold: formatting, lints, all tests, doc tests, examples, the size of the dependency
             tree; installs the programs that tests use, with apt-get as root
  check      only formatting and lints
  bench      our workloads against the raw limit of this disk; what follows goes to everstep-bench
  help       this text";

/// Different crates that `everstep` may bring along with its default features.
const CRATES_MAX: usize = 50;

/// Programs that tests use, and Debian's packages with them.
const PROGRAMS: [(&str, &str); 5] = [
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    // For the library that comes with it.
    ("faketime", "faketime"),
];

type Step = fn() -> Result<(), String>;

fn main() -> ExitCode {
    let steps: &[(&str, Step)] = match env::args().nth(1).as_deref() {
        Some("test") => &[
            ("programs", programs),
            ("formatting", formatting),
            ("lints", lints),
            ("tests", tests),
            ("doc tests", doc_tests),
            ("documentation", documentation),
            ("dependencies", dependencies),
        ],
        Some("bench") => &[("benchmarks", bench)],
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

/// Installs what tests use and is not there.
fn programs() -> Result<(), String> {
    let missing = || PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing().iter().map(|(_, package)| *package).collect();
    // Either may fail, without root or without Debian: what counts is what is there afterwards.
    let _ = run("apt-get", &["update"]);
    let _ = run("apt-get", &[&["install", "-y", "--no-install-recommends"], &packages[..]].concat());
    match missing().as_slice() {
        [] => Ok(()),
        missing => {
            let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
            let why = "these programs are missing, which tests use, and apt-get could not install them";
            Err(format!("{why}: {} (Debian: {})", names.join(", "), packages.join(" ")))
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Not everybody has the system's folders in the path, and root's programs are there.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn bench() -> Result<(), String> {
    let given: Vec<String> = env::args().skip(2).collect();
    let mut args = vec!["run", "--release", "--package", "everstep-bench", "--locked", "--"];
    args.extend(given.iter().map(String::as_str));
    cargo(&args)
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
    run("cargo", args)
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    println!("$ {program} {}", args.join(" "));
    let status = Command::new(program).args(args).status().map_err(|e| format!("{program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} ended with {status}", args.join(" "))) }
}
