//! Everything that is derived by hashing: digests of inputs, idempotency keys, seeds of free values, fingerprints.
//! One fixed function, XXH3-128 (Yann Collet's published specification): none of these is a secret, all must stay
//! the same for as long as a run lives.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128_with_seed};

macro_rules! hex_number { ($($(#[$doc:meta])* $name:ident;)+) => { $(
    $(#[$doc])*
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    pub struct $name(pub u128);
    impl fmt::Display for $name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:032x}", self.0) }
    }
    impl From<$name> for String { fn from(n: $name) -> String { n.to_string() } }
    impl TryFrom<String> for $name {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> { text.parse() }
    }
    impl FromStr for $name {
        type Err = String;
        fn from_str(text: &str) -> Result<Self, String> {
            if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) { return Err(format!("`{text}` is not 32 hexadecimal digits")); }
            u128::from_str_radix(text, 16).map($name).map_err(|e| format!("`{text}`: {e}"))
        }
    }
)+ } }

hex_number! {
    /// The random identity of one started run: seeds its free values and its idempotency keys.
    Incarnation;
    /// A hash of a JSON value that does not depend on the order of its keys or on white space.
    Digest;
}

impl Digest {
    /// The digest of JSON text.
    ///
    /// # Errors
    /// The parser's words, if it is no JSON.
    pub fn of_json(json: &[u8]) -> Result<Digest, String> {
        let mut hash = Xxh3::new();
        feed(&mut hash, &serde_json::from_slice(json).map_err(|e| e.to_string())?);
        Ok(Digest(hash.digest128()))
    }
}

/// Feeds `value` in a form in which equal values are equal and different ones differ: each part carries its type
/// and length.
fn feed(hash: &mut Xxh3, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(b) => hash.update(if *b { b"t" } else { b"f" }),
        // 1 and 1.0 differ: to serde they are different numbers, and an i64 does not decode from 1.0.
        Value::Number(n) => feed_text(hash, b"d", &n.to_string()),
        Value::String(s) => feed_text(hash, b"s", s),
        Value::Array(items) => {
            hash.update(b"a");
            hash.update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(map) => {
            hash.update(b"o");
            hash.update(&(map.len() as u64).to_le_bytes());
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            for (key, item) in keys {
                feed_text(hash, b"k", key);
                feed(hash, item);
            }
        }
    }
}

fn feed_text(hash: &mut Xxh3, tag: &[u8], text: &str) {
    hash.update(tag);
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

/// What an outside service is given so that it sees a repeated attempt as one: the same for all attempts of a step,
/// across crashes, takeovers and `retry`; another for another step, generation or started run.
pub fn idempotency_key(incarnation: Incarnation, generation: u32, key: &str, rewinds: u32) -> String {
    let mut hash = Xxh3::with_seed(0x1de);
    hash.update(&incarnation.0.to_le_bytes());
    hash.update(&generation.to_le_bytes());
    hash.update(&rewinds.to_le_bytes());
    hash.update(key.as_bytes());
    format!("{:032x}", hash.digest128())
}

/// The `n`th free value of a place: a counter-mode generator, so that drawing needs no state but `n`.
pub fn draw(seed: u128, n: u64) -> u128 {
    let mut block = [0; 24];
    block[..16].copy_from_slice(&seed.to_le_bytes());
    block[16..].copy_from_slice(&n.to_le_bytes());
    xxh3_128_with_seed(&block, 0xd2a)
}

/// The seed of the free values of one scope of one generation.
pub fn scope_seed(incarnation: Incarnation, generation: u32, scope: &str) -> u128 {
    let mut hash = Xxh3::with_seed(0x5eed);
    hash.update(&incarnation.0.to_le_bytes());
    hash.update(&generation.to_le_bytes());
    hash.update(scope.as_bytes());
    hash.digest128()
}

/// The seed of the free values of one attempt of one step, and of its jitter.
pub fn attempt_seed(incarnation: Incarnation, generation: u32, key: &str, attempt: u32) -> u128 {
    let mut hash = Xxh3::with_seed(0xa77);
    hash.update(&incarnation.0.to_le_bytes());
    hash.update(&generation.to_le_bytes());
    hash.update(&attempt.to_le_bytes());
    hash.update(key.as_bytes());
    hash.digest128()
}

/// A hash of what the function has done: a sum, so that what branches do between two arrivals may come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Adds one thing done: `what` names the sort, `key` and `line` which one.
    pub fn add(&mut self, what: u8, key: &str, line: u64) {
        self.0 = self.0.wrapping_add(
            xxh3_64(key.as_bytes()) ^ (line ^ u64::from(what) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
    }

    /// The 32 bits that an entry keeps.
    pub fn folded(self) -> u32 {
        (self.0 ^ (self.0 >> 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> Digest {
        Digest::of_json(json.as_bytes()).expect("the test's JSON is JSON")
    }

    #[test]
    fn equal_json_values_have_equal_digests() {
        assert_eq!(digest(r#"{"a":1,"b":[true,null]}"#), digest(r#" { "b" : [true, null], "a":1 } "#));
        for (a, b) in [
            ("1", "1.0"),
            ("1", r#""1""#),
            ("[]", "{}"),
            ("null", "[]"),
            (r#"["a","b"]"#, r#"["ab",""]"#),
            (r#"{"a":"b"}"#, r#"["a","b"]"#),
            ("[[1],2]", "[1,[2]]"),
        ] {
            assert_ne!(digest(a), digest(b), "{a} and {b}");
        }
        assert!(Digest::of_json(b"{").is_err());
    }

    #[test]
    fn hashes_stay_what_they_are_for_good() {
        // These numbers are in users' databases and at their payment providers: this test may never be changed.
        let i = Incarnation(7);
        assert_eq!(idempotency_key(i, 0, "charge", 0), "b0bdb072753e66d28d690def943e5fac");
        assert_eq!(draw(scope_seed(i, 0, "left/"), 3), 163589814368309977739523967541428803235);
        assert_eq!(draw(attempt_seed(i, 0, "charge", 2), 0), 255310607621636056567102292653559983536);
        assert_eq!(
            digest(r#"{"name":"Ada","tags":[1,2.5,true,null]}"#).to_string(),
            "8caa8581aecb1d44a02f63a8a8ae42d7"
        );
    }

    #[test]
    fn hexadecimal_comes_back() {
        let n = Incarnation(0xabc);
        assert_eq!(n.to_string().parse(), Ok(n));
        assert!("xyz".parse::<Incarnation>().is_err());
        assert!("+0000000000000000000000000000abc".parse::<Incarnation>().is_err());
    }

    #[test]
    fn the_order_of_what_was_done_does_not_matter_but_the_set_does() {
        let (mut a, mut b, mut c) = (Fingerprint::default(), Fingerprint::default(), Fingerprint::default());
        a.add(1, "x", 10);
        a.add(1, "y", 11);
        b.add(1, "y", 11);
        b.add(1, "x", 10);
        c.add(1, "x", 11);
        c.add(1, "y", 10);
        assert_eq!(a, b);
        assert_ne!(a.folded(), c.folded(), "two claims that swapped their lines");
    }
}
