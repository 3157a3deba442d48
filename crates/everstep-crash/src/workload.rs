//! The workloads: what a history begins with, and what the undisturbed one leads to.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    history::{History, Plan},
    home::Template,
    life::Death,
    store::Store,
};

/// All of them. The first begins without anything; the others with a closed database that has the user's tables.
const NAMES: [&str; 9] =
    ["onboarding", "parallel", "transfer", "random", "saga", "messages", "family", "looping", "rewound"];
/// A run that is cancelled, and one of the same input that is not.
const TWINS: (&str, &str) = ("r-3", "r-6");

/// One workload.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) template: Template,
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
    /// Prepares those of these names in `room`, or all of them, side by side: most of a life is waiting.
    ///
    /// # Errors
    /// What is wrong with an undisturbed history.
    pub(crate) fn all(store: &Arc<Store>, room: &Path, named: &[String]) -> Result<Vec<Workload>, String> {
        let is_wanted = |name: &&str| named.is_empty() || named.iter().any(|wanted| wanted == name);
        std::thread::scope(|scope| {
            let wanted = NAMES.into_iter().filter(is_wanted);
            let all: Vec<_> =
                wanted.map(|name| scope.spawn(move || Workload::prepare(name, store, room))).collect();
            all.into_iter().map(|prepared| prepared.join().expect("no panic")).collect()
        })
    }

    fn prepare(name: &'static str, store: &Arc<Store>, room: &Path) -> Result<Workload, String> {
        let (store, folder) = (store.clone(), room.join(name));
        let template = match name == NAMES[0] {
            true => Template::empty(store, folder)?,
            false => Template::prepared(store, folder)?,
        };
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
