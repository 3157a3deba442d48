//! The rows of a database on a server, in one statement: one state of it, as JSON.

use everstep::postgres::tokio_postgres::{Client, Error};

use super::{Snapshot, rows::Rows};

/// A server ends what a dead process has sent, and may commit it; then it takes note of the death. Against hanging only, in
/// looks of a hundredth of a second.
const LOOKS_MAX: u32 = 6000;

/// What is in this database, when the server has noticed that nobody else is there.
pub(crate) async fn of_server(client: Client) -> Snapshot {
    match read(&client).await {
        Ok(snapshot) => snapshot,
        Err(error) => Snapshot::unreadable(&error),
    }
}

async fn read(client: &Client) -> Result<Snapshot, Error> {
    // The tables of the last migration are there with all others, or none are.
    const TABLES: &str = "SELECT to_regclass('moved') IS NOT NULL, to_regclass('wish') IS NOT NULL,
         to_regclass('everstep.everstep_copy') IS NOT NULL";
    let mut snapshot = Snapshot::default();
    if !is_alone(client).await? {
        snapshot.damage.push("the server has not noticed the death of a process".to_string());
    }
    let tables = client.query_one(TABLES, &[]).await?;
    let part = |is_there: bool, query: &'static str| if is_there { query } else { "SELECT '[]'::json" };
    let (rows, wishes) = (part(tables.get(0), MOVED), part(tables.get(1), WISHES));
    let state = format!("SELECT ({rows})::text, ({wishes})::text, ({})::text", part(tables.get(2), RUNS));
    let state = client.query_one(&state, &[]).await?;
    let text = |column: usize| state.get::<_, &str>(column);
    snapshot.rows = serde_json::from_str(text(0)).expect("pairs of texts");
    snapshot.wished = serde_json::from_str(text(1)).expect("texts");
    let runs: Vec<Rows> = serde_json::from_str(text(2)).expect("rows of runs");
    runs.into_iter().for_each(|rows| snapshot.add(rows));
    Ok(snapshot)
}

async fn is_alone(client: &Client) -> Result<bool, Error> {
    const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    for _ in 0..LOOKS_MAX {
        if client.query_one(OTHERS, &[]).await?.get::<_, i64>(0) == 0 {
            return Ok(true);
        }
        client.batch_execute("SELECT pg_sleep(0.01)").await?;
    }
    Ok(false)
}

const MOVED: &str =
    "SELECT coalesce(json_agg(json_build_array(run, key) ORDER BY run, key), '[]') FROM moved";

const WISHES: &str = "SELECT coalesce(json_agg(run ORDER BY run), '[]') FROM wish";

/// As [`Rows`] has them.
const RUNS: &str = "SELECT coalesce(json_agg(json_build_object(
    'id', r.text_id, 'status', r.status, 'generation', r.generation,
    'parent', (SELECT p.text_id FROM everstep.everstep_run_extra x JOIN everstep.everstep_run p ON p.id = x.parent
               WHERE x.run = r.id),
    'seen', EXISTS (SELECT 1 FROM everstep.everstep_inbox_seen WHERE run = r.id),
    'journal', (SELECT coalesce(json_agg(json_build_object('seq', seq, 'kind', kind, 'key', key,
                  'body', convert_from(body, 'UTF8')) ORDER BY seq), '[]') FROM everstep.everstep_journal WHERE run = r.id),
    'archives', (SELECT coalesce(json_agg(json_build_object('restart', why = 'restart', 'generation', generation, 'n', n,
                   'body', body)), '[]') FROM everstep.everstep_archive WHERE run = r.id),
    'letters', (SELECT coalesce(json_agg(json_build_object('kind', kind, 'name', name,
                  'body', convert_from(body, 'UTF8'))), '[]') FROM everstep.everstep_inbox WHERE run = r.id),
    'started', (SELECT coalesce(json_agg(key), '[]') FROM everstep.everstep_started WHERE run = r.id),
    'replies', (SELECT coalesce(json_agg(body ORDER BY body), '[]')
                FROM (SELECT convert_from(body, 'UTF8') COLLATE \"C\" AS body FROM everstep.everstep_reply WHERE run = r.id) AS reply),
    'items', (SELECT coalesce(json_agg(json_build_object('n', n, 'body', convert_from(body, 'UTF8'))), '[]')
              FROM everstep.everstep_stream WHERE run = r.id))), '[]') FROM everstep.everstep_run r";
