//! The functions of `fuzz/` with chosen bytes, on stable: whatever comes in, nothing panics, and nothing that is
//! damaged is passed over.

#[path = "../../../fuzz/fuzzed.rs"]
mod fuzzed;

use std::sync::{
    Once,
    atomic::{AtomicUsize, Ordering},
};

use fuzzed::{Became, open_damaged};
use proptest::prelude::*;

/// Panics in the engine, also in tasks whose runtime catches them. A failing test of this file is none.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let here = info.location().is_some_and(|at| at.file().ends_with("tests/fuzzed.rs"));
            PANICS.fetch_add(usize::from(!here), Ordering::SeqCst);
            told(info);
        }));
    });
}

/// Bytes that nearly are one of our bodies.
fn nearly_a_body() -> impl Strategy<Value = Vec<u8>> {
    const TEXTS: [&str; 6] = [
        r#"{"incarnation":"00000000000000000000000000000001","digest":"00000000000000000000000000000002","input":1}"#,
        r#"{"kind":"user","code":1,"message":"m","causes":["c"],"raised_at":"a:1:2","terminal":true}"#,
        r#"{"error":{"kind":"user","code":1,"message":"m"},"retry_at":-1}"#,
        r#"{"answer":"done","value":"1"}"#,
        r#"{"answer":"fail","message":""}"#,
        r#""why""#,
    ];
    let cut =
        (proptest::sample::select(&TEXTS[..]), any::<(u8, u8)>(), any::<prop::sample::Index>(), any::<u8>());
    cut.prop_map(|(text, (which, codec), at, byte)| {
        let mut bytes = text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        [&[which, codec % 2], &bytes[..]].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn any_bytes_are_a_body_or_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzed::bodies(&data);
        fuzzed::outcomes(&data);
    }

    #[test]
    fn what_nearly_is_a_body_is_one_or_refused(data in nearly_a_body()) {
        fuzzed::bodies(&data);
        fuzzed::outcomes(&data);
    }

    #[test]
    fn any_text_is_a_filter_or_refused_at_its_place(text in "\\PC{0,60}") {
        fuzzed::filters(text.as_bytes());
    }

    #[test]
    fn what_nearly_is_a_filter_is_one_or_refused(
        words in prop::collection::vec(prop::sample::select(&[
            "id", "workflow", "status", "created", "finished", "=", "!=", "<", ">=", "in", "not", "(", ")", ",", "and",
            "failed", "-1d", "-99999999999999999999w", "2026-01-31", "9999-12-31T23:59:59Z", "0000-00-00", "'", "\"é\"", "é",
            "team", "attribute.status", "attribute.", "\"due date\"", "$x", "a/b", "<=", ">", "true", "7", "-1.5e3", "1e999",
            "1.2.3", "NaN",
        ][..]), 0..12),
    ) {
        fuzzed::filters(words.join(" ").as_bytes());
        fuzzed::filters(words.concat().as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_text_is_a_run_id_or_refused(text in prop_oneof![".{0,300}", "\\PC{1,40}"]) {
        fuzzed::run_ids(text.as_bytes());
    }

    #[test]
    fn any_text_is_a_name_or_refused(text in prop_oneof![".{0,140}", "[a-z$#/ ]{0,6}", "\\PC{1,40}"]) {
        count_panics();
        let before = PANICS.load(Ordering::SeqCst);
        fuzzed::names(text.as_bytes());
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), before, "somebody panicked");
    }

    #[test]
    fn any_damage_of_a_row_is_an_error_or_a_stuck_run(data in prop::collection::vec(any::<u8>(), 4..20)) {
        count_panics();
        let before = PANICS.load(Ordering::SeqCst);
        fuzzed::damage(&data);
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), before, "somebody panicked");
    }
}

/// faults.md row 6: each record of an open run in turn, each part of it that replay rests on: its run never ends as if
/// nothing were the matter.
#[test]
fn every_damaged_record_is_seen() {
    let untouched =
        open_damaged(|connection| connection.execute("UPDATE everstep_meta SET value = value", []));
    assert!(matches!(untouched, Some(Became::Ended(Ok(5)))), "{untouched:?}");
    let damages = [
        "UPDATE everstep_journal SET body = x'ff00'",
        "UPDATE everstep_journal SET body = '{'",
        "UPDATE everstep_journal SET codec = 9",
        "UPDATE everstep_journal SET key = 'other'",
        "UPDATE everstep_journal SET kind = 9999",
        "UPDATE everstep_journal SET kind = 20 + 2 * (kind = 20)",
        "UPDATE everstep_journal SET fingerprint = fingerprint + 1",
        "DELETE FROM everstep_journal",
    ];
    let mut seen = 0;
    for (seq, damage) in (0..5).flat_map(|seq| damages.iter().map(move |damage| (seq, *damage))) {
        let says_nothing = match seq {
            // Entry 0 has neither.
            0 => ["key", "fingerprint"].iter().any(|part| damage.contains(part)),
            // The last one is a timer's: nothing is read from its body, and taken away it fires again.
            4 => ["body", "codec", "DELETE"].iter().any(|part| damage.contains(part)),
            _ => false,
        };
        if says_nothing {
            continue;
        }
        let sql = format!(
            "{damage} WHERE run = (SELECT id FROM everstep_run WHERE text_id = 'open') AND seq = {seq}"
        );
        let Some(became) = open_damaged(|connection| connection.execute(&sql, [])) else { continue };
        assert!(!matches!(became, Became::Ended(Ok(_))), "{sql}: {became:?}");
        seen += 1;
    }
    assert_eq!(seen, 34, "damages");
}
