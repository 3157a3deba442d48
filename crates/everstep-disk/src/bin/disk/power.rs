//! `disk power`: which lives are recorded, how often they are crashed, and what is told of it.

use std::path::{Path, PathBuf};
use thousands::Separable as _;

use everstep::store::Durability;
use everstep_disk::{
    again::Again,
    history::History,
    life::{self, Setup},
    power::{Sweep, Tally},
    recording::Recording,
    story::{self, Part},
};

use crate::{CARGO, figures::Figures};

/// Pages between two checkpoints, so that a short life has many of them.
const WAL_PAGES: u64 = 24;
/// Everstep's own.
const USUAL_WAL_PAGES: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    Power,
    Process,
    All,
}

#[derive(clap::Args)]
pub(crate) struct Power {
    /// 100,000 different images at the default level and 20,000 at the weaker one; without it 5,000 and 1,500. Every
    /// operation is crashed at in both.
    #[arg(long)]
    full: bool,
    /// Which durability.
    #[arg(long, value_enum, default_value = "all")]
    level: Level,
    /// Another number of images of the first life.
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

/// What is asked of one level.
struct Plan {
    name: &'static str,
    durability: Durability,
    images: usize,
    again: Again,
    of_each: u64,
}

impl Power {
    /// The last line: what held, or what did not.
    pub(crate) fn run(&self) -> Result<String, String> {
        let mut figures = Figures::default();
        let (mut lines, mut held) = (Vec::new(), true);
        for plan in self.plans() {
            let tally = self.level(&plan, &mut figures)?;
            lines.push(line(plan.name, &tally));
            held = tally.failed == 0;
            if !held {
                break;
            }
        }
        figures.write(self.json.as_deref())?;
        let last = lines.join("; ");
        if held { Ok(last) } else { Err(last) }
    }

    fn plans(&self) -> Vec<Plan> {
        let (of_each, power, process) = match self.full {
            true => (5, (100_000, 40, 400), (20_000, 10, 200)),
            false => (3, (5_000, 5, 200), (1_500, 2, 100)),
        };
        let plan = |name, durability, (images, lives, of_life)| Plan {
            name,
            durability,
            images: self.images.unwrap_or(images),
            again: Again { lives, images: of_life },
            of_each,
        };
        let mut plans = Vec::new();
        if self.level != Level::Process {
            plans.push(plan("power", Durability::Power, power));
        }
        if self.level != Level::Power {
            plans.push(plan("process", Durability::Process, process));
        }
        plans
    }

    fn level(&self, plan: &Plan, figures: &mut Figures) -> Result<Tally, String> {
        let setup = Setup { durability: plan.durability, wal_pages: WAL_PAGES };
        let parts = story::parts(plan.of_each, plan.durability);
        let recording = match &self.log {
            Some(path) => Recording::load(path).map_err(|e| format!("{}: {e}", path.display()))?,
            None => life::record(setup, &parts)?,
        };
        let name = plan.name;
        self.keep(name, &recording)?;
        let history = self.history(name, &recording, setup)?;
        let sweep = self.sweep(&recording, &history, (setup, &parts), plan.images);
        if let (Some(at), Some(seed)) = (self.only, self.seed) {
            let tally = sweep.only(at, seed);
            tally.told.iter().for_each(|(at, seed, what)| println!("operation {at}, seed {seed}: {what}"));
            return Ok(tally);
        }
        let mut tally = sweep.run();
        self.tell_failures(name, &recording, &tally)?;
        tell(figures, &format!("power loss at {name}"), &tally);
        // What has failed once is enough.
        if tally.failed == 0 && self.log.is_none() && self.images.is_none() {
            let (again, kept) = plan.again.run(&sweep)?;
            if let Some((recording, tally)) = kept {
                self.tell_failures(&format!("{name}-again"), &recording, &tally)?;
            }
            tell(figures, &format!("power loss at {name}, again while the engine goes on"), &again);
            tally.add(again);
            if self.full && plan.durability == Durability::Power {
                tally.add(self.usual(&parts, figures)?);
            }
        }
        Ok(tally)
    }

    /// With a WAL as long as it usually is: its making above all.
    fn usual(&self, parts: &[Part], figures: &mut Figures) -> Result<Tally, String> {
        let setup = Setup { durability: Durability::Power, wal_pages: USUAL_WAL_PAGES };
        let recording = life::record(setup, &parts[..7])?;
        let history = self.history("power-usual", &recording, setup)?;
        // One round.
        let tally = self.sweep(&recording, &history, (setup, &parts[..7]), 1).run();
        self.tell_failures("power-usual", &recording, &tally)?;
        tell(figures, "power loss at power, with the WAL at its usual length", &tally);
        Ok(tally)
    }

    fn history(&self, name: &str, recording: &Recording, setup: Setup) -> Result<History, String> {
        let history = match History::of(recording, setup) {
            Ok(history) => history,
            Err(what) => {
                println!(
                    "  again: disk power --level {} --log {}",
                    level_of(name),
                    self.kept(name, recording)?
                );
                return Err(what);
            }
        };
        let (ops, states, promises) = (recording.ops.len(), history.states(), history.promises());
        println!("{name}: {ops} operations, {states} states, {promises} promises");
        Ok(history)
    }

    fn sweep<'a>(
        &self,
        recording: &'a Recording,
        history: &'a History,
        (setup, parts): (Setup, &'a [Part]),
        images: usize,
    ) -> Sweep<'a> {
        let keeps_promises = setup.durability == Durability::Power;
        let go_on_every = if self.only.is_some() { 1 } else { 100 };
        Sweep { recording, history, setup, parts, images, go_on_every, lies: self.lies, keeps_promises }
    }

    fn tell_failures(&self, name: &str, recording: &Recording, tally: &Tally) -> Result<(), String> {
        for (at, seed, what) in &tally.told {
            println!("operation {at}, seed {seed}: {what}");
            let (level, log) = (level_of(name), self.kept(name, recording)?);
            let lies = if self.lies { " --lies" } else { "" };
            println!("  again: {CARGO} power --level {level} --log {log} --only {at} --seed {seed}{lies}");
        }
        Ok(())
    }

    fn keep(&self, name: &str, recording: &Recording) -> Result<(), String> {
        if self.keep.is_some() {
            self.kept(name, recording)?;
        }
        Ok(())
    }

    /// The file that the recording is in.
    fn kept(&self, name: &str, recording: &Recording) -> Result<String, String> {
        if let Some(log) = &self.log {
            return Ok(log.display().to_string());
        }
        let path = match &self.keep {
            Some(folder) => folder.join(format!("{name}.log")),
            None => std::env::temp_dir().join(format!("everstep-disk-{}-{name}.log", std::process::id())),
        };
        save(recording, &path)?;
        Ok(path.display().to_string())
    }
}

fn level_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

fn save(recording: &Recording, path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    recording.save(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn line(name: &str, tally: &Tally) -> String {
    let lost = match name {
        "power" => format!("{} facts lost", tally.lost.separate_with_commas()),
        _ => format!("{} with lost facts (only the newest)", tally.images_with_loss.separate_with_commas()),
    };
    let ends =
        if tally.wrong_ends > 0 { format!(", {} wrong ends", tally.wrong_ends) } else { String::new() };
    format!(
        "{} images at {name}, {lost}, {} corrupt{ends}",
        tally.images.separate_with_commas(),
        tally.corrupt.separate_with_commas()
    )
}

fn tell(figures: &mut Figures, of: &str, tally: &Tally) {
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
        figures.tell(of, what, n);
    }
}
