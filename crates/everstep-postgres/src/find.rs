//! Lists: a filter as SQL. PostgreSQL keeps statistics and knows the values, so it chooses the way itself; what it may
//! look at is bound, never spelt into the statement.

use std::collections::HashMap;

use everstep_core::{
    AttributeValue,
    store::{Condition, Field, Filter, Operator, RunId, RunRow},
};

use crate::{
    attribute::{self, NUMBER, TEXT},
    conn::Conn,
    fault::Fault,
    names::{self, NameKind, Texts},
    row::{self, run_columns, signed, unsigned},
    sql::{Arg, Sql, arg, get},
    text::kept,
};

/// A value of the statement.
#[derive(Debug)]
enum Value {
    Number(i64),
    Digits(String),
    Texts(Vec<String>),
}

impl Value {
    fn arg(&self) -> Arg<'_> {
        match self {
            Value::Number(n) => arg(*n),
            Value::Digits(digits) => arg(digits),
            Value::Texts(texts) => arg(texts),
        }
    }
}

/// Runs that match, newest first, from before `before` on.
pub(crate) async fn runs(
    conn: &Conn,
    texts: &Texts,
    filter: &Filter,
    before: Option<RunId>,
    limit: usize,
) -> Result<Vec<RunRow>, Fault> {
    let Some(names) = names_in(conn, filter).await? else { return Ok(Vec::new()) };
    let Some(mut compiled) = Compiled::of(filter, &names) else { return Ok(Vec::new()) };
    let before = compiled.bind(Value::Number(before.map_or(i64::MAX, |run| run.0)));
    let limit = compiled.bind(Value::Number(signed(limit as u64)));
    let conditions = compiled.conditions();
    let text = format!(
        "SELECT {} FROM @run r WHERE r.id < {before}{conditions} ORDER BY r.id DESC LIMIT {limit}",
        run_columns!()
    );
    let rows = conn.once(&Sql("list runs", text.into()), &compiled.args()).await?;
    Ok(row::runs(conn, texts, &rows).await?.into_iter().collect::<Result<_, _>>()?)
}

/// How many runs match; no more than `at_most` are counted.
pub(crate) async fn count(conn: &Conn, filter: &Filter, at_most: u64) -> Result<u64, Fault> {
    let Some(names) = names_in(conn, filter).await? else { return Ok(0) };
    let Some(mut compiled) = Compiled::of(filter, &names) else { return Ok(0) };
    let limit = compiled.bind(Value::Number(signed(at_most)));
    let conditions = compiled.conditions();
    let text =
        format!("SELECT count(*) FROM (SELECT 1 FROM @run r WHERE true{conditions} LIMIT {limit}) AS found");
    let rows = conn.once(&Sql("count runs", text.into()), &compiled.args()).await?;
    Ok(rows.first().map(|row| get(row, 0)).transpose()?.map_or(0, unsigned))
}

/// The numbers of the names of attributes in a filter; `None` if one has none: then nothing matches.
async fn names_in<'f>(conn: &Conn, filter: &'f Filter) -> Result<Option<HashMap<&'f str, i64>>, Fault> {
    let mut known = HashMap::new();
    for condition in &filter.conditions {
        let (Condition::AttributeIs { name, .. } | Condition::AttributeLies { name, .. }) = condition else {
            continue;
        };
        let Some(number) = names::find(conn, NameKind::Attribute, name).await? else { return Ok(None) };
        known.insert(&**name, number);
    }
    Ok(Some(known))
}

/// A filter whose names are known.
#[derive(Debug, Default)]
struct Compiled {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Compiled {
    /// `None` if nothing can match.
    fn of(filter: &Filter, names: &HashMap<&str, i64>) -> Option<Compiled> {
        let mut compiled = Compiled::default();
        for condition in &filter.conditions {
            let condition = match condition {
                Condition::Status(set) if set.iter().next().is_none() => return None,
                Condition::Status(set) => {
                    let codes: Vec<_> = set.iter().map(|status| status.code().to_string()).collect();
                    let condition = format!("r.status IN ({})", codes.join(", "));
                    // Word for word what the partial index says: only then can it be used.
                    match set.iter().all(|status| (4..=7).contains(&status.code())) {
                        true => format!("{condition} AND r.status IN (4, 5, 6, 7)"),
                        false => condition,
                    }
                }
                Condition::Text { not: false, values, .. } if values.is_empty() => return None,
                Condition::Text { field, not, values } => compiled.text(*field, *not, values),
                Condition::Time { field, operator, at } => {
                    let at = compiled.bind(Value::Number(at.0));
                    format!("r.{} {} {at}", column(*field), sign(*operator))
                }
                Condition::AttributeIs { not: false, values, .. } if values.is_empty() => return None,
                Condition::AttributeIs { name, not, values } => {
                    let is = compiled.members(values);
                    let not = if *not { "NOT " } else { "" };
                    compiled.has(names[&**name], &format!("{not}({is})"))
                }
                Condition::AttributeLies { name, operator, value } => {
                    let lies = compiled.lies(*operator, value);
                    compiled.has(names[&**name], &lies)
                }
            };
            compiled.conditions.push(condition);
        }
        Some(compiled)
    }

    /// The mark of a value.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn args(&self) -> Vec<Arg<'_>> {
        self.values.iter().map(Value::arg).collect()
    }

    fn conditions(&self) -> String {
        self.conditions.iter().map(|condition| format!(" AND {condition}")).collect()
    }

    fn text(&mut self, field: Field, not: bool, values: &[String]) -> String {
        let texts = values.iter().map(|text| kept(text).into_owned()).collect();
        let texts = self.bind(Value::Texts(texts));
        let not = if not { "NOT " } else { "" };
        match field {
            Field::Workflow => {
                format!("{not}r.workflow IN (SELECT id FROM @name WHERE kind = 1 AND text = ANY({texts}))")
            }
            other => format!("{not}(r.{} = ANY({texts}))", column(other)),
        }
    }

    fn has(&mut self, name: i64, is: &str) -> String {
        let name = self.bind(Value::Number(name));
        format!("EXISTS (SELECT 1 FROM @attribute a WHERE a.run = r.id AND a.name = {name} AND {is})")
    }

    /// What is one of these.
    fn members(&mut self, values: &[AttributeValue]) -> String {
        let columns: Vec<_> = values.iter().map(attribute::columns).collect();
        let mut ways = vec!["false".to_string()];
        for class in NUMBER..=4 {
            let of_class = columns.iter().filter(|columns| columns.class == class);
            let texts: Vec<_> = of_class.map(|columns| digits_or_text(columns.clone())).collect();
            if texts.is_empty() {
                continue;
            }
            let texts = self.bind(Value::Texts(texts));
            ways.push(match class {
                TEXT => format!("a.class = {class} AND a.text = ANY({texts})"),
                _ => format!("a.class = {class} AND a.number = ANY({texts}::text[]::numeric[])"),
            });
        }
        ways.join(" OR ")
    }

    /// What is so to this value, and of its type.
    fn lies(&mut self, operator: Operator, value: &AttributeValue) -> String {
        let columns = attribute::columns(value);
        let (class, sign) = (columns.class, sign(operator));
        let bound = self.bind(Value::Digits(digits_or_text(columns)));
        match class {
            TEXT => format!("a.class = {class} AND a.text {sign} {bound}"),
            _ => format!("a.class = {class} AND a.number {sign} {bound}::text::numeric"),
        }
    }
}

fn digits_or_text(columns: attribute::Columns) -> String {
    columns.number.or(columns.text).expect("a value is one of both")
}

fn column(field: Field) -> &'static str {
    match field {
        Field::Id => "text_id",
        Field::Workflow => "workflow",
        Field::Created => "created_at",
        Field::Finished => "finished_at",
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Before => "<",
        Operator::UpTo => "<=",
        Operator::After => ">",
        Operator::From => ">=",
    }
}

#[cfg(test)]
mod tests {
    use everstep_conformance::filters::{any_filter, bare, written};
    use proptest::prelude::*;

    use super::*;

    /// What a filter is in SQL, and of what kinds its values are.
    fn sql_of(filter: &Filter) -> Option<(String, Vec<std::mem::Discriminant<Value>>)> {
        let names = filter.conditions.iter().filter_map(|condition| match condition {
            Condition::AttributeIs { name, .. } | Condition::AttributeLies { name, .. } => Some((&**name, 7)),
            _ => None,
        });
        let compiled = Compiled::of(filter, &names.collect())?;
        Some((compiled.conditions(), compiled.values.iter().map(std::mem::discriminant).collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        /// The SQL follows from the shape of a filter alone: whatever texts, names, numbers and times are in it, it is
        /// that of the same filter without them.
        #[test]
        fn no_string_ever_reaches_sql_unbound(filter in any_filter()) {
            prop_assert_eq!(sql_of(&filter), sql_of(&bare(&filter)));
        }
    }

    /// The same for what is read from text: the filter that a user writes.
    #[test]
    fn no_text_of_a_filter_is_sql() {
        for (text, filter, harmless) in written() {
            let (sql, values) = sql_of(&filter).expect("something may match");
            assert_eq!(Some((sql, values.clone())), sql_of(&harmless), "{text}");
            assert!(!values.is_empty(), "{text}");
        }
    }
}
