//! Values of users: payloads and attributes, for people and as JSON.

use everstep_core::{AttributeValue, journal::Payload};
use serde_json::{json, value::RawValue};

use super::{plain, time};

/// A payload: JSON in one line; anything else as what it is.
pub(crate) fn payload(payload: &Payload) -> String {
    match as_json(payload) {
        Some(json) => plain(json.get()),
        None => plain(&unread(payload).to_string()),
    }
}

/// A payload inside JSON: its own bytes where they are JSON; else the codec's number and the bytes.
pub(crate) fn payload_json(payload: &Payload) -> Box<RawValue> {
    as_json(payload).unwrap_or_else(|| serde_json::value::to_raw_value(&unread(payload)).expect("text keys"))
}

/// In one line, and with every number as it was written.
fn as_json(payload: &Payload) -> Option<Box<RawValue>> {
    let raw: Box<RawValue> = serde_json::from_slice(&payload.bytes).ok().filter(|_| payload.codec == 0)?;
    match raw.get().contains(['\n', '\r']) {
        true => RawValue::from_string(raw.get().replace(['\n', '\r'], " ")).ok(),
        false => Some(raw),
    }
}

fn unread(payload: &Payload) -> serde_json::Value {
    let hex: String = payload.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "codec": payload.codec, "hex": hex })
}

/// An attribute, as a filter would name it.
pub(crate) fn attribute(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => format!("\"{}\"", plain(text)),
        AttributeValue::Integer(number) => number.to_string(),
        AttributeValue::Float(number) => format!("{number:?}"),
        AttributeValue::Bool(is) => is.to_string(),
        AttributeValue::Time(at) => time(*at),
    }
}

/// An attribute inside JSON; a time is its text.
pub(crate) fn attribute_json(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::Text(text) => json!(text),
        AttributeValue::Integer(number) => json!(number),
        AttributeValue::Float(number) => json!(number),
        AttributeValue::Bool(is) => json!(is),
        AttributeValue::Time(at) => json!(time(*at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_told_as_they_were_written() {
        let told = |json: &str| payload(&Payload::json(json));
        assert_eq!(told("{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(told("{\n  \"a\": 18446744073709551616\n}"), "{   \"a\": 18446744073709551616 }");
        assert_eq!(told("\"\u{9b}31m\""), "\"\\u{9b}31m\"");
        assert_eq!(told("no json"), r#"{"codec":0,"hex":"6e6f206a736f6e"}"#);
        assert_eq!(payload(&Payload { codec: 7, bytes: b"1".to_vec() }), r#"{"codec":7,"hex":"31"}"#);
        assert_eq!(payload_json(&Payload::json("1.50")).get(), "1.50");
    }

    #[test]
    fn attributes_are_told_as_filters_name_them() {
        let told = [
            AttributeValue::from("a\nb"),
            7.into(),
            7.0.into(),
            true.into(),
            everstep_core::Timestamp(0).into(),
        ];
        let told = told.map(|value| attribute(&value));
        assert_eq!(told, ["\"a\\nb\"", "7", "7.0", "true", "1970-01-01T00:00:00.000Z"]);
    }
}
