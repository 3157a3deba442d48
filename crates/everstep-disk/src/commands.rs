//! What the command line asks for: which sweeps, and how their figures are told.

use std::path::{Path, PathBuf};

use everstep::store::Durability;

use everstep_disk::{
    faults::{self, Fault},
    history::History,
    life::{self, Setup},
    power::{Figures, Sweep, Tally},
    recording::Recording,
    story::{self, Part},
    vfs::Call,
};

/// Pages between two checkpoints, so that a short life has many of them.
const WAL_PAGES: u64 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    Power,
    Process,
    All,
}

#[derive(clap::Args)]
pub(crate) struct Power {
    /// At least 100,000 images at the default level.
    #[arg(long)]
    full: bool,
    /// Which durability.
    #[arg(long, value_enum, default_value = "all")]
    level: Level,
    /// Another number of images at each level.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Writes the figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keeps the recordings in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Crashes this recording instead of a new one.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Crashes at this operation only.
    #[arg(long, value_name = "OP", requires = "seed")]
    only: Option<usize>,
    /// With this seed.
    #[arg(long, requires = "only")]
    seed: Option<u64>,
    /// The disk lies about its syncs: shows that this is seen.
    #[arg(long)]
    lies: bool,
}

impl Power {
    /// The last line: what held, or what did not.
    pub(crate) fn run(&self) -> Result<String, String> {
        let mut figures = Figures::new();
        let (mut lines, mut held) = (Vec::new(), true);
        let levels = [(Level::Power, Durability::Power), (Level::Process, Durability::Process)];
        for (level, durability) in levels {
            if self.level != level && self.level != Level::All {
                continue;
            }
            let name = if level == Level::Power { "power" } else { "process" };
            let tally = self.level(name, durability)?;
            held &= tally.told.is_empty();
            lines.push(line(name, &tally));
            tell(name, &tally, &mut figures);
        }
        write_figures(self.json.as_deref(), &figures)?;
        let last = lines.join("; ");
        if held { Ok(last) } else { Err(last) }
    }

    fn level(&self, name: &str, durability: Durability) -> Result<Tally, String> {
        let setup = Setup { durability, wal_pages: WAL_PAGES };
        let parts = story::parts(if self.full { 5 } else { 3 }, durability);
        let recording = match &self.log {
            Some(path) => Recording::load(path).map_err(|e| format!("{}: {e}", path.display()))?,
            None => life::record(setup, &parts)?,
        };
        let kept = self.keep(name, &recording)?;
        let history = History::of(&recording, setup)?;
        println!(
            "{name}: {} operations, {} states, {} promises",
            recording.ops.len(),
            history.states(),
            history.promises()
        );
        let sweep = self.sweep(&recording, &history, setup, &parts);
        let tally = match (self.only, self.seed) {
            (Some(at), Some(seed)) => sweep.only(at, seed),
            _ => sweep.run(),
        };
        for (at, seed, what) in &tally.told {
            println!("operation {at}, seed {seed}: {what}");
            let log = self
                .log
                .clone()
                .or(kept.clone())
                .map_or_else(|| saved(name, &recording), |path| Ok(path.display().to_string()))?;
            println!("  again: disk power --level {name} --log {log} --only {at} --seed {seed}");
        }
        Ok(tally)
    }

    fn sweep<'a>(
        &self,
        recording: &'a Recording,
        history: &'a History,
        setup: Setup,
        parts: &'a [Part],
    ) -> Sweep<'a> {
        let default = setup.durability == Durability::Power;
        let images = self.images.unwrap_or(match (self.full, default) {
            (true, true) => 100_000,
            (true, false) => 20_000,
            (false, true) => 5_000,
            (false, false) => 1_500,
        });
        let go_on_every = if self.only.is_some() { 1 } else { 100 };
        Sweep {
            recording,
            history,
            setup,
            parts,
            images,
            go_on_every,
            lies: self.lies,
            keeps_promises: default,
        }
    }

    fn keep(&self, name: &str, recording: &Recording) -> Result<Option<PathBuf>, String> {
        let Some(folder) = &self.keep else { return Ok(None) };
        let path = folder.join(format!("{name}.log"));
        save(recording, &path)?;
        Ok(Some(path))
    }
}

#[derive(clap::Args)]
pub(crate) struct Faults {
    /// Every n. Without it: about every thirtieth write and read, and more of what is rarer; each loop to its end.
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
    /// Lives side by side: they wait more than they work.
    const AT_ONCE: usize = 16;

    pub(crate) fn run(&self) -> Result<String, String> {
        let parts = story::parts(1, Durability::Power);
        let mut tally = faults::Tally::default();
        for each in faults::loops() {
            if let Some(only) = &self.only {
                let nth: usize = only.split(':').nth(2).and_then(|n| n.parse().ok()).unwrap_or(1);
                if told_as(each.at(nth)) == *only {
                    let setup = Setup { durability: Durability::Power, wal_pages: faults::WAL_PAGES };
                    return faults::life_with(each.at(nth), setup, &parts).map(|told| format!("{told:?}"));
                }
                continue;
            }
            let before = tally.faults;
            each.run(self.stride(each.call), Self::AT_ONCE, &parts, &mut tally);
            println!(
                "{:?} {:?}, {}: {} faults",
                each.call,
                each.failure,
                often(each.forever),
                tally.faults - before
            );
        }
        if self.only.is_some() {
            return Err("no loop has such a fault".to_string());
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

    fn tell(&self, tally: &faults::Tally) -> Result<String, String> {
        for (fault, what) in &tally.failed {
            println!("{}: {what}\n  again: disk faults --only {0}", told_as(*fault));
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
        let mut figures = Figures::new();
        for (what, n) in numbers {
            println!("{what}: {}", grouped(n));
            figures.insert(format!("I/O errors: {what}"), n.to_string());
        }
        write_figures(self.json.as_deref(), &figures)?;
        let last = format!(
            "{} faults in {} loops to their ends, {} facts, {} violations",
            grouped(tally.faults),
            tally.loops,
            grouped(tally.promises),
            tally.failed.len()
        );
        if tally.failed.is_empty() { Ok(last) } else { Err(last) }
    }
}

fn often(forever: bool) -> &'static str {
    if forever { "forever" } else { "once" }
}

fn told_as(fault: Fault) -> String {
    let Fault { call, failure, nth, forever } = fault;
    format!("{call:?}:{failure:?}:{nth}:{}", often(forever)).to_lowercase()
}

fn write_figures(to: Option<&Path>, figures: &Figures) -> Result<(), String> {
    let Some(path) = to else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).expect("text to text") + "\n";
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn saved(name: &str, recording: &Recording) -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("everstep-disk-{}-{name}.log", std::process::id()));
    save(recording, &path)?;
    Ok(path.display().to_string())
}

fn save(recording: &Recording, path: &Path) -> Result<(), String> {
    recording.save(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn line(name: &str, tally: &Tally) -> String {
    let lost = match (name, tally.images_with_loss) {
        ("power", _) => format!("{} facts lost", grouped(tally.lost)),
        (_, images) => format!("{} with lost facts (only the newest)", grouped(images)),
    };
    let ends =
        if tally.wrong_ends > 0 { format!(", {} wrong ends", tally.wrong_ends) } else { String::new() };
    format!("{} images at {name}, {lost}, {} corrupt{ends}", grouped(tally.images), grouped(tally.corrupt))
}

fn tell(name: &str, tally: &Tally, figures: &mut Figures) {
    let numbers = [
        ("images", tally.images),
        ("facts checked", tally.promises),
        ("images with lost facts", tally.images_with_loss),
        ("facts lost", tally.lost),
        ("facts lost at most in one image", tally.lost_most),
        ("corrupt", tally.corrupt),
        ("images with which an engine went on to the end", tally.gone_on),
        ("wrong ends", tally.wrong_ends),
    ];
    for (what, n) in numbers {
        println!("{name}: {what}: {}", grouped(n));
        figures.insert(format!("power loss, {name}: {what}"), n.to_string());
    }
}

/// 12345 as 12,345.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let three = digits.as_bytes().rchunks(3).rev().map(|three| String::from_utf8_lossy(three).into_owned());
    three.collect::<Vec<_>>().join(",")
}
