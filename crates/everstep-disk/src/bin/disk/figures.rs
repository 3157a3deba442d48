//! Figures as people and programs read them.

use std::{collections::BTreeMap, path::Path};

/// What was counted, by its name.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<String, String>);

impl Figures {
    /// Tells a figure and keeps it.
    pub(crate) fn tell(&mut self, of: &str, what: &str, n: usize) {
        println!("{of}: {what}: {}", grouped(n));
        self.0.insert(format!("{of}: {what}"), n.to_string());
    }

    /// Writes them to a file, if one was asked for.
    pub(crate) fn write(&self, to: Option<&Path>) -> Result<(), String> {
        let Some(path) = to else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self.0).expect("text to text") + "\n";
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// 12345 as 12,345.
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let three = digits.as_bytes().rchunks(3).rev().map(|three| String::from_utf8_lossy(three).into_owned());
    three.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }
}
