//! Virtual time and seeded chance for tests, and machines that live in them.

use std::future::Future;

use crate::{BoxFuture, clock::Clock, entropy::Entropy, process::Process};

/// A world of virtual time and seeded chance, for engines on a single-threaded runtime whose clock is paused: the same
/// seed gives the same run. Engines of one simulation share its clock, so that one may go on where another stopped.
///
/// [`Simulation::machine`] makes machines in it: each has a clock that may be wrong, and one process, which may be
/// stopped, go on, or die.
///
/// # Panics
/// [`Simulation::new`] needs a tokio runtime with time around it.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) process: Process,
}

impl Simulation {
    /// A world that begins now, at 2026-01-01T00:00:00Z.
    pub fn new(seed: u64) -> Simulation {
        let entropy = Entropy::seeded(seed);
        Simulation { clock: Clock::simulated(), entropy, process: Process::default() }
    }

    /// A machine of this world, with a right clock and a process that runs. Whoever gives it to
    /// [`Builder::simulated`](crate::Builder::simulated) has everything that the engine spawns in this process.
    pub fn machine(&self) -> Simulation {
        let (clock, entropy) = (self.clock.of_machine(), self.entropy.clone());
        Simulation { clock, entropy, process: Process::simulated() }
    }

    /// From now on this machine's time of day is wrong by so many microseconds. Durations are not: nobody's monotonic
    /// clock jumps. Without effect on a world, whose clock is right.
    pub fn set_clock_error(&self, micros: i64) {
        self.clock.set_error(micros);
    }

    /// `work` as a part of this machine's process: what calls an engine from its own process belongs in here.
    pub fn host(&self, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        self.process.host(work)
    }

    /// Stops the process, as SIGSTOP does: nothing of it is polled until [`Simulation::resume`].
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Ends the process, as SIGKILL does: nothing of it is polled any more. What it holds is dropped as soon as the
    /// runtime comes to it; that a store hears nothing of that is up to the store.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.process.is_stopped()
    }

    /// Wakes one task of the process for nothing: the `nth`, counted round.
    pub fn rouse(&self, nth: usize) {
        self.process.rouse(nth);
    }
}
