//! What the proxy does not touch passes as it is.

use std::pin::pin;

use everstep_cluster::{
    Cluster, Database, Mode, Settings,
    proxy::{Fault, Moment, Proxy},
};
use futures_util::SinkExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};

async fn started() -> (Database, Proxy) {
    let database = Cluster::shared().expect("starts").database().await.expect("is made");
    let proxy = Proxy::start(&database.url()).await.expect("listens");
    (database, proxy)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// Sends a line many times by COPY: how many rows came of it, if any.
async fn copied(client: &Client, line: &'static str) -> Option<u64> {
    let mut data = pin!(client.copy_in("COPY rows FROM STDIN").await.expect("begins"));
    for _ in 0..10_000 {
        // The server may refuse it before its end.
        if data.send(line.as_bytes()).await.is_err() {
            return None;
        }
    }
    data.finish().await.ok()
}

#[tokio::test]
async fn data_of_any_size_pass_both_ways_and_by_both_roads() {
    let (_database, proxy) = started().await;
    for url in [proxy.url(), proxy.tcp_url()] {
        let client = connect(&url).await;
        let large = "x".repeat(5_000_000);
        let row = client.query_one("SELECT $1::text, current_database()", &[&large]).await.expect("passes");
        assert!(row.get::<_, &str>(0) == large, "as it was");
        let rows = client.query("SELECT generate_series(1, 10000)", &[]).await.expect("pass");
        assert_eq!(rows.len(), 10_000);
        let none = client.query("SELECT 1 / 0", &[]).await.expect_err("as the server says");
        assert_eq!(none.code(), Some(&SqlState::DIVISION_BY_ZERO));
    }
}

#[tokio::test]
async fn answers_are_still_told_apart_after_a_copy() {
    let (database, proxy) = started().await;
    let client = connect(&proxy.url()).await;
    client.batch_execute("CREATE TABLE rows (n int)").await.expect("is made");
    for _ in 0..2 {
        assert_eq!(copied(&client, "123456789\n").await, Some(10_000));
        assert_eq!(copied(&client, "no number\n").await, None);
    }
    let strike = proxy.at(Moment::after("INSERT"), Fault::Cut);
    let answer = client.simple_query("SELECT count(*) FROM rows").await.expect("this is not struck");
    assert!(
        answer
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("20000")))
    );
    client.execute("INSERT INTO rows VALUES (0)", &[]).await.expect_err("its answer is lost");
    strike.happened().await;
    let rows = database.connect().await.expect("connects").query("SELECT FROM rows WHERE n = 0", &[]).await;
    assert_eq!(rows.expect("reads").len(), 1);
}

#[tokio::test]
async fn a_statement_is_cancelled_through_it() {
    let (database, proxy) = started().await;
    let client = connect(&proxy.url()).await;
    let locked = database.connect().await.expect("connects");
    locked.batch_execute("SELECT pg_advisory_lock(1)").await.expect("is free");
    let token = client.cancel_token();
    // Whichever comes first: a cancel that finds nothing to cancel is forgotten by the server.
    let waiting = client.batch_execute("SELECT pg_advisory_lock(1)");
    let cancelling = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()";
        while locked.query_one(waits, &[]).await.expect("counts").get::<_, i64>(0) == 0 {}
        token.cancel_query(NoTls).await.expect("is passed on");
    };
    let (waited, ()) = tokio::join!(waiting, cancelling);
    assert_eq!(waited.expect_err("is cancelled").code(), Some(&SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn who_asks_for_tls_is_told_that_there_is_none() {
    let (_database, proxy) = started().await;
    let config: tokio_postgres::Config = proxy.url().parse().expect("is a URL");
    let [tokio_postgres::config::Host::Unix(folder)] = config.get_hosts() else {
        panic!("it has one socket")
    };
    let mut stream = UnixStream::connect(folder.join(".s.PGSQL.5432")).await.expect("connects");
    let mut answer = [0];
    for _ in 0..2 {
        stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.expect("asks");
        stream.read_exact(&mut answer).await.expect("is told");
        assert_eq!(answer, *b"N");
    }
}

#[tokio::test]
async fn a_server_that_goes_and_comes_is_seen_through_it() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let proxy = Proxy::start(&cluster.url("postgres")).await.expect("listens");
    let client = connect(&proxy.url()).await;
    client.batch_execute("SELECT 1").await.expect("passes");
    cluster.stop(Mode::Fast).expect("stops");
    client.batch_execute("SELECT 1").await.expect_err("the server is gone");
    tokio_postgres::connect(&proxy.url(), NoTls).await.map(drop).expect_err("nobody is behind it");
    cluster.start().expect("starts again");
    connect(&proxy.url()).await.batch_execute("SELECT 1").await.expect("passes");
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_dropped_cuts_all_and_leaves_nothing() {
    let (_database, proxy) = started().await;
    let (client, url) = (connect(&proxy.url()).await, proxy.url());
    client.batch_execute("SELECT 1").await.expect("passes");
    drop(proxy);
    client.batch_execute("SELECT 1").await.expect_err("it is gone");
    tokio_postgres::connect(&url, NoTls).await.map(drop).expect_err("it is gone");
}
