//! The roles of docs/postgres.md, made by the SQL that stands there.

use everstep_cluster::{Cluster, Settings as Server};
use everstep_core::{Ctx, Engine, Result, Signal, Workflow, seconds, store::StoreError};
use everstep_postgres::{
    Postgres,
    tokio_postgres::{Client, error::SqlState},
};

const DOCS: &str = include_str!("../../../../docs/postgres.md");
const GREET: Workflow<String, String> = Workflow::new("greet");
const GO: Signal<bool> = Signal::new("go");

/// The statements under a mark of the page.
fn sql(mark: &str) -> &'static str {
    let after = DOCS.split_once(&format!("<!-- sql: {mark} -->\n```sql\n")).expect(mark).1;
    after.split_once("```").expect("it ends").0
}

async fn greet(ctx: Ctx, name: String) -> Result<String> {
    let greeting = ctx.step("greet", async || Ok(format!("hello {name}"))).await?;
    ctx.publish("greeting", &greeting);
    ctx.timeout(seconds(60), ctx.signal(GO)).await?;
    Ok(greeting)
}

/// What a worker's engine does all day.
async fn works(store: Postgres) {
    let engine = Engine::builder(store).register(GREET, greet).start().await.expect("it starts");
    let run = engine.start(GREET, "ada", "Ada".to_string()).await.expect("it starts");
    engine.signal("ada", GO, true).await.expect("it is open");
    assert_eq!(run.result().await.expect("it completes"), "hello Ada");
    let run = engine.start(GREET, "bob", "Bob".to_string()).await.expect("it starts");
    engine.cancel("bob", "enough").await.expect("it is open");
    run.result().await.expect_err("it is cancelled");
    engine.shutdown().await.expect("it leaves");
}

async fn refused(url: &str) -> String {
    match Postgres::open(url).await {
        Err(StoreError::Unusable(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn may_not(client: &Client, statement: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_work_and_no_more() {
    let cluster = Cluster::private(Server { fsync: false, ..Server::default() }).expect("starts");
    let admin = cluster.connect("postgres").await.expect("connects");
    let url =
        |role: &str| cluster.url("postgres").replace("postgres://postgres@", &format!("postgres://{role}@"));
    let (owner, worker, viewer) = (url("everstep_owner"), url("everstep_worker"), url("everstep_viewer"));
    let connect = async |url: &str| {
        let (client, line) =
            everstep_postgres::tokio_postgres::connect(url, everstep_postgres::tokio_postgres::NoTls)
                .await
                .expect("connects");
        tokio::spawn(line);
        client
    };
    // Before there is a schema, before it is filled, and before it is granted: the same advice.
    let advised = async |when: &str| {
        let told = refused(&worker).await;
        assert!(told.contains("as the owner of the schema") && told.contains("42501"), "{when}: {told}");
    };
    let (roles, schema) = sql("roles").split_once("CREATE SCHEMA").expect("it is made there");
    admin.batch_execute(roles).await.expect("are made");
    advised("no schema").await;
    admin.batch_execute(&format!("CREATE SCHEMA {schema}")).await.expect("is made");
    advised("an empty schema").await;
    drop(Postgres::open(&owner).await.expect("the owner fills it"));
    advised("not granted").await;
    let owns = connect(&owner).await;
    for _ in 0..2 {
        owns.batch_execute(sql("grants")).await.expect("are granted, again too");
    }
    works(Postgres::open(&worker).await.expect("opens")).await;
    let client = connect(&worker).await;
    for statement in [
        "CREATE TABLE everstep.mine ()",
        "ALTER TABLE everstep.everstep_run ADD COLUMN mine int",
        "DROP TABLE everstep.everstep_run",
        "TRUNCATE everstep.everstep_journal",
    ] {
        may_not(&client, statement).await;
    }
    owns.batch_execute("UPDATE everstep.everstep_meta SET value = 1 WHERE key = 'schema'")
        .await
        .expect("is old");
    advised("an old schema").await;
    owns.batch_execute("UPDATE everstep.everstep_meta SET value = 2 WHERE key = 'schema'")
        .await
        .expect("is new");
    let told = refused(&viewer).await;
    assert!(told.contains("grant the role"), "{told}");
    let client = connect(&viewer).await;
    let seen = "SELECT string_agg(id || ' ' || status, ', ' ORDER BY id) FROM everstep.everstep_runs";
    let seen: String = client.query_one(seen, &[]).await.expect("sees the runs").get(0);
    assert_eq!(seen, "ada completed, bob cancelled");
    let steps = "SELECT count(*) FROM everstep.everstep_timeline WHERE run = 'ada' AND what = 'done' AND key = 'greet'";
    assert_eq!(client.query_one(steps, &[]).await.expect("sees the steps").get::<_, i64>(0), 1);
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'everstep' AND table_type = 'BASE TABLE'";
    let tables = owns.query(tables, &[]).await.expect("reads");
    assert!(tables.len() > 10, "{tables:?}");
    for table in &tables {
        let table: &str = table.get(0);
        may_not(&client, &format!("SELECT FROM everstep.{table}")).await;
        may_not(&client, &format!("DELETE FROM everstep.{table}")).await;
    }
    may_not(&client, "CREATE TABLE everstep.mine ()").await;
    // What the page tells operators to ask.
    admin.batch_execute(sql("sizes")).await.expect("tells the sizes");
    admin.batch_execute(sql("old snapshots")).await.expect("tells who holds dead rows");
}
