//! A small campaign: the same operations on both stores. The whole is `cargo run -p everstep-model -- differential`.

use everstep_model::{Compared, differential, silence_jobs};

#[test]
fn both_stores_answer_and_look_the_same() {
    silence_jobs();
    let mut calls = 0;
    for seed in 0..12 {
        calls +=
            differential::replay(seed, Compared::Sqlite).unwrap_or_else(|failure| panic!("{failure}")).calls;
    }
    assert!(calls > 1000, "{calls}");
}

#[test]
fn postgres_answers_and_looks_like_the_in_memory_store() {
    silence_jobs();
    for seed in 0..4 {
        differential::replay(seed, Compared::Postgres).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_hostile_database_changes_no_answer() {
    silence_jobs();
    for seed in 0..4 {
        differential::replay(seed, Compared::Hostile).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// The symptom: a run that was read again was nudged for a letter that its worker had read with it, on one store only.
#[test]
fn a_nudge_ends_when_its_run_is_read_again_on_both_stores() {
    silence_jobs();
    differential::replay(465, Compared::Sqlite).unwrap_or_else(|failure| panic!("{failure}"));
}
