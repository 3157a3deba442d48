//! The small language in which runs are looked for: `workflow = onboard and status in (failed, stuck) and
//! created > -1d and team = "platform"`. Parsed here, once, into conditions; stores bind their values as parameters and
//! never see text.

mod read;
mod time;

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use self::read::Reader;
use super::RunRow;
use crate::{attribute::AttributeValue, status::StatusSet, time::Timestamp};

/// What runs must be like: all conditions hold.
///
/// A condition is about a field of the run or about an attribute:
///
/// | about | conditions |
/// |---|---|
/// | `id`, `workflow`, `status` | `= a`, `!= a`, `in (a, b)`, `not in (a, b)` |
/// | `created`, `finished` | `<`, `<=`, `>`, `>=` and a time |
/// | any other name: the run's attribute | all of them, and a value |
///
/// An attribute whose name is that of a field, or has characters that end a word, is written `attribute.status` or
/// `attribute."due date"`.
///
/// A time is `-15m` (from now, in s, m, h, d or w), `2026-01-31` or `2026-01-31T10:00:00Z`. The value of an attribute is a
/// time, `true`, `false`, a number, or a text: in quotes (`"7"`, with `\"` for a quote), or as it is if it begins like
/// none of the others.
///
/// A run without the attribute matches no condition about it, not even `!=` and `not in`. Integers and floats compare as
/// numbers. Of any other type than the condition's, a value is neither equal, nor less, nor more: only `!=` and `not in`
/// match it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// The conditions; none matches every run.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The status is one of these.
    Status(StatusSet),
    /// A text field is one of these (or, with `not`, none of them).
    Text {
        /// Which field.
        field: Field,
        /// Whether it must be none of them.
        not: bool,
        /// The texts.
        values: Vec<String>,
    },
    /// A point in time lies so to this one.
    Time {
        /// Which field.
        field: Field,
        /// How.
        operator: Operator,
        /// The point.
        at: Timestamp,
    },
    /// The run has this attribute, and it is one of these (or, with `not`, none of them, perhaps of another type).
    AttributeIs {
        /// Which attribute.
        name: Arc<str>,
        /// Whether it must be none of them.
        not: bool,
        /// The values.
        values: Vec<AttributeValue>,
    },
    /// The run has this attribute, it is of a type that compares with this value, and it lies so to it.
    AttributeLies {
        /// Which attribute.
        name: Arc<str>,
        /// How.
        operator: Operator,
        /// The value.
        value: AttributeValue,
    },
}

/// A field of a run that a condition may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The caller's id.
    Id,
    /// The workflow's name.
    Workflow,
    /// When it was started.
    Created,
    /// When it was over; a run that is not matches no condition about it.
    Finished,
}

/// How times, and values of attributes, are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Earlier, or less.
    Before,
    /// Earlier, or less, or the same.
    UpTo,
    /// Later, or more.
    After,
    /// Later, or more, or the same.
    From,
}

/// A filter that cannot be read: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the filter at character {at}: {expected}")]
pub struct FilterError {
    /// Characters from the beginning.
    pub at: usize,
    /// What was expected.
    pub expected: String,
}

impl Filter {
    /// Reads a filter; an empty one matches every run. Times like `-1d` count from `now`.
    ///
    /// # Errors
    /// Where it cannot be read, and what was expected there.
    ///
    /// ```
    /// # use everstep_core::{Timestamp, store::Filter};
    /// let filter = Filter::parse("workflow = onboard and status in (failed, stuck)", Timestamp(0)).unwrap();
    /// assert_eq!(filter.conditions.len(), 2);
    /// ```
    pub fn parse(text: &str, now: Timestamp) -> Result<Filter, FilterError> {
        Reader::new(text, now).filter()
    }

    /// Whether a run with these attributes is like this.
    ///
    /// ```
    /// # use everstep_core::{AttributeValue, Timestamp, store::{Filter, RunRow}};
    /// # use std::{collections::BTreeMap, sync::Arc};
    /// # fn check(row: &RunRow) {
    /// let filter = Filter::parse("amount > 100", Timestamp(0)).unwrap();
    /// let amount = |value: AttributeValue| BTreeMap::from([(Arc::from("amount"), value)]);
    /// assert!(filter.matches(row, &amount(100.5.into())));
    /// assert!(!filter.matches(row, &amount("a lot".into())));
    /// assert!(!filter.matches(row, &BTreeMap::new()));
    /// # }
    /// ```
    pub fn matches(&self, row: &RunRow, attributes: &BTreeMap<Arc<str>, AttributeValue>) -> bool {
        self.conditions.iter().all(|condition| condition.matches(row, attributes))
    }
}

impl Condition {
    fn matches(&self, row: &RunRow, attributes: &BTreeMap<Arc<str>, AttributeValue>) -> bool {
        match self {
            Condition::Status(set) => set.contains(row.status),
            Condition::Text { field, not, values } => {
                let text = if *field == Field::Id { &row.id } else { &row.workflow };
                values.iter().any(|value| **value == **text) != *not
            }
            Condition::Time { field, operator, at } => {
                let time = if *field == Field::Created { Some(row.created_at) } else { row.finished_at };
                time.is_some_and(|time| operator.holds(time.cmp(at)))
            }
            Condition::AttributeIs { name, not, values } => attributes.get(name).is_some_and(|has| {
                values.iter().any(|value| has.compare(value) == Some(Ordering::Equal)) != *not
            }),
            Condition::AttributeLies { name, operator, value } => attributes
                .get(name)
                .and_then(|has| has.compare(value))
                .is_some_and(|order| operator.holds(order)),
        }
    }
}

impl Operator {
    /// Whether it holds for something that lies so to what it is compared with.
    fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Before => order.is_lt(),
            Operator::UpTo => order.is_le(),
            Operator::After => order.is_gt(),
            Operator::From => order.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{status::Status, store::RunId};

    fn row() -> RunRow {
        RunRow {
            run: RunId(1),
            id: "a".into(),
            workflow: "w".into(),
            status: Status::Waiting,
            owner: None,
            wake_at: None,
            inbox_n: 0,
            generation: 0,
            takeovers: 0,
            created_at: Timestamp(0),
            began_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn attributes_match_by_type_and_a_run_without_them_matches_nothing() {
        let attributes: BTreeMap<Arc<str>, AttributeValue> = [
            ("team", AttributeValue::from("blue")),
            ("amount", 100.into()),
            ("rate", 0.5.into()),
            ("urgent", true.into()),
            ("due", Timestamp(1_000_000).into()),
            ("status", "odd".into()),
            ("due date", 7.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
        for (text, expected) in [
            ("team = blue", true),
            ("team = \"blue\"", true),
            ("team != red", true),
            ("team != blue", false),
            ("team in (red, blue)", true),
            ("team not in (red, green)", true),
            ("team not in (red, blue)", false),
            ("team < bluf and team > blud", true),
            ("team < blue", false),
            ("amount = 100 and amount = 100.0", true),
            ("amount > 99.5 and amount < 100.5", true),
            ("amount >= 100 and amount <= 100", true),
            ("amount > 100", false),
            ("amount = \"100\"", false),
            ("amount != \"100\"", true),
            ("amount > \"0\"", false),
            ("amount < true", false),
            ("rate < 1 and rate > 0", true),
            ("urgent = true and urgent > false", true),
            ("urgent = \"true\"", false),
            ("due < 2s and due >= 1970-01-01T00:00:01Z", true),
            ("due > 0", false),
            ("due != 1000000", true),
            ("attribute.status = odd", true),
            ("status = waiting and attribute.status = odd", true),
            ("attribute.\"due date\" > 6", true),
            ("attribute.team = blue", true),
            ("missing = blue", false),
            ("missing != blue", false),
            ("missing not in (blue)", false),
            ("missing < blue", false),
            ("missing >= -1d", false),
        ] {
            let filter = Filter::parse(text, Timestamp(0)).expect(text);
            assert_eq!(filter.matches(&row(), &attributes), expected, "{text}");
        }
    }

    #[test]
    fn fields_match_as_they_are_written() {
        let over = RunRow { status: Status::Failed, finished_at: Some(Timestamp(5_000_000)), ..row() };
        let day = 86_400_000_000;
        let team = BTreeMap::from([(Arc::from("team"), AttributeValue::from("x"))]);
        for (text, waiting, failed) in [
            ("", true, true),
            ("id = a", true, true),
            ("id != a", false, false),
            ("id in (b, a)", true, true),
            ("id not in (b, A)", true, true),
            ("workflow = w and id = b", false, false),
            ("workflow != w", false, false),
            ("workflow not in (v)", true, true),
            ("status = waiting", true, false),
            ("status != waiting", false, true),
            ("status in (failed, stuck)", false, true),
            ("status not in (failed, stuck)", true, false),
            ("status = waiting and status = failed", false, false),
            ("status in (waiting, failed) and status != failed", true, false),
            ("created > -2d", true, true),
            ("created > -1d", false, false),
            ("created >= -1d and created <= 1970-01-01", true, true),
            ("created < 1970-01-01", false, false),
            // A run that is not over has no such time.
            ("finished > -1d", false, true),
            ("finished < 1970-01-01T00:00:05Z", false, false),
            ("finished <= 1970-01-01T00:00:05Z", false, true),
            ("workflow = w and status in (failed, stuck) and created > -2d and team = \"x\"", false, true),
        ] {
            let filter = Filter::parse(text, Timestamp(day)).expect(text);
            assert_eq!(
                [filter.matches(&row(), &team), filter.matches(&over, &team)],
                [waiting, failed],
                "{text}"
            );
        }
    }
}
