//! Runs that move to another store, or come from one: the trait, verb by verb.

use everstep_core::store::{Answer, CopyId, CopyMark, Numbers, RunId, Transfer, Whole};

use crate::{
    open::Sqlite,
    read::in_one_look,
    row, whole,
    write::{mark, place},
};

impl Transfer for Sqlite {
    fn copy_mark(&self) -> Answer<Option<CopyMark>> {
        self.read(|conn, _| mark::read(conn))
    }

    fn set_copy_mark(&self, from: Option<CopyMark>, to: Option<CopyMark>) -> Answer<()> {
        self.call(move |batch| mark::set(batch, from.as_ref(), to.as_ref()), |(), _| ())
    }

    fn numbers(&self) -> Answer<Numbers> {
        self.read(|conn, _| {
            let sql = "SELECT (SELECT value FROM everstep_meta WHERE key = 'run'),
                              ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'everstep_worker'), 0)";
            let numbers =
                row::one(conn, sql, [], |row| Ok(Numbers { run: row.get(0)?, worker: row.get(1)? }))?;
            Ok(numbers.unwrap_or_default())
        })
    }

    fn wholes(&self, after: RunId, limit: usize) -> Answer<Vec<Whole>> {
        self.read(move |conn, texts| in_one_look(conn, |conn| whole::page(conn, texts, after, limit)))
    }

    fn place(&self, copy: CopyId, numbers: Numbers, runs: Vec<Whole>) -> Answer<usize> {
        let bytes = runs.iter().map(Whole::bytes).sum();
        self.call_with(bytes, move |batch| place::place(batch, copy, numbers, &runs), |_, _| ())
    }
}
