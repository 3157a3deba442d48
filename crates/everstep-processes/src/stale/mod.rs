//! Workers that stand still past their lease at every point of a run and go on later, with right and wrong clocks:
//! all the ways to play it, and what they sum up to.

mod play;

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

pub use play::{Play, Resume, Seen, Stop, Times};

use crate::actor::STEPS;

/// Plays at once: they wait for leases nearly all the time.
const AT_ONCE: usize = 8;
/// How often `--full` plays each of them: where exactly a process is stopped is chance.
const ROUNDS: usize = 8;

/// What was played, and seen.
#[derive(Debug, Default)]
pub struct Figures {
    /// Times that a worker was stopped and went on.
    pub stops: usize,
    /// Stops before the run's end.
    pub amid_the_run: usize,
    /// Outcomes that were recorded when it was stopped, none of which ran again.
    pub recorded: usize,
    /// Bodies that ran a second time: the worker stood in them.
    pub repeated: usize,
    /// How to play those again that did not hold.
    pub violations: Vec<String>,
}

/// All plays; a good part of them in the short form. Failpoints are there only if the engine is built with them.
pub fn plays(actor: &Path, full: bool) -> Vec<Play> {
    let stops = STEPS.into_iter().map(Stop::InBody).chain(play::stops_on_the_way(actor));
    let mut plays = Vec::new();
    for (n, stop) in stops.enumerate() {
        for (r, resume) in [Resume::Amid, Resume::After].into_iter().enumerate() {
            for times in Times::ALL {
                let right = times == Times::Right;
                let belongs = match stop {
                    Stop::InBody(_) => full || right || r == 0 && times as usize == n % 3 + 1,
                    Stop::AfterLine(_) => full || right && n % 2 == r,
                    // Where exactly it is stopped is no chance here: once with the right clock is enough.
                    Stop::At(..) => right && (full || n % 2 == r),
                };
                plays.extend(belongs.then_some(Play { stop, resume, times }));
            }
        }
    }
    if full { plays.repeat(ROUNDS) } else { plays }
}

/// Plays them; `told` hears of each that is over. After the first violation no other is begun.
pub fn sweep(actor: &Path, plays: &[Play], told: impl Fn(usize, &Play, bool) + Sync) -> Figures {
    let (figures, next) = (Mutex::new(Figures::default()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(play) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = std::panic::catch_unwind(|| play.play(actor));
                    let mut figures = figures.lock().expect("nobody panics with it");
                    figures.add(play, seen.as_ref().ok());
                    if seen.is_err() {
                        next.store(plays.len(), Ordering::Relaxed);
                    }
                    told(figures.stops, play, seen.is_ok());
                }
            });
        }
    });
    figures.into_inner().expect("nobody panics with it")
}

impl Figures {
    fn add(&mut self, play: &Play, seen: Option<&Seen>) {
        self.stops += 1;
        match seen {
            None => self.violations.push(play.to_string()),
            Some(seen) => {
                self.amid_the_run += usize::from(seen.amid_the_run);
                self.recorded += seen.recorded;
                self.repeated += seen.repeated;
            }
        }
    }
}
