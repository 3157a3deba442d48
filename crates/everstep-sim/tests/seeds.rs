//! A few seeds, as `cargo test` has time for: each lives twice and must go the same way, with nothing wrong.

use everstep_sim::{
    fleet, life,
    plan::{Plan, StoreKind},
};

fn check(seeds: std::ops::Range<u64>, store: StoreKind) {
    for seed in seeds {
        let (_, violations) = fleet::twice(&Plan::of_seed(seed, store));
        let again = format!("cargo run -p everstep-sim -- --store {} --seed {seed}", store.name());
        assert!(violations.is_empty(), "{again}\n{violations:#?}");
    }
}

#[test]
fn seeds_in_memory_go_the_same_way_twice_and_nothing_is_wrong() {
    check(0..20, StoreKind::Memory);
}

#[test]
fn seeds_on_sqlite_go_the_same_way_twice_and_nothing_is_wrong() {
    check(0..6, StoreKind::Sqlite);
}

/// A busy loop in the grace of a cancelled run, one in a restart on a full disk, signals that a rewind lost, a cancel that
/// reached a child of an earlier generation, a stuck child that was cancelled with its parent and not undone.
#[test]
fn seeds_that_have_failed_once_hold() {
    for seed in [2505, 2813, 1779, 9335, 14430] {
        check(seed..seed + 1, StoreKind::Memory);
    }
}

#[test]
fn another_seed_goes_another_way() {
    let trace = |seed| life::live(&Plan::of_seed(seed, StoreKind::Memory), false).trace;
    assert_ne!(trace(1), trace(2));
}
