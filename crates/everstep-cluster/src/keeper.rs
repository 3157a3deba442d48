//! Who ends the shared server when nobody uses it any more: a small script beside it, because the last test process does
//! not know that it is the last, and may be killed. It needs `flock` (of util-linux); without it, the server stays until
//! it is stopped by hand.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use crate::{
    error::{Result, While},
    server::Server,
};

/// A file that keeps the server while it is there.
pub(crate) const KEPT: &str = "kept";

/// The environment variable with the seconds that a server may be unused.
const IDLE: &str = "EVERSTEP_CLUSTER_IDLE";
/// A run of tests has gaps, and a start takes a second.
const IDLE_SECONDS: u32 = 60;

/// `$1` is `pg_ctl`, `$2` the seconds. It ends with the data: when the server was stopped, or the folder removed. Who tests whether there are users does it with the lock that excludes them.
const SCRIPT: &str = r#"
trap '' HUP
command -v flock >/dev/null || exit
exec 9<keeper
flock -n 9 || exit
idle=0
while sleep 1; do
    [ -e data ] || exit
    if [ ! -e kept ] && flock -n -x users true; then idle=$((idle + 1)); else idle=0; fi
    [ "$idle" -ge "$2" ] || continue
    flock lock flock -n -x users sh -c '"$1" stop -D data -m immediate; rm -rf data log' - "$1" && exit
done
"#;

/// Lets the script watch, unless it does already. `lock` is the one that it holds.
pub(crate) fn watch(server: &Server, lock: &File) -> Result<()> {
    if lock.try_lock().is_err() {
        return Ok(());
    }
    lock.unlock().during(|| "free the keeper's lock".into())?;
    let idle = env::var(IDLE).ok().and_then(|value| value.parse().ok()).unwrap_or(IDLE_SECONDS);
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "keeper"]).arg(server.programs.folder().join("pg_ctl")).arg(idle.to_string());
    server.account.runs(&mut shell);
    shell.current_dir(&server.address.folder);
    // In a group of its own, and without our pipes: it outlives us.
    shell.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().during(|| "start the keeper of the server".into())?;
    Ok(())
}
