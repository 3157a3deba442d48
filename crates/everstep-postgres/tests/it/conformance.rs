//! The PostgreSQL store does what every store must do.

use std::{any::Any, sync::Arc};

use everstep_conformance::{Bench, Deed, conformance_tests};
use everstep_core::{BoxFuture, journal::Payload, store::Store};
use everstep_postgres::{PostgresJob, Tx};

use crate::fixture::Desk;

impl Bench for Desk {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(Desk::open(self).await) as Arc<dyn Store> })
    }

    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
        let mine = self.table("mine");
        Box::new(PostgresJob(Box::new(move |tx| {
            let (deeds, mine) = (deeds.clone(), mine.clone());
            Box::pin(async move {
                let before = count(&tx, &mine).await?;
                for deed in &deeds {
                    act(&tx, &mine, deed).await?;
                }
                Ok(Payload::json((count(&tx, &mine).await? - before).to_string()))
            })
        })))
    }

    fn rows(&self) -> BoxFuture<'_, Vec<String>> {
        let read = format!("SELECT text FROM {} ORDER BY text", self.table("mine"));
        let rows = self.asks(async |client| {
            let rows = client.query(&read, &[]).await.expect("reads");
            rows.iter().map(|row| String::from_utf8(row.get(0)).expect("a text")).collect()
        });
        Box::pin(async { rows })
    }
}

async fn count(tx: &Tx, mine: &str) -> everstep_core::Result<i64> {
    Ok(tx.query_one(&format!("SELECT count(*) FROM {mine}"), &[]).await?.get(0))
}

async fn act(tx: &Tx, mine: &str, deed: &Deed) -> everstep_core::Result<()> {
    match deed {
        Deed::Write(text) => {
            tx.execute(&format!("INSERT INTO {mine} (text) VALUES ($1)"), &[&text.as_bytes()]).await?;
        }
        Deed::Fail(why) => return Err(why.clone().into()),
        Deed::Panic(why) => panic!("{why}"),
    }
    Ok(())
}

fn bench() -> Desk {
    with_table(Desk::new())
}

/// With the table that jobs write to.
pub(crate) fn with_table(desk: Desk) -> Desk {
    desk.run_sql(&format!("CREATE TABLE {} (text bytea NOT NULL)", desk.table("mine")));
    desk
}

conformance_tests!(bench);
