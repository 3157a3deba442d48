//! The kinds of runs: what each does, what it needs from outside, and how it must end. Everything about a run follows from
//! its number.

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Steps in a row.
    Plain,
    /// Steps side by side.
    Parallel,
    /// Waits for signals, with a step after each.
    Signals,
    /// Starts two children and waits for them.
    Family,
    /// Steps and transactions in turn.
    Transfer,
    /// Fails, and undoes what it did.
    Saga,
    /// Long steps that must not be made twice.
    Careful,
    /// Steps that fail at first, with pauses.
    Retries,
    /// Sleeps between steps, and leaves memory meanwhile.
    Naps,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Plain,
        Kind::Parallel,
        Kind::Signals,
        Kind::Family,
        Kind::Transfer,
        Kind::Saga,
        Kind::Careful,
        Kind::Retries,
        Kind::Naps,
    ];

    /// Of the run with this number.
    pub(crate) fn of(run: usize) -> Kind {
        Kind::ALL[run % Kind::ALL.len()]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Parallel => "parallel",
            Kind::Signals => "signals",
            Kind::Family => "family",
            Kind::Transfer => "transfer",
            Kind::Saga => "saga",
            Kind::Careful => "careful",
            Kind::Retries => "retries",
            Kind::Naps => "naps",
        }
    }
}

/// The id of a run.
pub(crate) fn id(run: usize) -> String {
    format!("{}-{run}", Kind::of(run).name())
}

/// The signals that the run with this number waits for, in this order.
pub(crate) fn signals(run: usize) -> Vec<usize> {
    match Kind::of(run) {
        Kind::Signals => (0..2 + run / Kind::ALL.len() % 4).map(|n| run * 10 + n).collect(),
        _ => Vec::new(),
    }
}

/// The children that it has.
pub(crate) fn children(run: usize) -> Vec<String> {
    match Kind::of(run) {
        Kind::Family => ["a", "b"].iter().map(|child| format!("{}.{child}", id(run))).collect(),
        _ => Vec::new(),
    }
}

/// The keys of its transactional steps, by the runs that make them.
pub(crate) fn transactions(run: usize) -> Vec<(String, String)> {
    let key = |key: &str| (id(run), key.to_string());
    match Kind::of(run) {
        Kind::Transfer => ["debit", "credit", "fee"].map(key).to_vec(),
        Kind::Family => children(run).into_iter().map(|child| (child, "entry".to_string())).collect(),
        _ => Vec::new(),
    }
}

/// Steps of which at most one body ever begins.
pub(crate) const ONCE: &str = "once";

/// How it must end; of a careful one a part is open.
pub(crate) fn is_right(run: usize, told: &str) -> bool {
    let links = 3 + run % 4;
    match Kind::of(run) {
        Kind::Plain => told == format!("ok {links}"),
        Kind::Parallel => told == "ok 5",
        Kind::Signals => {
            told == format!("ok {}", signals(run).iter().map(usize::to_string).collect::<Vec<_>>().join(","))
        }
        Kind::Family => told == "ok 5",
        Kind::Transfer => told == "ok 5",
        Kind::Saga => told == "failed sold out",
        Kind::Careful => {
            let words = told.strip_prefix("ok ").unwrap_or_default().split(',');
            words.clone().count() == 3 && words.into_iter().all(|word| word == "done" || word == "doubted")
        }
        Kind::Retries => told == "ok 3",
        Kind::Naps => told == "ok 3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_an_end_that_is_right_and_others_that_are_not() {
        for run in 0..4 * Kind::ALL.len() {
            let all = signals(run).iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let ends = ["ok 3", "ok 4", "ok 5", "ok 6", "failed sold out", "ok done,doubted,done"];
            let ends: Vec<_> = ends.iter().map(ToString::to_string).chain([format!("ok {all}")]).collect();
            assert_eq!(ends.iter().filter(|end| is_right(run, end)).count(), 1, "{}", id(run));
        }
        assert!(!is_right(6, "ok done,lost,done") && !is_right(6, "ok done"));
    }
}
