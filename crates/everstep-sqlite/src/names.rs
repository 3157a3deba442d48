//! Texts that hot rows carry as small integers: workflows, names of attributes, call sites, builds. Rows of `everstep_name` are never
//! changed or deleted, so an id may be remembered for as long as the store is open, once it is committed.

use std::sync::{Arc, Mutex, PoisonError};

use everstep_core::journal::Site;
use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, params};

/// What a name names; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameKind {
    Workflow = 1,
    Attribute = 2,
    Site = 3,
    Build = 4,
}

/// The writer's way from texts to ids.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<NameKind, HashMap<Arc<str>, i64>>,
    /// Call sites of this program by address, so that the hot path formats nothing.
    here: HashMap<usize, i64>,
    /// Learnt in the open transaction: forgotten if it is rolled back.
    fresh: Vec<(NameKind, Arc<str>)>,
    fresh_here: Vec<usize>,
    /// The build that was asked for last: nearly always there is but one.
    build: Option<(Arc<str>, i64)>,
}

impl Names {
    /// The id of `text`, made if there is none.
    pub(crate) fn intern(
        &mut self,
        conn: &Connection,
        kind: NameKind,
        text: &Arc<str>,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(&kind).and_then(|known| known.get(text)) {
            return Ok(*id);
        }
        let id = intern(conn, kind, text)?;
        self.learn(kind, text.clone(), id);
        Ok(id)
    }

    /// The id of `text`, if it has one.
    pub(crate) fn find(
        &mut self,
        conn: &Connection,
        kind: NameKind,
        text: &Arc<str>,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.known.get(&kind).and_then(|known| known.get(text)) {
            return Ok(Some(*id));
        }
        let found = find(conn, kind, text)?;
        if let Some(id) = found {
            self.learn(kind, text.clone(), id);
        }
        Ok(found)
    }

    /// The id of a build.
    pub(crate) fn build(&mut self, conn: &Connection, text: &Arc<str>) -> rusqlite::Result<i64> {
        if let Some((last, id)) = &self.build
            && Arc::ptr_eq(last, text)
        {
            return Ok(*id);
        }
        let id = self.intern(conn, NameKind::Build, text)?;
        self.build = Some((text.clone(), id));
        Ok(id)
    }

    /// The id of a call site.
    pub(crate) fn site(&mut self, conn: &Connection, site: &Site) -> rusqlite::Result<i64> {
        match site {
            Site::Recorded(text) => self.intern(conn, NameKind::Site, text),
            Site::Here(at) => {
                let address = std::ptr::from_ref(*at).addr();
                if let Some(id) = self.here.get(&address) {
                    return Ok(*id);
                }
                let id = self.intern(conn, NameKind::Site, &at.to_string().into())?;
                self.here.insert(address, id);
                self.fresh_here.push(address);
                Ok(id)
            }
        }
    }

    /// The transaction was committed.
    pub(crate) fn keep(&mut self) {
        self.fresh.clear();
        self.fresh_here.clear();
    }

    /// The transaction was rolled back.
    pub(crate) fn forget(&mut self) {
        for (kind, text) in self.fresh.drain(..) {
            self.known.entry(kind).or_default().remove(&text);
        }
        self.build = None;
        for address in self.fresh_here.drain(..) {
            self.here.remove(&address);
        }
    }

    fn learn(&mut self, kind: NameKind, text: Arc<str>, id: i64) {
        self.fresh.push((kind, text.clone()));
        self.known.entry(kind).or_default().insert(text, id);
    }
}

/// The id of `text`, made if there is none; remembers nothing.
pub(crate) fn intern(conn: &Connection, kind: NameKind, text: &str) -> rusqlite::Result<i64> {
    if let Some(id) = find(conn, kind, text)? {
        return Ok(id);
    }
    conn.prepare_cached("INSERT INTO everstep_name (kind, text) VALUES (?1, ?2) RETURNING id")?
        .query_row(params![kind as i64, text], |row| row.get(0))
}

/// The id of `text`, if it has one; remembers nothing.
pub(crate) fn find(conn: &Connection, kind: NameKind, text: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM everstep_name WHERE kind = ?1 AND text = ?2")?
        .query_row(params![kind as i64, text], |row| row.get(0))
        .optional()
}

/// The way from ids to texts.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<HashMap<i64, Arc<str>>>);

impl Texts {
    /// The text of an id.
    pub(crate) fn get(&self, conn: &Connection, id: i64) -> rusqlite::Result<Arc<str>> {
        if let Some(text) = self.lock().get(&id) {
            return Ok(text.clone());
        }
        let text: Arc<str> = conn
            .prepare_cached("SELECT text FROM everstep_name WHERE id = ?1")?
            .query_row([id], |row| row.get::<_, String>(0))?
            .into();
        self.lock().insert(id, text.clone());
        Ok(text)
    }

    /// Forgets all: some may have been read in a transaction that was rolled back.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
