//! What must hold in every state, and what must be reachable, or nothing is shown.

use stateright::Property;

use super::{
    content::{Standing, What},
    model::{Protocol, State},
    worker::Phase,
};

/// What always holds: its name, and the rule.
pub(super) type Always = (&'static str, fn(&Protocol, &State) -> bool);

/// What always holds.
pub(super) const ALWAYS: [Always; 10] = [
    ("a fenced worker writes nothing", |_, state| !state.past.stale_write),
    ("the journal has no gap and no number twice", |_, state| {
        state.content.journal.iter().zip(0..).all(|(record, seq)| record.seq == seq)
    }),
    ("an outcome is the last entry, and once", one_outcome),
    ("a run ends with every acknowledged letter counted", |_, state| !state.past.unaware),
    ("an acknowledged letter is in the inbox, or in the journal once", letters_are_kept),
    ("one live worker at most has the run", one_owner),
    ("a run that nobody has can be claimed, or waits for a letter", can_go_on),
    ("who renewed its lease is not fenced for having been silent", |_, state| !state.past.wronged),
    ("a step runs no more often than something failed, and once", |_, state| {
        state.past.effects[0] <= 1 + state.past.failures
    }),
    ("a marked step takes effect once at most", |_, state| state.past.effects[1] <= 1),
];

/// What must be reachable.
pub(super) const SOMETIMES: [Always; 5] = [
    ("a run completes", |_, state| state.content.standing == Standing::Completed),
    ("a fenced worker drives on", |_, state| {
        let fenced = state.workers.iter().zip(&state.content.workers).filter(|(_, row)| row.fenced);
        fenced.into_iter().any(|(worker, _)| matches!(worker.phase, Phase::Drives(_)))
    }),
    ("a fenced worker is turned away", |_, state| state.past.turned_away),
    ("an end finds that a letter has come", |_, state| state.past.moved),
    ("a step runs again", |_, state| state.past.effects[0] > 1),
];

/// All of them.
pub(super) fn all() -> Vec<Property<Protocol>> {
    let always = ALWAYS.iter().map(|(name, holds)| Property::always(name, *holds));
    always.chain(SOMETIMES.iter().map(|(name, holds)| Property::sometimes(name, *holds))).collect()
}

fn one_outcome(_: &Protocol, state: &State) -> bool {
    let content = &state.content;
    let outcomes = content.journal.iter().filter(|record| record.what == What::Completed).count();
    let last = content.journal.last().is_some_and(|record| record.what == What::Completed);
    let completed = content.standing == Standing::Completed;
    outcomes == usize::from(completed) && (outcomes == 0 || last)
}

fn letters_are_kept(_: &Protocol, state: &State) -> bool {
    let content = &state.content;
    (1..=content.inbox_n).all(|n| {
        let taken = content.journal.iter().filter(|record| record.what == What::Taken(n)).count();
        taken + usize::from(content.inbox.contains(&n)) == 1
    })
}

fn one_owner(_: &Protocol, state: &State) -> bool {
    let content = &state.content;
    let mut holding = content.workers.iter().zip(0..).filter(|(row, _)| !row.fenced && row.gate.is_some());
    holding.all(|(_, member)| content.owner == Some(member))
}

fn can_go_on(_: &Protocol, state: &State) -> bool {
    let content = &state.content;
    match (content.owner, content.standing) {
        (Some(_), standing) => standing != Standing::Completed,
        (None, Standing::Completed | Standing::Stuck) => true,
        (None, Standing::Waiting) => content.due || content.inbox.is_empty(),
        (None, Standing::Pending | Standing::Running) => content.due,
    }
}
