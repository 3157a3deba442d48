//! The short form: every play holds in a thousand orders, and each weakened variant is found.

use everstep_weave::{explore::explore, plays, weak, weakened};

/// faults.md rows 17 and 18: listen, look, wait; nobody who gives up takes another's wake. faults.md row 20: every wake
/// reaches its driver.
#[test]
fn every_play_holds() {
    for (name, play) in plays() {
        if let Err(failure) = explore(*play, 1_000, 0) {
            panic!("{name}: {failure:?}");
        }
    }
}

#[test]
fn every_weakened_variant_is_found() {
    for weak in weak::ALL {
        let found = explore(weakened(weak), 20_000, 0).err();
        assert!(found.is_some(), "{} was not found by `{}`", weak.name, weak.found_by);
    }
}
