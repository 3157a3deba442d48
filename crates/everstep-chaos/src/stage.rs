//! Where it plays: a server of its own, the proxies and the pooler before it, and who goes which way.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use everstep_cluster::{Cluster, Pooler, Private, Settings, proxy::Proxy};
use everstep_postgres::Postgres;
use everstep_processes::clock::Clock;
use tokio::process::{Child, Command};

use crate::{AnyResult, ledger::Ledger, pulse::Pulse, workflows::TABLE};

/// Processes of workers.
pub(crate) const WORKERS: usize = 4;
/// Proxies: before two workers, and before half of those who start runs and send signals.
pub(crate) const PROXIES: usize = 3;
const DATABASE: &str = "chaos";

/// How a worker reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Through(usize),
    Pooled,
}

const WAYS: [Way; WORKERS] = [Way::Direct, Way::Through(0), Way::Pooled, Way::Through(1)];
/// The worker whose clock is wrong. It has only workflows without times.
const CLOCKED: usize = 3;
/// The proxy of those outside; those before it are workers'.
pub(crate) const OUTSIDE: usize = 2;

/// The stage.
pub(crate) struct Stage {
    pub(crate) cluster: Arc<Private>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) pulse: Pulse,
    pooler: Pooler,
    /// The database of the workers is.
    hostile: bool,
    folder: PathBuf,
}

impl Stage {
    /// A server, started, with the tables in it. `folder` is for the ledger and the logs.
    pub(crate) async fn new(folder: PathBuf, hostile: bool) -> AnyResult<Stage> {
        // A start after a crash syncs every file of a cluster that was never synced: of one file system that is one call.
        let more = vec![("recovery_init_sync_method".to_string(), "syncfs".to_string())];
        let settings = Settings { more, ..Settings::default() };
        let cluster = tokio::task::spawn_blocking(|| Cluster::private(settings)).await??;
        let admin = cluster.connect("postgres").await?;
        admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        // The schema is made before anything breaks.
        drop(Postgres::open(&cluster.url(DATABASE)).await?);
        cluster.connect(DATABASE).await?.batch_execute(TABLE).await?;
        let mut proxies = Vec::new();
        for _ in 0..PROXIES {
            proxies.push(Proxy::start(&cluster.url(DATABASE)).await?);
        }
        let pooler = Pooler::start(&cluster, DATABASE)?;
        let clock = Clock::right(folder.join("clock"));
        let ledger = Ledger::open(&folder.join("ledger"))?;
        let (cluster, pulse) = (Arc::new(cluster), Pulse::new());
        Ok(Stage { cluster, proxies, clock, ledger, pulse, pooler, hostile, folder })
    }

    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    /// Keeps what the server and the pooler logged.
    pub(crate) fn keep_log(&self) -> std::io::Result<u64> {
        std::fs::copy(self.pooler.log(), self.log_path("pooler"))?;
        std::fs::copy(self.cluster.log(), self.log_path("server"))
    }

    /// Where what this process says is kept.
    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Past everything that breaks but the server.
    pub(crate) fn url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// For half of those outside.
    pub(crate) fn broken_url(&self) -> String {
        self.proxies[OUTSIDE].url()
    }

    /// The seat of the worker behind a proxy.
    pub(crate) fn behind(&self, proxy: usize) -> Option<usize> {
        WAYS.iter().position(|way| *way == Way::Through(proxy))
    }

    /// The process of a worker.
    pub(crate) fn worker(&self, seat: usize, name: &str) -> AnyResult<Child> {
        let (url, way) = match WAYS[seat] {
            Way::Direct => (self.url(), "direct"),
            Way::Through(proxy) => (self.proxies[proxy].url(), "direct"),
            Way::Pooled => (self.pooler.url().to_string(), "pooled"),
        };
        let way = if self.hostile { "hostile" } else { way };
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("worker").arg(url).arg(self.ledger_path()).args([name, way]);
        command.arg(if seat == CLOCKED { "untimed" } else { "all" });
        if seat == CLOCKED {
            self.clock.tells(&mut command);
        }
        let mut command = Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // What a panic says comes there.
        command.stderr(std::fs::File::create(self.log_path(&format!("{name}.errors")))?);
        Ok(command.spawn()?)
    }

    /// What brings the server down, until it is there again.
    pub(crate) async fn breaks(
        &self,
        down: impl FnOnce(&Private) -> Result<(), everstep_cluster::Error> + Send + 'static,
    ) -> AnyResult<()> {
        let cluster = self.cluster.clone();
        self.pulse.is_hindered();
        tokio::task::spawn_blocking(move || {
            down(&cluster)?;
            cluster.start()
        })
        .await??;
        self.pulse.is_healed();
        Ok(())
    }
}
