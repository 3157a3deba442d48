//! The model in a small corner, and the protocol without each of its rules. The whole is
//! `cargo run -p everstep-model -- check`.

use everstep_model::protocol::{Bounds, Rules, WEAKENED, explore, told};

#[test]
fn the_protocol_holds_in_every_state_of_a_small_corner() {
    let bounds =
        Bounds { members: 2, crashes: 1, beats: 0, letters: 1, blunders: 0, stucks: 0, leaves: 0, pipe: 1 };
    let found = explore(bounds, Rules::ALL);
    let broken: Vec<_> = found.broken.iter().map(|(name, path)| format!("{name}: {}", told(path))).collect();
    assert_eq!(broken, [""; 0]);
    assert!(found.states > 10_000, "{}", found.states);
    assert!(found.reached.contains(&"a run completes"), "{:?}", found.reached);
}

#[test]
fn each_rule_is_needed() {
    for weakened in &WEAKENED {
        let path = weakened.counterexample();
        assert!(path.is_some(), "{}, and still: {}", weakened.what, weakened.breaks);
    }
}
