//! What is kept of a run beside what drives it, read back for exports: the archive, promises, replies, names of letters.

use everstep_core::{
    Timestamp,
    store::{Archived, Kept, PromiseRow, ReplyRow, RunId, StoreError},
};
use tokio_postgres::Row;

use crate::{
    conn::Conn,
    fault::Fault,
    packed,
    row::{self, damaged},
    sql::{Sql, args, get, sql},
};

/// All of it. In the transaction of whoever asks.
pub(crate) async fn of(conn: &Conn, run: RunId) -> Result<Kept, Fault> {
    const ARCHIVE: Sql = sql(
        "read an archive",
        "SELECT generation, why, at, body, from_seq FROM @archive WHERE run = $1 ORDER BY n",
    );
    const PROMISES: Sql = sql(
        "read promises",
        "SELECT hash, key, generation, expires_at, settled FROM @promise WHERE run = $1 ORDER BY hash",
    );
    const REPLIES: Sql =
        sql("read replies", "SELECT id, body, codec, at FROM @reply WHERE run = $1 ORDER BY id");
    const SEEN: Sql = sql("read names of letters", "SELECT id FROM @inbox_seen WHERE run = $1 ORDER BY id");
    let all = async |sql| conn.rows(&sql, args![run.0]).await;
    let reply = |row: &Row| {
        let body = row::payload(get(row, 1)?, get(row, 2)?)?;
        Ok(ReplyRow { id: row::letter_id(row, 0)?, body, at: Timestamp(get(row, 3)?) })
    };
    let (archive, promises, replies, seen) =
        futures_util::join!(all(ARCHIVE), all(PROMISES), all(REPLIES), all(SEEN));
    Ok(Kept {
        archive: archived(&archive?)?,
        promises: promises?.iter().map(promise).collect::<Result<_, _>>()?,
        replies: replies?.iter().map(reply).collect::<Result<_, StoreError>>()?,
        seen: seen?.iter().map(|row| row::letter_id(row, 0)).collect::<Result<_, _>>()?,
    })
}

fn archived(rows: &[Row]) -> Result<Vec<Archived>, StoreError> {
    let mut all: Vec<Archived> = Vec::new();
    for row in rows {
        let mut entries = packed::unpack(get(row, 3)?)?;
        if get::<i64>(row, 4)? < 0 {
            // It goes on with the one before.
            let before = all.last_mut().ok_or_else(|| damaged("an archive begins in the middle"))?;
            before.entries.append(&mut entries);
            continue;
        }
        let (why, at) = (row::text(row, 1)?, Timestamp(get(row, 2)?));
        all.push(Archived { generation: generation(row, 0)?, why, at, entries });
    }
    Ok(all)
}

fn promise(row: &Row) -> Result<PromiseRow, StoreError> {
    let hash: &[u8] = get(row, 0)?;
    Ok(PromiseRow {
        hash: hash.try_into().map_err(|_| damaged("a promise's hash has not 32 bytes"))?,
        key: row::text(row, 1)?,
        generation: generation(row, 2)?,
        expires: get::<Option<i64>>(row, 3)?.map(Timestamp),
        settled: get(row, 4)?,
    })
}

fn generation(row: &Row, column: usize) -> Result<u32, StoreError> {
    let generation: i64 = get(row, column)?;
    u32::try_from(generation).map_err(|_| damaged("a generation is negative"))
}
