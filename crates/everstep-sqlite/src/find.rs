//! Lists: a filter as SQL, read along the way that leads to the fewest rows.
//!
//! SQLite keeps no statistics here and would guess, so the way is chosen by looking: how many rows a condition leaves is
//! counted, up to [`FEW`]. Every statement names the index it goes by, which a test holds it to.

use everstep_core::{
    AttributeValue,
    store::{Condition, Field, Filter, Operator, RunId, RunRow},
};
use rusqlite::{Connection, params_from_iter, types::Value};

use crate::{
    attribute,
    fault::Fault,
    names::{self, NameKind, Texts},
    row::{self, signed, unsigned},
};

/// So many rows are read and sorted in some milliseconds, which is what the pages of a list take whose runs are rare.
const FEW: i64 = 10_000;

/// SQL with the values of its marks; no text of the user's becomes SQL.
#[derive(Clone, Debug)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

/// How the runs that match are come by; each gives them newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By their ids, of which there are as many as the filter names.
    Ids,
    /// By the rows of an attribute: which of the filter's conditions on one.
    Attribute(usize),
    /// By the index of runs that want attention.
    Attention,
    /// Run by run.
    Pages,
}

/// Runs that match, newest first, from before `before` on.
pub(crate) fn runs(
    conn: &Connection,
    texts: &Texts,
    filter: &Filter,
    before: Option<RunId>,
    limit: usize,
) -> Result<Vec<RunRow>, Fault> {
    let Some(compiled) = Compiled::of(conn, filter)? else { return Ok(Vec::new()) };
    let sql = compiled.list(compiled.way(conn)?, before, limit);
    row::all(conn, &sql.text, params_from_iter(sql.values), |row| row::run(conn, texts, row))
}

/// How many runs match; no more than `at_most` are counted.
pub(crate) fn count(conn: &Connection, filter: &Filter, at_most: u64) -> Result<u64, Fault> {
    let Some(compiled) = Compiled::of(conn, filter)? else { return Ok(0) };
    let sql = match filter.conditions.iter().all(is_counted) {
        true => compiled.kept_count(),
        false => compiled.count(compiled.way(conn)?, at_most),
    };
    let counted = row::one(conn, &sql.text, params_from_iter(sql.values), |row| Ok(unsigned(row.get(0)?)))?;
    Ok(counted.unwrap_or(0).min(at_most))
}

/// Whether the counts that are kept by workflow and status answer it.
fn is_counted(condition: &Condition) -> bool {
    matches!(condition, Condition::Status(_) | Condition::Text { field: Field::Workflow, .. })
}

/// A filter whose names are known.
struct Compiled {
    /// The conditions on a run's row.
    rows: Vec<Sql>,
    /// Whether these are conditions on the id that leave only those that are named.
    has_ids: bool,
    /// Statuses that all want attention, if the filter asks for such.
    attention: Option<String>,
    attributes: Vec<Attribute>,
}

/// A condition on an attribute, as one on a row of it.
struct Attribute {
    /// `everstep_name.id`.
    name: i64,
    /// What must hold of the value: text that goes on behind it, perhaps several of them.
    is: Vec<Sql>,
    /// Whether its rows may lead to the runs: not those that it must *not* have.
    leads: bool,
    /// Whether its rows lie in the order of runs.
    in_order: bool,
}

impl Attribute {
    /// The condition on a row that is come by with its value, or (`+value`, which no index is used for) without.
    fn on(&self, value: &str) -> Sql {
        let mut sql = Sql::of("name = ?", [Value::Integer(self.name)]);
        for is in &self.is {
            sql.add(&format!(" AND {value} {}", is.text), is.values.iter().cloned());
        }
        sql
    }
}

impl Compiled {
    /// `None` if nothing can match.
    fn of(conn: &Connection, filter: &Filter) -> Result<Option<Compiled>, Fault> {
        let mut compiled = Compiled { rows: vec![], has_ids: false, attention: None, attributes: vec![] };
        for condition in &filter.conditions {
            match condition {
                Condition::Status(set) if set.iter().next().is_none() => return Ok(None),
                Condition::Status(set) => {
                    let codes: Vec<_> = set.iter().map(|status| status.code()).collect();
                    let list = codes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
                    compiled.rows.push(Sql::of(&format!("status IN ({list})"), []));
                    if codes.iter().all(|code| (4..=7).contains(code)) {
                        compiled.attention = Some(list);
                    }
                }
                Condition::Text { not: false, values, .. } if values.is_empty() => return Ok(None),
                Condition::Text { field, not, values } => {
                    compiled.has_ids |= *field == Field::Id && !not;
                    compiled.rows.push(text(*field, *not, values));
                }
                Condition::Time { field, operator, at } => {
                    let text = format!("{} {} ?", column(*field), sign(*operator));
                    compiled.rows.push(Sql::of(&text, [Value::Integer(at.0)]));
                }
                Condition::AttributeIs { not: false, values, .. } if values.is_empty() => return Ok(None),
                Condition::AttributeIs { name, not, values } => {
                    let Some(name) = names::find(conn, NameKind::Attribute, name)? else { return Ok(None) };
                    let values: Vec<_> = values.iter().map(attribute::value).collect();
                    let in_order = values.len() == 1;
                    let attribute = Attribute { name, is: members(*not, values), leads: !not, in_order };
                    compiled.attributes.push(attribute);
                }
                Condition::AttributeLies { name, operator, value } => {
                    let Some(name) = names::find(conn, NameKind::Attribute, name)? else { return Ok(None) };
                    let is = lies(*operator, value);
                    compiled.attributes.push(Attribute { name, is, leads: true, in_order: false });
                }
            }
        }
        Ok(Some(compiled))
    }

    /// The way to the fewest rows.
    fn way(&self, conn: &Connection) -> Result<Way, Fault> {
        if self.has_ids {
            return Ok(Way::Ids);
        }
        let leading: Vec<_> = self.attributes.iter().enumerate().filter(|(_, by)| by.leads).collect();
        // Rows that lie in the order of runs are never worse than all runs.
        let in_order = leading.iter().find(|(_, by)| by.in_order).map(|(at, _)| Way::Attribute(*at));
        if let (Some(way), None, 1) = (in_order, &self.attention, leading.len()) {
            return Ok(way);
        }
        let mut ways = Vec::new();
        if let Some(statuses) = &self.attention {
            ways.push((kept(conn, statuses)?, Way::Attention));
        }
        for (at, by) in leading {
            ways.push((few(conn, by)?, Way::Attribute(at)));
        }
        let fewest = ways.into_iter().filter(|(n, _)| *n <= FEW).min_by_key(|(n, _)| *n);
        Ok(fewest.map(|(_, way)| way).or(in_order).unwrap_or(Way::Pages))
    }

    fn list(&self, way: Way, before: Option<RunId>, limit: usize) -> Sql {
        let mut sql = Sql::of(&format!("SELECT {}", row::RUN), []);
        self.from(way, &mut sql);
        let run = match way {
            Way::Attribute(_) => "a.run",
            Way::Ids | Way::Attention | Way::Pages => "id",
        };
        sql.add(
            &format!(" AND {run} < ? ORDER BY {run} DESC LIMIT ?"),
            [Value::Integer(before.map_or(i64::MAX, |run| run.0)), Value::Integer(signed(limit as u64))],
        );
        sql
    }

    fn count(&self, way: Way, at_most: u64) -> Sql {
        let mut sql = Sql::of("SELECT count(*) FROM (SELECT 1", []);
        self.from(way, &mut sql);
        sql.add(" LIMIT ?)", [Value::Integer(signed(at_most))]);
        sql
    }

    /// The sum of the counts that are kept, whose columns have the names of a run's.
    fn kept_count(&self) -> Sql {
        let mut sql = Sql::of("SELECT coalesce(sum(n), 0) FROM everstep_run_count WHERE n > 0", []);
        self.rows.iter().for_each(|condition| sql.and(condition));
        sql
    }

    /// From where, and what must hold; the first condition of all is there for the others to follow.
    fn from(&self, way: Way, sql: &mut Sql) {
        sql.add(
            match way {
                Way::Ids => " FROM everstep_run INDEXED BY everstep_run_text_id WHERE 1",
                // Word for word what the partial index says: only then can it be used.
                Way::Attention => {
                    " FROM everstep_run INDEXED BY everstep_run_attention WHERE status IN (4, 5, 6, 7)"
                }
                Way::Pages => " FROM everstep_run NOT INDEXED WHERE 1",
                // A cross join is made in the order in which it is written.
                Way::Attribute(_) => {
                    " FROM everstep_attribute a INDEXED BY everstep_attribute_find
                      CROSS JOIN everstep_run ON everstep_run.id = a.run WHERE 1"
                }
            },
            [],
        );
        if let Way::Attribute(at) = way {
            sql.and(&self.attributes[at].on("value"));
        }
        self.rows.iter().for_each(|condition| sql.and(condition));
        for (at, attribute) in self.attributes.iter().enumerate() {
            // What leads to the runs is not looked for a second time.
            if way != Way::Attribute(at) {
                sql.add(" AND EXISTS (SELECT 1 FROM everstep_attribute WHERE run = everstep_run.id", []);
                sql.and(&attribute.on("+value"));
                sql.add(")", []);
            }
        }
    }
}

/// How many rows of an attribute there are, if they are few; else one more than that.
fn few(conn: &Connection, attribute: &Attribute) -> Result<i64, Fault> {
    let mut sql = Sql::of(
        "SELECT count(*) FROM (SELECT 1 FROM everstep_attribute INDEXED BY everstep_attribute_find WHERE 1",
        [],
    );
    sql.and(&attribute.on("value"));
    sql.add(" LIMIT ?)", [Value::Integer(FEW + 1)]);
    Ok(row::one(conn, &sql.text, params_from_iter(sql.values), |row| Ok(row.get(0)?))?.unwrap_or(0))
}

/// How many runs have these statuses.
fn kept(conn: &Connection, statuses: &str) -> Result<i64, Fault> {
    let sql = format!("SELECT coalesce(sum(n), 0) FROM everstep_run_count WHERE status IN ({statuses})");
    Ok(row::one(conn, &sql, [], |row| Ok(row.get(0)?))?.unwrap_or(0))
}

fn text(field: Field, not: bool, values: &[String]) -> Sql {
    let values: Vec<_> = values.iter().cloned().map(Value::Text).collect();
    let marks = vec!["?"; values.len()].join(", ");
    let not = if not { "NOT " } else { "" };
    let text = match field {
        Field::Workflow => {
            format!("workflow {not}IN (SELECT id FROM everstep_name WHERE kind = 1 AND text IN ({marks}))")
        }
        other => format!("{} {not}IN ({marks})", column(other)),
    };
    Sql::of(&text, values)
}

/// What is so to this value, and of its type.
fn lies(operator: Operator, value: &AttributeValue) -> Vec<Sql> {
    let span = attribute::span(value);
    let end = match operator {
        Operator::Before | Operator::UpTo => Sql::of(">= ?", [span.from]),
        Operator::After | Operator::From => Sql::of("< ?", [span.before]),
    };
    vec![Sql::of(&format!("{} ?", sign(operator)), [attribute::value(value)]), end]
}

/// One value is written as such: only then is it seen that its rows lie in the order of runs.
fn members(not: bool, values: Vec<Value>) -> Vec<Sql> {
    let text = match (values.len(), not) {
        (1, false) => "= ?".to_string(),
        (1, true) => "<> ?".to_string(),
        (n, not) => format!("{}IN ({})", if not { "NOT " } else { "" }, vec!["?"; n].join(", ")),
    };
    vec![Sql::of(&text, values)]
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

impl Sql {
    fn of(text: &str, values: impl IntoIterator<Item = Value>) -> Sql {
        Sql { text: text.to_string(), values: values.into_iter().collect() }
    }

    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(text);
        self.values.extend(values);
    }

    fn and(&mut self, condition: &Sql) {
        self.add(" AND ", []);
        self.add(&condition.text, condition.values.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use everstep_conformance::filters::{any_filter, bare, written};
    use everstep_core::{StatusSet, Timestamp};
    use proptest::prelude::*;
    use rusqlite::{
        OpenFlags,
        trace::{TraceEvent, TraceEventCodes},
    };

    use super::*;
    use crate::{migrate::migrate, names::Names, open::connection};

    /// With the settings of every connection: what plans may look at is one of them.
    fn in_memory() -> Connection {
        connection(":memory:".as_ref(), OpenFlags::default(), None).expect("memory")
    }

    /// Runs 1 to 30,000, one in 1,000 of them failed. Attributes: `common` of all, `half` of every second, `n` their
    /// number, `rare` of one in 1,000.
    fn database() -> Connection {
        let mut conn = in_memory();
        migrate(&mut conn).expect("migrates");
        conn.execute_batch(
            "INSERT INTO everstep_name (id, kind, text) VALUES
               (1, 1, 'flow'), (2, 2, 'common'), (3, 2, 'half'), (4, 2, 'n'), (5, 2, 'rare');
             WITH RECURSIVE run (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM run WHERE n < 30000)
             INSERT INTO everstep_run (id, text_id, workflow, status, created_at)
             SELECT n, 'run ' || n, 1, CASE n % 1000 WHEN 0 THEN 4 ELSE 3 END, n FROM run;
             INSERT INTO everstep_run_count (workflow, status, n) VALUES (1, 3, 29970), (1, 4, 30);
             INSERT INTO everstep_attribute (run, name, value)
             SELECT id, 2, 'x' FROM everstep_run UNION ALL SELECT id, 3, id % 7 FROM everstep_run WHERE id % 2 = 0
             UNION ALL SELECT id, 4, id FROM everstep_run
             UNION ALL SELECT id, 5, 'y' FROM everstep_run WHERE id % 1000 = 1;",
        )
        .expect("fills");
        conn
    }

    /// The way that is taken, as SQLite tells it.
    fn told(conn: &Connection, filter: &str) -> String {
        let filter = Filter::parse(filter, Timestamp(0)).expect("a filter");
        let compiled = Compiled::of(conn, &filter).expect("compiles").expect("may match");
        let sql = compiled.list(compiled.way(conn).expect("looks"), None, 10);
        let explained = format!("EXPLAIN QUERY PLAN {}", sql.text);
        let mut statement = conn.prepare(&explained).expect("is SQL");
        let lines = statement
            .query_map(params_from_iter(sql.values), |row| row.get::<_, String>(3))
            .expect("explains");
        let lines: Vec<_> = lines.map(|line| line.expect("a line")).collect();
        // Deaths are counted in the same way everywhere, and names are few.
        let told = |line: &&String| {
            ["SEARCH ", "SCAN ", "USE TEMP"].iter().any(|begin| line.starts_with(begin))
                && !line.contains("everstep_journal")
                && !line.contains("everstep_name")
        };
        lines.iter().filter(told).map(String::as_str).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn lists_go_the_way_of_the_fewest_rows() {
        let conn = database();
        let equal = "SEARCH a USING COVERING INDEX everstep_attribute_find (name=? AND value=? AND run<?)";
        let span = "SEARCH a USING COVERING INDEX everstep_attribute_find (name=? AND value>? AND value<?)";
        let run = "SEARCH everstep_run USING INTEGER PRIMARY KEY (rowid=?)";
        let has = "SEARCH everstep_attribute EXISTS USING PRIMARY KEY (run=? AND name=?)";
        let pages = "SEARCH everstep_run USING INTEGER PRIMARY KEY (rowid<?)";
        let attention = "SEARCH everstep_run USING INDEX everstep_run_attention (status=?)";
        let ids = "SEARCH everstep_run USING INDEX everstep_run_text_id (text_id=? AND rowid<?)";
        let sorted = "USE TEMP B-TREE FOR ORDER BY";
        for (filter, way) in [
            ("", &[pages][..]),
            ("id != a", &[pages]),
            ("workflow = flow and created > -1d", &[pages]),
            ("status = completed", &[pages]),
            ("status = failed", &[attention, sorted]),
            ("status = failed and common = x", &[attention, has, sorted]),
            ("status = failed and n < 5", &[span, run, sorted]),
            ("id in (a, b) and rare = y", &[ids, has, sorted]),
            ("rare = y", &[equal, run]),
            ("common = x", &[equal, run]),
            ("common = x and rare = y", &[equal, run, has]),
            ("common != z", &[pages, has]),
            ("common != z and rare = y", &[equal, run, has]),
            ("common in (x, z)", &[pages, has]),
            ("n in (5, 7)", &[equal, run, sorted]),
            ("n > 100", &[pages, has]),
            ("n > 29990", &[span, run, sorted]),
        ] {
            let way = way.join(" | ");
            assert_eq!(told(&conn, filter), way, "{filter}");
        }
    }

    #[test]
    fn every_way_finds_and_counts_the_same() {
        let conn = database();
        let texts = Texts::default();
        for (filter, count, newest) in [
            ("rare = y", 30, Some(29_001)),
            ("common = x and n >= 100.5 and n < 200", 99, Some(199)),
            ("n in (7, 7.0, \"7\", 30000)", 2, Some(30_000)),
            ("n != 7 and n <= 8", 7, Some(8)),
            ("half not in (0, 1, 2, 3, 4, 5)", 2_143, Some(29_994)),
            ("status = failed and common = x", 30, Some(30_000)),
            ("status = failed and workflow = flow", 30, Some(30_000)),
            ("status in (failed, completed)", 30_000, Some(30_000)),
            ("status = failed and rare = y", 0, None),
            ("id in (\"run 5\", \"run 6\") and half >= 0", 1, Some(6)),
            ("never = x", 0, None),
            ("never != x", 0, None),
            ("workflow = never", 0, None),
            ("created > 2000-01-01", 0, None),
            ("", 30_000, Some(30_000)),
        ] {
            let parsed = Filter::parse(filter, Timestamp(0)).expect("a filter");
            assert_eq!(super::count(&conn, &parsed, u64::MAX).expect("counts"), count, "{filter}");
            assert_eq!(super::count(&conn, &parsed, 20).expect("counts"), count.min(20), "{filter}");
            let page = runs(&conn, &texts, &parsed, None, 3).expect("finds");
            assert_eq!(page.first().map(|row| row.run.0), newest, "{filter}");
            let Some(last) = page.last() else { continue };
            let all = runs(&conn, &texts, &parsed, None, usize::MAX).expect("finds");
            assert_eq!(all.len() as u64, count, "{filter}");
            assert!(all.is_sorted_by(|a, b| a.run > b.run), "{filter}");
            let rest = runs(&conn, &texts, &parsed, Some(last.run), usize::MAX).expect("finds");
            assert_eq!([page, rest].concat(), all, "{filter}");
        }
    }

    #[test]
    fn what_can_match_nothing_is_not_looked_for() {
        let conn = database();
        let nothing = |condition| {
            let filter = Filter { conditions: vec![condition] };
            Compiled::of(&conn, &filter).expect("compiles").is_none()
        };
        assert!(nothing(Condition::Status(StatusSet::default())));
        assert!(nothing(Condition::Text { field: Field::Id, not: false, values: vec![] }));
        assert!(nothing(Condition::AttributeIs { name: "n".into(), not: false, values: vec![] }));
        assert!(nothing(Condition::AttributeIs { name: "never".into(), not: true, values: vec![] }));
        assert!(!nothing(Condition::AttributeIs { name: "n".into(), not: true, values: vec![] }));
    }

    /// All SQL that a list and a count of it take, with the names it speaks of made known, as SQLite was given it.
    fn sql_of(filter: &Filter) -> Vec<String> {
        let mut conn = in_memory();
        migrate(&mut conn).expect("migrates");
        for condition in &filter.conditions {
            let (kind, names) = match condition {
                Condition::Text { field: Field::Workflow, values, .. } => {
                    (NameKind::Workflow, values.clone())
                }
                Condition::AttributeIs { name, .. } | Condition::AttributeLies { name, .. } => {
                    (NameKind::Attribute, vec![name.to_string()])
                }
                _ => continue,
            };
            for name in names {
                Names::default().intern(&conn, kind, &name.into()).expect("is made known");
            }
        }
        let (send, heard) = std::sync::mpsc::channel();
        let told = move |event: TraceEvent<'_>| {
            if let TraceEvent::Stmt(_, sql) = event {
                send.send(sql.to_string()).expect("it is heard");
            }
        };
        conn.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(told)).expect("listens");
        runs(&conn, &Texts::default(), filter, None, 10).expect("finds");
        super::count(&conn, filter, 10).expect("counts");
        // The ways that are not taken where there are no runs.
        let mut others = Vec::new();
        if let Some(compiled) = Compiled::of(&conn, filter).expect("compiles") {
            let by_attribute = (0..compiled.attributes.len()).map(Way::Attribute);
            for way in [Way::Ids, Way::Attention, Way::Pages].into_iter().chain(by_attribute) {
                others.extend([compiled.list(way, None, 1), compiled.count(way, 1)].map(|sql| sql.text));
            }
        }
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'everstep_run'";
        assert_eq!(conn.query_row(tables, [], |row| row.get::<_, i64>(0)).expect("counts"), 1);
        drop(conn);
        heard.iter().chain(others).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

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
            let heard = sql_of(&filter);
            assert_eq!(heard, sql_of(&harmless), "{text}");
            assert!(heard.len() > 4, "it was asked for: {heard:?}");
        }
    }
}
