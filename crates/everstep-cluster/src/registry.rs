//! Other versions than the installed one: the npm registry carries the servers of PostgreSQL 14 to 18, of which one is
//! fetched once and kept in a cache. Only `npm` and `tar` are needed, no rights.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result, While},
    home,
    programs::said_by,
};

/// The environment variable that names the folder where servers are kept.
const CACHE: &str = "EVERSTEP_POSTGRES_CACHE";

/// The folder of the programs of this major version, fetched if it is not there.
pub(crate) fn folder_of(major: u32) -> Result<PathBuf> {
    let cache = cache();
    fs::create_dir_all(&cache).during(|| format!("make the folder {}", cache.display()))?;
    let _lock = home::lock(&cache.join("lock"))?;
    let place = cache.join(major.to_string());
    if !place.exists() {
        fetch(major, &cache, &place).during(|| {
            format!("fetch PostgreSQL {major} by npm (or install it, Debian: postgresql-{major})")
        })?;
    }
    Ok(place.join("native/bin"))
}

/// Where everybody may read: root's own cache is closed to the user that the server runs as.
fn cache() -> PathBuf {
    let own =
        || env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")));
    let chosen = env::var_os(CACHE).map(PathBuf::from);
    let system =
        || if rustix::process::geteuid().is_root() { Some(PathBuf::from("/var/cache")) } else { own() };
    chosen.unwrap_or_else(|| system().unwrap_or_else(env::temp_dir).join("everstep-postgres"))
}

fn fetch(major: u32, cache: &Path, place: &Path) -> Result<()> {
    let package = package()?;
    let versions = said_by(Command::new("npm").args(["view", &package, "versions", "--json"]))?;
    let version = newest(major, &versions)
        .ok_or_else(|| Error::new(format!("the package {package} has no version {major}")))?;
    println!("fetching PostgreSQL {version}: npm pack {package}@{version}");
    // Beside the place, so that it is there whole or not at all.
    let folder = tempfile::tempdir_in(cache).during(|| format!("make a folder in {}", cache.display()))?;
    let pack = ["pack", "--silent", "--pack-destination"];
    let archive =
        said_by(Command::new("npm").args(pack).arg(folder.path()).arg(format!("{package}@{version}")))?;
    said_by(Command::new("tar").arg("-xzf").arg(folder.path().join(archive)).arg("-C").arg(folder.path()))?;
    let unpacked = folder.path().join("package");
    link(&unpacked)?;
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&unpacked, everybody).during(|| "let everybody read it".into())?;
    fs::rename(&unpacked, place).during(|| format!("move it to {}", place.display()))
}

fn package() -> Result<String> {
    let system = match env::consts::OS {
        "linux" => "linux",
        other => return Err(Error::new(format!("nothing is known of servers for {other}"))),
    };
    let processor = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(Error::new(format!("nothing is known of servers for {other}"))),
    };
    Ok(format!("@embedded-postgres/{system}-{processor}"))
}

/// The last of the versions `17.10.0-beta.17` of a major version, by number.
fn newest(major: u32, versions: &str) -> Option<String> {
    let versions: Vec<String> = serde_json::from_str(versions).ok()?;
    let numbers = |version: &str| -> Vec<u32> {
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    versions.into_iter().filter(|version| numbers(version).first() == Some(&major)).max_by_key(|v| numbers(v))
}

/// Packages of npm carry no links: they are listed, and what is installed makes them.
fn link(unpacked: &Path) -> Result<()> {
    let list = unpacked.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).during(|| "read the list of links".into())?;
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&text).during(|| "read the list of links".into())?;
    for one in links {
        let (Some(source), Some(target)) = (one["source"].as_str(), one["target"].as_str()) else {
            return Err(Error::new(format!("{one} is no link")));
        };
        let (source, target) = (Path::new(source), unpacked.join(target));
        // Both are in one folder, as libraries and their shorter names are.
        let name = source.file_name().ok_or_else(|| Error::new(format!("{one} is no link")))?;
        symlink(name, &target).during(|| format!("link {}", target.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_by_number_and_only_of_its_major_version() {
        let versions = r#"["1.7.9", "17.9.0-beta.17", "17.10.0-beta.16", "17.10.0-beta.17", "17.2.0-beta.99", "18.0.0-beta.1"]"#;
        assert_eq!(newest(17, versions).as_deref(), Some("17.10.0-beta.17"));
        assert_eq!(newest(16, versions), None);
    }
}
