//! How things are told: tables and JSON, times, values. Nothing that a run's author chose may steer a terminal.

mod table;
mod value;

use everstep_core::Timestamp;
use serde::Serialize;

pub(crate) use table::Table;
pub(crate) use value::{attribute, attribute_json, payload, payload_json};

/// Characters of a value that is told short.
const SHORT: usize = 80;

/// As JSON, with a line for each value.
pub(crate) fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("text keys, and no float that is not finite");
    text.push('\n');
    text
}

/// A time, in UTC, to the millisecond.
pub(crate) fn time(at: Timestamp) -> String {
    if at == Timestamp::NEVER {
        return "never".to_string();
    }
    // Cut, not rounded: no time is told before it was.
    match jiff::Timestamp::from_millisecond(at.0.div_euclid(1000)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => at.to_string(),
    }
}

/// A text without what would steer a terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_safe =
        |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_safe(c) { plain.push(c) } else { plain.extend(c.escape_default()) }
    }
    plain
}

/// The beginning of a long text.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// So many of something.
pub(crate) fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc_to_the_millisecond() {
        assert_eq!(time(Timestamp(1_767_225_600_123_999)), "2026-01-01T00:00:00.123Z");
        assert_eq!(time(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(Timestamp(-1)), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(Timestamp::NEVER), "never");
        assert_eq!(time(Timestamp(i64::MIN)), "-9223372036855.224192s", "no year of ours");
    }

    #[test]
    fn no_text_steers_a_terminal() {
        assert_eq!(plain("ü/日本#2 \"a\""), "ü/日本#2 \"a\"");
        assert_eq!(plain("a\x1b[31m\n\u{9b}\u{202e}b\0"), "a\\u{1b}[31m\\n\\u{9b}\\u{202e}b\\u{0}");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short(&"ü".repeat(SHORT)), "ü".repeat(SHORT));
        assert_eq!(short(&"ü".repeat(SHORT + 1)), format!("{}…", "ü".repeat(SHORT)));
    }
}
