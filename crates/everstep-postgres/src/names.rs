//! Texts that hot rows carry as small integers: workflows, names of attributes, call sites, builds. Rows of `@name` are never
//! changed or deleted, and are made in transactions of their own, so that an id may be remembered for as long as the store
//! is open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstep_core::{journal::Site, store::StoreError};
use foldhash::HashMap;

use crate::{
    conn::{Conn, Speaks},
    fault::Fault,
    row::damaged,
    sql::{Sql, args, get, sql},
    text::{kept, meant},
};

/// What a name names; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameKind {
    Workflow = 1,
    Attribute = 2,
    Site = 3,
    Build = 4,
}

/// The way from texts to ids.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<NameKind, HashMap<Arc<str>, i64>>,
    /// Call sites of this program by address, so that the hot path formats nothing.
    here: HashMap<usize, i64>,
    /// The build that was asked for last: nearly always there is but one.
    build: Option<(Arc<str>, i64)>,
}

impl Names {
    /// The id of `text`, made if there is none. `conn` must be in no transaction.
    pub(crate) async fn intern(
        &mut self,
        conn: &Conn,
        kind: NameKind,
        text: &Arc<str>,
    ) -> Result<i64, Fault> {
        if let Some(id) = self.recall(kind, text) {
            return Ok(id);
        }
        let id = intern(conn, kind, text).await?;
        self.learn(kind, text.clone(), id);
        Ok(id)
    }

    /// The id of `text`, if it has one.
    pub(crate) async fn find(
        &mut self,
        conn: &Conn,
        kind: NameKind,
        text: &Arc<str>,
    ) -> Result<Option<i64>, Fault> {
        if let Some(id) = self.recall(kind, text) {
            return Ok(Some(id));
        }
        let found = find(conn, kind, text).await?;
        if let Some(id) = found {
            self.learn(kind, text.clone(), id);
        }
        Ok(found)
    }

    /// The id of a build.
    pub(crate) async fn build(&mut self, conn: &Conn, text: &Arc<str>) -> Result<i64, Fault> {
        if let Some((last, id)) = &self.build
            && Arc::ptr_eq(last, text)
        {
            return Ok(*id);
        }
        let id = self.intern(conn, NameKind::Build, text).await?;
        self.build = Some((text.clone(), id));
        Ok(id)
    }

    /// The id of a call site.
    pub(crate) async fn site(&mut self, conn: &Conn, site: &Site) -> Result<i64, Fault> {
        match site {
            Site::Recorded(text) => self.intern(conn, NameKind::Site, text).await,
            Site::Here(at) => {
                let address = std::ptr::from_ref(*at).addr();
                if let Some(id) = self.here.get(&address) {
                    return Ok(*id);
                }
                let id = self.intern(conn, NameKind::Site, &at.to_string().into()).await?;
                self.here.insert(address, id);
                Ok(id)
            }
        }
    }

    fn recall(&self, kind: NameKind, text: &Arc<str>) -> Option<i64> {
        self.known.get(&kind)?.get(text).copied()
    }

    fn learn(&mut self, kind: NameKind, text: Arc<str>, id: i64) {
        self.known.entry(kind).or_default().insert(text, id);
    }
}

/// The id of `text`, made if there is none.
pub(crate) async fn intern(conn: &Conn, kind: NameKind, text: &str) -> Result<i64, Fault> {
    /// The number is taken from the row of the highest one, which is locked until this statement's commit only.
    const MAKE: Sql = sql(
        "make a name",
        "WITH high AS (UPDATE @meta SET value = value + 1 WHERE key = 'name' RETURNING value)
         INSERT INTO @name (id, kind, text) SELECT value, $1, $2 FROM high ON CONFLICT (kind, text) DO NOTHING
         RETURNING id",
    );
    if let Some(id) = find(conn, kind, text).await? {
        return Ok(id);
    }
    if let Some(row) = conn.one(&MAKE, args![kind as i16, kept(text)]).await? {
        return Ok(get(&row, 0)?);
    }
    // Somebody else was faster.
    find(conn, kind, text).await?.ok_or_else(|| damaged("a name is neither there nor new").into())
}

/// The id of `text`, if it has one.
pub(crate) async fn find(conn: &Conn, kind: NameKind, text: &str) -> Result<Option<i64>, Fault> {
    const FIND: Sql = sql("find a name", "SELECT id FROM @name WHERE kind = $1 AND text = $2");
    let row = conn.one(&FIND, args![kind as i16, kept(text)]).await?;
    Ok(row.map(|row| get(&row, 0)).transpose()?)
}

/// The way from ids to texts.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<HashMap<i64, Arc<str>>>);

impl Texts {
    /// Reads those of these texts that are not known yet.
    pub(crate) async fn learn(
        &self,
        conn: &impl Speaks,
        ids: impl Iterator<Item = i64>,
    ) -> Result<(), Fault> {
        const READ: Sql = sql("read names", "SELECT id, text FROM @name WHERE id = ANY($1)");
        let unknown: Vec<i64> = {
            let known = self.lock();
            let mut unknown: Vec<_> = ids.filter(|id| !known.contains_key(id)).collect();
            unknown.sort_unstable();
            unknown.dedup();
            unknown
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let rows = conn.rows(&READ, args![unknown]).await?;
        let mut known = self.lock();
        for row in rows {
            known.insert(get(&row, 0)?, meant(get(&row, 1)?));
        }
        Ok(())
    }

    /// The text of an id that was learnt.
    pub(crate) fn get(&self, id: i64) -> Result<Arc<str>, StoreError> {
        self.lock().get(&id).cloned().ok_or_else(|| damaged(&format!("there is no name {id}")))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
