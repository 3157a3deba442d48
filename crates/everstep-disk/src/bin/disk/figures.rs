//! Figures as people and programs read them.

use std::{collections::BTreeMap, path::Path};
use thousands::Separable as _;

/// What was counted, by its name.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<String, String>);

impl Figures {
    /// Tells a figure and keeps it.
    pub(crate) fn tell(&mut self, of: &str, what: &str, n: usize) {
        println!("{of}: {what}: {}", n.separate_with_commas());
        self.0.insert(format!("{of}: {what}"), n.to_string());
    }

    /// Writes them to a file, if one was asked for.
    pub(crate) fn write(&self, to: Option<&Path>) -> Result<(), String> {
        let Some(path) = to else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self.0).expect("text to text") + "\n";
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}
