//! Runs that move to another store, or come from one: the trait, verb by verb.

use everstep_core::store::{Answer, CopyId, CopyMark, Numbers, RunId, Transfer, Whole};

use crate::{
    open::Postgres,
    read::in_one_look,
    sql::{Sql, get, sql},
    whole,
    write::{mark, place},
};

impl Transfer for Postgres {
    fn copy_mark(&self) -> Answer<Option<CopyMark>> {
        self.read(Box::new(|conn, _| Box::pin(mark::read(conn))))
    }

    fn set_copy_mark(&self, from: Option<CopyMark>, to: Option<CopyMark>) -> Answer<()> {
        self.call(async move |batch| mark::set(batch, from.as_ref(), to.as_ref()).await, |(), _| ())
    }

    fn numbers(&self) -> Answer<Numbers> {
        const NUMBERS: Sql = sql(
            "read the highest numbers",
            "SELECT (SELECT value FROM @meta WHERE key = 'run'), (SELECT value FROM @meta WHERE key = 'worker')",
        );
        self.read(Box::new(|conn, _| {
            Box::pin(async {
                let Some(row) = conn.one(&NUMBERS, &[]).await? else { return Ok(Numbers::default()) };
                Ok(Numbers { run: get(&row, 0)?, worker: get(&row, 1)? })
            })
        }))
    }

    fn wholes(&self, after: RunId, limit: usize) -> Answer<Vec<Whole>> {
        self.read(Box::new(move |conn, texts| {
            Box::pin(
                async move { in_one_look(conn, async || whole::page(conn, texts, after, limit).await).await },
            )
        }))
    }

    fn place(&self, copy: CopyId, numbers: Numbers, runs: Vec<Whole>) -> Answer<usize> {
        let bytes = runs.iter().map(Whole::bytes).sum();
        self.call_with(
            (None, bytes),
            async move |batch| place::place(batch, copy, numbers, &runs).await,
            |_, _| (),
        )
    }
}
