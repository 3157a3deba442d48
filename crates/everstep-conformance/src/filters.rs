//! Filters that try to become SQL, for the stores' tests of what they make of filters.

use everstep_core::{
    AttributeValue, Status, StatusSet, Timestamp,
    store::{Condition, Field, Filter, Operator},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Texts that would be something else if they became SQL.
const HOSTILE: [&str; 10] = [
    "'",
    "\"",
    "x' OR 1 = 1 --",
    "x\"; DROP TABLE everstep_run; --",
    "?1",
    ") OR (1",
    "%_\\",
    "/* x",
    "\0 x",
    "NULL",
];

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![select(&HOSTILE[..]).prop_map(str::to_string), ".{0,12}", "[a-z]{1,4}"]
}

fn any_value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        3 => any_text().prop_map(AttributeValue::Text),
        1 => any::<i64>().prop_map(AttributeValue::Integer),
        1 => (-1e300..1e300).prop_map(AttributeValue::Float),
        1 => any::<bool>().prop_map(AttributeValue::Bool),
        1 => any::<i64>().prop_map(|at| AttributeValue::Time(Timestamp(at))),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let operator = || select(&[Operator::Before, Operator::UpTo, Operator::After, Operator::From][..]);
    let texts = vec(any_text(), 0..4);
    prop_oneof![
        vec(select(&Status::ALL[..]), 0..4).prop_map(|of| Condition::Status(StatusSet::of(&of))),
        (select(&[Field::Id, Field::Workflow][..]), any::<bool>(), texts)
            .prop_map(|(field, not, values)| Condition::Text { field, not, values }),
        (select(&[Field::Created, Field::Finished][..]), operator(), any::<i64>())
            .prop_map(|(field, operator, at)| Condition::Time { field, operator, at: Timestamp(at) }),
        (any_text(), any::<bool>(), vec(any_value(), 0..4))
            .prop_map(|(name, not, values)| { Condition::AttributeIs { name: name.into(), not, values } }),
        (any_text(), operator(), any_value()).prop_map(|(name, operator, value)| {
            Condition::AttributeLies { name: name.into(), operator, value }
        }),
    ]
}

fn bare_condition(condition: &Condition) -> Condition {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Text(_) => AttributeValue::Text("x".to_string()),
        AttributeValue::Integer(_) => AttributeValue::Integer(0),
        AttributeValue::Float(_) => AttributeValue::Float(0.0),
        AttributeValue::Bool(_) => AttributeValue::Bool(false),
        AttributeValue::Time(_) => AttributeValue::Time(Timestamp(0)),
    };
    match condition.clone() {
        Condition::Text { field, not, values } => {
            Condition::Text { field, not, values: vec!["x".to_string(); values.len()] }
        }
        Condition::Time { field, operator, .. } => Condition::Time { field, operator, at: Timestamp(0) },
        Condition::AttributeIs { not, values, .. } => {
            Condition::AttributeIs { name: "x".into(), not, values: values.iter().map(value).collect() }
        }
        Condition::AttributeLies { operator, value: of, .. } => {
            Condition::AttributeLies { name: "x".into(), operator, value: value(&of) }
        }
        status @ Condition::Status(_) => status,
    }
}

/// Filters with whatever texts, names, numbers and times in them.
pub fn any_filter() -> impl Strategy<Value = Filter> {
    vec(any_condition(), 0..5).prop_map(|conditions| Filter { conditions })
}

/// A filter of the same shape with nothing of its user's in it.
pub fn bare(filter: &Filter) -> Filter {
    Filter { conditions: filter.conditions.iter().map(bare_condition).collect() }
}

/// Filters as people write them, with a hostile text in each place for one, and the same with a harmless one.
pub fn written() -> impl Iterator<Item = (String, Filter, Filter)> {
    let places = HOSTILE.iter().flat_map(|hostile| {
        let quoted = format!("\"{}\"", hostile.replace('\\', "\\\\").replace('"', "\\\""));
        ["id", "workflow", "team"].map(|about| (quoted.clone(), about))
    });
    let texts = places.flat_map(|(quoted, about)| {
        ["= $", "!= $", "in ($, a)", "not in (a, $)", "< $"]
            .map(|operator| (format!("{about} {operator}"), quoted.clone()))
    });
    texts.filter_map(|(pattern, quoted)| {
        let parse = |value: &str| Filter::parse(&pattern.replace('$', value), Timestamp(0));
        let text = pattern.replace('$', &quoted);
        let Ok(filter) = parse(&quoted) else {
            assert!(pattern.ends_with("< $") && !pattern.starts_with("team"), "{text}");
            return None;
        };
        Some((text, filter, parse("x").expect("a filter")))
    })
}
