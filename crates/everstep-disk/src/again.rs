//! Power that fails again while the engine goes on with what the first failure has left: during recovery, takeover, and
//! the work after them.

use crate::{
    chance::Chance,
    history::History,
    life::{self, folder},
    power::{Sweep, Tally, leave_beside},
    recording::Recording,
};

/// Second lives, and how often each is crashed.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// Images of the first life that begin one.
    pub lives: usize,
    /// Different images of each that are enough.
    pub images: usize,
}

/// A second life in which something failed, to be kept, and what it was.
pub type Kept = Option<(Recording, Tally)>;

impl Again {
    /// Crashes second lives of a swept recording, at every operation. The first of them in which something failed.
    ///
    /// # Errors
    /// A life that could not go on to its end.
    pub fn run(self, first: &Sweep<'_>) -> Result<(Tally, Kept), String> {
        let disk_ops: Vec<usize> =
            (0..first.recording.ops.len()).filter(|at| first.recording.ops[*at].is_of_the_disk()).collect();
        let (mut all, mut kept) = (Tally::default(), None);
        for n in 0..self.lives {
            // From all parts of the first life; a seed that keeps some and loses some.
            let at = disk_ops[n * disk_ops.len() / self.lives];
            let seed = n as u64 + 2;
            let recording = second(first, at, seed)
                .map_err(|what| format!("a second life, from operation {at} with seed {seed} on: {what}"))?;
            let history = History::of(&recording, first.setup)
                .map_err(|what| format!("a second life, from operation {at} with seed {seed} on: {what}"))?;
            let tally =
                Sweep { recording: &recording, history: &history, images: self.images, ..*first }.run();
            all.add(tally.clone());
            if kept.is_none() && !tally.told.is_empty() {
                kept = Some((recording, tally));
            }
        }
        Ok((all, kept))
    }
}

/// The life that begins with what a crash has left.
fn second(first: &Sweep<'_>, at: usize, seed: u64) -> Result<Recording, String> {
    let (image, folder) = (first.image(at, seed), folder());
    image.write(folder.path()).map_err(|e| e.to_string())?;
    leave_beside(folder.path(), &mut Chance::of(&[at as u64, seed, 2]));
    let (recorder, watch) = life::listen(folder.path())?;
    life::live(folder.path(), first.setup, first.parts, Some(&recorder))?;
    drop(watch);
    Ok(Recording { before: image.as_before(), ops: recorder.take() })
}
