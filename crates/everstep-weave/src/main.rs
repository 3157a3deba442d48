//! Plays all of them; see the library.

use std::{env, error::Error, fs, process::ExitCode, time::Instant};
use thousands::Separable as _;

use everstep_weave::{
    explore::{self, Failure},
    plays, weak, weakened,
};

const USAGE: &str = "\
everstep-weave [--full] [--only PLAY --seed N] [--json FILE]

  --full       50,000 orders of each play, else 1,000
  --only PLAY  one of them, --seed N: with this seed, as a failure names it
  --json FILE  the figures, for docs/reliability.md";
const FULL: usize = 50_000;
const SHORT: usize = 1_000;
/// So many orders must be enough to find a weakened variant.
const WEAK_MAX: usize = 20_000;

#[derive(Default)]
struct Args {
    full: bool,
    only: Option<String>,
    seed: Option<u64>,
    json: Option<String>,
}

impl Args {
    fn read() -> Result<Args, Box<dyn Error>> {
        let (mut read, mut args) = (Args::default(), env::args().skip(1));
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--full" => read.full = true,
                "--only" => read.only = Some(args.next().ok_or(USAGE)?),
                "--seed" => read.seed = Some(args.next().ok_or(USAGE)?.parse()?),
                "--json" => read.json = Some(args.next().ok_or(USAGE)?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(read)
    }
}

#[derive(Default)]
struct Figures {
    orders: usize,
    plays: usize,
    failing: usize,
    weakened: usize,
    found: usize,
}

#[allow(clippy::disallowed_methods, reason = "how long it took is told, and nothing else")]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::read()?;
    // A panic is a finding, and is told below.
    std::panic::set_hook(Box::new(|_| {}));
    let mut figures = Figures::default();
    for (name, play) in
        plays().iter().filter(|(name, _)| args.only.as_deref().is_none_or(|only| only == *name))
    {
        let began = Instant::now();
        let explored = match args.seed {
            Some(seed) => explore::once(*play, seed),
            None => explore::explore(*play, if args.full { FULL } else { SHORT }, 0),
        };
        figures.plays += 1;
        match explored {
            Ok(orders) => {
                figures.orders += orders;
                println!("{name}: {orders} orders in {:.1} s", began.elapsed().as_secs_f64());
            }
            Err(Failure { seed, why }) => {
                figures.failing += 1;
                println!(
                    "{name}: {why}\ncargo run --release -p everstep-weave -- --only '{name}' --seed {seed}"
                );
            }
        }
    }
    if args.only.is_none() {
        find_the_weakened(&mut figures);
    }
    if let Some(file) = args.json {
        fs::write(file, figures.to_json())?;
    }
    println!(
        "{} schedules of {} situations, {} failing; {} of {} weakened variants found",
        figures.orders.separate_with_commas(),
        figures.plays,
        figures.failing,
        figures.found,
        figures.weakened
    );
    let holds = figures.failing == 0 && figures.found == figures.weakened;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find_the_weakened(figures: &mut Figures) {
    println!("what shuttle says on standard error from here on is how the weakened variants are found");
    for weak in weak::ALL {
        figures.weakened += 1;
        match explore::explore(weakened(weak), WEAK_MAX, 0) {
            Err(_) => figures.found += 1,
            Ok(orders) => println!("{}: not found by `{}` in {orders} orders", weak.name, weak.found_by),
        }
    }
}

impl Figures {
    fn to_json(&self) -> String {
        format!(
            "{{\"schedules\": {}, \"situations\": {}, \"failing\": {}, \"weakened_variants\": {}, \"weakened_found\": {}}}\n",
            self.orders, self.plays, self.failing, self.weakened, self.found
        )
    }
}
