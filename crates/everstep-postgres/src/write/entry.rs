//! Entries into the journal.

use everstep_core::{journal::Entry, store::RunId};

use crate::{
    batch::Batch,
    fault::Fault,
    row::{codec, signed},
    sql::{Sql, args, sql},
    text::kept,
};

/// The payloads of an entry.
pub(crate) fn bytes(entry: &Entry) -> usize {
    entry.body.bytes.len() + entry.input.as_ref().map_or(0, |input| input.bytes.len())
}

/// Entries as columns, for one statement.
#[derive(Default)]
pub(crate) struct Columns<'e> {
    pub(crate) run: Vec<i64>,
    pub(crate) seq: Vec<i64>,
    pub(crate) at: Vec<i64>,
    pub(crate) site: Vec<Option<i64>>,
    pub(crate) build: Vec<i64>,
    pub(crate) fingerprint: Vec<i32>,
    pub(crate) attempt: Vec<i32>,
    pub(crate) kind: Vec<i32>,
    pub(crate) codec: Vec<i16>,
    pub(crate) input_codec: Vec<Option<i16>>,
    pub(crate) key: Vec<Option<std::borrow::Cow<'e, str>>>,
    pub(crate) input: Vec<Option<&'e [u8]>>,
    pub(crate) body: Vec<&'e [u8]>,
}

impl<'e> Columns<'e> {
    /// Adds an entry of `run`.
    pub(crate) async fn push(
        &mut self,
        batch: &mut Batch<'_>,
        run: RunId,
        entry: &'e Entry,
    ) -> Result<(), Fault> {
        let (site, build) = batch.names_of(entry).await?;
        self.run.push(run.0);
        self.seq.push(signed(entry.seq));
        self.at.push(entry.at.0);
        self.site.push(site);
        self.build.push(build);
        self.fingerprint.push(entry.fingerprint.cast_signed());
        self.attempt.push(entry.attempt.cast_signed());
        self.kind.push(entry.kind.into());
        self.codec.push(codec(&entry.body));
        self.input_codec.push(entry.input.as_ref().map(codec));
        self.key.push(entry.key.as_deref().map(kept));
        self.input.push(entry.input.as_ref().map(|input| &*input.bytes));
        self.body.push(&entry.body.bytes);
        Ok(())
    }
}

/// Writes entries of `run`.
pub(crate) async fn insert(batch: &mut Batch<'_>, run: RunId, entries: &[Entry]) -> Result<(), Fault> {
    const INSERT: Sql = sql(
        "write entries",
        "INSERT INTO @journal (run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    );
    let mut columns = Columns::default();
    for entry in entries {
        columns.push(batch, run, entry).await?;
    }
    let Columns {
        run,
        seq,
        at,
        site,
        build,
        fingerprint,
        attempt,
        kind,
        codec,
        input_codec,
        key,
        input,
        body,
    } = columns;
    let args =
        args![run, seq, at, site, build, fingerprint, attempt, kind, codec, input_codec, key, input, body];
    batch.execute(&INSERT, args).await.map(drop)
}
