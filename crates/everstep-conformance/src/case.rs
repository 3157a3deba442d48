//! A case, and the list of all.

use std::sync::{Arc, LazyLock};

use everstep_core::BoxFuture;

use crate::{Bench, desk::Desk};

/// One thing that every store must do.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is about, and what it claims: `claim::no_more_than_the_limit`.
    pub name: &'static str,
    /// The claim in a sentence.
    pub about: &'static str,
    pub(crate) run: fn(Desk) -> BoxFuture<'static, ()>,
}

impl Case {
    /// Runs it on a store with nothing in it.
    ///
    /// # Panics
    /// If the store does not do what it must.
    pub async fn run(&self, bench: Arc<dyn Bench>) {
        (self.run)(Desk::of(bench).await).await;
    }
}

/// All cases.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| crate::every_case!(__case_list));
    &CASES
}

/// Runs the case of this name on a runtime of its own.
///
/// # Panics
/// If the store does not do what it must, or if there is no such case.
pub fn check(name: &str, bench: impl Bench) {
    let case = cases().iter().find(|case| case.name == name).expect("the case is in the list");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(case.run(Arc::new(bench)));
}

/// Asserts that these are the names of all cases.
///
/// # Panics
/// If one is missing, or is none.
pub fn assert_complete(names: &[&str]) {
    let all: Vec<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names, all);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_says_what_it_claims() {
        let names: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().len());
        for case in cases() {
            assert!(case.about.ends_with('.'), "{}", case.name);
        }
    }
}
