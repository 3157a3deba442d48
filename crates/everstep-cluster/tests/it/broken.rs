//! Connections that the proxy breaks, and what the server has done by then.

use std::time::Duration;

use everstep_cluster::{
    Cluster, Database,
    proxy::{Direction, Fault, Moment, Proxy, Strike},
};
use futures_util::{StreamExt, future::join_all};
use tokio::{task::JoinHandle, time::Instant};
use tokio_postgres::{Client, Error, NoTls};

/// A table in a database of its own, and a proxy on the way to it.
struct Way {
    database: Database,
    proxy: Proxy,
}

const ADD: &str = "INSERT INTO rows DEFAULT VALUES";
const SECOND: Duration = Duration::from_secs(1);

impl Way {
    async fn new() -> Way {
        let database = Cluster::shared().expect("starts").database().await.expect("is made");
        let way = Way { proxy: Proxy::start(&database.url()).await.expect("listens"), database };
        way.direct().await.batch_execute("CREATE TABLE rows ()").await.expect("is made");
        way
    }

    async fn direct(&self) -> Client {
        self.database.connect().await.expect("connects")
    }

    async fn client(&self) -> Client {
        connect(&self.proxy.url()).await.expect("connects")
    }

    async fn rows(&self) -> i64 {
        self.direct().await.query_one("SELECT count(*) FROM rows", &[]).await.expect("counts").get(0)
    }

    /// Runs a transaction of one row whose commit is struck, and says how many rows there are when everything of it is
    /// over on the server too.
    async fn rows_after_a_struck_commit(&self, moment: Moment) -> i64 {
        let (strike, mut client) = (self.proxy.at(moment, Fault::Cut), self.client().await);
        client.batch_execute("SELECT pg_advisory_lock(1)").await.expect("nobody holds it");
        let transaction = client.transaction().await.expect("begins");
        transaction.execute(ADD, &[]).await.expect("this is not struck");
        let error = transaction.commit().await.expect_err("its answer does not come");
        assert!(error.is_closed() || error.code().is_none(), "{error}");
        strike.happened().await;
        assert_eq!((strike.count(), self.proxy.cuts()), (1, 1));
        // The lock is free when the server has ended what was cut.
        self.direct().await.batch_execute("SELECT pg_advisory_lock(1)").await.expect("it comes");
        self.rows().await
    }

    /// Adds a row on a connection of its own, in the background.
    async fn adds(&self) -> Adding {
        let client = self.client().await;
        Adding(tokio::spawn(async move { client.execute(ADD, &[]).await }))
    }

    /// Nothing comes of it meanwhile.
    async fn waits_still(&self, adding: &Adding, rows: i64) {
        // Whoever would pass does so in much less than some connections take.
        for _ in 0..5 {
            assert_eq!(self.rows().await, rows);
            assert!(!adding.0.is_finished());
        }
    }
}

struct Adding(JoinHandle<Result<u64, Error>>);

impl Adding {
    async fn succeeds(self) {
        assert_eq!(self.0.await.expect("no panic").expect("is executed"), 1);
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn a_commit_that_was_cut_before_is_not_in_the_database() {
    assert_eq!(Way::new().await.rows_after_a_struck_commit(Moment::before("COMMIT")).await, 0);
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_in_the_database() {
    assert_eq!(Way::new().await.rows_after_a_struck_commit(Moment::after("COMMIT")).await, 1);
}

#[tokio::test]
async fn a_commit_that_is_cut_on_its_way_is_in_the_database_in_the_end() {
    assert_eq!(Way::new().await.rows_after_a_struck_commit(Moment::during("COMMIT")).await, 1);
}

/// Executes one prepared statement three times, of which one is struck: how many were acknowledged, and are there.
async fn acknowledged_and_there(moment: Moment) -> (u64, i64) {
    let way = Way::new().await;
    let (client, _strike) = (way.client().await, way.proxy.at(moment, Fault::Cut));
    let add = client.prepare(ADD).await.expect("a statement that is prepared is not executed");
    let mut acknowledged = 0;
    for _ in 0..3 {
        acknowledged += client.execute(&add, &[]).await.unwrap_or(0);
    }
    (acknowledged, way.rows().await)
}

#[tokio::test]
async fn of_all_commits_that_of_one_kind_of_transaction_is_meant() {
    let way = Way::new().await;
    let strike = way.proxy.at(Moment::after("COMMIT").behind(ADD), Fault::Cut);
    let mut client = way.client().await;
    for text in ["SELECT 1", ADD] {
        assert_eq!(strike.count(), 0);
        let transaction = client.transaction().await.expect("begins");
        transaction.execute(text, &[]).await.expect("this is not struck");
        assert_eq!(transaction.commit().await.is_err(), text == ADD);
    }
    strike.happened().await;
    assert_eq!(way.rows().await, 1);
}

#[tokio::test]
async fn the_nth_execution_of_a_prepared_statement_is_meant() {
    assert_eq!(acknowledged_and_there(Moment::before(ADD).nth(2)).await, (1, 1));
    assert_eq!(acknowledged_and_there(Moment::after(ADD).nth(3)).await, (2, 3));
    assert_eq!(acknowledged_and_there(Moment::after("UPDATE")).await, (3, 3));
    assert_eq!(acknowledged_and_there(Moment::after(ADD).if_it(|text| text.ends_with('S'))).await, (0, 1));
}

#[tokio::test]
async fn what_was_asked_before_is_answered() {
    let way = Way::new().await;
    let (client, _strike) = (way.client().await, way.proxy.at(Moment::after("SELECT 5"), Fault::Cut));
    let asked: Vec<_> = (0..10).map(|n| format!("SELECT {n}")).collect();
    let answers = join_all(asked.iter().map(|text| client.simple_query(text))).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [[true; 5], [false; 5]].concat());
}

#[tokio::test]
async fn of_an_answer_that_is_lost_not_a_row_has_come() {
    let way = Way::new().await;
    let (client, _strike) = (way.client().await, way.proxy.at(Moment::after("generate"), Fault::Cut));
    let rows = client.simple_query_raw("SELECT generate_series(1, 1000)").await;
    let mut rows = std::pin::pin!(rows.expect("is sent"));
    rows.next().await.expect("it ends").map(drop).expect_err("and with nothing else");
}

#[tokio::test]
async fn a_server_that_was_asked_much_before_executes_what_it_got_last() {
    let way = Way::new().await;
    let client = way.client().await;
    client.batch_execute("SELECT pg_advisory_lock(1)").await.expect("nobody holds it");
    way.proxy.at(Moment::during(ADD), Fault::Cut);
    // It cannot tell the client all this, which is gone by then.
    let much = (0..20).map(|_| client.batch_execute("SELECT repeat('a', 1000000)"));
    let (_, added) = tokio::join!(join_all(much), client.batch_execute(ADD));
    added.expect_err("its answer does not come");
    way.direct().await.batch_execute("SELECT pg_advisory_lock(1)").await.expect("it comes");
    assert_eq!(way.rows().await, 1);
}

#[tokio::test]
async fn every_connection_is_struck_until_it_is_healed() {
    let way = Way::new().await;
    let strike = way.proxy.at(Moment::before("SELECT 1").every(), Fault::Cut);
    for n in 1..=3 {
        let client = way.client().await;
        client.batch_execute("SELECT 2").await.expect("this is not meant");
        client.batch_execute("SELECT 1").await.expect_err("this is");
        strike.reaches(n).await;
    }
    way.proxy.cuts_reach(3).await;
    way.proxy.heal().await;
    way.client().await.batch_execute("SELECT 1").await.expect("it is healed");
}

#[tokio::test]
async fn all_that_are_open_are_cut() {
    let way = Way::new().await;
    let clients = [way.client().await, way.client().await];
    assert_eq!(way.proxy.connections(), 2);
    way.proxy.set(Fault::Cut);
    way.proxy.cuts_reach(2).await;
    for client in clients {
        client.batch_execute("SELECT 1").await.expect_err("it is cut");
    }
    way.client().await.batch_execute("SELECT 1").await.expect("new ones are not");
}

#[tokio::test]
async fn a_black_hole_keeps_what_comes_until_it_is_healed() {
    let way = Way::new().await;
    let strike = way.proxy.at(Moment::before(ADD), Fault::Hold(Direction::Both));
    let adding = way.adds().await;
    strike.happened().await;
    way.waits_still(&adding, 0).await;
    way.client().await.execute(ADD, &[]).await.expect("other connections are whole");
    way.waits_still(&adding, 1).await;
    way.proxy.heal().await;
    adding.succeeds().await;
    assert_eq!((way.rows().await, way.proxy.cuts()), (2, 0));
}

#[tokio::test]
async fn a_black_hole_takes_new_connections_and_says_nothing() {
    let way = Way::new().await;
    way.proxy.set(Fault::Hold(Direction::Both));
    let url = way.proxy.url();
    let adding = Adding(tokio::spawn(async move { connect(&url).await?.execute(ADD, &[]).await }));
    way.waits_still(&adding, 0).await;
    way.proxy.heal().await;
    adding.succeeds().await;
}

#[tokio::test]
async fn a_server_that_is_not_heard_has_done_it() {
    let way = Way::new().await;
    let strike = way.proxy.at(Moment::after(ADD), Fault::Hold(Direction::ToClient));
    let adding = way.adds().await;
    strike.happened().await;
    way.waits_still(&adding, 1).await;
    way.proxy.heal().await;
    adding.succeeds().await;
}

#[tokio::test]
async fn a_server_that_does_not_hear_can_still_speak() {
    let way = Way::new().await;
    let (client, mut connection) = tokio_postgres::connect(&way.proxy.url(), NoTls).await.expect("connects");
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            let _ = told.send(message);
        }
    });
    client.batch_execute("LISTEN news").await.expect("listens");
    way.proxy.set(Fault::Hold(Direction::ToServer));
    let adding = Adding(tokio::spawn(async move { client.execute(ADD, &[]).await }));
    way.direct().await.batch_execute("NOTIFY news").await.expect("is told");
    heard.recv().await.expect("it is heard");
    way.waits_still(&adding, 0).await;
    way.proxy.heal().await;
    adding.succeeds().await;
}

#[tokio::test]
async fn a_client_that_gives_up_in_a_partition_leaves_its_transaction_open() {
    let way = Way::new().await;
    let client = way.client().await;
    client.batch_execute("BEGIN; LOCK TABLE rows").await.expect("is free");
    way.proxy.set(Fault::Hold(Direction::Both));
    drop(client);
    let direct = way.direct().await;
    let lock = "LOCK TABLE rows IN SHARE MODE NOWAIT";
    for _ in 0..5 {
        direct.batch_execute(&format!("BEGIN; {lock}")).await.expect_err("the server knows nothing");
        direct.batch_execute("ROLLBACK").await.expect("is open");
    }
    way.proxy.heal().await;
    direct.batch_execute("BEGIN; LOCK TABLE rows IN SHARE MODE").await.expect("now it knows");
}

#[tokio::test(start_paused = true)]
async fn everything_comes_later_and_nothing_waits_for_the_one_before() {
    let way = Way::new().await;
    let client = way.client().await;
    way.proxy.set(Fault::Delay(Direction::ToServer, 10 * SECOND));
    let asked: Vec<_> = (0..20).map(|n| format!("SELECT {n}")).collect();
    assert_eq!(took(join_all(asked.iter().map(|text| client.simple_query(text)))).await, 10 * SECOND);
    way.proxy.heal().await;
    assert_eq!(took_for(&client, "SELECT 1").await, Duration::ZERO);
    way.proxy.set(Fault::Delay(Direction::ToClient, SECOND));
    assert_eq!(took_for(&client, "SELECT 1").await, SECOND);
    way.proxy.set(Fault::Delay(Direction::Both, 2 * SECOND));
    assert_eq!(took_for(&client, "SELECT 1").await, 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_takes_long_on_a_slow_line() {
    let way = Way::new().await;
    let client = way.client().await;
    way.proxy.set(Fault::Slow(Direction::ToClient, 100, SECOND));
    let took = took_for(&client, "SELECT repeat('a', 1000)").await;
    assert!(took >= 10 * SECOND && took < 12 * SECOND, "{took:?}");
    assert!(took_for(&client, &format!("SELECT length('{}')", "a".repeat(1000))).await < 2 * SECOND);
    way.proxy.heal().await;
    assert_eq!(took_for(&client, "SELECT repeat('a', 1000)").await, Duration::ZERO);
}

async fn took_for(client: &Client, text: &str) -> Duration {
    took(async { client.simple_query(text).await.expect("is answered") }).await
}

#[allow(clippy::disallowed_methods, reason = "virtual time")]
async fn took<T>(work: impl Future<Output = T>) -> Duration {
    let began = Instant::now();
    work.await;
    began.elapsed()
}

#[tokio::test]
async fn who_comes_new_is_refused_until_it_is_healed() {
    let way = Way::new().await;
    let (client, urls) = (way.client().await, [way.proxy.url(), way.proxy.tcp_url()]);
    for _ in 0..2 {
        way.proxy.refuse().await;
        client.batch_execute("SELECT 1").await.expect("who is there stays");
        for url in &urls {
            connect(url).await.map(drop).expect_err("nobody listens");
        }
        way.proxy.heal().await;
        for url in &urls {
            connect(url).await.expect("somebody listens").batch_execute("SELECT 1").await.expect("it passes");
        }
    }
}

#[tokio::test]
async fn a_strike_that_was_healed_away_has_not_happened() {
    let way = Way::new().await;
    let strike: Strike = way.proxy.at(Moment::before("SELECT 1"), Fault::Cut);
    way.proxy.heal().await;
    way.client().await.batch_execute("SELECT 1").await.expect("nothing is ordered");
    assert_eq!(strike.count(), 0);
}
