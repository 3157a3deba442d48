//! Everything that is derived by hashing: digests of inputs, idempotency keys, seeds of free values, fingerprints.
//! One fixed function, XXH3-128 (Yann Collet's published specification): none of these is a secret, all must stay
//! the same for as long as a run lives.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
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

/// Values nested deeper do not come back: serde_json reads no deeper either.
const DEPTH_MAX: usize = 128;

impl Digest {
    /// The digest of JSON text.
    ///
    /// # Errors
    /// The parser's words, if it is no JSON, or nested deeper than serde_json reads.
    pub fn of_json(json: &[u8]) -> Result<Digest, String> {
        let mut hash = Xxh3::new();
        let value: &RawValue = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        feed(&mut hash, value, DEPTH_MAX)?;
        Ok(Digest(hash.digest128()))
    }
}

/// Feeds `value` in a form in which equal values are equal and different ones differ: each part carries its type
/// and length. Read piece by piece, because a parsed value would have rounded large integers.
fn feed(hash: &mut Xxh3, value: &RawValue, depth: usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or_else(|| format!("it is nested deeper than {DEPTH_MAX} levels"))?;
    let text = value.get();
    match text.as_bytes()[0] {
        b'n' => hash.update(b"n"),
        b't' => hash.update(b"t"),
        b'f' => hash.update(b"f"),
        b'"' => feed_text(hash, b"s", &parsed::<String>(text)?),
        b'[' => {
            let items: Vec<&RawValue> = parsed(text)?;
            hash.update(b"a");
            hash.update(&(items.len() as u64).to_le_bytes());
            items.into_iter().try_for_each(|item| feed(hash, item, depth))?;
        }
        b'{' => {
            let map: BTreeMap<String, &RawValue> = parsed(text)?;
            hash.update(b"o");
            hash.update(&(map.len() as u64).to_le_bytes());
            for (key, item) in map {
                feed_text(hash, b"k", &key);
                feed(hash, item, depth)?;
            }
        }
        _ => feed_text(hash, b"d", &number(text)),
    }
    Ok(())
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// 1 and 1.0 differ: to serde they are different numbers, and an i64 does not decode from 1.0. A whole number is written
/// in one way only, and no machine number may hold it: it is compared by its digits. Serde takes -0 for -0.0.
fn number(text: &str) -> Cow<'_, str> {
    match parsed::<serde_json::Number>(text) {
        Ok(number) if text == "-0" || text.contains(['.', 'e', 'E']) => number.to_string().into(),
        _ => text.into(),
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

/// The id of a letter that its sender names by a key: the same name and key is the same letter.
pub fn letter_id(name: &str, key: &str) -> u128 {
    let mut hash = Xxh3::with_seed(0x1e7);
    feed_text(&mut hash, b"n", name);
    feed_text(&mut hash, b"k", key);
    hash.digest128()
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

/// The chance that spreads the pause after one attempt. Number 0 of the attempt's stream is the body's own; this is
/// drawn far from it.
pub fn retry_chance(incarnation: Incarnation, generation: u32, key: &str, attempt: u32) -> u64 {
    draw(attempt_seed(incarnation, generation, key, attempt), u64::MAX) as u64
}

/// A hash of what the function has done: a sum, so that what branches do between two arrivals may come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Adds a call: `what` names the sort, from 1, `key` and the place in the source which one.
    pub fn add_call(&mut self, what: u8, key: &str, line: u32, column: u32) {
        self.add(what, key, (u64::from(line) << 20) + u64::from(column));
    }

    /// Adds a free value drawn from `scope`.
    pub fn add_draw(&mut self, scope: &str) {
        self.add(0, scope, 0);
    }

    fn add(&mut self, what: u8, key: &str, line: u64) {
        self.0 = self.0.wrapping_add(
            xxh3_64(key.as_bytes()) ^ (line + (u64::from(what) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
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
            ("100000000000000000000", "100000000000000000001"),
            ("1e999", "1e998"),
            ("0", "-0"),
        ] {
            assert_ne!(digest(a), digest(b), "{a} and {b}");
        }
        assert_eq!(digest("1e2"), digest("100.0"));
        assert_eq!(digest("-0"), digest("-0.0"));
        assert_eq!(digest(r#""\u0041""#), digest(r#""A""#));
        assert!(Digest::of_json(b"{").is_err());
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Digest::of_json(deep(127).as_bytes()).is_ok());
        assert!(Digest::of_json(deep(100_000).as_bytes()).is_err());
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
    fn more_hashes_stay_what_they_are_for_good() {
        // As above: the fingerprints are in every entry, and a run whose fingerprints change has diverged.
        assert_eq!(digest("false").to_string(), "b3b2b50bf19ad7d533c155909ff3ba9a");
        let mut done = Fingerprint::default();
        done.add_call(1, "charge", 1234, 56);
        assert_eq!(done.folded(), 327_822_840);
        done.add_draw("left/");
        assert_eq!(done.folded(), 2_140_826_437);
        done.add_call(3, "left/charge#2", 4_000_000_000, 1_000_000);
        assert_eq!(done.folded(), 2_585_081_037);
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
        a.add_call(1, "x", 10, 1);
        a.add_call(1, "y", 11, 1);
        b.add_call(1, "y", 11, 1);
        b.add_call(1, "x", 10, 1);
        c.add_call(1, "x", 11, 1);
        c.add_call(1, "y", 10, 1);
        assert_eq!(a, b);
        assert_ne!(a.folded(), c.folded(), "two claims that swapped their lines");
    }
}
