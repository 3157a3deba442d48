//! What users read when they make the commonest mistakes is part of the API.

#[test]
fn mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}

/// The explanations are ours, not rustc's: they must stay in the expected texts.
#[test]
fn explanations_are_in_our_words() {
    for (case, words) in [
        (include_str!("ui/foreign_error.stderr"), "steps, scopes and workflows return `everstep::Result`"),
        (include_str!("ui/not_serializable.stderr"), "`Connection` cannot be kept in the journal"),
        (include_str!("ui/writes_to_a_local.stderr"), "this code may have to run again, and cannot"),
        (include_str!("ui/uses_up_a_capture.stderr"), "this code may have to run again, and cannot"),
        (include_str!("ui/unused_step.stderr"), "a step does nothing until it is awaited"),
        (include_str!("ui/unused_operations.stderr"), "a durable operation does nothing until it is awaited"),
        (include_str!("ui/unused_operations.stderr"), "a map does nothing until it is awaited"),
        (include_str!("ui/unused_operations.stderr"), "a run is not started until this is awaited"),
        (include_str!("ui/unused_operations.stderr"), "nothing is listed until this is awaited"),
        (include_str!("ui/unused_operations.stderr"), "nothing runs until `.start()`"),
        (include_str!("ui/writes_in_an_async_body.stderr"), "do not write it to a variable outside"),
        (include_str!("ui/body_that_only_fails.stderr"), "the body never says what it would return"),
        (include_str!("ui/body_without_a_result.stderr"), "return `everstep::Result`, not `usize`"),
        (
            include_str!("ui/workflow_with_another_error.stderr"),
            "return `everstep::Result`, not `Result<usize",
        ),
        (include_str!("ui/not_async.stderr"), "this is not a step body"),
    ] {
        assert!(case.contains(words), "{words} in {case}");
    }
}
