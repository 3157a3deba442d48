//! Encryption, with a server that can, one that cannot and one that insists; and several servers in one URL.

use std::{fs, path::Path, process::Command};

use everstep_cluster::{Cluster, Mode, Private, Settings};
use everstep_core::store::StoreError;
use everstep_postgres::Postgres;

fn server(tls: bool) -> Private {
    Cluster::private(Settings { tcp: true, tls, fsync: false, ..Settings::default() }).expect("starts")
}

fn port(server: &Cluster) -> String {
    server.socket().extension().expect("the port").to_string_lossy().into_owned()
}

/// Where a server is called by a name.
fn named(server: &Cluster, name: &str, more: &str) -> String {
    format!("host={name} hostaddr=127.0.0.1 port={} user=postgres dbname=postgres {more}", port(server))
}

/// Whether all connections of an opening are encrypted; or none.
async fn encrypted(server: &Cluster, url: &str) -> Result<bool, StoreError> {
    let store = Postgres::open(url).await?;
    let client = server.connect("postgres").await.expect("connects");
    let ask =
        "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name = 'everstep'";
    let row = client.query_one(ask, &[]).await.expect("says");
    drop(store);
    match (row.get::<_, i64>(0), row.get::<_, i64>(1)) {
        (all @ 2.., with) if all == with => Ok(true),
        (2.., 0) => Ok(false),
        other => panic!("{other:?} of the connections of {url}"),
    }
}

/// What is told when it is refused.
async fn refused(url: &str) -> String {
    match Postgres::open(url).await {
        Err(StoreError::Unusable(why)) => why.to_string(),
        Err(other) => panic!("{url}: {other:?}"),
        Ok(_) => panic!("{url} is taken"),
    }
}

/// As `openssl` is called in a folder.
fn openssl(folder: &Path, args: &[&str]) {
    let out = Command::new("openssl").current_dir(folder).args(args).output().expect("openssl runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

#[tokio::test]
async fn a_server_with_tls_is_spoken_to_as_the_mode_says() {
    let server = server(true);
    let authority = server.authority().expect("it has one").to_string_lossy().into_owned();
    let trusted = format!("sslrootcert={authority}");
    for (mode, expected) in [
        ("sslmode=disable", false),
        ("sslmode=allow", false),
        ("", true),
        ("sslmode=prefer", true),
        ("sslmode=require", true),
    ] {
        let url = named(&server, "example.org", mode);
        assert_eq!(encrypted(&server, &url).await.expect(mode), expected, "{mode}");
    }
    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        server.tcp_url("postgres").expect("listens"),
        authority
    );
    assert!(encrypted(&server, &url).await.expect("by its address"), "{url}");
    for (name, mode) in
        [("localhost", "verify-full"), ("example.org", "verify-ca"), ("example.org", "require")]
    {
        let url = named(&server, name, &format!("sslmode={mode} {trusted}"));
        assert!(encrypted(&server, &url).await.expect(mode), "{mode}");
    }
    let told = refused(&named(&server, "example.org", &format!("sslmode=verify-full {trusted}"))).await;
    assert!(told.contains("for other names") && told.contains("verify-ca"), "{told}");
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_refused_with_advice() {
    let (server, folder) = (server(true), tempfile::tempdir().expect("room"));
    let another = folder.path().join("another.crt").to_string_lossy().into_owned();
    let make = ["req", "-x509", "-subj", "/CN=another", "-keyout", "another.key", "-out", "another.crt"];
    openssl(folder.path(), &[&make[..], &KEY].concat());
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = named(&server, "localhost", &format!("sslmode={mode} sslrootcert={another}"));
        let told = refused(&url).await;
        assert!(told.contains("not trusted") && told.contains("sslrootcert="), "{told}");
    }
    let told = refused(&named(&server, "localhost", "sslmode=verify-full sslrootcert=/nowhere.crt")).await;
    assert!(told.contains("/nowhere.crt") && told.contains("cannot be read"), "{told}");
    fs::write(folder.path().join("empty"), "no PEM").expect("room");
    let empty = folder.path().join("empty").to_string_lossy().into_owned();
    let told = refused(&named(&server, "localhost", &format!("sslmode=verify-ca sslrootcert={empty}"))).await;
    assert!(told.contains("has no certificate"), "{told}");
}

#[tokio::test]
async fn a_server_without_tls_is_taken_where_the_mode_allows_it() {
    let server = server(false);
    for mode in ["disable", "allow", "prefer"] {
        let url = named(&server, "localhost", &format!("sslmode={mode}"));
        assert!(!encrypted(&server, &url).await.expect(mode), "{mode}");
    }
    let told = refused(&named(&server, "localhost", "sslmode=require")).await;
    assert!(told.contains("does not support TLS") && told.contains("ssl = on"), "{told}");
    let by_socket = format!("{}&sslmode=verify-full", server.url("postgres"));
    assert!(!encrypted(&server, &by_socket).await.expect("no network is on the way"));
}

#[tokio::test]
async fn a_server_that_insists_gets_encryption_and_the_clients_certificate() {
    let (server, folder) = (server(true), tempfile::tempdir().expect("room"));
    let authority = server.authority().expect("it has one");
    let key = authority.with_extension("key").to_string_lossy().into_owned();
    let authority = authority.to_string_lossy().into_owned();
    let ask = ["req", "-new", "-subj", "/CN=postgres", "-keyout", "us.key", "-out", "us.csr"];
    openssl(folder.path(), &[&ask[..], &KEY].concat());
    let sign = ["x509", "-req", "-in", "us.csr", "-CA", &authority, "-CAkey", &key, "-set_serial", "7"];
    // Of version 3, which a certificate without extensions is not.
    fs::write(folder.path().join("more"), "basicConstraints=critical,CA:FALSE\n").expect("room");
    openssl(folder.path(), &[&sign[..], &["-extfile", "more", "-out", "us.crt"]].concat());
    let client = server.connect("postgres").await.expect("connects");
    let rules: String = client.query_one("SHOW hba_file", &[]).await.expect("says").get(0);
    let insist = format!(
        "ALTER SYSTEM SET ssl_ca_file = '{authority}';
         COPY (VALUES ('local all all trust'), ('hostssl all all all cert')) TO '{rules}'"
    );
    for statement in insist.split(';') {
        client.batch_execute(statement).await.expect("is set");
    }
    server.stop(Mode::Fast).expect("stops");
    server.start().expect("starts again");
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let shown = format!("sslcert={} sslkey={}", file("us.crt"), file("us.key"));
    for mode in ["allow", "prefer", "require"] {
        let url = named(&server, "localhost", &format!("sslmode={mode} {shown}"));
        assert!(encrypted(&server, &url).await.expect(mode), "{mode}");
    }
    for (mode, told) in [
        ("sslmode=require".to_string(), "certificate"),
        (format!("sslmode=disable {shown}"), "no pg_hba.conf entry"),
    ] {
        let error = Postgres::open(&named(&server, "localhost", &mode)).await.expect_err(&mode).to_string();
        assert!(error.contains(told), "{mode}: {error}");
    }
}

#[tokio::test]
async fn of_several_servers_the_one_that_takes_writes_is_used() {
    let more = vec![("default_transaction_read_only".to_string(), "on".to_string())];
    let standby = Cluster::private(Settings { tcp: true, fsync: false, more, ..Settings::default() });
    let (standby, primary) = (standby.expect("starts"), server(false));
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", port(&standby), port(&primary));
    for how in ["", "?target_session_attrs=read-write"] {
        let url = format!("postgres://postgres@{hosts}/postgres{how}");
        assert!(!encrypted(&primary, &url).await.expect("opens"));
    }
    let found = "SELECT to_regclass('everstep.everstep_run') IS NOT NULL";
    for (server, expected) in [(&*primary, true), (&*standby, false)] {
        let client = server.connect("postgres").await.expect("connects");
        assert_eq!(client.query_one(found, &[]).await.expect("says").get::<_, bool>(0), expected);
    }
}
