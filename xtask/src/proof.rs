//! The proof: programs that break Everstep in every way we know and end with a line of figures; and the guards, each
//! switched off once, which the program that can see it must notice.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{
    cargo, page,
    parts::{CHAOS, CHAOS_GUARDS, CRASHES, GUARDS, PARTS, Part, SERVER_CRASHES, Says, run},
};

/// Packages in which the proof spends its time. The others are optimised less: that compiles faster.
const HOT: [&str; 5] =
    ["everstep-core", "everstep-sqlite", "everstep-postgres", "everstep-model", "everstep-sim"];

/// Runs the parts that are named, or every part and every guard switched off. In the short form those that measure no time
/// run beside each other: most of them wait for a disk, a server or a process half of the time.
pub(crate) fn prove(given: &[String]) -> Result<(), String> {
    let full = given.iter().any(|arg| arg == "--full");
    let named: Vec<&String> = given.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |part: &&Part| named.is_empty() || named.iter().any(|name| *name == part.what);
    if let Some(name) = named.iter().find(|name| !PARTS.iter().any(|part| part.what == **name)) {
        let all: Vec<_> = PARTS.iter().map(|part| part.what).collect();
        return Err(format!("`{name}` is no part; there are: {}", all.join(", ")));
    }
    build()?;
    let one_by_one = full || named.len() == 1;
    let (alone, beside): (Vec<_>, Vec<_>) =
        PARTS.iter().filter(wanted).partition(|part| one_by_one || part.is_alone);
    side_by_side(&beside, |part| holds(part, false, Says::AtItsEnd).map(drop))?;
    for part in alone {
        let figures = holds(part, full, Says::AtOnce)?;
        if full {
            page::write(part, &figures)?;
        }
    }
    if !named.is_empty() {
        return Ok(());
    }
    side_by_side(&GUARDS.iter().collect::<Vec<_>>(), |(guard, part)| broken(guard, part, Says::AtItsEnd))?;
    let many = if full { CHAOS_GUARDS.len() } else { 1 };
    CHAOS_GUARDS[..many].iter().try_for_each(|guard| broken(guard, &CHAOS, Says::AtOnce))
}

/// Does each of these, as many at a time as there are processors, until one fails.
fn side_by_side<T: Sync>(each: &[T], does: impl Fn(&T) -> Result<(), String> + Sync) -> Result<(), String> {
    let left = Mutex::new(each.iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || {
        while let Some(one) = next() {
            if let Err(why) = does(one) {
                // The others begin nothing more.
                while next().is_some() {}
                return Err(why);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let many = thread::available_parallelism().map_or(1, NonZero::get);
        let lanes: Vec<_> = (0..many).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("no lane panics"))
    })
}

/// Runs a part; its figures, and how long it took.
fn holds(part: &Part, full: bool, says: Says) -> Result<String, String> {
    let ran = run(part.what, part, if full { &["--full"] } else { &[] }, None, says)?;
    println!("-- {}: {} s", part.what, ran.lasted);
    match ran.code {
        Some(0) => Ok(format!("{} | {} s", ran.last, ran.lasted)),
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
        return broken(guard, part, Says::AtOnce);
    }
    let more: Vec<&str> = given.iter().map(String::as_str).collect();
    match run(part.what, part, &more, None, Says::AtOnce)?.code {
        Some(0) => Ok(()),
        code => Err(format!("it ended with {code:?}")),
    }
}

/// Switches a guard off, which must be noticed.
fn broken(guard: &str, part: &Part, says: Says) -> Result<(), String> {
    let title = format!("without `{guard}`: {}", part.what);
    let ran = run(&title, part, &[], Some(guard), says)?;
    match ran.code {
        Some(1) => {
            println!("-- without `{guard}`: noticed, {} s", ran.lasted);
            Ok(())
        }
        code => Err(format!("`{guard}` is off, and {} did not notice it: it ended with {code:?}", part.what)),
    }
}

/// All programs of the proof, optimised, with every assertion of the code on. What comes from other crates is optimised in
/// tests too: it is compiled once for both, as long as both want the same features of it. A test is named so that those of
/// tests count.
fn build() -> Result<(), String> {
    let mut optimised = ["opt-level=1", "debug=false"].map(|so| format!("profile.dev.{so}")).to_vec();
    optimised.extend(HOT.map(|package| format!("profile.dev.package.{package}.opt-level=2")));
    let optimised: Vec<_> = optimised.iter().flat_map(|so| ["--config", so.as_str()]).collect();
    let what = ["--workspace", "--all-features", "--bins", "--test", "types"];
    let not_these = ["--exclude", "everstep-bench", "--exclude", "xtask"];
    cargo(&[&["build", "--locked"], &optimised[..], &what[..], &not_these[..]].concat())
}
