//! One server: its data in a folder, made and started by its own programs. Who uses it is not known
//! here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{
    account::Account,
    address::{Address, USER},
    certificate,
    error::{Error, Result, While},
    postmaster::{Postmaster, orphans_leave},
    programs::{Programs, said_by},
    settings::Settings,
};

/// Against hanging only, in seconds: a recovery after a crash is part of a start.
const HANGS: &str = "120";
/// So much of the server's log is part of an error.
const TOLD_LINES: usize = 20;

/// A folder with a server's data, its socket and its log.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) programs: Programs,
    pub(crate) account: Account,
    pub(crate) address: Address,
    settings: Settings,
}

impl Server {
    /// Nothing is made or started by this. The folder is there and belongs to the account.
    pub(crate) fn in_folder(folder: &Path, settings: Settings, programs: Programs) -> Result<Server> {
        let address = Address::in_folder(folder, settings.tcp)?;
        Ok(Server { programs, account: Account::of_servers()?, address, settings })
    }

    fn folder(&self) -> &Path {
        &self.address.folder
    }

    /// Whether it waits for its disk.
    pub(crate) fn syncs(&self) -> bool {
        self.settings.fsync
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Makes the data of an empty cluster.
    pub(crate) fn make(&self) -> Result<()> {
        if self.settings.tls {
            certificate::make(self.folder(), &self.account)?;
        }
        let mut initdb = self.programs.command("initdb");
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.arg(format!("--username={USER}")).arg("-D").arg(self.data());
        self.account.runs(&mut initdb);
        said_by(&mut initdb).during(|| "make a cluster".into())?;
        let file = self.data().join("postgresql.conf");
        let theirs = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
        fs::write(&file, theirs + &self.settings.lines()).during(|| format!("write {}", file.display()))
    }

    /// Starts it and waits until it answers, after a recovery if one is due.
    pub(crate) fn start(&self) -> Result<()> {
        if self.postmaster()?.is_some() {
            return Err(Error::new("the server runs already"));
        }
        self.forget_the_dead()?;
        let mut command = self.programs.command("pg_ctl");
        self.account.runs(&mut command);
        command
            .arg("-D")
            .arg(self.data())
            .args(["start", "-w", "-t", HANGS, "-l"])
            .arg(self.log())
            .arg("-o")
            .arg(self.place());
        // It outlives whoever starts it and must keep none of its pipes open, or a test would seem never to end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().during(|| format!("{command:?}"))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(format!(
            "the server does not start ({status}); its log ends with\n{}",
            self.last_lines()
        )))
    }

    /// What a killed postmaster leaves. The next one would refuse to start as long as the system has not taken note of
    /// that end, and as long as there are children, who are waited for.
    fn forget_the_dead(&self) -> Result<()> {
        orphans_leave(&self.data())?;
        let socket = format!(".s.PGSQL.{}.lock", self.address.port);
        for left in [self.data().join("postmaster.pid"), self.folder().join(socket)] {
            if left.exists() {
                fs::remove_file(&left).during(|| format!("remove {}", left.display()))?;
            }
        }
        Ok(())
    }

    /// The settings that say where it is: not part of the data, so that a copy can start elsewhere.
    fn place(&self) -> String {
        let file = |name: &str| quoted(&self.folder().join(name));
        let mut place = format!("-p {} -k {}", self.address.port, quoted(self.folder()));
        if self.settings.tls {
            let (certificate, key) = (file(certificate::CERTIFICATE), file(certificate::KEY));
            place += &format!(" -c ssl_cert_file={certificate} -c ssl_key_file={key}");
        }
        place
    }

    /// `None` if it does not run.
    pub(crate) fn postmaster(&self) -> Result<Option<Postmaster>> {
        Postmaster::of(&self.data())
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n")
    }
}

/// As one word for the shell, through which `pg_ctl` starts the server.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
