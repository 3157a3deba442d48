//! A life of a database: it is opened, an engine works on it, it is closed. Undisturbed lives are recorded; what a crash
//! left must be able to go on with one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use everstep::{
    Engine, EngineError, ErrorKind, Event, Events, Settings,
    journal::Kind,
    sqlite::Sqlite,
    store::{Durability, StoreError},
};
use everstep_sqlite::rusqlite::{Connection, OpenFlags};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Runtime;

use crate::{
    content::Content,
    promise::{Ending, Promise},
    recording::{DATABASE, Recorder, Recording},
    story::{self, Part, World},
    vfs::{self, Device, Watch},
    witness::{Owed, Witness},
};

/// Runs that go on side by side: enough company for common commits, and not all in one.
const AT_ONCE: usize = 6;
/// How long a worker is waited for whose lock file was lost.
const LEASE: Duration = Duration::from_millis(400);

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The level.
    pub durability: Durability,
    /// Pages between two checkpoints.
    pub wal_pages: u64,
}

impl Setup {
    /// Opens the database in a folder.
    ///
    /// # Errors
    /// The store's.
    pub fn open(self, folder: &Path, through: Option<&str>) -> Result<Sqlite, StoreError> {
        let options = Sqlite::options().durability(self.durability).wal_pages(self.wal_pages);
        match through {
            Some(vfs) => options.vfs(vfs).open(folder.join(DATABASE)),
            None => options.open(folder.join(DATABASE)),
        }
    }
}

/// A folder in memory: nothing here has to survive this machine.
///
/// # Panics
/// If there is no room.
pub fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("room for a folder")
}

/// What drives the engines of one thread.
///
/// # Panics
/// If there are no threads.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads for a runtime")
}

/// Lives through the whole story in a fresh file, in two openings, and records it.
///
/// # Errors
/// What went wrong, though nothing was broken.
pub fn record(setup: Setup, parts: &[Part]) -> Result<Recording, String> {
    let folder = folder();
    let (recorder, watch) = listen(folder.path())?;
    let (first, all) = (&parts[..parts.len() / 2], parts);
    for part_of_it in [first, all] {
        live(folder.path(), setup, part_of_it, Some(&recorder))?;
    }
    drop(watch);
    Ok(Recording { before: Default::default(), ops: recorder.take() })
}

/// Listens to everything that goes to a folder through our VFS.
///
/// # Errors
/// The disk's.
pub fn listen(folder: &Path) -> Result<(Arc<Recorder>, Watch), String> {
    let recorder = Recorder::new(folder).map_err(|e| e.to_string())?;
    let device: Arc<dyn Device> = recorder.clone();
    Ok((recorder, vfs::watch(folder, device)))
}

/// Opens the database in a folder, brings these runs to their ends, closes it; what the bodies were.
///
/// # Errors
/// What failed, or ended otherwise than it should.
pub fn live(
    folder: &Path,
    setup: Setup,
    parts: &[Part],
    recorder: Option<&Arc<Recorder>>,
) -> Result<World, String> {
    let through = recorder.map(|_| vfs::NAME);
    let store = setup.open(folder, through).map_err(|e| format!("it cannot be opened: {e}"))?;
    make_table(folder, through).map_err(|e| format!("the user's table cannot be made: {e}"))?;
    if let Some(recorder) = recorder {
        recorder.promised(Promise::Table);
    }
    let doubts = doubts(folder)?;
    let world = World::told_to(recorder.cloned());
    let ended = runtime().block_on(async {
        let engine = start(store, world.clone(), recorder, Owed::default()).await?;
        let ended = play(&engine, parts, recorder).await;
        engine.shutdown().await?;
        ended
    });
    let ended = ended.map_err(|e: EngineError| format!("a run cannot go on: {e}"))?;
    for (part, ending) in parts.iter().zip(ended) {
        let undisturbed = story::ending(part);
        let may_doubt = doubts.contains(&part.id) && ending == in_doubt();
        if ending != undisturbed && !may_doubt {
            return Err(format!("run {} ended with {ending:?} instead of {undisturbed:?}", part.id));
        }
    }
    Ok(world)
}

fn in_doubt() -> Ending {
    Ending::Value(format!("{:?}", story::IN_DOUBT))
}

/// The user's own program beside the engine.
fn make_table(folder: &Path, through: Option<&str>) -> everstep_sqlite::rusqlite::Result<()> {
    let (path, flags) = (folder.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_WRITE);
    let conn = match through {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch(story::TABLE)
}

/// The runs whose step was started and has no outcome.
fn doubts(folder: &Path) -> Result<Vec<String>, String> {
    let read = || {
        let content = Content::read(&crate::content::look(&folder.join(DATABASE))?)?;
        let in_doubt = |(_, run): &(&String, &i64)| {
            let key = story::SEND.to_string();
            content.started.contains(&(**run, key.clone())) || content.has(**run, &key, &[Kind::StepFailed])
        };
        let runs = content.runs.iter().filter(in_doubt);
        Ok(runs.map(|(id, _)| id.clone()).collect())
    };
    read().map_err(|e: everstep_sqlite::rusqlite::Error| e.to_string())
}

/// An engine that plays the story.
///
/// # Errors
/// The store's.
pub(crate) async fn start(
    store: Sqlite,
    world: World,
    recorder: Option<&Arc<Recorder>>,
    owed: Owed,
) -> Result<Engine, EngineError> {
    let builder = match recorder {
        Some(recorder) => Engine::builder(Witness { inner: store, recorder: recorder.clone(), owed }),
        None => Engine::builder(store),
    };
    let settings = Settings { lease: LEASE, build: Some("disk".to_string()), ..Settings::default() };
    story::register(builder, world).settings(settings).start().await
}

/// Starts the runs, again if they are there, and waits for their ends.
async fn play(
    engine: &Engine,
    parts: &[Part],
    recorder: Option<&Arc<Recorder>>,
) -> Result<Vec<Ending>, EngineError> {
    let told = recorder.map(|recorder| tokio::spawn(tell(engine.events(), recorder.clone())));
    let ended = stream::iter(parts).map(|part| end(engine, part, recorder)).buffered(AT_ONCE);
    let ended = ended.try_collect().await;
    if let Some(told) = told {
        told.abort();
    }
    ended
}

/// Writes down what the engine tells.
pub(crate) async fn tell(mut events: Events, recorder: Arc<Recorder>) {
    while let Some(event) = events.next().await {
        if let Event::StepDone { run, key, .. } = event {
            recorder.promised(Promise::StepDone(run.to_string(), key.to_string()));
        }
    }
}

/// Starts one run, cancels it if that is its part, and waits for its end.
///
/// # Errors
/// The first that is heard.
pub(crate) async fn end(
    engine: &Engine,
    part: &Part,
    recorder: Option<&Arc<Recorder>>,
) -> Result<Ending, EngineError> {
    let run = engine.start(part.workflow, part.id.clone(), part.input).await?;
    if part.is_cancelled() {
        engine.cancel(&part.id, "as planned").await?;
    }
    let ending = match run.result().await {
        Ok(value) => Ending::Value(format!("{value:?}")),
        Err(error) if error.kind() == ErrorKind::Cancelled => Ending::Cancelled,
        Err(error) => return Err(error),
    };
    if let Some(recorder) = recorder {
        recorder.promised(Promise::Result(part.id.clone(), ending.clone()));
    }
    Ok(ending)
}

/// Lets an engine go on with what a crash has left, to the end: every run ends as it would have without the crash, and
/// what was recorded did not run again.
///
/// # Errors
/// What is not so.
pub fn go_on(folder: &Path, setup: Setup, parts: &[Part], left: &Content) -> Result<(), String> {
    let world = live(folder, setup, parts, None)?;
    if fs::metadata(folder.join("app.db-wal")).is_ok_and(|wal| wal.len() > 0) {
        return Err("the WAL is still there after a clean close".to_string());
    }
    let database = folder.join(DATABASE);
    let read = || Content::read(&crate::content::look(&database)?);
    let after = read().map_err(|e| format!("it cannot be read after the end: {e}"))?;
    if let Some(flaw) = after.flaw() {
        return Err(flaw);
    }
    did_not_run_again(&world, left)
}

/// Whether no body ran of which `left` has the outcome.
pub(crate) fn did_not_run_again(world: &World, left: &Content) -> Result<(), String> {
    for (run, key, attempt) in world.bodies().into_keys() {
        let is_over = left.journal(&run).iter().any(|entry| {
            entry.key.as_deref() == Some(&key)
                && match Kind::from_code(entry.kind) {
                    Some(Kind::StepDone | Kind::StepFailed) => true,
                    Some(Kind::AttemptFailed) => entry.attempt >= attempt,
                    _ => false,
                }
        });
        if is_over {
            return Err(format!("attempt {attempt} of step {key} of run {run} was recorded and ran again"));
        }
    }
    Ok(())
}
