//! The store under the faults: what is committed, without any of them.

use std::{
    any::Any,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use everstep_core::{
    Ctx, Step,
    store::{Durability, Memory, MemoryJob, Store, WorkerId},
};
use everstep_sqlite::{
    Inline, Sqlite, Transaction as _,
    rusqlite::{Connection, OpenFlags},
};
use tempfile::TempDir;

use crate::{history::Made, plan::StoreKind};

/// One opening of the content.
#[derive(Clone, Debug)]
pub enum Base {
    /// In memory.
    Memory(Memory),
    /// In an SQLite file of its own.
    Sqlite(Opened),
}

/// An opening of a file, and the others of the same file.
#[derive(Clone, Debug)]
pub struct Opened {
    store: Sqlite,
    writer: Writer,
    file: Arc<File>,
}

/// Of an opening, until its process dies.
type Writer = Arc<Mutex<Option<Inline>>>;

#[derive(Debug)]
struct File {
    folder: TempDir,
    openings: Mutex<Vec<Weak<Mutex<Option<Inline>>>>>,
}

impl Base {
    /// A fresh content.
    ///
    /// # Panics
    /// If no file can be made.
    pub fn fresh(kind: StoreKind) -> Base {
        match kind {
            StoreKind::Memory => Base::Memory(Memory::default()),
            StoreKind::Sqlite => {
                let folder = TempDir::new_in(fast_folder()).expect("a folder");
                std::fs::write(folder.path().join("sim.db"), template()).expect("writes");
                Base::Sqlite(Opened::new(Arc::new(File { folder, openings: Mutex::default() })))
            }
        }
    }

    /// The opening as the engine knows it.
    pub fn store(&self) -> &dyn Store {
        match self {
            Base::Memory(memory) => memory,
            Base::Sqlite(opened) => &opened.store,
        }
    }

    /// Another opening of the same content, as another process has it.
    pub fn reopen(&self) -> Base {
        match self {
            Base::Memory(memory) => Base::Memory(memory.reopen()),
            Base::Sqlite(opened) => Base::Sqlite(Opened::new(opened.file.clone())),
        }
    }

    /// Whether its queue may be somebody else's than the process's own.
    pub fn may_be_remote(&self) -> bool {
        matches!(self, Base::Memory(_))
    }

    /// Does what was asked for, so that each answer is there.
    pub fn settle(&self) {
        if let Base::Sqlite(opened) = self {
            opened.settle();
        }
    }

    /// The process of this worker is dead. `shows`: everybody can see it at once; on SQLite that is always so.
    pub fn dies(&self, worker: i64, shows: bool) {
        match self {
            Base::Memory(memory) if shows && worker != 0 => memory.vanish(WorkerId(worker)),
            Base::Memory(_) => {}
            Base::Sqlite(opened) => drop(lock(&opened.writer).take()),
        }
    }

    /// The user's rows: how often each was written.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        match self {
            Base::Memory(memory) => {
                let rows = memory.rows().into_iter();
                rows.map(|(label, n)| (label, n.parse().expect("a count"))).collect()
            }
            Base::Sqlite(opened) => opened.rows(),
        }
    }
}

impl Opened {
    fn new(file: Arc<File>) -> Opened {
        let path = file.folder.path().join("sim.db");
        let opened = Sqlite::options().durability(Durability::Process).open_inline(path);
        let (store, inline) = opened.expect("opens");
        let writer = Arc::new(Mutex::new(Some(inline)));
        let mut openings = lock(&file.openings);
        openings.retain(|opening| opening.strong_count() > 0);
        openings.push(Arc::downgrade(&writer));
        drop(openings);
        Opened { store, writer, file }
    }

    fn settle(&self) {
        let wrote = lock(&self.writer).as_mut().is_some_and(Inline::pump);
        if wrote {
            let others: Vec<_> = lock(&self.file.openings).iter().filter_map(Weak::upgrade).collect();
            for other in others.iter().filter(|other| !Arc::ptr_eq(other, &self.writer)) {
                lock(other).iter_mut().for_each(Inline::look);
            }
        }
    }

    fn rows(&self) -> BTreeMap<String, u64> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let conn = Connection::open_with_flags(self.file.folder.path().join("sim.db"), flags).expect("opens");
        let mut rows = conn.prepare("SELECT label, n FROM counted").expect("reads");
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
        rows.expect("reads").map(|row| row.expect("reads")).collect()
    }
}

/// A transactional step of such a store that counts up the row `label`.
pub fn transact(
    kind: StoreKind,
    ctx: &Ctx,
    name: &str,
    label: String,
    make: impl Fn() -> Made + Clone + Send + 'static,
) -> Step<'static, Made> {
    match kind {
        StoreKind::Memory => ctx.transaction_on("memory", name, move |recorder| {
            let (label, make) = (label.clone(), make.clone());
            Box::new(MemoryJob(Box::new(move |rows| {
                let count = rows.get(&label).map_or(0, |n| n.parse().unwrap_or(0)) + 1;
                rows.insert(label, count.to_string());
                recorder.record(make())
            }))) as Box<dyn Any + Send>
        }),
        StoreKind::Sqlite => ctx.transaction(name, move |tx| {
            let sql = "INSERT INTO counted VALUES (?1, 1) ON CONFLICT DO UPDATE SET n = n + 1";
            tx.prepare_cached(sql)?.execute([&label])?;
            Ok(make())
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where files cost no disk, if there is such a place.
fn fast_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
}

/// A database without runs, closed in peace: a seed writes it down sooner than it makes its own.
fn template() -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = TempDir::new_in(fast_folder()).expect("a folder");
        let path = folder.path().join("sim.db");
        let store = Sqlite::options().durability(Durability::Process).open(&path).expect("opens");
        let conn = Connection::open(&path).expect("opens");
        conn.execute_batch("CREATE TABLE counted (label TEXT PRIMARY KEY, n INTEGER NOT NULL)")
            .expect("makes");
        drop((conn, store));
        std::fs::read(path).expect("reads")
    })
}
