//! A disk that honours fsync and nothing more: what may be on it when the power fails.
//!
//! What was written to a file and not yet synced stays, goes or turns to noise, in pieces of 512 bytes, each by itself
//! and in any order; so do changes of the length. Names that were made, moved or deleted since their folder was last
//! synced may be as before, or as at any time since, each by itself. What was synced stays: a write damages nothing
//! beside it in its sector, which is what SQLite assumes of disks too (`SQLITE_POWERSAFE_OVERWRITE`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
};

use crate::{
    chance::Chance,
    recording::{Before, Op},
};

/// What a disk writes as a whole, or not at all.
const SECTOR: u64 = 512;

/// The files of one folder, durable or not.
#[derive(Clone, Debug)]
pub struct Disk {
    files: Vec<File>,
    /// Which file each name means now.
    names: BTreeMap<String, usize>,
    /// Which one it means for sure after a crash.
    durable: BTreeMap<String, usize>,
    /// What else it has meant since.
    since: BTreeMap<String, Vec<Option<usize>>>,
    /// Syncs do nothing: a disk that lies.
    lies: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Bytes(u64, Arc<[u8]>),
    Length(u64),
}

/// How much of what is not durable stays.
#[derive(Clone, Copy, Debug)]
struct Luck {
    kept: u8,
    /// Of what is not kept.
    garbled: u8,
    /// A file is as long as it was at its longest, whatever became of the bytes.
    length: bool,
}

/// What is on the disk after the power came back. Names of the same file have the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// By name: which of the files.
    pub names: BTreeMap<String, usize>,
    /// Their contents.
    pub files: BTreeMap<usize, Vec<u8>>,
}

impl Disk {
    /// With these files on it, all of them durable.
    pub fn new(before: &BTreeMap<String, Before>) -> Disk {
        let file = |before: &Before| File { durable: before.0.to_vec(), pending: Vec::new() };
        let names: BTreeMap<_, _> =
            before.keys().enumerate().map(|(file, name)| (name.clone(), file)).collect();
        Disk {
            files: before.values().map(file).collect(),
            durable: names.clone(),
            names,
            since: BTreeMap::new(),
            lies: false,
        }
    }

    /// A disk that says it has synced, and has not.
    pub fn lying(self) -> Disk {
        Disk { lies: true, ..self }
    }

    /// Does what was recorded.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(name) => {
                self.files.push(File::default());
                self.rename(name, Some(self.files.len() - 1));
            }
            Op::Link(of, name) => {
                let file = self.names.get(of).copied();
                self.rename(name, file);
            }
            Op::Delete(name) => self.rename(name, None),
            Op::Write { file, at, bytes } => self.change(file, Change::Bytes(*at, bytes.clone())),
            Op::Truncate(file, length) => self.change(file, Change::Length(*length)),
            Op::Sync(_) | Op::SyncFolder if self.lies => {}
            Op::Sync(file) => {
                let file = &mut self.files[self.names[file]];
                let pending = std::mem::take(&mut file.pending);
                pending.iter().for_each(|change| change.apply(&mut file.durable));
            }
            Op::SyncFailed(file) => self.files[self.names[file]].pending.clear(),
            Op::SyncFolder => {
                self.durable = self.names.clone();
                self.since.clear();
            }
            Op::Mark(_) => {}
        }
    }

    fn rename(&mut self, name: &str, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(name.to_string(), file),
            None => self.names.remove(name),
        };
        self.since.entry(name.to_string()).or_default().push(file);
    }

    fn change(&mut self, file: &str, change: Change) {
        self.files[self.names[file]].pending.push(change);
    }

    /// Everything stays: what the next reader sees without a crash.
    pub fn as_written(&self) -> Image {
        let all = Luck { kept: 100, garbled: 0, length: false };
        self.image(self.names.clone(), |_| all, &mut Chance::of(&[]))
    }

    /// What a crash may leave. Seed 0 loses all that may be lost, and seed 1 nothing.
    pub fn crash(&self, seed: u64, mut chance: Chance) -> Image {
        match seed {
            0 => {
                let none = Luck { kept: 0, garbled: 0, length: false };
                self.image(self.durable.clone(), |_| none, &mut chance)
            }
            1 => self.as_written(),
            _ => {
                let names = self.some_names(&mut chance);
                // Each file by its own luck: that one is old and another new is what ordering is about.
                let luck = |chance: &mut Chance| Luck {
                    kept: chance.pick(&[0, 10, 50, 90, 100]),
                    garbled: chance.pick(&[0, 0, 5, 50]),
                    length: chance.percent(25),
                };
                self.image(names, luck, &mut chance)
            }
        }
    }

    fn some_names(&self, chance: &mut Chance) -> BTreeMap<String, usize> {
        let kept = chance.pick(&[0, 50, 100]);
        let all: BTreeSet<_> = self.durable.keys().chain(self.since.keys()).collect();
        let mut mean = |name: &String| {
            let before = self.durable.get(name).copied();
            let since = self.since.get(name).map_or(&[][..], Vec::as_slice);
            match since.last() {
                None => before,
                Some(last) if chance.percent(kept) => *last,
                _ => match chance.below(since.len() + 1) {
                    0 => before,
                    n => since[n - 1],
                },
            }
        };
        all.into_iter().filter_map(|name| Some((name.clone(), mean(name)?))).collect()
    }

    fn image(
        &self,
        names: BTreeMap<String, usize>,
        mut luck: impl FnMut(&mut Chance) -> Luck,
        chance: &mut Chance,
    ) -> Image {
        let used: BTreeSet<_> = names.values().copied().collect();
        let mut content = |file: usize| {
            let luck = luck(chance);
            (file, self.files[file].after(luck, chance))
        };
        let files = used.into_iter().map(&mut content).collect();
        Image { names, files }
    }
}

impl File {
    fn after(&self, luck: Luck, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.durable.clone();
        let mut longest = content.len() as u64;
        for change in &self.pending {
            longest = change.length(longest);
            match change {
                Change::Length(_) if !chance.percent(luck.kept) => {}
                Change::Length(_) => change.apply(&mut content),
                Change::Bytes(at, bytes) => {
                    for (at, sector) in sectors(*at, bytes) {
                        if chance.percent(luck.kept) {
                            put(&mut content, at, sector);
                        } else if chance.percent(luck.garbled) {
                            let noise: Vec<u8> = sector.iter().map(|_| chance.next() as u8).collect();
                            put(&mut content, at, &noise);
                        }
                    }
                }
            }
        }
        if luck.length && content.len() < longest as usize {
            content.resize(longest as usize, 0);
        }
        content
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Length(length) => content.resize(*length as usize, 0),
            Change::Bytes(at, bytes) => put(content, *at, bytes),
        }
    }

    fn length(&self, before: u64) -> u64 {
        match self {
            Change::Length(length) => *length,
            Change::Bytes(at, bytes) => before.max(at + bytes.len() as u64),
        }
    }
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (at, end) = (at as usize, at as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// The parts of a write that lie in one sector each.
fn sectors(at: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let end = at + bytes.len() as u64;
    std::iter::successors((at < end).then_some(at), move |at| {
        let next = (at / SECTOR + 1) * SECTOR;
        (next < end).then_some(next)
    })
    .map(move |from| {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        (from, &bytes[(from - at) as usize..(to - at) as usize])
    })
}

impl Image {
    /// Writes it into a folder, in place of whatever is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
        let mut written: BTreeMap<usize, &str> = BTreeMap::new();
        for (name, file) in &self.names {
            match written.get(file) {
                Some(other) => fs::hard_link(folder.join(other), folder.join(name))?,
                None => fs::write(folder.join(name), &self.files[file])?,
            }
            written.entry(*file).or_insert(name);
        }
        Ok(())
    }

    /// The files as they are, for a life that begins here.
    pub fn as_before(&self) -> BTreeMap<String, Before> {
        self.names
            .iter()
            .map(|(name, file)| (name.clone(), Before(self.files[file].as_slice().into())))
            .collect()
    }

    /// A number that tells images apart.
    pub fn digest(&self) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
        for (name, file) in &self.names {
            name.hash(&mut hasher);
            // Its first name: the numbers themselves mean nothing.
            self.names.iter().find(|(_, of)| *of == file).map(|(name, _)| name).hash(&mut hasher);
            self.files[file].hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "f";

    fn disk(ops: &[Op]) -> Disk {
        let mut disk = Disk::new(&BTreeMap::new());
        ops.iter().for_each(|op| disk.apply(op));
        disk
    }

    fn create(name: &str) -> Op {
        Op::Create(name.into())
    }

    fn write(at: u64, bytes: &[u8]) -> Op {
        Op::Write { file: FILE.into(), at, bytes: bytes.into() }
    }

    fn sync() -> Op {
        Op::Sync(FILE.into())
    }

    /// What the file may say after a crash; `None` if it may be gone.
    fn left(disk: &Disk) -> BTreeSet<Option<Vec<u8>>> {
        let crash = |seed| {
            let image = disk.crash(seed, Chance::of(&[seed]));
            let file = image.names.get(FILE)?;
            Some(image.files[file].clone())
        };
        (0..400).map(crash).collect()
    }

    #[test]
    fn what_was_synced_stays() {
        let disk = disk(&[create(FILE), Op::SyncFolder, write(0, &[1; 600]), sync()]);
        assert_eq!(left(&disk), [Some(vec![1; 600])].into());
    }

    #[test]
    fn what_was_not_synced_may_vanish_in_any_part() {
        let disk = disk(&[create(FILE), Op::SyncFolder, write(0, &[1; 1024]), sync(), write(0, &[2; 1024])]);
        let left = left(&disk);
        for (first, second) in [(1, 1), (2, 2), (1, 2), (2, 1)] {
            let whole = [[first; 512], [second; 512]].concat();
            assert!(left.contains(&Some(whole)), "{first} {second}");
        }
        let is_noise = |half: &[u8]| half.iter().any(|byte| !matches!(byte, 1 | 2));
        assert!(left.iter().flatten().any(|content| is_noise(&content[..512])), "or turn to noise");
        assert!(left.iter().flatten().all(|content| content.len() == 1024));
    }

    /// `SQLITE_POWERSAFE_OVERWRITE`.
    #[test]
    fn a_write_damages_nothing_beside_it() {
        let disk = disk(&[create(FILE), Op::SyncFolder, write(0, &[1; 512]), sync(), write(100, &[2; 100])]);
        for content in left(&disk).iter().flatten() {
            assert_eq!((&content[..100], &content[200..]), (&[1; 100][..], &[1; 312][..]));
        }
    }

    #[test]
    fn a_longer_file_may_be_short_long_and_empty_or_have_a_hole() {
        let disk = disk(&[create(FILE), Op::SyncFolder, write(0, &[1; 1024])]);
        let left = left(&disk);
        for content in [vec![], vec![1; 512], vec![1; 1024], vec![0; 1024], [[0; 512], [1; 512]].concat()] {
            assert!(left.contains(&Some(content.clone())), "{} bytes", content.len());
        }
    }

    #[test]
    fn a_cut_may_be_undone_and_what_follows_it_not() {
        let ops = [create(FILE), Op::SyncFolder, write(0, &[1; 1024]), sync()];
        let disk = disk(&[&ops[..], &[Op::Truncate(FILE.into(), 0), write(0, &[2; 512])]].concat());
        let left = left(&disk);
        for content in [vec![1; 1024], vec![], vec![2; 512], [[2; 512], [1; 512]].concat()] {
            assert!(left.contains(&Some(content.clone())), "{} bytes", content.len());
        }
    }

    #[test]
    fn a_new_name_may_be_gone_until_its_folder_is_synced() {
        let mut disk = disk(&[create(FILE), write(0, &[1]), sync()]);
        assert_eq!(left(&disk), [None, Some(vec![1])].into(), "to sync the file is not enough");
        disk.apply(&Op::SyncFolder);
        assert_eq!(left(&disk), [Some(vec![1])].into());
    }

    #[test]
    fn a_deleted_file_may_come_back_until_its_folder_is_synced() {
        let mut disk = disk(&[create(FILE), Op::SyncFolder, Op::Delete(FILE.into())]);
        assert_eq!(left(&disk), [None, Some(vec![])].into());
        disk.apply(&Op::SyncFolder);
        assert_eq!(left(&disk), [None].into());
    }

    #[test]
    fn a_second_name_is_the_same_file() {
        let disk = disk(&[create("g"), Op::SyncFolder, Op::Link("g".into(), FILE.into())]);
        let image = disk.as_written();
        assert_eq!(image.names[FILE], image.names["g"]);
        let folder = tempfile::tempdir().expect("a folder");
        image.write(folder.path()).expect("writes");
        fs::write(folder.path().join("g"), "both").expect("writes");
        assert_eq!(fs::read(folder.path().join(FILE)).expect("reads"), b"both");
    }

    #[test]
    fn a_disk_that_lies_keeps_nothing_for_sure() {
        let mut disk = disk(&[]).lying();
        [create(FILE), Op::SyncFolder, write(0, &[1]), sync()].iter().for_each(|op| disk.apply(op));
        let left = left(&disk);
        assert!([None, Some(vec![]), Some(vec![1])].iter().all(|content| left.contains(content)));
    }

    #[test]
    fn a_seed_is_an_image() {
        let disk = disk(&[create(FILE), write(0, &[1; 4096]), Op::Truncate(FILE.into(), 100)]);
        for seed in 0..50 {
            let image = || disk.crash(seed, Chance::of(&[7, seed]));
            assert_eq!(image(), image());
            assert_eq!(image().digest(), image().digest());
        }
    }
}
