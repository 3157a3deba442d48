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

/// A number as people read it: `812,344`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let told = [0, 12, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
    }
}
