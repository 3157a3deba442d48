//! Runs with everything that is kept of them, and the parts of that which readers ask for one by one.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Stuck, StuckReason, Timestamp,
    store::{Act, PAGE_BYTES, Parent, PublishedRow, RunId, RunRow, StoreError, StreamRow, Whole},
};
use tokio_postgres::Row;

use crate::{
    attribute,
    conn::Conn,
    fault::Fault,
    kept,
    names::Texts,
    read,
    row::{self, damaged, run_columns, signed},
    sql::{Sql, args, get, sql},
    text,
};

/// Runs above `after`, by number.
pub(crate) async fn page(
    conn: &Conn,
    texts: &Texts,
    after: RunId,
    limit: usize,
) -> Result<Vec<Whole>, Fault> {
    const PAGE: Sql = sql(
        "read a page of runs",
        concat!("SELECT ", run_columns!(), " FROM @run r WHERE r.id > $1 ORDER BY r.id LIMIT $2"),
    );
    let rows = conn.rows(&PAGE, args![after.0, signed(limit as u64)]).await?;
    let (mut page, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in row::runs(conn, texts, &rows).await? {
        let whole = whole(conn, texts, row?).await?;
        bytes += whole.bytes();
        page.push(whole);
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// The run of this number.
pub(crate) async fn of(conn: &Conn, texts: &Texts, run: RunId) -> Result<Option<Whole>, Fault> {
    const RUN: Sql =
        sql("read a run by its number", concat!("SELECT ", run_columns!(), " FROM @run r WHERE r.id = $1"));
    let rows = conn.rows(&RUN, args![run.0]).await?;
    match row::runs(conn, texts, &rows).await?.into_iter().next() {
        Some(row) => Ok(Some(whole(conn, texts, row?).await?)),
        None => Ok(None),
    }
}

async fn whole(conn: &Conn, texts: &Texts, row: RunRow) -> Result<Whole, Fault> {
    let id = row.id.clone();
    read_whole(conn, texts, row).await.map_err(|fault| match fault {
        Fault::Refuse(StoreError::Damaged(why)) => {
            StoreError::Damaged(format!("run `{id}` cannot be read: {why}").into()).into()
        }
        other => other,
    })
}

async fn read_whole(conn: &Conn, texts: &Texts, row: RunRow) -> Result<Whole, Fault> {
    let run = row.run;
    // All are asked at once: one after the other, a run would take a dozen ways to the server and back.
    let runs = [run];
    let (extra, loaded, stuck, attributes, published, streams, acts, kept) = futures_util::join!(
        extra(conn, run),
        read::load(conn, texts, &runs),
        stuck(conn, run),
        attributes(conn, run),
        published(conn, run, usize::MAX),
        streams(conn, run),
        acts(conn, run, usize::MAX),
        kept::of(conn, run),
    );
    let (trace, parent) = extra?;
    let loaded = loaded?.into_iter().next().expect("one for each")?;
    Ok(Whole {
        row,
        trace,
        parent,
        loaded,
        stuck: stuck?,
        attributes: attributes?,
        published: published?,
        streams: streams?,
        acts: acts?,
        kept: kept?,
    })
}

/// What few runs have: the trace context of whoever started it, and whose child it is.
async fn extra(conn: &Conn, run: RunId) -> Result<(Option<Arc<str>>, Option<Parent>), Fault> {
    const EXTRA: Sql = sql(
        "read what few runs have",
        "SELECT parent, parent_generation, parent_key, policy, digest, trace FROM @run_extra WHERE run = $1",
    );
    let Some(row) = conn.one(&EXTRA, args![run.0]).await? else { return Ok((None, None)) };
    Ok((get::<Option<&str>>(&row, 5)?.map(text::meant), row::parent(&row)?))
}

/// Why a run is stuck, and since when.
pub(crate) async fn stuck(conn: &Conn, run: RunId) -> Result<Option<(Stuck, Timestamp)>, Fault> {
    const STUCK: Sql =
        sql("read why a run is stuck", "SELECT reason, key, detail, at FROM @stuck WHERE run = $1");
    let Some(row) = conn.one(&STUCK, args![run.0]).await? else { return Ok(None) };
    let code: i16 = get(&row, 0)?;
    let reason = u8::try_from(code).ok().and_then(StuckReason::from_code);
    let reason = reason.ok_or_else(|| damaged(&format!("{code} is no reason this version knows")))?;
    let key = get::<Option<&str>>(&row, 1)?.map(text::meant);
    let detail = text::meant(get(&row, 2)?).to_string();
    Ok(Some((Stuck { reason, key, detail }, Timestamp(get(&row, 3)?))))
}

/// A run's attributes, by name.
pub(crate) async fn attributes(conn: &Conn, run: RunId) -> Result<Vec<(Arc<str>, AttributeValue)>, Fault> {
    const ATTRIBUTES: Sql = sql(
        "read attributes",
        "SELECT n.text, a.class, a.number::text, a.text FROM @attribute a JOIN @name n ON n.id = a.name
         WHERE a.run = $1 ORDER BY n.text",
    );
    let attribute =
        |row: &Row| Ok((row::text(row, 0)?, attribute::read(get(row, 1)?, get(row, 2)?, get(row, 3)?)?));
    let rows = conn.rows(&ATTRIBUTES, args![run.0]).await?;
    Ok(rows.iter().map(attribute).collect::<Result<_, StoreError>>()?)
}

/// What a run has published last under each name, by name.
pub(crate) async fn published(conn: &Conn, run: RunId, limit: usize) -> Result<Vec<PublishedRow>, Fault> {
    const ALL: Sql = sql(
        "read published values",
        "SELECT name, body, codec, seq, at FROM @state WHERE run = $1 ORDER BY name LIMIT $2",
    );
    let rows = conn.rows(&ALL, args![run.0, signed(limit as u64)]).await?;
    Ok(rows.iter().map(row::published).collect::<Result<_, _>>()?)
}

/// By name, those that have items.
type Streams = Vec<(Arc<str>, Vec<StreamRow>)>;

async fn streams(conn: &Conn, run: RunId) -> Result<Streams, Fault> {
    const ITEMS: Sql = sql(
        "read all streams",
        "SELECT n, body, codec, at, name FROM @stream WHERE run = $1 ORDER BY name, n",
    );
    let mut streams: Streams = Vec::new();
    for row in conn.rows(&ITEMS, args![run.0]).await? {
        let (name, item) = (row::text(&row, 4)?, row::item(&row)?);
        match streams.last_mut() {
            Some((last, items)) if *last == name => items.push(item),
            _ => streams.push((name, vec![item])),
        }
    }
    Ok(streams)
}

/// What people did to a run, in this order; of more than `limit` the last ones.
pub(crate) async fn acts(conn: &Conn, run: RunId, limit: usize) -> Result<Vec<Act>, Fault> {
    const ACTS: Sql = sql(
        "read what people did",
        "SELECT verb, who, why, at, detail FROM
         (SELECT * FROM @act WHERE run = $1 ORDER BY n DESC LIMIT $2) AS latest ORDER BY n",
    );
    let rows = conn.rows(&ACTS, args![run.0, signed(limit as u64)]).await?;
    Ok(rows.iter().map(row::act).collect::<Result<_, _>>()?)
}
