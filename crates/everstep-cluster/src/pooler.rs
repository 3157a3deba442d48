//! pgbouncer in transaction mode before a server: each transaction may have another connection, and a session is nobody's.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    address::{Address, USER},
    cluster::Cluster,
    error::{Error, Result, While},
    home,
    programs::apt_get,
};

/// Debian's package, and its program.
const PROGRAM: &str = "pgbouncer";
const PLACES: [&str; 3] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
/// What it says when it listens.
const READY: &str = "process up";

/// A pooler that runs. Dropped, it is killed and its folder removed.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    folder: TempDir,
    url: String,
}

impl Pooler {
    /// Starts it before a database of a server, and waits until it listens. What is not there is installed, and that is
    /// printed.
    ///
    /// # Errors
    /// There is no pgbouncer and none could be installed, or it does not start; what it said is in the error.
    pub fn start(cluster: &Cluster, database: &str) -> Result<Pooler> {
        let (program, server) = (program()?, &cluster.server);
        let folder = tempfile::Builder::new()
            .prefix("everstep-pooler-")
            .tempdir()
            .during(|| "make a folder".into())?;
        let address = Address::in_folder(folder.path(), false)?;
        let (to, behind) = (&server.address, folder.path().display());
        // After a server that was down it tries again soon; else it would be down for 15 s itself.
        let settings = format!(
            "[databases]\n{database} = host={} port={} user={USER} dbname={database}\n\n[pgbouncer]\nlisten_port = {}\n\
             unix_socket_dir = {behind}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 30\n\
             max_client_conn = 200\nserver_login_retry = 0.3\n",
            to.folder.display(),
            to.port,
            address.port,
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).during(|| format!("write {}", file.display()))?;
        // It refuses root, and must be let into the server's folder.
        server.account.owns(folder.path())?;
        server.account.owns(&file)?;
        let mut command = Command::new(program);
        server.account.runs(&mut command);
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().during(|| format!("{command:?}"))?;
        let log = folder.path().join("log");
        let mut pooler = Pooler { child, folder, url: address.url(database) };
        pooler.is_ready(&log)?;
        Ok(pooler)
    }

    /// How it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Reads what it says until it listens, and has the rest written down.
    fn is_ready(&mut self, log: &Path) -> Result<()> {
        let saying = || format!("write {}", log.display());
        let mut kept = File::create(log).during(saying)?;
        let mut lines = BufReader::new(self.child.stderr.take().expect("piped"));
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).during(|| format!("hear {PROGRAM}"))? == 0 {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(Error::new(format!("{PROGRAM} does not start; it said\n{said}")));
            }
            kept.write_all(line.as_bytes()).during(saying)?;
            if line.contains(READY) {
                break;
            }
        }
        // Until its end: a pipe that nobody reads would stop it one day.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut kept));
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it is; installed, if it is missing and we may.
fn program() -> Result<&'static Path> {
    let found = || PLACES.into_iter().map(Path::new).find(|place| place.is_file());
    if found().is_none() && rustix::process::geteuid().is_root() && Path::new("/etc/debian_version").exists()
    {
        // One at a time, and whoever waited finds it done.
        let _lock = home::lock(Path::new("/run/everstep-postgres-install"))?;
        if found().is_none() {
            println!("installing pgbouncer: apt-get install -y --no-install-recommends {PROGRAM}");
            // Either may fail: what counts is what is there afterwards.
            let _ = apt_get(&["update"]);
            let _ = apt_get(&["install", "-y", "--no-install-recommends", PROGRAM]);
        }
    }
    found().ok_or_else(|| Error::new(format!("there is no {PROGRAM} here: install it (Debian: {PROGRAM})")))
}
