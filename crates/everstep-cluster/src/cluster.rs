//! What tests ask for: a server, and a database of their own on it.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_postgres::Client;

use crate::{
    database::{self, Database},
    error::Result,
    home::{self, Home},
    private::Private,
    programs::Programs,
    server::Server,
    settings::Settings,
};

/// A running PostgreSQL server that nobody else knows of.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) server: Server,
    /// The lock of those who use a shared one.
    used: Option<File>,
    /// Whether the databases of the dead were looked for.
    swept: AtomicBool,
}

impl Cluster {
    /// The server that all processes of this user share: the first to ask starts it, and it ends by itself when none of
    /// them has run for a minute. Nobody may stop it or change its settings; it does not sync its files.
    ///
    /// Its version is the installed one, or what the environment variable [`VERSION`](crate::VERSION) says.
    ///
    /// # Errors
    /// There is no server and none could be installed, or it does not start; its log is in the error.
    pub fn shared() -> Result<&'static Cluster> {
        Cluster::shared_of(None)
    }

    /// As [`Cluster::shared`], of a major version. One that is not installed is fetched from the npm registry.
    ///
    /// # Errors
    /// As [`Cluster::shared`]
    pub fn version(major: u32) -> Result<&'static Cluster> {
        Cluster::shared_of(Some(major))
    }

    fn shared_of(version: Option<u32>) -> Result<&'static Cluster> {
        static STARTED: Mutex<BTreeMap<Option<u32>, &'static Cluster>> = Mutex::new(BTreeMap::new());
        // Whoever panicked in here has inserted nothing.
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = started.get(&version) {
            return Ok(cluster);
        }
        let settings = Settings::shared(version);
        let programs = Programs::get(version)?;
        let home = Home::of(&programs, &settings)?;
        let server = Server::in_folder(home.folder(), settings, programs)?;
        let used = Some(home.start(&server)?);
        let cluster = Box::leak(Box::new(Cluster { server, used, swept: AtomicBool::new(false) }));
        Ok(started.entry(version).or_insert(cluster))
    }

    /// Keeps a shared server after the last of its users, until [`Cluster::stop_shared`].
    ///
    /// # Errors
    /// The file system's
    pub fn keep(&self) -> Result<()> {
        Home::of(&self.server.programs, &Settings::shared(None))?.keep()
    }

    /// Stops all shared servers of this user, also while they are used, and says how many ran.
    ///
    /// # Errors
    /// One of them does not stop
    pub fn stop_shared() -> Result<usize> {
        home::stop_all()
    }

    /// A server of one's own, started.
    ///
    /// # Errors
    /// As [`Cluster::shared`]
    pub fn private(settings: Settings) -> Result<Private> {
        Private::start_new(settings)
    }

    /// For [`Private`].
    pub(crate) fn own(server: Server) -> Cluster {
        Cluster { server, used: None, swept: AtomicBool::new(true) }
    }

    /// An empty database of one's own. It is dropped with the value; if this process is killed, a later one drops it.
    ///
    /// # Errors
    /// The server's
    pub async fn database(&self) -> Result<Database> {
        let admin = self.url("postgres");
        if self.used.is_some() && !self.swept.swap(true, Ordering::Relaxed) {
            database::sweep(&admin).await?;
        }
        Database::create(self.server.address.clone(), "template0", self.fastest()).await
    }

    /// As [`Cluster::database`], with everything that is in `of`, to which nobody may be connected.
    ///
    /// # Errors
    /// The server's
    pub async fn copy(&self, of: &Database) -> Result<Database> {
        Database::create(self.server.address.clone(), of.name(), self.fastest()).await
    }

    /// How a database is made. Where nothing is synced, copied files take a tenth of the time of pages that go through
    /// the log, which is what servers do by themselves since they know both.
    fn fastest(&self) -> &'static str {
        if !self.server.syncs() && self.major() >= 15 { " STRATEGY file_copy" } else { "" }
    }

    /// A URL for a database on this server, by its socket; its user may do everything.
    pub fn url(&self, database: &str) -> String {
        self.server.address.url(database)
    }

    /// As [`Cluster::url`] by TCP, if it listens there. With TLS, clients say `sslmode` themselves.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        self.server.address.tcp_url(database)
    }

    /// A connection to a database; it lives on the runtime of the caller, until the client is dropped.
    ///
    /// # Errors
    /// The server's
    pub async fn connect(&self, database: &str) -> Result<Client> {
        database::connect(&self.url(database)).await
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.server.programs.major()
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.server.address.socket()
    }

    /// The file that it writes its log to.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }
}
