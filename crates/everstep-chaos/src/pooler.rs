//! pgbouncer in transaction mode between one worker and the server.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::AnyResult;

/// Debian's package, and its program.
const PROGRAM: &str = "pgbouncer";

/// A pooler that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Pooler {
    child: Child,
    url: String,
}

impl Pooler {
    /// Starts it before a server on this port of the loopback interface.
    pub(crate) fn start(folder: &Path, server: u16, database: &str) -> AnyResult<Pooler> {
        let program = program()?;
        // Whoever has it between here and there is a failure that says so.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let file = folder.join("pgbouncer.ini");
        // After a server that was down it tries again soon; else it would be down for 15 s itself.
        let settings = format!(
            "[databases]\n{database} = host=127.0.0.1 port={server} user=postgres dbname={database}\n\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 30\nmax_client_conn = 200\nserver_login_retry = 0.3\n"
        );
        fs::write(&file, settings)?;
        let mut command = Command::new(program);
        command.arg("-q").stdin(Stdio::null()).stdout(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // It refuses root, and needs no rights.
            command.args(["-u", "nobody"]);
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        let log = fs::File::create(folder.join("pgbouncer.log"))?;
        let child = command.arg(&file).stderr(log).spawn()?;
        Ok(Pooler { child, url: format!("postgres://postgres@127.0.0.1:{port}/{database}") })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it is; installed, if it is missing and we may.
fn program() -> AnyResult<&'static Path> {
    let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(Path::new);
    let found = || places.into_iter().find(|place| place.is_file());
    if found().is_none() {
        println!("installing pgbouncer: apt-get install -y --no-install-recommends {PROGRAM}");
        for args in [&["update"][..], &["install", "-y", "--no-install-recommends", PROGRAM]] {
            // Either may fail: what counts is what is there afterwards.
            let mut apt = Command::new("apt-get");
            let _ = apt.env("DEBIAN_FRONTEND", "noninteractive").args(args).output();
        }
    }
    found().ok_or_else(|| format!("there is no {PROGRAM}, and it could not be installed").into())
}
