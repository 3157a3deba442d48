//! A server of one's own, broken in every way.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use everstep_cluster::{Cluster, Mode, Private, Settings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::ends;

/// Adds a row and waits for the acknowledgement.
async fn add(cluster: &Cluster) {
    let client = cluster.connect("postgres").await.expect("connects");
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS kept (); INSERT INTO kept DEFAULT VALUES")
        .await
        .expect("adds");
}

async fn rows(cluster: &Cluster) -> i64 {
    let client = cluster.connect("postgres").await.expect("connects");
    client.query_one("SELECT count(*) FROM kept", &[]).await.expect("counts").get(0)
}

fn started(settings: Settings) -> Private {
    Cluster::private(settings).expect("starts")
}

fn recoveries(cluster: &Cluster) -> usize {
    let log = fs::read_to_string(cluster.log()).expect("is readable");
    log.matches("database system was not properly shut down").count()
}

#[tokio::test]
async fn an_acknowledged_row_survives_a_kill() {
    let cluster = started(Settings::default());
    add(&cluster).await;
    let client = cluster.connect("postgres").await.expect("connects");
    cluster.kill().expect("is killed");
    assert_eq!(cluster.postmaster().expect("asks"), None);
    UnixStream::connect(cluster.socket()).expect_err("nobody listens");
    client.query_one("SELECT 1", &[]).await.expect_err("the connection is cut");
    cluster.kill().expect_err("nobody is there");
    cluster.start().expect("starts again");
    assert_eq!((rows(&cluster).await, recoveries(&cluster)), (1, 1));
}

#[tokio::test]
async fn only_a_fast_stop_leaves_nothing_to_recover() {
    let cluster = started(Settings::default());
    add(&cluster).await;
    for (mode, recovered) in [(Mode::Fast, 0), (Mode::Immediate, 1)] {
        cluster.stop(mode).expect("stops");
        cluster.stop(mode).expect_err("it is stopped");
        cluster.start().expect("starts again");
        assert_eq!((rows(&cluster).await, recoveries(&cluster)), (1, recovered), "{mode:?}");
    }
}

#[tokio::test]
async fn an_older_copy_takes_the_place_of_the_data() {
    let (cluster, folder) = (started(Settings::default()), tempfile::tempdir().expect("room"));
    let copy = folder.path().join("copy");
    add(&cluster).await;
    cluster.copy_to(&copy).expect_err("it runs");
    cluster.stop(Mode::Fast).expect("stops");
    cluster.copy_to(&copy).expect("copies");
    cluster.copy_to(&copy).expect_err("there is one");
    cluster.start().expect("starts again");
    add(&cluster).await;
    assert_eq!(rows(&cluster).await, 2);
    cluster.start_from(&copy).expect_err("it runs");
    cluster.kill().expect("is killed");
    cluster.start_from(&copy).expect("starts");
    assert_eq!(rows(&cluster).await, 1);
    let another = started(Settings { fsync: false, ..Settings::default() });
    another.stop(Mode::Fast).expect("stops");
    another.start_from(&copy).expect("starts elsewhere");
    assert_eq!(rows(&another).await, 1);
}

#[tokio::test]
async fn a_setting_of_the_callers_is_set() {
    let more = vec![("cluster_name".to_string(), "it's ours".to_string())];
    let cluster = started(Settings { max_connections: 17, more, ..Settings::default() });
    let client = cluster.connect("postgres").await.expect("connects");
    for (name, expected) in [("cluster_name", "it's ours"), ("max_connections", "17"), ("fsync", "on")] {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await.expect("says");
        assert_eq!(row.get::<_, &str>(0), expected);
    }
}

#[tokio::test]
async fn it_is_reached_by_tcp_on_the_same_port_after_a_restart() {
    let cluster = started(Settings { tcp: true, ..Settings::default() });
    let url = cluster.tcp_url("postgres").expect("it listens");
    for _ in 0..2 {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
        tokio::spawn(connection);
        let row = client.query_one("SELECT inet_server_addr() IS NOT NULL", &[]).await.expect("says");
        assert!(row.get::<_, bool>(0), "by TCP");
        cluster.kill().expect("is killed");
        cluster.start().expect("starts again");
    }
    assert_eq!(started(Settings::default()).tcp_url("postgres"), None);
}

#[test]
fn its_certificate_is_one_that_its_authority_signed_for_its_name() {
    let cluster = started(Settings { tcp: true, tls: true, ..Settings::default() });
    let port = cluster.socket().extension().expect("the port").to_string_lossy().into_owned();
    let verified = |name: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{port}")]);
        openssl.args(["-verify_return_error", "-verify_hostname", name, "-CAfile"]);
        let out = openssl.arg(cluster.authority().expect("it has one")).stdin(Stdio::null()).output();
        out.expect("openssl runs").status.success()
    };
    assert!(verified("localhost"));
    assert!(!verified("example.org"));
}

/// A process with a server of its own, in a folder of temporary files of its own.
struct Owner {
    process: Child,
    said: BufReader<ChildStdout>,
    place: PathBuf,
}

impl Owner {
    fn starts(temporary: &TempDir) -> Owner {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everstep-cluster"));
        command.arg("private").env("TMPDIR", temporary.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("runs");
        let mut url = String::new();
        let mut said = BufReader::new(process.stdout.take().expect("piped"));
        said.read_line(&mut url).expect("says its URL");
        let place = url.split_once("host=").and_then(|(_, rest)| rest.split_once('&')).expect("is a URL").0;
        let place = place.into();
        Owner { process, said, place }
    }

    fn postmaster(&self) -> i32 {
        let told = fs::read_to_string(self.place.join("data/postmaster.pid")).expect("it runs");
        told.lines().next().and_then(|line| line.parse().ok()).expect("is a process")
    }
}

/// Where the user that the server runs as may enter.
fn temporary() -> TempDir {
    let folder = tempfile::tempdir().expect("room");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("is ours");
    folder
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("is there").next().is_none()
}

#[test]
fn the_server_of_a_killed_process_is_ended_by_the_next() {
    let temporary = temporary();
    let mut killed = Owner::starts(&temporary);
    let postmaster = killed.postmaster();
    killed.process.kill().expect("is ours");
    killed.process.wait().expect("is ours");
    let mut next = Owner::starts(&temporary);
    ends(postmaster);
    assert!(!killed.place.exists(), "its folder is removed");
    let postmaster = next.postmaster();
    drop(next.process.stdin.take());
    assert_eq!(next.said.lines().next().expect("says it").expect("a text"), "ended");
    ends(postmaster);
    assert!(next.process.wait().expect("is ours").success());
    assert!(is_empty(temporary.path()), "nothing is left");
}

#[test]
fn a_server_that_is_held_by_a_signal_is_ended_too() {
    let cluster = started(Settings::default());
    let postmaster = cluster.postmaster().expect("asks").expect("it runs");
    kill_process(Pid::from_raw(postmaster).expect("a process"), Signal::STOP).expect("is sent");
    drop(cluster);
    ends(postmaster);
}
