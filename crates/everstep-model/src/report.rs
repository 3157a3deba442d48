//! What a part has to say at its end: one line of figures, and the same for programs.

use serde_json::{Map, Value};

/// The figures of a part.
#[derive(Clone, Debug)]
pub struct Report {
    /// The last line that is printed.
    pub line: String,
    /// The same, by name.
    pub figures: Map<String, Value>,
}

impl Report {
    /// A line, and figures by name.
    pub fn new(line: String, figures: impl IntoIterator<Item = (&'static str, Value)>) -> Report {
        Report { line, figures: figures.into_iter().map(|(name, value)| (name.to_string(), value)).collect() }
    }
}
