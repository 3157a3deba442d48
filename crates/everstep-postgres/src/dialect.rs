//! Where databases that speak PostgreSQL's SQL differ from it, as far as it concerns us. Most accept all that we say; a test
//! (`dialects`) keeps out of our statements what they do not.
//!
//! Absent on purpose: hints. Whether a database has them is seen by sending one to oneself (`listen`), because a pooler may
//! stand before any database.

use std::borrow::Cow;

/// What a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL, and what is made of it: Aurora, AlloyDB, Neon, YugabyteDB, Citus.
    Postgres,
    Cockroach,
    /// PostgreSQL in a hostile mood, in tests: whatever could be missing is.
    Hostile,
}

impl Dialect {
    /// `parameter` is what the server has said of itself at the beginning of the connection.
    pub(crate) fn told_by<'s>(parameter: impl Fn(&str) -> Option<&'s str>) -> Dialect {
        match parameter("crdb_version") {
            Some(_) => Dialect::Cockroach,
            None => Dialect::Postgres,
        }
    }

    /// Whether `SKIP LOCKED` steps over what is locked and over nothing else. CockroachDB cleans up behind a commit later,
    /// and passes over rows until then (cockroachdb/cockroach#121917).
    pub(crate) fn skips_exactly(self) -> bool {
        self == Dialect::Postgres
    }

    /// Whether a table can be locked. CockroachDB has no such statement, and needs none: every transaction is serializable there.
    pub(crate) fn locks_tables(self) -> bool {
        self != Dialect::Cockroach
    }

    /// What our statements want of the planner; and that one may change two sets of rows of one table, which CockroachDB
    /// forbids for the sake of those that change a row twice. Ours never do.
    pub(crate) fn session(self) -> &'static str {
        match self {
            Dialect::Postgres => {
                "SET default_transaction_isolation = 'read committed'; SET jit = off; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
                 SET enable_hashjoin = off; SET enable_mergejoin = off"
            }
            Dialect::Hostile => "",
            Dialect::Cockroach => "SET enable_multiple_modifications_of_table = on",
        }
    }

    /// Takes that back, for users' statements.
    pub(crate) fn end_of_session(self) -> &'static str {
        match self {
            Dialect::Postgres => {
                "RESET default_transaction_isolation; RESET jit; RESET plan_cache_mode; RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin"
            }
            Dialect::Hostile => "",
            Dialect::Cockroach => "RESET enable_multiple_modifications_of_table",
        }
    }

    /// A script of the schema. How full pages become and when they are cleared is PostgreSQL's own business.
    pub(crate) fn schema(self, script: &str) -> Cow<'_, str> {
        if self == Dialect::Postgres {
            return script.into();
        }
        let mut kept = String::with_capacity(script.len());
        for line in script.lines() {
            kept.push_str(match line.split_once(") WITH (") {
                Some(_) => ");",
                None => line,
            });
            kept.push('\n');
        }
        kept.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cockroach_says_who_it_is() {
        let says = |name: &str| (name == "crdb_version").then_some("CockroachDB CCL v26.3.0");
        assert_eq!(Dialect::told_by(says), Dialect::Cockroach);
        let says = |name: &str| (name == "server_version").then_some("15.18");
        assert_eq!(Dialect::told_by(says), Dialect::Postgres);
    }

    #[test]
    fn a_table_is_made_without_what_is_postgresqls_own() {
        let script =
            "CREATE TABLE @a (\n  id int8 NOT NULL\n) WITH (fillfactor = 20);\nCREATE TABLE @b (id int8);\n";
        let without = "CREATE TABLE @a (\n  id int8 NOT NULL\n);\nCREATE TABLE @b (id int8);\n";
        assert_eq!(Dialect::Cockroach.schema(script), without);
        assert_eq!(Dialect::Postgres.schema(script), script);
    }
}
