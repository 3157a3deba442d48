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
    ] {
        assert!(case.contains(words), "{words} in {case}");
    }
}

/// Every public type crosses threads.
#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<everstep::Ctx>();
    check::<everstep::Engine>();
    check::<everstep::Client>();
    check::<everstep::Run<u64>>();
    check::<everstep::Step<'_, u64>>();
    check::<everstep::Op<'_, u64>>();
    check::<everstep::StepCtx>();
    check::<everstep::Error>();
    check::<everstep::EngineError>();
    check::<everstep::Events>();
    check::<everstep::Retry>();
    check::<everstep::Settings>();
    check::<everstep::Workflow<std::rc::Rc<u8>, u64>>();
    check::<everstep::store::Memory>();
    check::<everstep::sqlite::Sqlite>();
}
