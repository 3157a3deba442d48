//! What must be true of every history, whatever was done to its processes. Pure: lines and snapshots in, violations out.

mod effect;
mod fact;
mod result;
mod together;

use std::collections::{BTreeMap, BTreeSet};

use effect::{Effects, Key};

use crate::{history::History, life::Death, snapshot::Snapshot, workload::Expected};

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// Acknowledged facts that were looked for.
    pub(crate) facts: usize,
    /// Effects that happened again.
    pub(crate) repeated: usize,
}

/// Checks a history against the results of the undisturbed one.
pub(crate) fn check(history: &History, expected: &BTreeMap<String, Expected>) -> Verdict {
    let effects = Effects::of(history.lives.iter().map(|(life, _)| life));
    let mut violations = Vec::new();
    for (n, (_, snapshot)) in history.lives.iter().enumerate() {
        let before = n.checked_sub(1).map(|before| &history.lives[before].1);
        violations.extend(snapshot.damage.clone());
        violations.extend(effects.never_again(n, before));
        violations.extend(effects.one_idempotency_key(n, snapshot));
        violations.extend(effects.once_a_life(n));
        violations.extend(effects.in_order(n, snapshot));
        violations.extend(together::check(snapshot));
        violations.extend(taken_once(snapshot));
    }
    violations.extend(effects.policies());
    violations.extend(end(history));
    violations.extend(result::check(history, expected));
    violations.extend(result::same_again(history));
    let facts = fact::check(history, &mut violations);
    Verdict { violations, facts, repeated: effects.repeated() }
}

/// A signal is taken by one wait; each has a value of its own.
fn taken_once(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, run) in &snapshot.runs {
        let mut seen = BTreeSet::new();
        let again = run.taken.iter().filter(|signal| !seen.insert(*signal));
        wrong.extend(again.map(|signal| format!("run {id} took `{signal}` twice")));
    }
    wrong
}

/// Design, guarantee 6: every run comes to its end, and has taken what was sent to it.
fn end(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let (last, snapshot) = history.lives.last().expect("somebody lived");
    if last.death != Death::AllOver {
        wrong.push(format!("it does not come to its end: {:?}, {:?}", last.death, last.lines.last()));
    }
    let open = snapshot.runs.iter().filter(|(_, run)| !run.status.is_over());
    wrong.extend(open.map(|(id, run)| format!("run {id} is {} at the end", run.status)));
    let left = snapshot.runs.iter().filter(|(_, run)| !run.untaken.is_empty());
    wrong.extend(left.map(|(id, run)| format!("run {id} never took {:?}", run.untaken)));
    wrong
}

#[cfg(test)]
mod tests {
    use everstep::Status;

    use super::*;
    use crate::{history::Plan, life::Life, snapshot::RunSeen};

    fn life(death: Death, lines: &[&str]) -> Life {
        Life { lines: lines.iter().map(ToString::to_string).collect(), death }
    }

    fn keys(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    /// A database with run `r` in it.
    fn holding(recorded: &[&str], started: &[&str], status: Status) -> Snapshot {
        let run = RunSeen {
            recorded: keys(recorded),
            in_journal: keys(recorded),
            started: keys(started),
            value: (status == Status::Completed).then(|| "a=1,fail-1=1".to_string()),
            ..RunSeen::of(status)
        };
        Snapshot { runs: [("r".to_string(), run)].into(), ..Snapshot::default() }
    }

    const A: &str = "effect r a 1 0 i-a";
    const FAIL: &str = "effect r fail-1 1 1 i-fail";

    /// Killed inside `a`, then alone to its end.
    fn good() -> Vec<(Life, Snapshot)> {
        vec![
            (life(Death::Killed, &["started r", A]), holding(&[], &[], Status::Running)),
            (
                life(
                    Death::AllOver,
                    &["started r", A, "done r a", FAIL, "done r fail-1", "result r a=1,fail-1=1"],
                ),
                holding(&["a", "fail-1"], &[], Status::Completed),
            ),
        ]
    }

    fn verdict(lives: Vec<(Life, Snapshot)>) -> Verdict {
        let history = History { plan: Plan { workload: "w".to_string(), lives: Vec::new() }, lives };
        let value = Expected { value: "a=1,fail-1=1".to_string(), cancelled: false };
        check(&history, &[("r".to_string(), value)].into())
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Vec<(Life, Snapshot)>), violation: &str) {
        let mut lives = good();
        change(&mut lives);
        let found = verdict(lives).violations;
        assert!(found.iter().any(|found| found.contains(violation)), "{found:#?}");
    }

    fn run(snapshot: &mut Snapshot) -> &mut RunSeen {
        snapshot.runs.get_mut("r").expect("is there")
    }

    #[test]
    fn a_history_as_promised_holds() {
        let Verdict { violations, facts, repeated } = verdict(good());
        assert!(violations.is_empty(), "{violations:?}");
        assert_eq!((facts, repeated), (5, 1));
    }

    #[test]
    fn every_broken_promise_is_found() {
        finds(|lives| lives[0].1 = holding(&["a"], &[], Status::Running), "was recorded and ran again");
        finds(|lives| lives[1].0.lines.push(A.to_string()), "ran twice in one life");
        finds(|lives| lives[0].0.lines.push(FAIL.to_string()), "is not recorded, and a later step began");
        finds(|lives| lives[0].0.lines.push(FAIL.to_string()), "ran 2 times against its policy");
        finds(|lives| lives[0].1.rows.push(("r".into(), "debit".into())), "rows without a record");
        finds(|lives| run(&mut lives[0].1).recorded = keys(&["debit"]), "a record without rows");
        finds(|lives| lives[1].1.rows = vec![("r".into(), "debit".into()); 2], "rows were written twice");
        finds(|lives| lives[0].1.wished = vec!["other".into()], "run other was wished for");
        finds(|lives| lives[0].1.wished = vec!["other".into()], "run r was started, and the row");
        finds(|lives| lives[0].1.wished = vec!["r".into(); 2], "written twice beside one start");
        finds(|lives| lives[1].0.death = Death::Hung, "does not come to its end");
        finds(|lives| run(&mut lives[1].1).status = Status::Stuck, "run r is stuck at the end");
        finds(|lives| lives[1].0.lines.retain(|line| !line.starts_with("result")), "has no result");
        finds(|lives| lives[1].0.lines.push("result r a=2,fail-1=1".into()), "has two results");
        finds(|lives| lives[0].0.lines.push("result r a=2,fail-1=1".into()), "instead of");
        finds(|lives| lives[0].1.damage.push("a gap".into()), "a gap");
        finds(|lives| lives[0].1 = Snapshot::default(), "`started r` was acknowledged, and is lost");
        finds(|lives| run(&mut lives[1].1).in_journal.clear(), "`done r a` was acknowledged, and is lost");
        finds(|lives| run(&mut lives[1].1).value = None, "was acknowledged, and is lost");
    }

    #[test]
    fn every_lost_or_doubled_message_is_found() {
        finds(|lives| run(&mut lives[1].1).untaken = keys(&["go 1"]), "never took");
        finds(|lives| run(&mut lives[0].1).taken = vec!["go 1".into(); 2], "took `go 1` twice");
        finds(|lives| run(&mut lives[0].1).children = keys(&["c"]), "only as a record");
        finds(|lives| run(&mut lives[0].1).parent = Some("p".into()), "without a record");
        finds(|lives| run(&mut lives[0].1).answers.push("1".into()), "has recorded the answers");
        finds(|lives| run(&mut lives[0].1).replies.push("1".into()), "has recorded the answers");
        let said = ["signalled r go 1", "settled r paid", "reply r 1 7", "read r 0 token", "rewound r"];
        for line in said {
            let lost = format!("`{line}` was acknowledged, and is lost");
            finds(|lives| lives[0].0.lines.push(line.into()), &lost);
        }
        let otherwise = |lives: &mut Vec<(Life, Snapshot)>| {
            lives[0].0.lines.push("reply r 1 7".into());
            lives[1].0.lines.push("reply r 1 8".into());
        };
        finds(otherwise, "reply r 1 was told as `7` and as `8`");
    }

    #[test]
    fn only_what_a_person_took_back_runs_again() {
        const AGAIN: &str = "effect r a 1 0 another";
        let taken_back = |times: usize, effects: &[&str]| {
            let mut lives = good();
            lives[0].0.lines.push(A.to_string());
            lives.insert(1, (life(Death::Killed, &[A]), holding(&["a"], &[], Status::Running)));
            let lines = effects.iter().map(ToString::to_string);
            lives[2].0.lines.retain(|line| line != A);
            lives[2].0.lines.splice(1..1, lines);
            run(&mut lives[2].1).taken_back = vec!["a".to_string(); times];
            lives[0].0.lines.pop();
            verdict(lives).violations
        };
        assert_eq!(taken_back(1, &[AGAIN]), Vec::<String>::new());
        assert_eq!(taken_back(0, &[AGAIN]), ["step a of run r has another idempotency key"]);
        assert_eq!(taken_back(1, &[A]), ["step a of run r was recorded and ran again"]);
        assert_eq!(taken_back(1, &[AGAIN, AGAIN]), ["attempt 1 of step a of run r ran twice in one life"]);
    }

    #[test]
    fn what_was_taken_back_has_no_order_and_what_came_instead_has() {
        let early = |taken_back: &[&str], lines: &[&str]| {
            let mut lives = good();
            lives[0].0.lines = lines.iter().map(ToString::to_string).collect();
            run(&mut lives[0].1).taken_back = taken_back.iter().map(ToString::to_string).collect();
            let found = verdict(lives).violations;
            found.iter().filter(|found| found.contains("a later step began")).count()
        };
        let (later, again) = ("effect r b 1 1 i-b", "effect r a 1 0 another");
        assert_eq!(early(&[], &[A, later]), 1);
        assert_eq!(early(&["a", "b"], &[A, later]), 0);
        assert_eq!(early(&["a", "b"], &[A, later, again]), 0);
        assert_eq!(early(&["a", "b"], &[A, later, again, "effect r b 1 1 another"]), 1);
    }

    #[test]
    fn a_doubt_is_told_only_of_what_was_in_doubt() {
        let doubted = |started: &[&str]| {
            let mut lives = good();
            lives[0].1 = holding(&[], started, Status::Running);
            lives[1].0.lines.pop();
            lives[1].0.lines.push("result r a=1,fail-1=doubted".to_string());
            run(&mut lives[1].1).value = Some("a=1,fail-1=doubted".to_string());
            verdict(lives).violations
        };
        assert!(doubted(&["fail-1"]).is_empty());
        assert_eq!(doubted(&[]).len(), 1);
    }
}
