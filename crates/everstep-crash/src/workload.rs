//! The workloads: what a history begins with, and what the undisturbed one leads to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use everstep::sqlite::{Sqlite, rusqlite::Connection};

use crate::{
    history::{History, Plan},
    life::Death,
};

/// All of them. The first begins without a file; the others with a closed database that has the user's table.
const NAMES: [&str; 9] =
    ["onboarding", "parallel", "transfer", "random", "saga", "messages", "family", "looping", "rewound"];
/// A run that is cancelled, and one of the same input that is not.
const TWINS: (&str, &str) = ("r-3", "r-6");

/// One workload.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// A folder with what its histories begin with.
    pub(crate) template: PathBuf,
    pub(crate) expected: BTreeMap<String, Expected>,
}

/// How a run ends if nothing is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) value: String,
    /// Somebody asks to cancel it, and may come too late.
    pub(crate) cancelled: bool,
}

impl Workload {
    /// Prepares all of them in `room`.
    ///
    /// # Errors
    /// What is wrong with an undisturbed history.
    pub(crate) fn all(room: &Path) -> Result<Vec<Workload>, String> {
        NAMES.into_iter().map(|name| Workload::prepare(name, room)).collect()
    }

    fn prepare(name: &'static str, room: &Path) -> Result<Workload, String> {
        let template = room.join(name);
        fs::create_dir(&template).map_err(|e| format!("{}: {e}", template.display()))?;
        if name != NAMES[0] {
            make_database(&template.join("app.db"))?;
        }
        let undisturbed = Plan { workload: name.to_string(), lives: Vec::new() };
        let history = History::play(&undisturbed, &template, None);
        match &history.lives[..] {
            [(life, _)] if life.death == Death::AllOver => {
                Ok(Workload { name, template, expected: expected(&life.lines) })
            }
            lives => {
                let said: Vec<_> = lives.iter().map(|(life, _)| (life.death, life.lines.last())).collect();
                Err(format!("the undisturbed history of `{name}` does not come to its end: {said:?}"))
            }
        }
    }
}

fn make_database(path: &Path) -> Result<(), String> {
    let store = Sqlite::open(path).map_err(|e| e.to_string())?;
    let conn = Connection::open(path).map_err(|e| e.to_string())?;
    conn.execute_batch("CREATE TABLE moved (run TEXT NOT NULL, key TEXT NOT NULL)")
        .map_err(|e| e.to_string())?;
    drop(conn);
    drop(store);
    Ok(())
}

fn expected(lines: &[String]) -> BTreeMap<String, Expected> {
    let results = lines.iter().filter_map(|line| line.strip_prefix("result ")?.split_once(' '));
    let mut expected: BTreeMap<_, _> = results
        .map(|(run, value)| (run.to_string(), Expected { value: value.to_string(), cancelled: false }))
        .collect();
    if let Some(twin) = expected.get(TWINS.1).cloned() {
        expected.insert(TWINS.0.to_string(), Expected { cancelled: true, ..twin });
    }
    expected
}
