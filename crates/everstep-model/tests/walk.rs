//! Some walks through the model on both stores. The whole is `cargo run -p everstep-model -- walk`.

use everstep_model::walk;

#[test]
fn both_stores_do_what_the_model_says() {
    let benches = walk::benches();
    let (mut calls, mut completed) = (0, 0);
    for seed in 0..40 {
        let walked = walk::walk(&benches, seed).unwrap_or_else(|why| panic!("{why}"));
        (calls, completed) = (calls + walked.calls, completed + walked.completed);
    }
    assert!(calls > 500 && completed > 0, "{calls} calls, {completed} completed");
}
