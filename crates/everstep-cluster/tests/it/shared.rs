//! The server that all tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use everstep_cluster::Cluster;
use tempfile::TempDir;

use crate::ends;

#[tokio::test]
async fn a_database_is_empty_ones_own_and_gone_afterwards() {
    let cluster = Cluster::shared().expect("starts");
    let (one, other) =
        (cluster.database().await.expect("is made"), cluster.database().await.expect("is made"));
    let client = one.connect().await.expect("connects");
    client.batch_execute("CREATE TABLE only_here ()").await.expect("is made");
    let client = other.connect().await.expect("connects");
    client.batch_execute("TABLE only_here").await.expect_err("it is elsewhere");
    let name = one.name().to_string();
    cluster.connect(&name).await.expect("it is there");
    // Also with somebody connected.
    drop(one);
    let error = cluster.connect(&name).await.expect_err("it is gone").to_string();
    assert!(error.contains("does not exist"), "{error}");
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("the other is there").get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_copy_begins_as_what_it_is_of_and_is_ones_own() {
    let cluster = Cluster::shared().expect("starts");
    let of = cluster.database().await.expect("is made");
    let client = of.connect().await.expect("connects");
    client
        .batch_execute("CREATE TABLE copied (n int8); INSERT INTO copied VALUES (7)")
        .await
        .expect("is made");
    // The server waits until it has noticed that nobody is connected any more.
    drop(client);
    let copy = cluster.copy(&of).await.expect("is made");
    let client = copy.connect().await.expect("connects");
    client.batch_execute("UPDATE copied SET n = n + 1").await.expect("is there");
    let client = of.connect().await.expect("connects");
    assert_eq!(client.query_one("TABLE copied", &[]).await.expect("is there").get::<_, i64>(0), 7);
}

#[tokio::test]
async fn it_takes_many_connections_at_once() {
    let database = Cluster::shared().expect("starts").database().await.expect("is made");
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(database.connect().await.expect("connects"));
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    let connected: i64 = clients[0].query_one(count, &[]).await.expect("counts").get(0);
    assert_eq!(connected, 100);
}

/// A place of its own for shared servers.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("room");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), everybody).expect("is ours");
        Place(folder)
    }

    fn command(&self, command: &str) -> Command {
        let mut process = Command::new(env!("CARGO_BIN_EXE_everstep-cluster"));
        process.arg(command).env("EVERSTEP_CLUSTER_FOLDER", self.0.path()).env("EVERSTEP_CLUSTER_IDLE", "1");
        process
    }

    fn says(&self, command: &str) -> String {
        let out = self.command(command).output().expect("runs");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).expect("is a text").trim().to_string()
    }

    /// The folder of the one server here.
    fn home(&self) -> PathBuf {
        let homes: Vec<_> = fs::read_dir(self.0.path()).expect("is there").flatten().collect();
        assert_eq!(homes.len(), 1, "{homes:?}");
        homes[0].path()
    }

    /// `None` if the server has ended.
    fn postmaster(&self) -> Option<i32> {
        let told = fs::read_to_string(self.home().join("data/postmaster.pid")).ok()?;
        Some(told.lines().next().and_then(|line| line.parse().ok()).expect("is a process"))
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.home().join("log"))
            .expect("it has one")
            .matches("starting PostgreSQL")
            .count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command("stop").output();
    }
}

#[test]
fn processes_that_come_together_share_one_server_that_outlives_them() {
    let place = Place::new();
    let all: Vec<_> = (0..4)
        .map(|_| place.command("start").stdout(std::process::Stdio::piped()).spawn().expect("runs"))
        .map(|process| std::thread::spawn(|| process.wait_with_output().expect("ends").stdout))
        .collect();
    let said: Vec<_> = all.into_iter().map(|one| one.join().expect("no panic")).collect();
    assert!(!said[0].is_empty() && said.iter().all(|url| *url == said[0]), "{said:?}");
    let postmaster = place.postmaster().expect("it runs");
    assert_eq!((place.says("url").as_bytes(), place.starts()), (said[0].trim_ascii(), 1));
    assert_eq!(place.postmaster(), Some(postmaster));
    assert_eq!(place.says("stop"), "1 stopped");
    ends(postmaster);
    assert_eq!(place.says("stop"), "0 stopped");
}

#[test]
fn a_server_that_died_is_replaced() {
    let place = Place::new();
    place.says("start");
    let postmaster = place.postmaster().expect("it runs");
    let pid = rustix::process::Pid::from_raw(postmaster).expect("is a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("is sent");
    ends(postmaster);
    place.says("start");
    assert_ne!(place.postmaster().expect("it runs"), postmaster);
}

#[test]
fn it_ends_by_itself_when_nobody_uses_it() {
    let place = Place::new();
    place.says("url");
    // It may have happened already.
    if let Some(postmaster) = place.postmaster() {
        ends(postmaster);
    }
    assert_eq!(place.says("stop"), "0 stopped");
    assert!(!place.home().join("data").exists());
}

#[test]
fn whoever_ends_the_server_goes_when_there_is_none_or_no_folder() {
    let place = Place::new();
    place.says("start");
    let beside = working_in(&place.home());
    assert!(!beside.is_empty(), "somebody watches");
    place.says("stop");
    beside.into_iter().for_each(ends);
    place.says("start");
    let beside = working_in(&place.home());
    assert!(!beside.is_empty(), "somebody watches");
    drop(place);
    beside.into_iter().for_each(ends);
}

fn working_in(folder: &Path) -> Vec<i32> {
    let folder = fs::canonicalize(folder).expect("is there");
    let processes = fs::read_dir("/proc").expect("every Linux has it").flatten();
    let there =
        processes.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder));
    there.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}
