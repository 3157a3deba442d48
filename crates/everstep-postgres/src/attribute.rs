//! Values of attributes as PostgreSQL's, such that its own order of them is ours and no two types mix.
//!
//! Numbers, times and bools are of type `numeric`, each in a class of its own; texts are compared byte by byte. A float
//! between 2^53 and 2^64 is written with all its digits, so that it compares with integers as what it is; elsewhere the
//! shortest digits that mean it keep the order of all numbers.

use everstep_core::{AttributeValue, Timestamp, store::StoreError};

use crate::{
    row::damaged,
    text::{kept, meant},
};

/// Beyond it not every integer is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Beyond it there are no integers to compare with.
const INTEGERS_END: f64 = 18_446_744_073_709_551_616.0;

/// A value as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Columns {
    pub(crate) class: i16,
    /// Digits of a `numeric`.
    pub(crate) number: Option<String>,
    pub(crate) text: Option<String>,
}

pub(crate) const NUMBER: i16 = 1;
pub(crate) const TEXT: i16 = 2;
const TIME: i16 = 3;
const BOOL: i16 = 4;

/// A value as PostgreSQL keeps it.
pub(crate) fn columns(value: &AttributeValue) -> Columns {
    let number = |class, digits: String| Columns { class, number: Some(digits), text: None };
    match value {
        AttributeValue::Text(text) => {
            Columns { class: TEXT, number: None, text: Some(kept(text).into_owned()) }
        }
        AttributeValue::Integer(n) => number(NUMBER, n.to_string()),
        AttributeValue::Float(n) => Columns { text: Some(format!("{n:?}")), ..number(NUMBER, digits(*n)) },
        AttributeValue::Time(at) => number(TIME, at.0.to_string()),
        AttributeValue::Bool(is) => number(BOOL, u8::from(*is).to_string()),
    }
}

fn digits(float: f64) -> String {
    match float.abs() {
        EXACT..INTEGERS_END => (float as i128).to_string(),
        _ => format!("{float:e}"),
    }
}

/// A value as it was kept.
pub(crate) fn read(
    class: i16,
    number: Option<&str>,
    text: Option<&str>,
) -> Result<AttributeValue, StoreError> {
    let unknown = || damaged("an attribute's value has a form that this version does not know");
    let integer =
        |digits: Option<&str>| digits.and_then(|digits| digits.parse::<i64>().ok()).ok_or_else(unknown);
    Ok(match (class, number, text) {
        (NUMBER, Some(_), Some(float)) => AttributeValue::Float(float.parse().map_err(|_| unknown())?),
        (NUMBER, number, None) => AttributeValue::Integer(integer(number)?),
        (TEXT, None, Some(text)) => AttributeValue::Text(meant(text).to_string()),
        (TIME, number, None) => AttributeValue::Time(Timestamp(integer(number)?)),
        (BOOL, Some("0"), None) => AttributeValue::Bool(false),
        (BOOL, Some("1"), None) => AttributeValue::Bool(true),
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_others_are_no_values() {
        let texts = ["", "a", "ä\0\u{1}"].map(AttributeValue::from);
        let integers = [i64::MIN, -1, 0, (1 << 53) + 1, i64::MAX].map(AttributeValue::from);
        let floats = [f64::MIN, -1.5, 0.1, 1e18, 9_007_199_254_740_994.0, f64::MAX].map(AttributeValue::from);
        let rest = [
            AttributeValue::from(true),
            AttributeValue::from(false),
            AttributeValue::from(Timestamp(i64::MIN)),
        ];
        for value in [&texts[..], &integers, &floats, &rest].concat() {
            let Columns { class, number, text } = columns(&value);
            assert_eq!(read(class, number.as_deref(), text.as_deref()).expect("is one"), value);
        }
        for (class, number, text) in
            [(0, None, None), (1, None, None), (2, None, None), (3, Some("x"), None), (4, Some("2"), None)]
        {
            assert!(
                matches!(read(class, number, text), Err(StoreError::Damaged(_))),
                "{class} {number:?} {text:?}"
            );
        }
    }

    #[test]
    fn large_floats_are_written_with_all_their_digits() {
        assert_eq!(digits(1_152_921_504_606_846_976.0), "1152921504606846976");
        assert_eq!(digits(-9_007_199_254_740_994.0), "-9007199254740994");
        assert_eq!(digits(0.1), "1e-1");
    }
}
