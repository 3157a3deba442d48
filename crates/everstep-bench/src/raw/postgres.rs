//! Rows into one table of a server that syncs every commit: what the store's journal has, one `unnest` statement a batch.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{Client, NoTls, Statement};

use super::{BATCH_MAX, Waiting, waves};

const TABLE: &str = "DROP TABLE IF EXISTS raw; CREATE TABLE raw (
    run int8 NOT NULL, seq int8 NOT NULL, at int8 NOT NULL, site int8, build int8 NOT NULL, fingerprint int4 NOT NULL,
    attempt int4 NOT NULL, kind int4 NOT NULL, codec int2 NOT NULL, input_codec int2, key text COLLATE \"C\", input bytea,
    body bytea NOT NULL, CONSTRAINT raw_key PRIMARY KEY (run, seq))";
const INSERT: &str =
    "INSERT INTO raw SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::int8[],
    $6::int4[], $7::int4[], $8::int4[], $9::int2[], $10::int2[], $11::text[], $12::bytea[], $13::bytea[])";
/// Each writes what is there when it is free.
const CONNECTIONS: u64 = 2;

/// Does something on a thread of its own that has a connection, and nothing else to look after: the shortest way.
fn connected<T: Send + 'static>(
    url: &str,
    work: impl AsyncFnOnce(Client) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let url = url.to_string();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it connects");
            tokio::spawn(connection);
            work(client).await
        })
    })
}

fn fresh_table(url: &str) {
    let make = async |client: Client| client.batch_execute(TABLE).await.expect("a table");
    connected(url, make).join().expect("it does not panic");
}

async fn insert(client: &Client, statement: &Statement, rows: &[Waiting]) {
    let n = rows.len();
    let runs: Vec<_> = rows.iter().map(|(run, ..)| run.cast_signed()).collect();
    let seqs: Vec<_> = rows.iter().map(|(_, seq, _)| seq.cast_signed()).collect();
    let ats: Vec<_> = seqs.iter().map(|seq| 1_767_225_600_000_000 + seq).collect();
    let (sites, builds) = (vec![Some(1i64); n], vec![1i64; n]);
    let (fingerprints, attempts, kinds) = (vec![12345i32; n], vec![1i32; n], vec![10i32; n]);
    let (codecs, input_codecs) = (vec![0i16; n], vec![None::<i16>; n]);
    let (keys, inputs, bodies) = (vec![Some("step"); n], vec![None::<&[u8]>; n], vec![&b"1"[..]; n]);
    let written = client
        .execute(
            statement,
            &[
                &runs,
                &seqs,
                &ats,
                &sites,
                &builds,
                &fingerprints,
                &attempts,
                &kinds,
                &codecs,
                &input_codecs,
                &keys,
                &inputs,
                &bodies,
            ],
        )
        .await;
    assert_eq!(written.expect("fresh keys"), n as u64);
}

/// Autocommit, one row after the other.
pub fn single(url: &str, rows: u64) -> f64 {
    fresh_table(url);
    let write = async move |client: Client| {
        let statement = client.prepare(INSERT).await.expect("it is SQL");
        let began = Instant::now();
        for seq in 0..rows {
            let (answer, _) = tokio::sync::oneshot::channel();
            insert(&client, &statement, &[(1, seq, answer)]).await;
        }
        rows as f64 / began.elapsed().as_secs_f64()
    };
    connected(url, write).join().expect("it does not panic")
}

/// Natural batching by a thread for each connection; a run's rows go by one of them.
pub async fn pipeline(url: &str, tasks: u64, each: u64, at_least: Duration) -> f64 {
    fresh_table(url);
    let (send, writers): (Vec<_>, Vec<_>) = (0..CONNECTIONS)
        .map(|_| {
            let (send, rows) = unbounded_channel();
            (send, connected(url, async move |client: Client| write(client, rows).await))
        })
        .unzip();
    let push = move |row: Waiting| {
        send[(row.0 % CONNECTIONS) as usize].send(row).expect("it writes until nobody sends");
    };
    let rate = waves(tasks, each, at_least, push).await;
    writers.into_iter().for_each(|writer| writer.join().expect("it does not panic"));
    rate
}

async fn write(client: Client, mut rows: UnboundedReceiver<Waiting>) {
    let statement = client.prepare(INSERT).await.expect("it is SQL");
    let mut batch = Vec::new();
    while rows.recv_many(&mut batch, BATCH_MAX).await > 0 {
        batch.sort_by_key(|(run, ..)| *run);
        insert(&client, &statement, &batch).await;
        for (.., done) in batch.drain(..) {
            let _ = done.send(());
        }
    }
}
