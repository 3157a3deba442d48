//! A pooler before a server.

use everstep_cluster::{Cluster, Pooler};
use tokio_postgres::NoTls;

#[tokio::test]
async fn sessions_behind_a_pooler_share_connections_of_the_server() {
    let cluster = Cluster::shared().expect("a server");
    let pooler = Pooler::start(cluster, "postgres").expect("starts");
    let mut backends = Vec::new();
    for _ in 0..3 {
        let (client, connection) = tokio_postgres::connect(pooler.url(), NoTls).await.expect("connects");
        tokio::spawn(connection);
        let row = client.query_typed("SELECT pg_backend_pid()", &[]).await.expect("asks").remove(0);
        backends.push((row.get::<_, i32>(0), client));
    }
    let first = backends[0].0;
    assert!(backends.iter().all(|(backend, _)| *backend == first), "one after the other, they need but one");
}

#[tokio::test]
async fn a_pooler_that_cannot_start_says_why() {
    let cluster = Cluster::shared().expect("a server");
    let error = Pooler::start(cluster, "no = such = database").expect_err("this is no line of its settings");
    assert!(error.to_string().contains("pgbouncer does not start"), "{error}");
}
