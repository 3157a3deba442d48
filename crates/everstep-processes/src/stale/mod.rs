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

/// All plays; a good part of them in the short form.
pub fn plays(actor: &Path, full: bool) -> Vec<Play> {
    let lines = play::lines_of_a_run(actor);
    let stops = || STEPS.into_iter().map(Stop::InBody).chain((1..=lines).map(Stop::AfterLine));
    let mut plays = Vec::new();
    // First of all those that show best what a stale worker could do.
    for (n, stop) in stops().enumerate() {
        let in_body = matches!(stop, Stop::InBody(_));
        for (r, resume) in [Resume::Amid, Resume::After].into_iter().enumerate() {
            for times in Times::ALL {
                let short = times == Times::Right && (in_body || n % 2 == r)
                    || in_body && resume == Resume::Amid && n % 3 == times as usize % 3;
                if full || short {
                    plays.push(Play { stop, resume, times });
                }
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
