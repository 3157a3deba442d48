//! Attributes: what a run says about itself to be found by. Which values there are, how they compare, their limits. Pure.
//! Absent on purpose: how stores keep them, and the filters that ask for them (`store/filter`).

use std::{cmp::Ordering, fmt, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    error::{Code, Error},
    name::{check_name, limit_error},
    time::Timestamp,
};

/// Bytes of the longest text that an attribute can have.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The value of an attribute. Made with `into()` from texts, integers, floats, bools and times.
///
/// ```
/// use everstep_core::AttributeValue;
///
/// assert_eq!(AttributeValue::from("blue"), AttributeValue::Text("blue".into()));
/// assert_eq!(AttributeValue::from(7u32), AttributeValue::Integer(7));
/// assert_ne!(AttributeValue::from(7), AttributeValue::from(7.0));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeValue {
    /// At most [`ATTRIBUTE_BYTES_MAX`] bytes. Compared byte by byte.
    Text(String),
    /// Compared with integers and floats, as the numbers they are.
    Integer(i64),
    /// A finite number. Compared with integers and floats, as the numbers they are.
    Float(f64),
    /// `false` comes before `true`.
    Bool(bool),
    /// A point in time.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    Time(Timestamp),
}

impl AttributeValue {
    /// How it lies to `other`; `None` if the two are of types that do not compare.
    ///
    /// ```
    /// # use everstep_core::AttributeValue;
    /// # use std::cmp::Ordering;
    /// let seven = AttributeValue::from(7);
    /// assert_eq!(seven.compare(&AttributeValue::from(7.5)), Some(Ordering::Less));
    /// assert_eq!(seven.compare(&AttributeValue::from("7")), None);
    /// ```
    pub fn compare(&self, other: &AttributeValue) -> Option<Ordering> {
        use AttributeValue as V;
        match (self, other) {
            (V::Text(a), V::Text(b)) => Some(a.cmp(b)),
            (V::Integer(a), V::Integer(b)) => Some(a.cmp(b)),
            (V::Float(a), V::Float(b)) => a.partial_cmp(b),
            (V::Integer(a), V::Float(b)) => compare_numbers(*a, *b),
            (V::Float(a), V::Integer(b)) => compare_numbers(*b, *a).map(Ordering::reverse),
            (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
            (V::Time(a), V::Time(b)) => Some(a.cmp(b)),
            (V::Text(_) | V::Integer(_) | V::Float(_) | V::Bool(_) | V::Time(_), _) => None,
        }
    }

    /// Whether every store can keep it.
    ///
    /// # Errors
    /// [`Code::BAD_ATTRIBUTE`]: a text over its limit; a float that is not finite.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            AttributeValue::Text(text) if text.len() > ATTRIBUTE_BYTES_MAX => {
                let bytes = text.len();
                let message = format!(
                    "an attribute's text has at most {ATTRIBUTE_BYTES_MAX} bytes; this one has {bytes}"
                );
                Err(limit_error(Code::BAD_ATTRIBUTE, message))
            }
            AttributeValue::Float(number) if !number.is_finite() => {
                let message = format!("an attribute's number is finite; this one is {number}");
                Err(Error::misuse(Code::BAD_ATTRIBUTE, message))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a run may have this attribute.
///
/// # Errors
/// What is wrong with its name or its value.
pub(crate) fn check_attribute(name: &str, value: &AttributeValue) -> Result<(), Error> {
    check_name("attribute", name)?;
    value.check()
}

/// Exact: no integer is rounded.
fn compare_numbers(a: i64, b: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0; // 2^63
    Some(match b {
        _ if b.is_nan() => return None,
        _ if b >= BEYOND => Ordering::Less,
        _ if b < -BEYOND => Ordering::Greater,
        // Cut towards zero, which an integer holds; what was cut off decides between equals.
        _ => a.cmp(&(b.trunc() as i64)).then_with(|| 0.0.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)),
    })
}

/// The same value of the same type: 1 and 1.0 are two.
impl PartialEq for AttributeValue {
    fn eq(&self, other: &AttributeValue) -> bool {
        use AttributeValue as V;
        match (self, other) {
            // So that each value is equal to itself, as `Eq` wants it.
            (V::Float(a), V::Float(b)) => a == b || a.to_bits() == b.to_bits(),
            (V::Integer(_), V::Float(_)) | (V::Float(_), V::Integer(_)) => false,
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }
}
impl Eq for AttributeValue {}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttributeValue::Text(text) => f.write_str(text),
            AttributeValue::Integer(number) => number.fmt(f),
            AttributeValue::Float(number) => write!(f, "{number:?}"),
            AttributeValue::Bool(is) => is.fmt(f),
            AttributeValue::Time(at) => at.fmt(f),
        }
    }
}

macro_rules! attributes_from { ($($variant:ident: $($from:ty)+;)+) => { $($(
    impl From<$from> for AttributeValue {
        fn from(value: $from) -> Self { AttributeValue::$variant(value.into()) }
    }
)+)+ } }
attributes_from! {
    Text: &str String Box<str> std::borrow::Cow<'_, str>;
    Integer: i8 i16 i32 i64 u8 u16 u32;
    Float: f32 f64;
    Bool: bool;
    Time: Timestamp;
}

impl From<&String> for AttributeValue {
    fn from(text: &String) -> Self {
        AttributeValue::Text(text.clone())
    }
}

impl From<SystemTime> for AttributeValue {
    fn from(at: SystemTime) -> Self {
        AttributeValue::Time(Timestamp::from_system(at))
    }
}

fn write_time<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    at.0.serialize(to)
}

fn read_time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    i64::deserialize(from).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AttributeValue as V;

    #[test]
    fn values_of_one_type_are_in_order_and_others_do_not_compare() {
        let in_order: [Vec<V>; 4] = [
            ["", "A", "a", "a\0", "ab", "z", "ä", "日"].map(V::from).to_vec(),
            vec![
                V::Float(f64::MIN),
                V::Integer(i64::MIN),
                V::Float(-1.5),
                V::Integer(-1),
                V::Float(-0.5),
                V::Integer(0),
                V::Float(f64::MIN_POSITIVE),
                V::Float(0.5),
                V::Integer(1),
                V::Float(1.5),
                V::Integer((1 << 53) + 1),
                V::Integer(i64::MAX),
                V::Float(9_223_372_036_854_775_808.0),
                V::Float(f64::MAX),
            ],
            vec![V::Bool(false), V::Bool(true)],
            [i64::MIN, -1, 0, 1, i64::MAX].map(|at| V::Time(Timestamp(at))).to_vec(),
        ];
        for (a, values) in in_order.iter().enumerate() {
            for (i, x) in values.iter().enumerate() {
                for (j, y) in values.iter().enumerate() {
                    assert_eq!(x.compare(y), Some(i.cmp(&j)), "{x:?} and {y:?}");
                }
                for y in in_order.iter().enumerate().filter(|(b, _)| *b != a).flat_map(|(_, other)| other) {
                    assert_eq!(x.compare(y), None, "{x:?} and {y:?}");
                }
            }
        }
        assert_eq!(V::Integer(1).compare(&V::Float(1.0)), Some(Ordering::Equal));
        assert_eq!(V::Float(-0.0).compare(&V::Integer(0)), Some(Ordering::Equal));
        assert_eq!(
            V::Float(9_007_199_254_740_992.0).compare(&V::Integer((1 << 53) + 1)),
            Some(Ordering::Less)
        );
        assert_eq!(V::Float(f64::NAN).compare(&V::Integer(0)), None);
    }

    #[test]
    fn only_what_a_store_can_keep_passes() {
        for good in
            [V::from("x".repeat(1024)), V::from(f64::MAX), V::from(i64::MIN), V::from(Timestamp::NEVER)]
        {
            assert!(good.check().is_ok(), "{good:?}");
        }
        for (bad, why) in [
            (V::from("x".repeat(1025)), "an attribute's text has at most 1024 bytes; this one has 1025"),
            (V::from(f64::NAN), "an attribute's number is finite; this one is NaN"),
            (V::from(f64::NEG_INFINITY), "an attribute's number is finite; this one is -inf"),
        ] {
            let error = bad.check().expect_err(why);
            assert_eq!((error.to_string().as_str(), error.code()), (why, Code::BAD_ATTRIBUTE));
            assert!(error.is_terminal());
        }
        assert!(check_attribute("team", &V::from("x")).is_ok());
        assert_eq!(check_attribute("te/am", &V::from("x")).expect_err("a name").code(), Code::BAD_NAME);
        assert_eq!(
            check_attribute("team", &V::from(f64::NAN)).expect_err("a value").code(),
            Code::BAD_ATTRIBUTE
        );
    }

    #[test]
    fn values_keep_their_form_for_good() {
        // As it is in journals: fields are added, never renamed.
        for (value, json) in [
            (V::from("a"), r#"{"text":"a"}"#),
            (V::from(1), r#"{"integer":1}"#),
            (V::from(1.0), r#"{"float":1.0}"#),
            (V::from(true), r#"{"bool":true}"#),
            (V::from(Timestamp(-5)), r#"{"time":-5}"#),
        ] {
            assert_eq!(serde_json::to_string(&value).expect("is JSON"), json);
            assert_eq!(serde_json::from_str::<V>(json).expect("comes back"), value);
        }
    }

    #[test]
    fn values_are_told_to_people() {
        let told = |value: V| value.to_string();
        assert_eq!(told("a".into()), "a");
        assert_eq!((told(1.into()), told(1.0.into())), ("1".to_string(), "1.0".to_string()));
        assert_eq!(
            (told(true.into()), told(Timestamp(1_500_000).into())),
            ("true".to_string(), "1.500000s".to_string())
        );
        assert_eq!(V::from(f64::NAN), V::from(f64::NAN), "each is equal to itself");
    }
}
