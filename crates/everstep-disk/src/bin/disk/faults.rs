//! `disk faults`: every loop to its end, or one fault alone.

use std::path::PathBuf;
use thousands::Separable as _;

use everstep::store::Durability;
use everstep_disk::{
    faults::{Fault, Tally, WAL_PAGES, life_with, loops},
    life::Setup,
    story::{self, Part},
    vfs::Call,
};

use crate::{CARGO, figures::Figures};

/// Lives side by side: they wait more than they work.
const AT_ONCE: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Faults {
    /// Every n. Without it about every thirtieth write and read, and more of what is rarer; each loop to its end in both.
    #[arg(long)]
    full: bool,
    /// Writes the figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One fault alone, as a failing one is told.
    #[arg(long, value_name = "CALL:FAILURE:N:once|forever")]
    only: Option<String>,
}

impl Faults {
    /// The last line: what held, or what did not.
    pub(crate) fn run(&self) -> Result<String, String> {
        let parts = story::parts(1, Durability::Power);
        if let Some(only) = &self.only {
            return one(only, &parts);
        }
        let mut tally = Tally::default();
        for each in loops() {
            let before = tally.faults;
            each.run(self.stride(each.call), AT_ONCE, &parts, &mut tally);
            let (call, failure, often) = (each.call, each.failure, often(each.forever));
            println!("{call:?} {failure:?}, {often}: {} faults", tally.faults - before);
        }
        self.tell(&tally)
    }

    fn stride(&self, call: Call) -> usize {
        match call {
            _ if self.full => 1,
            Call::Write | Call::Read | Call::Length => 31,
            Call::Sync => 7,
            _ => 3,
        }
    }

    fn tell(&self, tally: &Tally) -> Result<String, String> {
        for (fault, what) in &tally.failed {
            println!("{}: {what}\n  again: {CARGO} faults --only {0}", told_as(*fault));
        }
        let numbers = [
            ("loops that ran to their end", tally.loops),
            ("faults", tally.faults),
            ("openings that were refused", tally.not_opened),
            ("openings that ended", tally.closed),
            ("lives in which somebody heard that the disk is full", tally.full),
            ("facts checked", tally.promises),
            ("turns of one run on their way at most", tally.owed_most),
            ("violations", tally.failed.len()),
        ];
        let mut figures = Figures::default();
        for (what, n) in numbers {
            figures.tell("I/O errors", what, n);
        }
        figures.write(self.json.as_deref())?;
        let last = format!(
            "{} faults in {} loops to their ends, {} facts, {} violations",
            tally.faults.separate_with_commas(),
            tally.loops,
            tally.promises.separate_with_commas(),
            tally.failed.len()
        );
        if tally.failed.is_empty() { Ok(last) } else { Err(last) }
    }
}

fn one(only: &str, parts: &[Part]) -> Result<String, String> {
    let setup = Setup { durability: Durability::Power, wal_pages: WAL_PAGES };
    let nth: usize = only.split(':').nth(2).and_then(|n| n.parse().ok()).unwrap_or(1);
    let fault = loops().into_iter().map(|each| each.at(nth)).find(|fault| told_as(*fault) == only);
    let fault = fault.ok_or_else(|| format!("`{only}` is no fault, as `write:full:3:once` is one"))?;
    life_with(fault, setup, parts).map(|told| format!("{told:?}"))
}

fn often(forever: bool) -> &'static str {
    if forever { "forever" } else { "once" }
}

fn told_as(fault: Fault) -> String {
    let Fault { call, failure, nth, forever } = fault;
    format!("{call:?}:{failure:?}:{nth}:{}", often(forever)).to_lowercase()
}
