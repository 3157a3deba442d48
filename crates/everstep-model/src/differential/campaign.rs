//! Streams in batches, until nothing new is seen.

use std::{collections::BTreeMap, fmt};
use thousands::Separable as _;

use super::{
    draw,
    kinds::KINDS,
    operation::Step,
    play::{self, Difference, Played},
    shrink::shrink,
};
use crate::{report::Report, spread::spread, stores::Compared};

/// Batches without a new kind of reply after which enough is seen.
const QUIET_BATCHES: u64 = 20;
/// Streams of a batch, in short form and in full.
const BATCH: [u64; 2] = [6, 60];
/// In full there is no end before so many operations.
const FULL: u64 = 1_000_000;
/// On a server everything takes a hundred times as long: so many streams, in short form and in full, and what kinds they
/// bring is SQLite's to show.
const ON_A_SERVER: [u64; 2] = [24, 1_200];
/// More than are ever needed: a kind that does not come must not be waited for forever.
const BATCHES_MAX: u64 = 400;

/// What a campaign has done.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Streams played.
    pub streams: u64,
    /// Calls made on each store.
    pub operations: u64,
    /// Kinds of replies seen, and how often.
    pub kinds: BTreeMap<String, u64>,
    /// The last batches, without a new kind.
    pub quiet: u64,
}

impl Figures {
    /// Kinds that must come and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        KINDS.into_iter().filter(|kind| !self.kinds.contains_key(*kind)).collect()
    }

    fn is_enough(&self) -> bool {
        self.quiet >= QUIET_BATCHES && self.missing().is_empty()
    }
}

/// A stream on which two stores differ.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// As few of its operations as still differ.
    pub steps: Vec<Step>,
    /// How.
    pub difference: Difference,
    /// With which store.
    pub store: Compared,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the stores differ in the stream of seed {}; as few operations as show it:", self.seed)?;
        self.steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "{at:4} {step}"))?;
        writeln!(f, "{}", self.difference)?;
        let (seed, store) = (self.seed, self.store.name());
        write!(
            f,
            "again: cargo run --release -p everstep-model -- differential --store {store} --seed {seed}"
        )
    }
}

/// The part as a command: all of it, or the stream of one seed.
///
/// # Errors
/// How the stores differ, and what shows it again; or which kinds of replies never came.
pub fn run(store: Compared, full: bool, seed: Option<u64>) -> Result<Report, String> {
    if let Some(seed) = seed {
        let played = replay(seed, store).map_err(|failure| failure.to_string())?;
        return Ok(Report::new(format!("seed {seed}: {} operations, 0 differences", played.calls), []));
    }
    let figures = campaign(store, full, |so_far| {
        println!(
            "{} operations, {} kinds of reply",
            so_far.operations.separate_with_commas(),
            so_far.kinds.len()
        );
    })
    .map_err(|failure| failure.to_string())?;
    if !figures.is_enough() && store == Compared::Sqlite {
        return Err(format!("not seen in {} streams: {}", figures.streams, figures.missing().join(", ")));
    }
    let seen = match store {
        Compared::Sqlite => format!("{QUIET_BATCHES} batches without a new one, "),
        Compared::Postgres | Compared::Hostile => {
            format!("{} streams, ", figures.streams.separate_with_commas())
        }
    };
    let line = format!(
        "{} operations, {} kinds of reply, {seen}0 differences",
        figures.operations.separate_with_commas(),
        figures.kinds.len()
    );
    let named = [
        ("differential_streams", figures.streams.into()),
        ("differential_operations", figures.operations.into()),
        ("differential_kinds", figures.kinds.len().into()),
        ("differential_differences", 0.into()),
    ];
    Ok(Report::new(line, named))
}

/// Plays streams until 20 batches bring nothing new; `tell` hears of each batch.
///
/// # Errors
/// The first stream on which the stores differ.
pub fn campaign(
    store: Compared,
    full: bool,
    mut tell: impl FnMut(&Figures),
) -> Result<Figures, Box<Failure>> {
    let mut figures = Figures::default();
    for batch in 0..BATCHES_MAX {
        let streams = BATCH[usize::from(full)];
        let before = figures.kinds.len();
        for played in spread(batch * streams..(batch + 1) * streams, |seed| replay(seed, store))? {
            figures.streams += 1;
            figures.operations += played.calls;
            for kind in played.signatures {
                *figures.kinds.entry(kind).or_default() += 1;
            }
        }
        figures.quiet = if figures.kinds.len() == before { figures.quiet + 1 } else { 0 };
        tell(&figures);
        let is_over = match store {
            Compared::Sqlite => figures.is_enough() && (!full || figures.operations >= FULL),
            Compared::Postgres | Compared::Hostile => figures.streams >= ON_A_SERVER[usize::from(full)],
        };
        if is_over {
            break;
        }
    }
    Ok(figures)
}

/// Plays the stream of a seed.
///
/// # Errors
/// It again, as short as may be, if the stores differ on it.
pub fn replay(seed: u64, store: Compared) -> Result<Played, Box<Failure>> {
    let steps = draw::stream(seed);
    play(&steps, store).map_err(|difference| {
        // Nothing behind the difference has to do with it.
        let until = steps[..steps.len().min(difference.at + 1)].to_vec();
        let steps = shrink(until, |steps| play(steps, store).is_err());
        let difference = play(&steps, store).err().unwrap_or(difference);
        Box::new(Failure { seed, steps, difference: *difference, store })
    })
}

fn play(steps: &[Step], store: Compared) -> Result<Played, Box<Difference>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(play::play(steps, store))
}
