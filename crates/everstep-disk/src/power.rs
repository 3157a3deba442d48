//! Power loss: every moment of a recorded life, and what a disk may have left of it, opened by the engine.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use everstep_sqlite::rusqlite;

use crate::{
    chance::Chance,
    content,
    disk::{Disk, Image},
    history::History,
    life::{self, Setup, folder},
    recording::{DATABASE, Op, Recording},
    story::Part,
};

/// Images that are built and opened at the same time.
const THREADS: usize = 2;
/// Images after which it is told how many there are.
const TELL_EVERY: usize = 10_000;
/// Failures that are told in full; the others are counted.
const TOLD_MAX: usize = 3;
/// Workers whose lock files may be there.
const WORKERS: i64 = 4;

/// What is done with one recording.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'a> {
    /// The life that is crashed.
    pub recording: &'a Recording,
    /// Its states.
    pub history: &'a History,
    /// How it was opened, and images are.
    pub setup: Setup,
    /// The runs of it.
    pub parts: &'a [Part],
    /// Different images that are enough.
    pub images: usize,
    /// An engine goes on to the end with one of so many images.
    pub go_on_every: u64,
    /// The disk lies about its syncs.
    pub lies: bool,
    /// Nothing promised may be lost; else only the newest may.
    pub keeps_promises: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Different images.
    pub images: usize,
    /// Promises that were looked for, over all images.
    pub promises: usize,
    /// Images in which one was lost.
    pub images_with_loss: usize,
    /// Promises that were lost, over all images.
    pub lost: usize,
    /// The most that one image has lost.
    pub lost_most: usize,
    /// Images that cannot be opened, or that SQLite finds damaged, or that are no state that ever was.
    pub corrupt: usize,
    /// Images with which an engine has gone on to the end.
    pub gone_on: usize,
    /// Of these, with which it has not come to the right one.
    pub wrong_ends: usize,
    /// Whatever did not hold.
    pub failed: usize,
    /// The first of it: operation, seed, what.
    pub told: Vec<(usize, u64, String)>,
}

impl Tally {
    /// Adds another one's.
    pub fn add(&mut self, other: Tally) {
        self.images += other.images;
        self.promises += other.promises;
        self.images_with_loss += other.images_with_loss;
        self.lost += other.lost;
        self.lost_most = self.lost_most.max(other.lost_most);
        self.corrupt += other.corrupt;
        self.gone_on += other.gone_on;
        self.wrong_ends += other.wrong_ends;
        self.failed += other.failed;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }

    fn fail(&mut self, at: usize, seed: u64, what: String) {
        self.failed += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push((at, seed, what));
        }
    }
}

/// What was found in an image.
#[derive(Clone, Debug)]
enum Found {
    State(usize),
    /// It was told what.
    Wrong,
}

/// What all threads of a sweep share.
struct Shared {
    /// Images that were opened, by their digests.
    found: Mutex<HashMap<u64, Found>>,
    images: AtomicUsize,
}

impl Sweep<'_> {
    /// Crashes at every operation, round after round with other seeds, until there were enough different images, a round made
    /// no new one, or something failed.
    pub fn run(&self) -> Tally {
        let shared = Shared { found: Mutex::default(), images: AtomicUsize::new(0) };
        let mut tally = Tally::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let shared = &shared;
                    scope.spawn(move || self.thread(thread, shared))
                })
                .collect();
            for thread in threads {
                tally.add(thread.join().expect("the checker does not panic"));
            }
        });
        tally
    }

    fn thread(&self, thread: usize, shared: &Shared) -> Tally {
        let (mut tally, folder) = (Tally::default(), folder());
        for round in 0.. {
            let before = tally.images;
            let mut disk = self.disk();
            for (at, op) in self.recording.ops.iter().enumerate() {
                disk.apply(op);
                if at % THREADS == thread && op.is_of_the_disk() {
                    // All and nothing are seeds of their own, and enough once for each operation.
                    let seed = match (at as u64 / 2 + round) % 8 {
                        special @ (0 | 1) => special,
                        _ => round + 2,
                    };
                    self.crash(&disk, (at, seed), folder.path(), shared, &mut tally);
                }
            }
            let enough = shared.images.load(Ordering::Relaxed) >= self.images || tally.failed > 0;
            if enough || (round >= 8 && tally.images == before) {
                break;
            }
        }
        tally
    }

    /// One image again, by the numbers it was told by.
    pub fn only(&self, at: usize, seed: u64) -> Tally {
        let shared = Shared { found: Mutex::default(), images: AtomicUsize::new(0) };
        let (mut tally, mut disk, folder) = (Tally::default(), self.disk(), folder());
        self.recording.ops.iter().take(at + 1).for_each(|op| disk.apply(op));
        self.crash(&disk, (at, seed), folder.path(), &shared, &mut tally);
        tally
    }

    /// What one crash leaves, for a life that begins there.
    pub fn image(&self, at: usize, seed: u64) -> Image {
        let mut disk = self.disk();
        self.recording.ops.iter().take(at + 1).for_each(|op| disk.apply(op));
        disk.crash(seed, Chance::of(&[at as u64, seed]))
    }

    fn disk(&self) -> Disk {
        let disk = Disk::new(&self.recording.before);
        if self.lies { disk.lying() } else { disk }
    }

    fn crash(
        &self,
        disk: &Disk,
        (at, seed): (usize, u64),
        folder: &Path,
        shared: &Shared,
        tally: &mut Tally,
    ) {
        let mut chance = Chance::of(&[at as u64, seed]);
        let image = disk.crash(seed, chance.clone());
        let digest = image.digest();
        let found = shared.found.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        let is_new = found.is_none();
        let found = found.unwrap_or_else(|| {
            tally.images += 1;
            let images = shared.images.fetch_add(1, Ordering::Relaxed) + 1;
            if images.is_multiple_of(TELL_EVERY) {
                println!("  {images} images");
            }
            let go_on = digest.is_multiple_of(self.go_on_every);
            let found = self.look(&image, folder, go_on, &mut chance, tally);
            let found = found.unwrap_or_else(|what| {
                tally.fail(at, seed, what);
                Found::Wrong
            });
            shared.found.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, found.clone());
            found
        });
        if let Found::State(state) = found {
            self.count(state, (at, seed), is_new, tally);
        }
    }

    /// What the image has lost. An image that was there before may have lost something else: more was promised meanwhile.
    fn count(&self, state: usize, (at, seed): (usize, u64), is_new: bool, tally: &mut Tally) {
        let later = self.recording.ops[at + 1..].iter().take_while(|op| !op.is_of_the_disk()).count();
        let (promises, lost) = self.history.lost(state, at + 1 + later);
        if is_new {
            tally.promises += promises;
        }
        if lost.is_empty() || !(is_new || self.keeps_promises) {
            return;
        }
        tally.images_with_loss += 1;
        tally.lost += lost.len();
        tally.lost_most = tally.lost_most.max(lost.len());
        if self.keeps_promises
            && let Some(Op::Mark(promise)) = lost.first().map(|op| &self.recording.ops[*op])
        {
            tally.fail(
                at,
                seed,
                format!("{} of {promises} promises are lost, first {promise:?}", lost.len()),
            );
        }
    }

    /// Opens an image with the engine's store; perhaps an engine goes on with it.
    fn look(
        &self,
        image: &Image,
        folder: &Path,
        go_on: bool,
        chance: &mut Chance,
        tally: &mut Tally,
    ) -> Result<Found, String> {
        let state = self.open(image, folder, chance).inspect_err(|_| tally.corrupt += 1)?;
        if go_on {
            tally.gone_on += 1;
            image.write(folder).map_err(|e| e.to_string())?;
            leave_beside(folder, chance);
            life::go_on(folder, self.setup, self.parts, self.history.content(state))
                .inspect_err(|_| tally.wrong_ends += 1)?;
        }
        Ok(Found::State(state))
    }

    fn open(&self, image: &Image, folder: &Path, chance: &mut Chance) -> Result<usize, String> {
        image.write(folder).map_err(|e| e.to_string())?;
        leave_beside(folder, chance);
        let store = self.setup.open(folder, None).map_err(|e| format!("it cannot be opened: {e}"))?;
        let digest = look_at(&folder.join(DATABASE));
        drop(store);
        self.history.state(digest?).ok_or_else(|| "it is in a state that never was".to_string())
    }
}

/// The digest of a database that is open, if it is whole.
fn look_at(database: &Path) -> Result<u64, String> {
    let look = || {
        let conn = content::look(database)?;
        Ok((content::is_whole(&conn)?, content::digest(&conn)?))
    };
    match look().map_err(|e: rusqlite::Error| format!("it cannot be read: {e}"))? {
        (None, Some(digest)) => Ok(digest),
        (Some(damage), _) => Err(format!("it is damaged: {damage}")),
        (None, None) => Err("it was opened and has no tables".to_string()),
    }
}

/// What stands beside a database and is no part of it, and may be there or not: lock files of workers that are dead, and
/// shared memory with anything in it.
pub(crate) fn leave_beside(folder: &Path, chance: &mut Chance) {
    let leave = |name: String, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).expect("room for a file");
    };
    for worker in 1..=WORKERS {
        if chance.percent(90) {
            leave(format!("{DATABASE}.worker-{worker}.lock"), &[]);
        }
    }
    if chance.percent(25) {
        let noise: Vec<u8> = (0..4096).flat_map(|_| chance.next().to_le_bytes()).collect();
        leave(format!("{DATABASE}-shm"), &noise);
    }
}
