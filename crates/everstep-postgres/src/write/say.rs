//! What runs tell others than their journal.

use everstep_core::{
    AttributeValue,
    store::{RunId, Say, item_number},
};
use foldhash::{HashMap, HashMapExt as _};

use super::{child, promise};
use crate::{
    attribute,
    batch::Batch,
    fault::Fault,
    names::NameKind,
    row::{codec, signed, unsigned},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// The numbers of the items among `says`, in their order. Writes nothing: what is refused must concern nobody else.
pub(crate) async fn item_numbers(batch: &mut Batch<'_>, run: RunId, says: &[Say]) -> Result<Vec<u64>, Fault> {
    let mut next = HashMap::new();
    let mut numbers = Vec::new();
    for say in says {
        say.check()?;
        if let Say::Emitted { name, n, .. } = say {
            let held = match next.get(name) {
                Some(held) => *held,
                None => held(batch, run, name).await?,
            };
            // A stream that continues needs no look into the archive.
            let was_cut = *n < held && was_cut(batch, run).await?;
            numbers.push(item_number(name, *n, held, was_cut)?);
            next.insert(name, held + 1);
        }
    }
    Ok(numbers)
}

async fn held(batch: &Batch<'_>, run: RunId, stream: &str) -> Result<u64, Fault> {
    const HELD: Sql = sql("count items", "SELECT max(n) + 1 FROM @stream WHERE run = $1 AND name = $2");
    let row = batch.conn.one(&HELD, args![run.0, kept(stream)]).await?;
    let held: Option<i64> = row.map(|row| get(&row, 0)).transpose()?.flatten();
    Ok(held.map_or(0, unsigned))
}

async fn was_cut(batch: &Batch<'_>, run: RunId) -> Result<bool, Fault> {
    const CUT: Sql = sql("look into the archive", "SELECT 1 FROM @archive WHERE run = $1 LIMIT 1");
    Ok(batch.conn.one(&CUT, args![run.0]).await?.is_some())
}

/// Writes what was said; `numbers` are those of the items.
pub(crate) async fn add(
    batch: &mut Batch<'_>,
    run: RunId,
    says: &[Say],
    numbers: Vec<u64>,
) -> Result<(), Fault> {
    const PUBLISH: Sql = sql(
        "publish a value",
        "INSERT INTO @state (run, name, body, codec, seq, at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (run, name) DO UPDATE
         SET body = excluded.body, codec = excluded.codec, seq = excluded.seq, at = excluded.at",
    );
    const EMIT: Sql = sql(
        "emit an item",
        "INSERT INTO @stream (run, name, n, body, codec, at) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    const ANSWER: Sql = sql(
        "answer a request",
        "INSERT INTO @reply (run, id, body, codec, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    );
    const UNSET: Sql = sql("take an attribute away", "DELETE FROM @attribute WHERE run = $1 AND name = $2");
    let mut numbers = numbers.into_iter();
    for say in says {
        match say {
            Say::Published { name, body, seq, at } => {
                let args = args![run.0, kept(name), &*body.bytes, codec(body), signed(*seq), at.0];
                batch.execute(&PUBLISH, args).await?;
            }
            Say::Emitted { name, body, at, .. } => {
                let n = signed(numbers.next().expect("each item has a number"));
                batch.execute(&EMIT, args![run.0, kept(name), n, &*body.bytes, codec(body), at.0]).await?;
            }
            Say::Attribute { name, value: Some(value) } => {
                let name = batch.intern(NameKind::Attribute, name).await?;
                set_attribute(batch, run, name, value).await?;
            }
            Say::Attribute { name, value: None } => {
                let Some(name) = batch.find_name(NameKind::Attribute, name).await? else { continue };
                batch.execute(&UNSET, args![run.0, name]).await?;
            }
            Say::Promised { hash, key, expires } => promise::add(batch, run, hash, key, *expires).await?,
            Say::Answered { id, body, at } => {
                let id = id.0.to_be_bytes().to_vec();
                batch.execute(&ANSWER, args![run.0, id, &*body.bytes, codec(body), at.0]).await?;
            }
            // Boxed: a child's start may say things itself.
            Say::Child { run, answer } => Box::pin(child::start(batch, run, *answer)).await?,
            Say::Tell { run, generation, letter } => child::tell(batch, *run, *generation, letter).await?,
            Say::Cancel { child, letter } => child::cancel(batch, run, child.as_deref(), letter).await?,
        }
    }
    Ok(())
}

/// `name` is its number in `@name`.
pub(crate) async fn set_attribute(
    batch: &mut Batch<'_>,
    run: RunId,
    name: i64,
    value: &AttributeValue,
) -> Result<(), Fault> {
    const SET: Sql = sql(
        "set an attribute",
        "INSERT INTO @attribute (run, name, class, number, text) VALUES ($1, $2, $3, $4::text::numeric, $5)
         ON CONFLICT (run, name) DO UPDATE
         SET class = excluded.class, number = excluded.number, text = excluded.text",
    );
    let attribute::Columns { class, number, text } = attribute::columns(value);
    batch.execute(&SET, args![run.0, name, class, number, text]).await.map(drop)
}
