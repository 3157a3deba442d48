//! What is fuzzed: each function takes any bytes and panics when something does not hold. Called by the targets of
//! cargo-fuzz (nightly) and, with chosen bytes, by the property tests of the crate `everstep` (stable).

use std::{path::Path, sync::OnceLock, time::Duration};

use everstep::{
    AttributeValue, Client, Code, Ctx, Engine, EngineError, Result, Settings, Status, Timestamp, Workflow,
    journal::{Answer, AttemptFailed, Entry, Failure, Kind, Outcome, Payload, Start, decode, encode},
    sqlite::{
        Sqlite,
        rusqlite::{Connection, types::Value},
    },
    store::{Condition, Filter, Memory, RunId, RunRow},
};

const W: Workflow<u64, u64> = Workflow::new("w");

/// The bytes that are left.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[usize::from(self.byte()) % all.len()]
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What entries and messages carry: decoded, or refused with words; what decodes is written and decodes to the same.
pub fn bodies(data: &[u8]) {
    fn comes_back<T: serde::Serialize + serde::de::DeserializeOwned>(payload: &Payload) {
        match decode::<T>(payload) {
            Err(why) => assert!(!why.is_empty()),
            Ok(body) => {
                let written = encode(&body);
                let again = decode::<T>(&written).expect("what was written can be read");
                assert_eq!(encode(&again), written);
            }
        }
    }
    let mut data = Bytes(data);
    let (which, codec) = (data.byte(), data.byte());
    let payload = Payload { codec: codec % 3, bytes: data.rest().to_vec() };
    match which % 5 {
        0 => comes_back::<Start>(&payload),
        1 => comes_back::<Failure>(&payload),
        2 => comes_back::<AttemptFailed>(&payload),
        3 => comes_back::<Answer>(&payload),
        _ => comes_back::<String>(&payload),
    }
}

/// The last entry of a journal, of any kind: its outcome is told, or it has none.
pub fn outcomes(data: &[u8]) {
    let mut data = Bytes(data);
    let kind = u16::from_le_bytes([data.byte(), data.byte() % 2]);
    let entry = Entry {
        seq: 1,
        kind,
        key: None,
        attempt: 0,
        input: None,
        body: Payload { codec: data.byte() % 2, bytes: data.rest().to_vec() },
        site: None,
        build: "b".into(),
        fingerprint: 0,
        at: Timestamp(0),
    };
    let told = Outcome::told_by(&entry);
    let ends = matches!(Kind::from_code(kind), Some(Kind::Completed | Kind::Failed | Kind::Cancelled));
    assert!(ends || told.is_none(), "kind {kind} is no outcome");
}

/// The filter language: a filter, or the place where it cannot be read.
pub fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let row = |status| RunRow {
        run: RunId(1),
        id: "a".into(),
        workflow: "w".into(),
        status,
        owner: None,
        wake_at: None,
        inbox_n: 0,
        generation: 0,
        takeovers: 0,
        created_at: Timestamp(5),
        began_at: None,
        finished_at: None,
    };
    match Filter::parse(text, Timestamp(7)) {
        Ok(filter) => {
            for value in [AttributeValue::from("a"), 1.into(), 0.5.into(), true.into(), Timestamp(9).into()] {
                // Each name that is asked for is there, and another.
                let asked = filter.conditions.iter().filter_map(|condition| match condition {
                    Condition::AttributeIs { name, .. } | Condition::AttributeLies { name, .. } => {
                        Some(name.clone())
                    }
                    Condition::Status(_) | Condition::Text { .. } | Condition::Time { .. } => None,
                });
                let attributes = asked.chain(["b".into()]).map(|name| (name, value.clone())).collect();
                for status in Status::ALL {
                    let whole = filter.matches(&row(status), &attributes);
                    let one = |condition: &Condition| {
                        let alone = Filter { conditions: vec![condition.clone()] };
                        alone.matches(&row(status), &attributes)
                    };
                    assert_eq!(whole, filter.conditions.iter().all(one), "{text:?}");
                }
            }
        }
        Err(error) => {
            assert!(error.at <= text.chars().count(), "{error}: beyond the end of {text:?}");
            assert!(!error.expected.is_empty());
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Run ids: taken as they are, or refused as the documentation says, and nothing between.
pub fn run_ids(data: &[u8]) {
    let Ok(id) = std::str::from_utf8(data) else { return };
    block_on(async {
        let client = Client::new(Memory::default());
        let good =
            !id.is_empty() && id.len() <= everstep::RUN_ID_BYTES_MAX && !id.chars().any(char::is_control);
        match client.start(W, id, 1).await {
            Ok(run) => {
                assert!(good, "{id:?} was taken");
                assert_eq!(run.id(), id);
                client.get(W, id).await.expect("is found under it");
            }
            Err(error) => {
                assert!(!good, "{id:?} was refused: {error}");
                assert!([Code::BAD_NAME, Code::TOO_LONG].contains(&error.code()), "{error}");
            }
        }
    });
}

/// Names of steps and scopes, and the keys they become: `name`, `name#2`, `name#3/name`.
pub fn names(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let good = !name.is_empty()
        && name.len() <= everstep::NAME_BYTES_MAX
        && !name.starts_with('$')
        && !name.contains(['/', '#'])
        && !name.chars().any(char::is_control);
    let given = name.to_string();
    let named = move |ctx: Ctx, n: u64| {
        let name = given.clone();
        async move {
            for _ in 0..2 {
                ctx.step(&name, async || Ok(n)).await?;
            }
            ctx.scope(&name, async |ctx| ctx.step(&name, async || Ok(n)).await).await
        }
    };
    block_on(async {
        let engine = Engine::builder(Memory::default()).register(W, named).start().await.expect("starts");
        let run = engine.start(W, "r", 1).await.expect("starts");
        match run.result().await {
            Ok(_) => assert!(good, "{name:?} was taken"),
            Err(error) => {
                assert!(!good, "{name:?} was refused: {error}");
                assert!([Code::BAD_NAME, Code::TOO_LONG].contains(&error.code()), "{error}");
                return;
            }
        }
        let journal = run.journal().await.expect("reads");
        let keys: Vec<_> = journal.iter().filter_map(|entry| entry.key.as_deref()).collect();
        assert_eq!(keys, [name, &format!("{name}#2"), &format!("{name}#3/{name}")]);
    });
}

/// What the runs of [`template`] do; whoever makes it stops in the last step of one of them.
async fn flow(ctx: Ctx, n: u64, stops: bool) -> Result<u64> {
    let first = ctx.step("first", async || Ok(n)).await?;
    let inner = ctx.scope("in", async |ctx| ctx.step("second", async || Ok(first + 1)).await).await?;
    let _ = ctx.step("fails", async || Err::<u64, _>("on purpose".into())).await;
    ctx.sleep(Duration::from_millis(1)).await;
    ctx.step("last", async || if stops && n == STOPS { std::future::pending().await } else { Ok(inner) })
        .await
}

/// The input of a run that is open in the template; its result is one more.
const STOPS: u64 = 4;

/// A database with a run that is over, one that failed and one that is open.
fn template() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("app.db");
        block_on(async {
            let engine = open(&path, true).await.expect("opens");
            engine.run(W, "over", 1).await.expect("completes");
            engine.run(W, "none", 2).await.expect("completes");
            let open = engine.start(W, "open", STOPS).await.expect("starts");
            while open.journal().await.expect("reads").len() < 5 {
                tokio::task::yield_now().await;
            }
            engine.shutdown().await.expect("leaves");
        });
        std::fs::read(path).expect("reads")
    })
}

async fn open(path: &Path, stops: bool) -> std::result::Result<Engine, EngineError> {
    let settings = Settings { grace: Duration::ZERO, build: Some("fuzz".to_string()), ..Settings::default() };
    let flow = move |ctx: Ctx, n: u64| flow(ctx, n, stops);
    Engine::builder(Sqlite::open(path)?).register(W, flow).settings(settings).start().await
}

/// What became of the run that was open when its database was damaged.
#[allow(dead_code, reason = "what is in it is for whoever reads a failure")]
#[derive(Debug)]
pub enum Became {
    /// The database was not opened, or the run not found.
    Refused(EngineError),
    /// It ended, or is stuck.
    Ended(std::result::Result<u64, EngineError>),
    /// It still waits, and its status says so.
    Waits(std::result::Result<Status, EngineError>),
}

/// Opens a database in which `damage` has changed something; `None` if the database let nobody do that.
pub fn open_damaged(
    damage: impl FnOnce(&Connection) -> everstep::sqlite::rusqlite::Result<usize>,
) -> Option<Became> {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("app.db");
    std::fs::write(&path, template()).expect("writes");
    let connection = Connection::open(&path).expect("opens");
    connection.execute_batch("PRAGMA ignore_check_constraints = ON").expect("a setting");
    if damage(&connection).ok()? == 0 {
        return None;
    }
    drop(connection);
    Some(block_on(look(&path)))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a run may wait for ever after this, and that is seen by waiting"
)]
async fn look(path: &Path) -> Became {
    let engine = match open(path, false).await {
        Ok(engine) => engine,
        Err(error) => return Became::Refused(error),
    };
    let became = match engine.get(W, "open").await {
        Err(error) => Became::Refused(error),
        Ok(run) => match tokio::time::timeout(Duration::from_millis(400), run.result()).await {
            Ok(result) => Became::Ended(result),
            Err(_) => Became::Waits(run.status().await),
        },
    };
    for other in ["over", "none"] {
        if let Ok(run) = engine.get(W, other).await {
            let _ = tokio::time::timeout(Duration::from_millis(50), run.result()).await;
            let _ = run.journal().await;
        }
    }
    let _ = engine.list("status != paused").await;
    let _ = tokio::time::timeout(Duration::from_millis(400), engine.shutdown()).await;
    became
}

const TABLES: [&str; 7] = [
    "everstep_meta",
    "everstep_name",
    "everstep_worker",
    "everstep_run",
    "everstep_run_count",
    "everstep_journal",
    "everstep_inbox",
];

/// Any value in any column of any row: an error, a run that is stuck, one that waits, or one that ends; no panic.
pub fn damage(data: &[u8]) {
    let mut data = Bytes(data);
    let table = *data.one_of(&TABLES);
    let (column, row, kind) = (data.byte(), data.byte(), data.byte());
    let rest = data.rest();
    let number = || rest.iter().take(8).fold(0i64, |n, byte| n << 8 | i64::from(*byte));
    let value = match kind % 4 {
        0 => Value::Null,
        1 => Value::Integer(number()),
        2 => Value::Text(String::from_utf8_lossy(rest).into_owned()),
        _ => Value::Blob(rest.to_vec()),
    };
    open_damaged(|connection| {
        let count = |sql: String| connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        let columns = count(format!("SELECT count(*) FROM pragma_table_info('{table}')"))?;
        let rows = count(format!("SELECT count(*) FROM {table}"))?;
        if rows == 0 {
            return Ok(0);
        }
        let name = format!(
            "SELECT name FROM pragma_table_info('{table}') WHERE cid = {}",
            i64::from(column) % columns
        );
        let column: String = connection.query_row(&name, [], |row| row.get(0))?;
        let keys = format!("SELECT group_concat(name) FROM pragma_table_info('{table}') WHERE pk > 0");
        let keys: String = connection.query_row(&keys, [], |row| row.get(0))?;
        let nth = i64::from(row) % rows;
        let sql = format!(
            "UPDATE {table} SET {column} = ?1 WHERE ({keys}) IN (SELECT {keys} FROM {table} LIMIT 1 OFFSET {nth})"
        );
        connection.execute(&sql, [&value])
    });
}
