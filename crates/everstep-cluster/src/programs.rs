//! Where the programs of a server are: installed here, or fetched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    error::{Error, Result, While},
    home, registry,
};

/// The environment variable that names the folder of the programs.
pub const BIN: &str = "EVERSTEP_POSTGRES_BIN";
/// The environment variable that names the major version that is meant when none is asked for.
pub const VERSION: &str = "EVERSTEP_POSTGRES_VERSION";

/// Where Debian has them: outside the path, a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// The programs of one version.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    major: u32,
}

impl Programs {
    /// Those of a major version, or of the one that the environment names, or else the installed ones. What is not
    /// there is installed or fetched, and that is printed.
    pub fn get(version: Option<u32>) -> Result<Programs> {
        let version = version.map_or_else(from_environment, |version| Ok(Some(version)))?;
        if let Some(found) =
            Self::installed()?.filter(|found| version.is_none_or(|asked| asked == found.major))
        {
            return Ok(found);
        }
        match version {
            Some(version) => match Self::of_debian(version)? {
                Some(found) => Ok(found),
                None => Self::at(&registry::folder_of(version)?),
            },
            None => Self::install(),
        }
    }

    /// The folder that the environment names, or the path, or `pg_config`, or the newest of Debian's.
    fn installed() -> Result<Option<Programs>> {
        if let Some(folder) = env::var_os(BIN) {
            return Self::at(Path::new(&folder)).during(|| format!("use what {BIN} names")).map(Some);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let debian = debian_folders().into_iter().map(|(_, folder)| folder);
        let mut folders = env::split_paths(&path).chain(told_by_pg_config()).chain(debian);
        // Debian has `pg_config` in the path and what it tells of elsewhere, so all of them must be in one folder.
        folders.find(|folder| are_in(folder)).map(|folder| Self::at(&folder)).transpose()
    }

    fn of_debian(version: u32) -> Result<Option<Programs>> {
        let found = debian_folders().into_iter().find(|(major, folder)| *major == version && are_in(folder));
        found.map(|(_, folder)| Self::at(&folder)).transpose()
    }

    fn install() -> Result<Programs> {
        if rustix::process::geteuid().is_root() && Path::new("/etc/debian_version").exists() {
            // One at a time, and whoever waited finds it done.
            let _lock = home::lock(Path::new("/run/everstep-postgres-install"))?;
            if let Some(found) = Self::installed()? {
                return Ok(found);
            }
            println!("installing PostgreSQL: apt-get install -y --no-install-recommends postgresql");
            // Either may fail: what counts is what is there afterwards.
            let _ = apt_get(&["update"]);
            let _ = apt_get(&["install", "-y", "--no-install-recommends", "postgresql"]);
        }
        Self::installed()?.ok_or_else(|| {
            Error::new(format!(
                "there is no PostgreSQL server here: install it (Debian: apt-get install postgresql), or name the \
                 folder of its programs in {BIN}, or let one be fetched by npm with {VERSION}=17"
            ))
        })
    }

    fn at(folder: &Path) -> Result<Programs> {
        if !are_in(folder) {
            return Err(Error::new(format!("not all of {} are in {}", NEEDED.join(", "), folder.display())));
        }
        let folder = fs::canonicalize(folder).during(|| format!("find {}", folder.display()))?;
        let said = said_by(Command::new(folder.join("postgres")).arg("--version"))?;
        let major = major_in(&said).ok_or_else(|| Error::new(format!("`{said}` names no version")))?;
        Ok(Programs { folder, major })
    }

    /// The version, without what follows the first point.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder they are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of them, with nothing in its environment that speaks of another server.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        let other =
            env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("PG")));
        for (name, _) in other {
            command.env_remove(name);
        }
        // Its messages are compared in tests.
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// What a program prints.
pub(crate) fn said_by(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().during(|| format!("{command:?}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_string())
    } else {
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_string();
        Err(Error::new(format!("{command:?} ended with {}: {said}", out.status)))
    }
}

fn from_environment() -> Result<Option<u32>> {
    let Some(value) = env::var_os(VERSION).filter(|value| !value.is_empty()) else { return Ok(None) };
    let number = value.to_str().and_then(|value| value.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Error::new(format!("{VERSION} is {value:?} and not a major version as `17`")))
}

/// Newest first.
fn debian_folders() -> Vec<(u32, PathBuf)> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort_unstable_by(|a, b| b.cmp(a));
    folders
}

fn told_by_pg_config() -> Option<PathBuf> {
    said_by(Command::new("pg_config").arg("--bindir")).ok().map(PathBuf::from)
}

fn are_in(folder: &Path) -> bool {
    NEEDED.iter().all(|program| folder.join(program).is_file())
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0)`.
fn major_in(said: &str) -> Option<u32> {
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

pub(crate) fn apt_get(args: &[&str]) -> Result<String> {
    said_by(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(args),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_every_server_says_them() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(major_in("postgres"), None);
    }
}
