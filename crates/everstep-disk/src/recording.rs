//! What reached a disk, in one order with what was promised meanwhile; kept in a file, it can be crashed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    promise::Promise,
    vfs::{Call, Device, Done, Failure},
};

/// The database of every recording, in a folder of its own.
pub const DATABASE: &str = "app.db";
/// The second name that Everstep gives to the WAL, past SQLite.
const KEPT: &str = "app.db.wal.kept";
const WAL: &str = "app.db-wal";

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// A file was made.
    Create(String),
    /// A file got a second name, in place of whatever had it.
    Link(String, String),
    /// A name went.
    Delete(String),
    /// All names are durable.
    SyncFolder,
    /// Bytes were written.
    Write {
        /// To which file.
        file: String,
        /// From where on.
        at: u64,
        /// The bytes.
        #[serde(with = "hex")]
        bytes: Arc<[u8]>,
    },
    /// A file was cut, or made longer.
    Truncate(String, u64),
    /// A file is durable.
    Sync(String),
    /// A sync failed: what was not durable never will be, though it can be read until the end (Linux marks such pages
    /// clean).
    SyncFailed(String),
    /// The engine promised something.
    Mark(Promise),
}

impl Op {
    /// Whether it changes what is on the disk, or what is durable of it.
    pub fn is_of_the_disk(&self) -> bool {
        !matches!(self, Op::Mark(_))
    }
}

/// A life of a database: from what was on the disk, to a clean end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recording {
    /// What was there at its beginning, all of it durable.
    pub before: BTreeMap<String, Before>,
    /// What happened.
    pub ops: Vec<Op>,
}

/// The content of a file at the beginning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Before(#[serde(with = "hex")] pub Arc<[u8]>);

impl Recording {
    /// Writes it to a file.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        Ok(serde_json::to_writer(io::BufWriter::new(fs::File::create(path)?), self)?)
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// The disk's; what is no recording.
    pub fn load(path: &Path) -> io::Result<Recording> {
        Ok(serde_json::from_reader(io::BufReader::new(fs::File::open(path)?))?)
    }
}

/// Records what SQLite and the engine do in one folder.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ops: Vec<Op>,
    names: BTreeSet<String>,
    /// The file that had the WAL's second name at the last look.
    kept: Option<u64>,
}

impl Recorder {
    /// From what is in the folder now.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(folder: &Path) -> io::Result<Arc<Recorder>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder)? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let kept = file_at(&folder.join(KEPT));
        let state = Mutex::new(State { ops: Vec::new(), names, kept });
        Ok(Arc::new(Recorder { folder: folder.to_path_buf(), state }))
    }

    /// The engine promised something: now, before anything that happens after this call.
    pub fn promised(&self, promise: Promise) {
        self.state().ops.push(Op::Mark(promise));
    }

    /// The disk failed to sync this file.
    pub fn failed_to_sync(&self, file: &str) {
        self.state().ops.push(Op::SyncFailed(file.to_string()));
    }

    /// What was recorded.
    pub fn take(&self) -> Vec<Op> {
        self.look();
        std::mem::take(&mut self.state().ops)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees what Everstep did to the WAL's second name, past SQLite.
    fn look(&self) {
        let now = file_at(&self.folder.join(KEPT));
        let mut state = self.state();
        if now == std::mem::replace(&mut state.kept, now) {
            return;
        }
        match now {
            Some(file) if Some(file) == file_at(&self.folder.join(WAL)) => {
                state.ops.push(Op::Link(WAL.into(), KEPT.into()));
            }
            _ => state.ops.push(Op::Delete(KEPT.into())),
        }
    }
}

fn file_at(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|file| file.ino())
}

impl Device for Recorder {
    fn before(&self, _: Call, _: &str) -> Option<Failure> {
        self.look();
        None
    }

    fn after(&self, file: &str, done: Done<'_>) {
        let mut state = self.state();
        let file = file.to_string();
        let op = match done {
            // The database itself is made past SQLite, right before it is opened.
            Done::Opened if state.names.insert(file.clone()) => Op::Create(file),
            Done::Opened => return,
            Done::Deleted => {
                state.names.remove(&file);
                Op::Delete(file)
            }
            Done::Written(at, bytes) => Op::Write { file, at, bytes: bytes.into() },
            Done::Truncated(length) => Op::Truncate(file, length),
            Done::Synced => Op::Sync(file),
            Done::FolderSynced => Op::SyncFolder,
        };
        state.ops.push(op);
    }
}

/// Bytes as text that is only twice as long.
mod hex {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes.iter() {
            text.push(DIGITS[usize::from(byte >> 4)].into());
            text.push(DIGITS[usize::from(byte & 15)].into());
        }
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u8]>, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |two: &[u8]| {
            let two = std::str::from_utf8(two).map_err(D::Error::custom)?;
            u8::from_str_radix(two, 16).map_err(D::Error::custom)
        };
        text.as_bytes().chunks(2).map(byte).collect()
    }
}
