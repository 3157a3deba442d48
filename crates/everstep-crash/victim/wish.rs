//! Somebody who starts runs in transactions of his own, each with a row that says so: on PostgreSQL.

use everstep::{
    Client, EngineError, Run, Workflow,
    postgres::{
        StartIn as _,
        tokio_postgres::{self, NoTls},
    },
};

/// His own connection to the database.
pub(crate) struct Wishes(tokio_postgres::Client);

impl Wishes {
    pub(crate) async fn connect(url: &str) -> Wishes {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server answers");
        tokio::spawn(connection);
        Wishes(client)
    }

    /// Starts a run with its row, once: he looks whether he did it in an earlier life.
    pub(crate) async fn start(
        &mut self,
        client: &Client,
        workflow: Workflow<u64, String>,
        id: &str,
        input: u64,
    ) -> Result<Run<String>, EngineError> {
        const OURS: &str = "the server answers";
        let tx = self.0.transaction().await.expect(OURS);
        if tx.query_opt("SELECT 1 FROM wish WHERE run = $1", &[&id]).await.expect(OURS).is_none() {
            tx.execute("INSERT INTO wish (run) VALUES ($1)", &[&id]).await.expect(OURS);
        }
        let run = client.start_in(&tx, workflow, id, input).await?;
        tx.commit().await.expect(OURS);
        Ok(run)
    }
}
