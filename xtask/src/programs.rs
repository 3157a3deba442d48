//! The programs that tests use.

use std::env;

use crate::{cargo, run};

/// Programs that tests use, and Debian's packages with them.
const PROGRAMS: [(&str, &str); 6] = [
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    // For the library that comes with it.
    ("faketime", "faketime"),
    ("pgbouncer", "pgbouncer"),
];

/// Installs what tests use and is not there.
pub(crate) fn install() -> Result<(), String> {
    install_programs()?;
    cargo(&["run", "--quiet", "--locked", "--package", "everstep-cluster", "--", "install"])
}

/// The same when all tests are compiled, and with them what installs a server: a server's programs are several, and it knows
/// itself where they may be.
pub(crate) fn install_with_what_is_built() -> Result<(), String> {
    install_programs()?;
    let me = env::current_exe().map_err(|e| e.to_string())?;
    run(&me.with_file_name("everstep-cluster").to_string_lossy(), &["install"])
}

fn install_programs() -> Result<(), String> {
    let missing = || PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing().iter().map(|(_, package)| *package).collect();
    // Either may fail, without root or without Debian: what counts is what is there afterwards.
    let _ = run("apt-get", &["update"]);
    let _ = run("apt-get", &[&["install", "-y", "--no-install-recommends"], &packages[..]].concat());
    match missing().as_slice() {
        [] => Ok(()),
        missing => {
            let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
            let why = "these programs are missing, which tests use, and apt-get could not install them";
            Err(format!("{why}: {} (Debian: {})", names.join(", "), packages.join(" ")))
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Not everybody has the system's folders in the path, and root's programs are there.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}
