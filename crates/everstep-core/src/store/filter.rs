//! The small language in which runs are looked for: `workflow = onboard and status in (failed, stuck) and
//! created > -1d`. Parsed here, once, into conditions; stores bind their values as parameters and never see text.

use super::RunRow;
use crate::{
    status::{Status, StatusSet},
    time::Timestamp,
};

/// What runs must be like: all conditions hold.
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

/// How a time is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Earlier.
    Before,
    /// Earlier or the same.
    UpTo,
    /// Later.
    After,
    /// Later or the same.
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

/// What a condition was read from, word by word.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    now: Timestamp,
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
        let mut reader = Reader { text, at: 0, now };
        let mut conditions = Vec::new();
        if reader.peek().is_none() {
            return Ok(Filter { conditions });
        }
        loop {
            conditions.push(reader.condition()?);
            match reader.peek() {
                None => return Ok(Filter { conditions }),
                Some(_) => reader.expect("and")?,
            }
        }
    }

    /// Whether a run is like this.
    pub fn matches(&self, row: &RunRow) -> bool {
        self.conditions.iter().all(|condition| condition.matches(row))
    }
}

impl Condition {
    fn matches(&self, row: &RunRow) -> bool {
        match self {
            Condition::Status(set) => set.contains(row.status),
            Condition::Text { field, not, values } => {
                let text = if *field == Field::Id { &row.id } else { &row.workflow };
                values.iter().any(|value| **value == **text) != *not
            }
            Condition::Time { field, operator, at } => {
                let time = if *field == Field::Created { Some(row.created_at) } else { row.finished_at };
                time.is_some_and(|time| match operator {
                    Operator::Before => time < *at,
                    Operator::UpTo => time <= *at,
                    Operator::After => time > *at,
                    Operator::From => time >= *at,
                })
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn error<T>(&self, expected: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError { at: self.text[..self.at].chars().count(), expected: expected.into() })
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    /// The next sign (`(`, `,`, `>=`) or bare word.
    fn token(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let end = match rest.chars().next() {
            Some('(' | ')' | ',') => 1,
            Some('<' | '>' | '=' | '!') => rest.find(|c| !"<>=!".contains(c)).unwrap_or(rest.len()),
            _ => rest.find(|c: char| c.is_whitespace() || "(),<>=!\"".contains(c)).unwrap_or(rest.len()),
        };
        self.at += end;
        &rest[..end]
    }

    fn expect(&mut self, word: &str) -> Result<(), FilterError> {
        let before = self.at;
        if self.token() != word {
            self.at = before;
            self.peek();
            return self.error(format!("expected `{word}`"));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<String, FilterError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let before = self.at;
        let word = self.token();
        if word.is_empty() || word.starts_with(|c| "(),<>=!".contains(c)) {
            self.at = before;
            return self.error("expected a value");
        }
        Ok(word.to_string())
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        let mut value = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        self.error("expected a closing `\"` for this one")
    }

    fn condition(&mut self) -> Result<Condition, FilterError> {
        self.peek();
        let before = self.at;
        match self.token() {
            "status" => self.status(),
            "id" => self.text(Field::Id),
            "workflow" => self.text(Field::Workflow),
            "created" => self.time(Field::Created),
            "finished" => self.time(Field::Finished),
            _ => {
                self.at = before;
                self.error("expected one of id, workflow, status, created, finished")
            }
        }
    }

    /// `= a`, `!= a`, `in (a, b)`, `not in (a, b)`: whether it is negated, and the values with their places.
    fn members(&mut self) -> Result<(bool, Vec<(usize, String)>), FilterError> {
        self.peek();
        let before = self.at;
        let not = match self.token() {
            "=" => return Ok((false, vec![(self.at, self.value()?)])),
            "!=" => return Ok((true, vec![(self.at, self.value()?)])),
            "in" => false,
            "not" => {
                self.expect("in")?;
                true
            }
            _ => {
                self.at = before;
                return self.error("expected `=`, `!=`, `in (..)` or `not in (..)`");
            }
        };
        self.expect("(")?;
        let mut values = Vec::new();
        loop {
            self.peek();
            values.push((self.at, self.value()?));
            let before = self.at;
            match self.token() {
                "," => {}
                ")" => return Ok((not, values)),
                _ => {
                    self.at = before;
                    return self.error("expected `,` or `)`");
                }
            }
        }
    }

    fn status(&mut self) -> Result<Condition, FilterError> {
        let (not, values) = self.members()?;
        let mut statuses = Vec::new();
        for (at, word) in values {
            match word.parse::<Status>() {
                Ok(status) => statuses.push(status),
                Err(why) => {
                    self.at = at;
                    self.peek();
                    return self.error(why);
                }
            }
        }
        let named = StatusSet::of(&statuses);
        let all: Vec<Status> = Status::ALL.into_iter().filter(|s| named.contains(*s) != not).collect();
        Ok(Condition::Status(StatusSet::of(&all)))
    }

    fn text(&mut self, field: Field) -> Result<Condition, FilterError> {
        let (not, values) = self.members()?;
        Ok(Condition::Text { field, not, values: values.into_iter().map(|(_, value)| value).collect() })
    }

    fn time(&mut self, field: Field) -> Result<Condition, FilterError> {
        self.peek();
        let before = self.at;
        let operator = match self.token() {
            "<" => Operator::Before,
            "<=" => Operator::UpTo,
            ">" => Operator::After,
            ">=" => Operator::From,
            _ => {
                self.at = before;
                return self.error("expected `<`, `<=`, `>` or `>=`");
            }
        };
        self.peek();
        let before = self.at;
        let word = self.value()?;
        match relative(&word, self.now).or_else(|| absolute(&word)) {
            Some(at) => Ok(Condition::Time { field, operator, at }),
            None => {
                self.at = before;
                self.error("expected a time: `-15m` (s, m, h, d, w), `2026-01-31` or `2026-01-31T10:00:00Z`")
            }
        }
    }
}

fn relative(word: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = match word.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let count: i64 = word[..word.len() - 1].parse().ok()?;
    Some(Timestamp(now.0.checked_add(count.checked_mul(unit * 1_000_000)?)?))
}

fn absolute(word: &str) -> Option<Timestamp> {
    let (date, time) = word.split_once('T').unwrap_or((word, "00:00:00Z"));
    let numbers = |text: &str, sign: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text.split(sign).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.strip_suffix('Z')?, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_month = lengths.get(usize::try_from(month - 1).ok()?)?;
    let sound = (1970..10_000).contains(&year)
        && (1..=*in_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !sound {
        return None;
    }
    let before = year - 1;
    let leap_days = |y: i64| y / 4 - y / 100 + y / 400;
    let days = (year - 1970) * 365 + leap_days(before) - leap_days(1969)
        + lengths[..(month - 1) as usize].iter().sum::<i64>()
        + day
        - 1;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It panicked, which a fuzzer found.
    #[test]
    fn a_value_without_quotes_may_begin_with_any_letter() {
        let filter = parse("id in (é, ñ2)").expect("a filter");
        let values = vec!["é".to_string(), "ñ2".to_string()];
        assert_eq!(filter.conditions, [Condition::Text { field: Field::Id, not: false, values }]);
    }

    fn parse(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text, Timestamp(86_400_000_000 * 30))
    }

    #[test]
    fn conditions_are_read() {
        let text = |field, not, values: &[&str]| Condition::Text {
            field,
            not,
            values: values.iter().map(ToString::to_string).collect(),
        };
        let table = [
            ("workflow = onboard", text(Field::Workflow, false, &["onboard"])),
            ("id != \"a \\\"b\\\"\"", text(Field::Id, true, &["a \"b\""])),
            ("id in (a,b , c)", text(Field::Id, false, &["a", "b", "c"])),
            ("workflow not in (a)", text(Field::Workflow, true, &["a"])),
            ("status in (failed, stuck)", Condition::Status(StatusSet::of(&[Status::Failed, Status::Stuck]))),
            (
                "created>-1d",
                Condition::Time {
                    field: Field::Created,
                    operator: Operator::After,
                    at: Timestamp(86_400_000_000 * 29),
                },
            ),
            (
                "finished <= 2000-03-01",
                Condition::Time {
                    field: Field::Finished,
                    operator: Operator::UpTo,
                    at: Timestamp(951_868_800_000_000),
                },
            ),
            (
                "created < 2026-01-31T10:00:05Z",
                Condition::Time {
                    field: Field::Created,
                    operator: Operator::Before,
                    at: Timestamp(1_769_853_605_000_000),
                },
            ),
        ];
        for (text, condition) in table {
            assert_eq!(parse(text).map(|f| f.conditions), Ok(vec![condition]), "{text}");
        }
        assert_eq!(parse("  ").map(|f| f.conditions.len()), Ok(0));
        assert_eq!(parse("id = a and status != stuck and created > -1h").map(|f| f.conditions.len()), Ok(3));
    }

    /// The point that `text` names, in seconds.
    fn seconds(text: &str) -> Option<i64> {
        let filter = parse(&format!("created >= {text}")).ok()?;
        let [Condition::Time { field: Field::Created, operator: Operator::From, at }] = filter.conditions[..]
        else {
            panic!("another condition: {filter:?}")
        };
        assert_eq!(at.0 % 1_000_000, 0);
        Some(at.0 / 1_000_000)
    }

    #[test]
    fn times_count_from_now_in_every_unit() {
        let ago = |text| seconds(text).map(|at| 86_400 * 30 - at);
        for (text, seconds) in [
            ("-7s", 7),
            ("-7m", 7 * 60),
            ("-7h", 7 * 3600),
            ("-2d", 2 * 86_400),
            ("-2w", 14 * 86_400),
            ("3h", -3 * 3600),
        ] {
            assert_eq!(ago(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1972-03-01", Some(790 * 86_400)),
            ("2000-02-29", Some(951_782_400)),
            ("2026-01-31T23:59:59Z", Some(1_769_903_999)),
            ("2100-02-28", Some(4_107_456_000)),
            ("2100-02-29", None),
            ("2100-03-01", Some(4_107_542_400)),
            ("2400-02-29", Some(13_574_563_200)),
            ("2401-01-01", Some(13_601_088_000)),
            ("9999-12-31", Some(253_402_214_400)),
            ("10000-01-01", None),
            ("1969-12-31", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-04-31", None),
            ("2026-04-00", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T00:60:00Z", None),
            ("2026-01-31T00:00:60Z", None),
            ("2026-01-31T00:00:00", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    /// Was a panic of debug builds: the date was counted before it was judged.
    #[test]
    fn numbers_beyond_any_date_are_no_time() {
        let most = i64::MAX;
        for text in [format!("{most}-01-01"), format!("2026-01-{most}"), format!("2026-01-01T{most}:00:00Z")]
        {
            assert_eq!(seconds(&text), None, "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, at, expected) in [
            ("name = a", 0, "expected one of id"),
            ("id a", 3, "expected `=`"),
            ("id = ", 5, "expected a value"),
            ("id in (a b)", 8, "expected `,` or `)`"),
            ("status = done", 9, "`done` is no status"),
            ("id = a or id = b", 7, "expected `and`"),
            ("created > yesterday", 10, "expected a time"),
            ("created > 2025-02-29", 10, "expected a time"),
            ("created > 99999999999999w", 10, "expected a time"),
            ("id = \"a", 5, "closing"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.expected.contains(expected), "{text}: {error}");
        }
    }
}
