//! The store does all that it must behind a pooler in transaction mode.

use everstep_conformance::conformance_tests;

use crate::{conformance::with_table, fixture::Desk};

fn bench() -> Desk {
    with_table(Desk::pooled())
}

conformance_tests!(bench);
