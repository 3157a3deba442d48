//! The filter language, read word by word.

use std::sync::Arc;

use super::{Condition, Field, Filter, FilterError, Operator, time::point};
use crate::{
    attribute::AttributeValue,
    name::check_name,
    status::{Status, StatusSet},
    time::Timestamp,
};

/// What comes before the name of an attribute that would else be something else.
const ATTRIBUTE: &str = "attribute.";
const MEMBERS: &str = "expected `=`, `!=`, `in (..)` or `not in (..)`";
const ORDERS: &str = "expected `<`, `<=`, `>` or `>=`";

/// What a condition is read from.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    now: Timestamp,
}

/// A value and where it stands.
type Placed<T> = (usize, T);

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, now: Timestamp) -> Reader<'a> {
        Reader { text, at: 0, now }
    }

    pub(super) fn filter(mut self) -> Result<Filter, FilterError> {
        let mut conditions = Vec::new();
        if self.peek().is_none() {
            return Ok(Filter { conditions });
        }
        loop {
            conditions.push(self.condition()?);
            match self.peek() {
                None => return Ok(Filter { conditions }),
                Some(_) => self.expect("and")?,
            }
        }
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
            word => {
                let name = self.attribute_name(before, word)?;
                self.attribute(name)
            }
        }
    }

    fn status(&mut self) -> Result<Condition, FilterError> {
        let (not, values) = self.members(MEMBERS, Self::value)?;
        let mut statuses = Vec::new();
        for (at, word) in values {
            match word.parse::<Status>() {
                Ok(status) => statuses.push(status),
                Err(why) => return self.error_at(at, why),
            }
        }
        let named = StatusSet::of(&statuses);
        let all: Vec<Status> = Status::ALL.into_iter().filter(|s| named.contains(*s) != not).collect();
        Ok(Condition::Status(StatusSet::of(&all)))
    }

    fn text(&mut self, field: Field) -> Result<Condition, FilterError> {
        let (not, values) = self.members(MEMBERS, Self::value)?;
        Ok(Condition::Text { field, not, values: values.into_iter().map(|(_, value)| value).collect() })
    }

    fn time(&mut self, field: Field) -> Result<Condition, FilterError> {
        let Some(operator) = self.operator() else { return self.error(ORDERS) };
        self.peek();
        let before = self.at;
        let word = self.value()?;
        match point(&word, self.now) {
            Some(at) => Ok(Condition::Time { field, operator, at }),
            None => self.error_at(
                before,
                "expected a time: `-15m` (s, m, h, d, w), `2026-01-31` or `2026-01-31T10:00:00Z`",
            ),
        }
    }

    /// The name that begins with `word`, which stood at `at`.
    fn attribute_name(&mut self, at: usize, word: &str) -> Result<Arc<str>, FilterError> {
        if word.is_empty() || word.starts_with(is_sign) {
            return self.error_at(
                at,
                "expected one of id, workflow, status, created, finished, or the name of an attribute",
            );
        }
        let spelt = word.strip_prefix(ATTRIBUTE);
        let name = match spelt {
            Some("") if self.text[self.at..].starts_with('"') => self.quoted()?,
            _ => spelt.unwrap_or(word).to_string(),
        };
        match check_name("attribute", &name) {
            Ok(()) => Ok(name.into()),
            Err(why) => self.error_at(at, why.to_string()),
        }
    }

    fn attribute(&mut self, name: Arc<str>) -> Result<Condition, FilterError> {
        if let Some(operator) = self.operator() {
            let value = self.literal()?;
            return Ok(Condition::AttributeLies { name, operator, value });
        }
        let expected = "expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (..)` or `not in (..)`";
        let (not, values) = self.members(expected, Self::literal)?;
        let values = values.into_iter().map(|(_, value)| value).collect();
        Ok(Condition::AttributeIs { name, not, values })
    }

    /// `= a`, `!= a`, `in (a, b)`, `not in (a, b)`: whether it is negated, and the values.
    fn members<T>(
        &mut self,
        expected: &str,
        value: impl Fn(&mut Self) -> Result<T, FilterError>,
    ) -> Result<(bool, Vec<Placed<T>>), FilterError> {
        self.peek();
        let before = self.at;
        let not = match self.token() {
            "=" => return Ok((false, vec![self.placed(value)?])),
            "!=" => return Ok((true, vec![self.placed(value)?])),
            "in" => false,
            "not" => {
                self.expect("in")?;
                true
            }
            _ => return self.error_at(before, expected),
        };
        self.expect("(")?;
        let mut values = Vec::new();
        loop {
            values.push(self.placed(&value)?);
            self.peek();
            let before = self.at;
            match self.token() {
                "," => {}
                ")" => return Ok((not, values)),
                _ => return self.error_at(before, "expected `,` or `)`"),
            }
        }
    }

    fn placed<T>(
        &mut self,
        value: impl Fn(&mut Self) -> Result<T, FilterError>,
    ) -> Result<Placed<T>, FilterError> {
        self.peek();
        Ok((self.at, value(self)?))
    }

    /// The operator that comes next, if it is one.
    fn operator(&mut self) -> Option<Operator> {
        self.peek();
        let before = self.at;
        let operator = match self.token() {
            "<" => Operator::Before,
            "<=" => Operator::UpTo,
            ">" => Operator::After,
            ">=" => Operator::From,
            _ => {
                self.at = before;
                return None;
            }
        };
        Some(operator)
    }

    /// The value of an attribute.
    fn literal(&mut self) -> Result<AttributeValue, FilterError> {
        if self.peek() == Some('"') {
            return self.quoted().map(AttributeValue::Text);
        }
        let before = self.at;
        let word = self.value()?;
        match typed(&word, self.now) {
            Some(value) => Ok(value),
            None => self.error_at(
                before,
                "expected a number or a time (`-15m`, `2026-01-31`, `2026-01-31T10:00:00Z`): a text that begins like one \
                 is written in quotes",
            ),
        }
    }

    /// A text, in quotes or not.
    fn value(&mut self) -> Result<String, FilterError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let before = self.at;
        let word = self.token();
        if word.is_empty() || word.starts_with(is_sign) {
            return self.error_at(before, "expected a value");
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

    fn expect(&mut self, word: &str) -> Result<(), FilterError> {
        self.peek();
        let before = self.at;
        match self.token() == word {
            true => Ok(()),
            false => self.error_at(before, format!("expected `{word}`")),
        }
    }

    /// The next sign (`(`, `,`, `>=`) or bare word.
    fn token(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let end = match rest.chars().next() {
            Some('(' | ')' | ',') => 1,
            Some('<' | '>' | '=' | '!') => rest.find(|c| !"<>=!".contains(c)).unwrap_or(rest.len()),
            _ => rest.find(|c: char| c.is_whitespace() || c == '"' || is_sign(c)).unwrap_or(rest.len()),
        };
        self.at += end;
        &rest[..end]
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn error<T>(&self, expected: impl Into<String>) -> Result<T, FilterError> {
        self.error_at(self.at, expected)
    }

    fn error_at<T>(&self, at: usize, expected: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError { at: self.text[..at].chars().count(), expected: expected.into() })
    }
}

fn is_sign(c: char) -> bool {
    "(),<>=!".contains(c)
}

/// What a bare word means; `None` if it begins like a number and is neither one nor a time.
fn typed(word: &str, now: Timestamp) -> Option<AttributeValue> {
    match word {
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        _ if !word.trim_start_matches(['-', '+', '.']).starts_with(|c: char| c.is_ascii_digit()) => {
            return Some(word.into());
        }
        _ => {}
    }
    let integer = || word.parse::<i64>().ok().map(AttributeValue::from);
    let float = || word.parse::<f64>().ok().filter(|number| number.is_finite()).map(AttributeValue::from);
    point(word, now).map(AttributeValue::from).or_else(integer).or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn parse(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text, Timestamp(DAY * 30))
    }

    /// It panicked, which a fuzzer found.
    #[test]
    fn a_value_without_quotes_may_begin_with_any_letter() {
        let filter = parse("id in (é, ñ2)").expect("a filter");
        let values = vec!["é".to_string(), "ñ2".to_string()];
        assert_eq!(filter.conditions, [Condition::Text { field: Field::Id, not: false, values }]);
    }

    #[test]
    fn conditions_about_fields_are_read() {
        let text = |field, not, values: &[&str]| Condition::Text {
            field,
            not,
            values: values.iter().map(ToString::to_string).collect(),
        };
        let time = |field, operator, at| Condition::Time { field, operator, at: Timestamp(at) };
        for (text, condition) in [
            ("workflow = onboard", text(Field::Workflow, false, &["onboard"])),
            ("id != \"a \\\"b\\\"\"", text(Field::Id, true, &["a \"b\""])),
            ("id in (a,b , c)", text(Field::Id, false, &["a", "b", "c"])),
            ("workflow not in (a)", text(Field::Workflow, true, &["a"])),
            ("status in (failed, stuck)", Condition::Status(StatusSet::of(&[Status::Failed, Status::Stuck]))),
            ("created>-1d", time(Field::Created, Operator::After, DAY * 29)),
            ("finished <= 2000-03-01", time(Field::Finished, Operator::UpTo, 951_868_800_000_000)),
            ("created < 2026-01-31T10:00:05Z", time(Field::Created, Operator::Before, 1_769_853_605_000_000)),
            ("created >= 3h", time(Field::Created, Operator::From, DAY * 30 + DAY / 8)),
        ] {
            assert_eq!(parse(text).map(|f| f.conditions), Ok(vec![condition]), "{text}");
        }
        assert_eq!(parse("  ").map(|f| f.conditions.len()), Ok(0));
        assert_eq!(parse("id = a and status != stuck and created > -1h").map(|f| f.conditions.len()), Ok(3));
    }

    #[test]
    fn conditions_about_attributes_are_read() {
        let is = |name: &str, not, values: &[AttributeValue]| {
            let (name, values) = (name.into(), values.to_vec());
            Condition::AttributeIs { name, not, values }
        };
        let lies = |name: &str, operator, value: AttributeValue| {
            let name = name.into();
            Condition::AttributeLies { name, operator, value }
        };
        for (text, condition) in [
            ("team = blue", is("team", false, &["blue".into()])),
            ("team=\"blue\"", is("team", false, &["blue".into()])),
            ("team != \"\"", is("team", true, &["".into()])),
            (
                "x in (1, \"1\", 1.0, true, \"true\", -1d)",
                is(
                    "x",
                    false,
                    &[
                        1.into(),
                        "1".into(),
                        1.0.into(),
                        true.into(),
                        "true".into(),
                        Timestamp(DAY * 29).into(),
                    ],
                ),
            ),
            ("x not in (false)", is("x", true, &[false.into()])),
            ("amount > 100", lies("amount", Operator::After, 100.into())),
            ("amount >= -1.5e3", lies("amount", Operator::From, (-1500.0).into())),
            ("amount < +7", lies("amount", Operator::Before, 7.into())),
            ("amount <= .5", lies("amount", Operator::UpTo, 0.5.into())),
            ("n < 9223372036854775807", lies("n", Operator::Before, i64::MAX.into())),
            ("n < 9223372036854775808", lies("n", Operator::Before, 9_223_372_036_854_775_808.0.into())),
            ("due < -1d", lies("due", Operator::Before, Timestamp(DAY * 29).into())),
            ("due < 1970-01-02", lies("due", Operator::Before, Timestamp(DAY).into())),
            ("team > -x", lies("team", Operator::After, "-x".into())),
            ("x = inf", is("x", false, &["inf".into()])),
            ("x = NaN", is("x", false, &["NaN".into()])),
            ("x = True", is("x", false, &["True".into()])),
            ("attribute.status = done", is("status", false, &["done".into()])),
            ("attribute.created = done", is("created", false, &["done".into()])),
            ("attribute.team = blue", is("team", false, &["blue".into()])),
            ("attribute.attribute.x = 1", is("attribute.x", false, &[1.into()])),
            ("attribute.\"due (date)\" = 1", is("due (date)", false, &[1.into()])),
            ("attribute = 1", is("attribute", false, &[1.into()])),
            ("and = and", is("and", false, &["and".into()])),
            ("Status = x", is("Status", false, &["x".into()])),
        ] {
            assert_eq!(parse(text).map(|f| f.conditions), Ok(vec![condition]), "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        let members = "expected `=`, `!=`, `in (..)` or `not in (..)`";
        let all = "expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (..)` or `not in (..)`";
        let orders = "expected `<`, `<=`, `>` or `>=`";
        let about = "expected one of id, workflow, status, created, finished, or the name of an attribute";
        let time = "expected a time: `-15m` (s, m, h, d, w), `2026-01-31` or `2026-01-31T10:00:00Z`";
        let number = "expected a number or a time (`-15m`, `2026-01-31`, `2026-01-31T10:00:00Z`): a text that begins \
                      like one is written in quotes";
        let name =
            "A name has 1 to 128 bytes without `/`, `#` and control characters, and does not begin with `$`";
        for (text, at, expected) in [
            ("id a", 3, members),
            ("id < a", 3, members),
            ("status", 6, members),
            ("id = ", 5, "expected a value"),
            ("id = )", 5, "expected a value"),
            ("id in (a b)", 9, "expected `,` or `)`"),
            ("id in a", 6, "expected `(`"),
            ("id not (a)", 7, "expected `in`"),
            ("id in ()", 7, "expected a value"),
            (
                "status = done",
                9,
                "`done` is no status; there are pending, running, waiting, completed, failed, cancelled, stuck, paused",
            ),
            ("id = a or id = b", 7, "expected `and`"),
            ("id = a and", 10, about),
            ("created = 2025-01-01", 8, orders),
            ("created > yesterday", 10, time),
            ("created > 2025-02-29", 10, time),
            ("created > 99999999999999w", 10, time),
            ("id = \"a", 5, "expected a closing `\"` for this one"),
            ("= a", 0, about),
            ("  (team = a)", 2, about),
            ("\"team\" = a", 0, about),
            ("team", 4, all),
            ("team is a", 5, all),
            ("team => a", 5, all),
            ("team = ", 7, "expected a value"),
            ("team > , x", 7, "expected a value"),
            ("team in (a, 1x)", 12, number),
            ("version = 1.2.3", 10, number),
            ("due < 2025-02-29", 6, number),
            ("due < 99999999999999w", 6, number),
            ("amount < 1e999", 9, number),
            ("amount < -1e999", 9, number),
            ("team = \"a", 7, "expected a closing `\"` for this one"),
            ("attribute.\"team = a", 10, "expected a closing `\"` for this one"),
            (
                "é = ü and te/am = a",
                10,
                &format!("`te/am` cannot name an attribute: `/` and `#` are part of keys. {name}"),
            ),
            ("attribute. = a", 0, &format!("`` cannot name an attribute: it is empty. {name}")),
            ("attribute.\"\" = a", 0, &format!("`` cannot name an attribute: it is empty. {name}")),
            (
                "$x = a",
                0,
                &format!("`$x` cannot name an attribute: names that begin with `$` are the engine's. {name}"),
            ),
            (
                &format!("{} = a", "x".repeat(129)),
                0,
                "an attribute's name has at most 128 bytes; this one has 129",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.at, error.expected.as_str()), (at, expected), "{text}");
        }
        let error = parse("team is a").expect_err("no operator").to_string();
        assert_eq!(error, format!("cannot read the filter at character 5: {all}"));
    }
}
