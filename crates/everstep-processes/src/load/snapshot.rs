//! Somebody who has begun to look, and looks for as long as it lasts: a report, a backup, a session that was forgotten.

use everstep_postgres::tokio_postgres::Client;

use crate::actor::AnyResult;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const SEEN: &str = "SELECT count(*), max(id) FROM everstep.everstep_run";

/// A transaction that has its snapshot. It ends with the value.
pub(super) struct Snapshot {
    client: Client,
    process: i32,
    seen: (i64, Option<i64>),
}

impl Snapshot {
    /// Takes it: the first query does that, not the beginning of the transaction.
    pub(super) async fn take(client: Client) -> AnyResult<Snapshot> {
        client.batch_execute(BEGIN).await?;
        let seen = look(&client).await?;
        let process = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        Ok(Snapshot { client, process, seen })
    }

    /// Transactions that came after it, of which nothing that they made dead can be cleaned away.
    pub(super) async fn age(&self, admin: &Client) -> AnyResult<u64> {
        const AGE: &str = "SELECT age(backend_xmin)::int8 FROM pg_stat_activity WHERE pid = $1";
        let age: Option<i64> = admin.query_one(AGE, &[&self.process]).await?.get(0);
        Ok(age.unwrap_or(0).cast_unsigned())
    }

    /// What it sees otherwise than at its beginning.
    pub(super) async fn differs(&self) -> AnyResult<Option<String>> {
        let now = look(&self.client).await?;
        Ok((now != self.seen).then(|| format!("the snapshot sees {now:?} in place of {:?}", self.seen)))
    }
}

async fn look(client: &Client) -> AnyResult<(i64, Option<i64>)> {
    let row = client.query_one(SEEN, &[]).await?;
    Ok((row.get(0), row.get(1)))
}
