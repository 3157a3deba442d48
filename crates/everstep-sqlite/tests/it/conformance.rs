//! The SQLite store does what every store must do.

use std::{any::Any, sync::Arc};

use everstep_conformance::{Bench, Deed, conformance_tests};
use everstep_core::{BoxFuture, journal::Payload, store::Store};
use everstep_sqlite::{SqliteJob, Tx};

use crate::fixture::Desk;

impl Bench for Desk {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(Desk::open(self)) as Arc<dyn Store> })
    }

    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
        let count = |tx: &Tx<'_>| tx.query_row("SELECT count(*) FROM mine", [], |row| row.get::<_, i64>(0));
        Box::new(SqliteJob(Box::new(move |tx| {
            let before = count(tx)?;
            deeds.iter().try_for_each(|deed| act(tx, deed))?;
            Ok(Payload::json((count(tx)? - before).to_string()))
        })))
    }

    fn rows(&self) -> BoxFuture<'_, Vec<String>> {
        let conn = self.outside();
        let mut rows = conn.prepare("SELECT text FROM mine ORDER BY text").expect("prepares");
        let rows = rows.query_map([], |row| row.get(0)).expect("reads");
        let rows = rows.map(|row| row.expect("a text")).collect();
        Box::pin(async { rows })
    }
}

fn act(tx: &Tx<'_>, deed: &Deed) -> everstep_core::Result<()> {
    match deed {
        Deed::Write(text) => drop(tx.execute("INSERT INTO mine (text) VALUES (?1)", [text])?),
        Deed::Fail(why) => return Err(why.clone().into()),
        Deed::Panic(why) => panic!("{why}"),
    }
    Ok(())
}

fn bench() -> Desk {
    let desk = Desk::new();
    desk.run_sql("CREATE TABLE mine (text TEXT NOT NULL)");
    desk
}

conformance_tests!(bench);
