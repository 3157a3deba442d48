//! Entries of an archive, packed into one text of JSON that people can read.

use everstep_core::{
    Timestamp,
    journal::{Entry, Payload, Site},
    store::StoreError,
};
use serde::{Deserialize, Serialize};

use crate::row::damaged;

/// Of one text. The server takes no more than 1 GB, and whoever reads it has it in memory.
pub(crate) const ENTRIES_MAX: usize = 2048;
pub(crate) const BYTES_MAX: usize = 2 << 20;

#[derive(Serialize, Deserialize)]
struct Packed {
    seq: u64,
    kind: u16,
    key: Option<String>,
    attempt: u32,
    input: Option<Body>,
    body: Body,
    site: Option<String>,
    build: String,
    fingerprint: u32,
    at: i64,
}

/// Bytes that are text as text, others as hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Body {
    codec: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl Body {
    fn of(payload: &Payload) -> Body {
        let (text, hex) = match std::str::from_utf8(&payload.bytes) {
            Ok(text) => (Some(text.to_string()), None),
            Err(_) => (None, Some(payload.bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
        };
        Body { codec: payload.codec, text, hex }
    }

    fn payload(self) -> Option<Payload> {
        let bytes = match (self.text, self.hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(hex)) => {
                let pairs = hex.as_bytes().chunks(2);
                let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                pairs.map(byte).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(Payload { codec: self.codec, bytes })
    }
}

/// Entries as one text.
pub(crate) fn pack(entries: &[Entry]) -> String {
    let pack = |entry: &Entry| Packed {
        seq: entry.seq,
        kind: entry.kind,
        key: entry.key.as_deref().map(String::from),
        attempt: entry.attempt,
        input: entry.input.as_ref().map(Body::of),
        body: Body::of(&entry.body),
        site: entry.site.as_ref().map(ToString::to_string),
        build: entry.build.to_string(),
        fingerprint: entry.fingerprint,
        at: entry.at.0,
    };
    let packed: Vec<_> = entries.iter().map(pack).collect();
    serde_json::to_string(&packed).expect("texts and numbers are JSON")
}

/// How many of them go into one text: one at least.
pub(crate) fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.body.bytes.len() + entry.input.as_ref().map_or(0, |input| input.bytes.len());
        bytes <= BYTES_MAX
    };
    entries.iter().take(ENTRIES_MAX).take_while(fits).count().max(1).min(entries.len())
}

/// The entries of a text.
pub(crate) fn unpack(text: &str) -> Result<Vec<Entry>, StoreError> {
    let bad = |why: String| damaged(&format!("an archive cannot be read: {why}"));
    let packed: Vec<Packed> = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let entry = |packed: Packed| {
        let no_bytes = || bad("a payload is neither text nor digits".to_string());
        let input = match packed.input {
            Some(input) => Some(input.payload().ok_or_else(no_bytes)?),
            None => None,
        };
        Ok(Entry {
            seq: packed.seq,
            kind: packed.kind,
            key: packed.key.map(Into::into),
            attempt: packed.attempt,
            input,
            body: packed.body.payload().ok_or_else(no_bytes)?,
            site: packed.site.map(|site| Site::Recorded(site.into())),
            build: packed.build.into(),
            fingerprint: packed.fingerprint,
            at: Timestamp(packed.at),
        })
    };
    packed.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_whatever_bytes_they_have() {
        let entry = Entry {
            seq: 3,
            kind: 10,
            key: Some("a\0b".into()),
            attempt: u32::MAX,
            input: Some(Payload { codec: 7, bytes: vec![0xff, 0, 1] }),
            body: Payload::json("{\"a\":\"\\u0000\0\"}"),
            site: None,
            build: "b".into(),
            fingerprint: u32::MAX,
            at: Timestamp(i64::MIN),
        };
        let text = pack(std::slice::from_ref(&entry));
        assert!(!text.contains('\0'), "PostgreSQL would refuse it");
        assert_eq!(unpack(&text).expect("reads"), [entry]);
        assert!(unpack("[{}]").is_err() && unpack("no JSON").is_err());
    }
}
