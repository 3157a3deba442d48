//! Runs seeds of the simulation: `--full` for the figures, a short form for CI, one seed to look at it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use everstep_sim::{
    coverage::Matrix,
    fleet::{self, Tally},
    life,
    plan::{Plan, StoreKind},
    shrink::shrink,
};

/// Seeds of the short form and of the full one, in memory and on SQLite.
const SHORT: (u64, u64) = (1_700, 170);
const FULL: (u64, u64) = (20_000, 2_000);
/// Seeds whose programs run without faults, for each form.
const CALM: (u64, u64) = (340, 4_000);

/// Runs seeds of the deterministic simulation, each twice.
#[derive(Debug, Parser)]
struct Args {
    /// Which store is under the faults.
    #[arg(long, value_enum, default_value_t = Stores::Both)]
    store: Stores,
    /// How many seeds, of each store.
    #[arg(long)]
    seeds: Option<u64>,
    /// One seed, looked at closely.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The whole proof.
    #[arg(long)]
    full: bool,
    /// A plan as JSON, in place of the one of a seed.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Prints the trace of one seed or plan.
    #[arg(long)]
    trace: bool,
    /// Writes the figures there.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Threads, each with seeds of its own.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stores {
    Memory,
    Sqlite,
    Both,
}

impl Stores {
    fn kinds(self) -> Vec<StoreKind> {
        match self {
            Stores::Memory => vec![StoreKind::Memory],
            Stores::Sqlite => vec![StoreKind::Sqlite],
            Stores::Both => vec![StoreKind::Memory, StoreKind::Sqlite],
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(plan) = &args.plan {
        let text = std::fs::read_to_string(plan).expect("the plan's file");
        return one(&serde_json::from_str(&text).expect("a plan"), args.trace);
    }
    if let Some(seed) = args.seed {
        let kind = args.store.kinds()[0];
        return one(&Plan::of_seed(seed, kind), args.trace);
    }
    many(&args)
}

/// One plan, closely.
fn one(plan: &Plan, trace: bool) -> ExitCode {
    println!("{plan:#?}");
    let (life, violations) = fleet::twice(plan);
    if trace {
        life::live(plan, true).lines.iter().for_each(|line| println!("{line}"));
    }
    violations.iter().for_each(|violation| println!("VIOLATION: {violation}"));
    println!("{} observations, {} violations", life.facts, violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(args: &Args) -> ExitCode {
    let (mut matrix, mut told) = (Matrix::default(), Vec::new());
    let (mut programs, mut failing, mut facts, mut seconds) = (0, 0, 0, 0);
    let mut figures = BTreeMap::new();
    for kind in args.store.kinds() {
        let (memory, sqlite) = if args.full { FULL } else { SHORT };
        let usual = if kind == StoreKind::Memory { memory } else { sqlite };
        let seeds = args.from..args.from + args.seeds.unwrap_or(usual);
        println!("{} seeds on {}, each twice", seeds.end - seeds.start, kind.name());
        let tally = fleet::sail(seeds, args.threads, |seed| Plan::of_seed(seed, kind));
        told.push(format!("{} seeds ({})", with_commas(tally.seeds), kind.name()));
        figures.insert(format!("sim_seeds_{}", kind.name()), tally.seeds);
        programs += tally.programs;
        facts += tally.facts;
        seconds += tally.seconds;
        failing += tally.failures.len();
        tell_failures(&tally);
        matrix.merge(tally.matrix);
    }
    let usual = if args.full { CALM.1 } else { CALM.0 };
    let seeds = args.from..args.from + args.seeds.map_or(usual, |seeds| seeds.min(usual));
    println!("{} seeds without faults", seeds.end - seeds.start);
    let kind = args.store.kinds()[0];
    let calm = fleet::sail(seeds, args.threads, |seed| Plan::of_seed(seed, kind).without_faults());
    tell_failures(&calm);
    failing += calm.failures.len();
    println!("\nin how many seeds each feature met each fault:\n{matrix}\n");
    // A chosen number of seeds need not try everything.
    let holes = if args.seeds.is_none() { matrix.empty() } else { 0 };
    figures.extend([
        ("sim_programs_with_faults".to_string(), programs),
        ("sim_programs_without_faults".to_string(), calm.programs),
        ("sim_observations".to_string(), facts + calm.facts),
        ("sim_virtual_hours".to_string(), (seconds + calm.seconds) / 3_600),
        ("sim_matrix_cells".to_string(), Matrix::cells() as u64),
        ("sim_matrix_empty".to_string(), matrix.empty() as u64),
        ("sim_matrix_least".to_string(), matrix.least()),
        ("sim_failing".to_string(), failing as u64),
    ]);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures).expect("plain data");
        std::fs::write(file, text).expect("the figures' file");
    }
    println!(
        "{}, each twice equal, {} programs ({} of them without faults), {} of {} cells empty, {failing} failing",
        told.join(", "),
        with_commas(programs + calm.programs),
        with_commas(calm.programs),
        matrix.empty(),
        Matrix::cells(),
    );
    if failing == 0 && holes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_failures(tally: &Tally) {
    for (i, (plan, violations)) in tally.failures.iter().enumerate() {
        println!("\nseed {} fails:", plan.seed);
        violations.iter().take(5).for_each(|violation| println!("  VIOLATION: {violation}"));
        if plan.faults.is_empty() {
            println!(
                "  replay: cargo run -p everstep-sim -- --store {} --seeds 1 --from {}",
                plan.store.name(),
                plan.seed
            );
        } else {
            println!(
                "  replay: cargo run -p everstep-sim -- --store {} --seed {}",
                plan.store.name(),
                plan.seed
            );
        }
        if i == 0 {
            tell_smallest(plan, violations);
        }
    }
}

fn tell_smallest(plan: &Plan, violations: &[String]) {
    println!("  making it smaller ...");
    let (plan, violations) = shrink(plan, violations);
    println!("{plan:#?}");
    let lines = life::live(&plan, true).lines;
    println!("its last {} observations of {}:", lines.len().min(60), lines.len());
    lines[lines.len().saturating_sub(60)..].iter().for_each(|line| println!("  {line}"));
    violations.iter().for_each(|violation| println!("  VIOLATION: {violation}"));
    println!("as a file for --plan: {}", serde_json::to_string(&plan).expect("plain data"));
}

fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
