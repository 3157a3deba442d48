//! Undos: when a run fails or is cancelled, exactly the recorded steps that can be undone are, the last first; when it
//! completes, none; when it is killed, none follows. What is registered for a cancel is done then, and only then.

use std::{collections::BTreeSet, sync::Arc};

use everstep_core::journal::Kind;

use super::{Content, lives};
use crate::{
    history::{Ended, Fact, Noted, What, plain},
    program::Out,
};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let ended = lives::that_ended(history);
    let mut found = Vec::new();
    for (run, (_, entries)) in &content.runs {
        let own = |fact: &Fact| match &fact.what {
            What::Undoable { run: of, life, key, cleanup } if of == run => {
                Some((*life, key.clone(), *cleanup))
            }
            _ => None,
        };
        let registered: Vec<_> = history.iter().filter_map(own).collect();
        let undoable = registered.iter().filter(|(_, _, cleanup)| !cleanup).map(|(_, key, _)| key.clone());
        let last = ended.get(run).and_then(|lives| lives.last().copied().flatten());
        let cleanups =
            last.map(|last| registered.iter().filter(|(life, _, cleanup)| *cleanup && *life == last).count());
        let why = judge(entries, &undoable.collect(), cleanups);
        found.extend(why.into_iter().map(|why| format!("run-{run}: {why}")));
    }
    found
}

fn judge(entries: &[Noted], undoable: &BTreeSet<Arc<str>>, cleanups: Option<usize>) -> Vec<String> {
    let Some(ended) = entries.last().and_then(|last| last.ended) else { return Vec::new() };
    let has = |kind: Kind| entries.iter().any(|entry| entry.kind == kind);
    let of =
        |kind: Kind| entries.iter().filter(move |entry| entry.kind == kind).filter_map(|e| e.key.clone());
    let done: Vec<_> = of(Kind::StepDone).filter(|key| undoable.contains(key)).collect();
    let begun: Vec<_> = of(Kind::UndoBegun).collect();
    let expected: Vec<_> = match ended {
        Ended::With(Out::Go(_) | Out::Return(_)) => Vec::new(),
        _ => done.into_iter().rev().collect(),
    };
    let mut found = Vec::new();
    let is_right = if has(Kind::KillAsked) { expected.starts_with(&begun) } else { begun == expected };
    if !is_right {
        found.push(format!("{begun:?} were undone, and {expected:?} were to be"));
    }
    let undone: BTreeSet<_> = of(Kind::StepDone).collect();
    let is_undone = |key: &Arc<str>| undone.iter().any(|done| plain(done) == format!("undo/{}", plain(key)));
    if !has(Kind::KillAsked) {
        let open = begun.iter().filter(|key| !is_undone(key));
        found.extend(open.map(|key| format!("the undo of `{key}` has begun and not ended")));
    }
    let cleaned =
        undone.iter().filter(|key| plain(key).starts_with("undo/") && key.contains("$on_cancel")).count();
    let is_clean = match cleanups {
        _ if has(Kind::KillAsked) || has(Kind::DeadlinePassed) => true,
        Some(all) if has(Kind::CancelAsked) => cleaned == all,
        None if has(Kind::CancelAsked) => true,
        _ => cleaned == 0,
    };
    if !is_clean {
        found.push(format!("{cleaned} of {cleanups:?} clean-ups were made"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::history::keyed;

    fn of(seq: u64, kind: Kind, key: &str) -> Noted {
        Noted { key: Some(keyed(0, key)), ..entry(seq, kind) }
    }

    fn end(ended: Ended) -> Noted {
        Noted { ended: Some(ended), ..entry(9, Kind::Failed) }
    }

    fn finds(journal: Vec<Noted>, ended: Ended) -> usize {
        let undoable = ["a", "b"].map(Arc::from).into();
        let entries: Vec<_> = journal.into_iter().chain([end(ended)]).collect();
        judge(&entries, &undoable, Some(0)).len()
    }

    fn steps() -> Vec<Noted> {
        ["a", "c", "b"].map(|key| of(1, Kind::StepDone, key)).into()
    }

    fn undo(key: &str) -> Vec<Noted> {
        vec![of(2, Kind::UndoBegun, key), of(3, Kind::StepDone, &format!("undo/{key}"))]
    }

    #[test]
    fn undos_that_are_missing_disordered_or_too_many_are_found() {
        let failed = Ended::With(Out::Fail(1));
        let with = |undos: Vec<Vec<Noted>>| [steps(), undos.concat()].concat();
        assert_eq!(finds(with(vec![undo("b"), undo("a")]), failed), 0);
        assert_eq!(finds(with(vec![undo("b"), undo("a")]), Ended::Cancelled), 0);
        assert_eq!(finds(with(vec![undo("a"), undo("b")]), failed), 1, "the first first");
        assert_eq!(finds(with(vec![undo("b")]), failed), 1, "one is missing");
        assert_eq!(finds(with(vec![undo("b"), undo("a"), undo("c")]), failed), 1, "it cannot be undone");
        assert_eq!(finds(with(vec![undo("b")]), Ended::With(Out::Go(1))), 1, "it has completed");
        assert_eq!(finds(with(vec![undo("b"), undo("a")[..1].to_vec()]), failed), 1, "it has not ended");
    }

    #[test]
    fn a_kill_undoes_nothing_more() {
        let killed = |undos: Vec<Noted>| {
            finds([steps(), undos, vec![entry(8, Kind::KillAsked)]].concat(), Ended::Cancelled)
        };
        assert_eq!((killed(vec![]), killed(undo("b")), killed(undo("a"))), (0, 0, 1));
    }

    #[test]
    fn a_clean_up_that_is_not_made_is_found() {
        let cancelled = || vec![entry(1, Kind::CancelAsked)];
        let judged = |journal: Vec<Noted>, cleanups| {
            let entries: Vec<_> = journal.into_iter().chain([end(Ended::Cancelled)]).collect();
            judge(&entries, &BTreeSet::new(), cleanups).len()
        };
        let made = || [cancelled(), vec![of(2, Kind::StepDone, "undo/$on_cancel")]].concat();
        assert_eq!((judged(made(), Some(1)), judged(cancelled(), Some(1))), (0, 1));
        assert_eq!((judged(made(), Some(0)), judged(cancelled(), None)), (1, 0));
    }
}
