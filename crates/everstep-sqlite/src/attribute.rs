//! Values of attributes as SQLite's, such that its own order of them is ours and no two types mix.
//!
//! Numbers are INTEGER or REAL, which it compares as numbers; texts are TEXT. The other types are BLOBs of readable
//! characters, which it compares byte by byte: a time is 20 characters, a sign (`-`, or `0`) and the microseconds with
//! 19 digits, counted from the earliest of all if there is a `-`; a bool is `false` or `true`. In SQLite numbers come
//! before texts and texts before BLOBs, and here times before bools.

use everstep_core::{AttributeValue, Timestamp, store::StoreError};
use rusqlite::types::{Value, ValueRef};

use crate::row::damaged;

/// What comes before every value of a type, and what comes behind every one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Value,
    pub(crate) before: Value,
}

/// A value as SQLite keeps it.
pub(crate) fn value(attribute: &AttributeValue) -> Value {
    match attribute {
        AttributeValue::Text(text) => Value::Text(text.clone()),
        AttributeValue::Integer(number) => Value::Integer(*number),
        AttributeValue::Float(number) => Value::Real(*number),
        AttributeValue::Bool(is) => Value::Blob(is.to_string().into_bytes()),
        AttributeValue::Time(at) => Value::Blob(time(*at).into_bytes()),
    }
}

/// The values that compare with this one: all of its type.
pub(crate) fn span(attribute: &AttributeValue) -> Span {
    let blob = |text: &str| Value::Blob(text.as_bytes().to_vec());
    let (from, before) = match attribute {
        AttributeValue::Integer(_) | AttributeValue::Float(_) => {
            (Value::Real(f64::NEG_INFINITY), Value::Text(String::new()))
        }
        AttributeValue::Text(_) => (Value::Text(String::new()), blob("")),
        AttributeValue::Time(_) => (blob("-"), blob(":")),
        AttributeValue::Bool(_) => (blob("f"), blob("u")),
    };
    Span { from, before }
}

/// A value as it was kept.
pub(crate) fn read(value: ValueRef<'_>) -> Result<AttributeValue, StoreError> {
    let unknown = || damaged("an attribute's value has a form that this version does not know");
    Ok(match value {
        ValueRef::Integer(number) => AttributeValue::Integer(number),
        ValueRef::Real(number) => AttributeValue::Float(number),
        ValueRef::Text(text) => {
            AttributeValue::Text(std::str::from_utf8(text).map_err(|_| unknown())?.to_string())
        }
        ValueRef::Blob(b"false") => AttributeValue::Bool(false),
        ValueRef::Blob(b"true") => AttributeValue::Bool(true),
        ValueRef::Blob(text) => AttributeValue::Time(read_time(text).ok_or_else(unknown)?),
        ValueRef::Null => return Err(unknown()),
    })
}

fn time(at: Timestamp) -> String {
    match at.0 {
        micros @ 0.. => format!("0{micros:019}"),
        micros => format!("-{:019}", micros.wrapping_sub(i64::MIN)),
    }
}

fn read_time(text: &[u8]) -> Option<Timestamp> {
    let (sign, digits) = text.split_first()?;
    if digits.len() != 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let micros: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match sign {
        b'0' => Some(Timestamp(micros)),
        b'-' => Some(Timestamp(micros.wrapping_add(i64::MIN))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use rusqlite::{Connection, params};

    use super::*;

    fn values() -> Vec<AttributeValue> {
        let texts = ["", "-", "0", "a", "ab", "false", "true", "ä", "日"].map(AttributeValue::from);
        let integers = [i64::MIN, -1, 0, 1, 7, (1 << 53) + 1, i64::MAX].map(AttributeValue::from);
        let floats =
            [f64::MIN, -1.5, -0.0, 0.5, 1.0, 9_007_199_254_740_992.0, f64::MAX].map(AttributeValue::from);
        let bools = [false, true].map(AttributeValue::from);
        let times = [i64::MIN, i64::MIN + 1, -10, -9, -1, 0, 1, 9, 10, i64::MAX]
            .map(|at| AttributeValue::from(Timestamp(at)));
        [&texts[..], &integers, &floats, &bools, &times].concat()
    }

    #[test]
    fn the_order_of_sqlite_is_ours_and_types_do_not_mix() {
        let conn = Connection::open_in_memory().expect("memory");
        conn.execute_batch("CREATE TABLE t (v ANY NOT NULL) STRICT").expect("creates");
        let holds = |sql: &str, a: &Value, b: &Value| -> bool {
            conn.execute("DELETE FROM t", []).expect("deletes");
            conn.execute("INSERT INTO t VALUES (?1)", [a]).expect("inserts");
            conn.query_row(&format!("SELECT v {sql} ?1 FROM t"), [b], |row| row.get(0)).expect(sql)
        };
        for a in values() {
            for b in values() {
                let (x, y, span) = (value(&a), value(&b), span(&b));
                let in_span = holds(">=", &x, &span.from) && holds("<", &x, &span.before);
                assert_eq!(in_span, a.compare(&b).is_some(), "{a:?} and the type of {b:?}");
                assert_eq!(holds("=", &x, &y), a.compare(&b) == Some(Ordering::Equal), "{a:?} = {b:?}");
                if let Some(order) = a.compare(&b) {
                    assert_eq!(holds("<", &x, &y), order == Ordering::Less, "{a:?} < {b:?}");
                    assert_eq!(holds(">", &x, &y), order == Ordering::Greater, "{a:?} > {b:?}");
                }
            }
        }
    }

    #[test]
    fn values_come_back_and_others_are_no_values() {
        let conn = Connection::open_in_memory().expect("memory");
        for attribute in values() {
            let back = conn
                .query_row("SELECT ?1", [value(&attribute)], |row| Ok(read(row.get_ref(0)?)))
                .expect("reads");
            assert_eq!(back.expect("is one"), attribute);
        }
        for bad in ["X'00'", "X''", "CAST('yes' AS BLOB)", "CAST('1000000000000000000' AS BLOB)", "NULL"] {
            let read = conn.query_row(&format!("SELECT {bad}"), params![], |row| Ok(read(row.get_ref(0)?)));
            assert!(matches!(read.expect("reads"), Err(StoreError::Damaged(_))), "{bad}");
        }
    }
}
