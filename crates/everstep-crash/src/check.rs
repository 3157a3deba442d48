//! What must be true of every history, whatever was done to its processes. Pure: lines and snapshots in, violations out.

use std::collections::{BTreeMap, BTreeSet};

use everstep::Status;

use crate::{
    history::History,
    life::{Death, Life},
    snapshot::{RunSeen, Snapshot},
    workload::Expected,
};

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// Acknowledged facts that were looked for.
    pub(crate) facts: usize,
    /// Effects that happened again.
    pub(crate) repeated: usize,
}

/// Effects of the victims, by run and key.
type Key = (String, String);

/// A line `effect RUN KEY ATTEMPT STAGE`.
struct Effect {
    key: Key,
    attempt: u32,
    stage: usize,
}

/// Checks a history against the results of the undisturbed one.
pub(crate) fn check(history: &History, expected: &BTreeMap<String, Expected>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut say = |violation: Option<String>| verdict.violations.extend(violation);
    for (n, (life, snapshot)) in history.lives.iter().enumerate() {
        let before = n.checked_sub(1).map(|before| &history.lives[before].1);
        snapshot.damage.iter().for_each(|damage| say(Some(damage.clone())));
        never_again(life, before).for_each(|it| say(Some(it)));
        once_a_life(life).for_each(|it| say(Some(it)));
        in_order(&history.lives[..=n], snapshot).for_each(|it| say(Some(it)));
        rows_with_records(snapshot).for_each(|it| say(Some(it)));
    }
    policies(history).for_each(|it| say(Some(it)));
    end(history).for_each(|it| say(Some(it)));
    results(history, expected).for_each(|it| say(Some(it)));
    verdict.facts = acknowledged(history, &mut verdict.violations);
    verdict.repeated = repeated(history);
    verdict
}

/// Design, guarantee 1: a step whose outcome was recorded never runs again.
fn never_again(life: &Life, before: Option<&Snapshot>) -> impl Iterator<Item = String> {
    let recorded =
        |key: &Key| before.and_then(|b| b.runs.get(&key.0)).is_some_and(|run| run.recorded.contains(&key.1));
    let again: Vec<_> = effects(life).into_iter().filter(|effect| recorded(&effect.key)).collect();
    again
        .into_iter()
        .map(|Effect { key, .. }| format!("step {} of run {} was recorded and ran again", key.1, key.0))
}

/// Nothing repeats an attempt but the death of its process.
fn once_a_life(life: &Life) -> impl Iterator<Item = String> {
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = effects(life)
        .into_iter()
        .filter(|effect| !seen.insert((effect.key.clone(), effect.attempt)))
        .map(|e| {
            format!("attempt {} of step {} of run {} ran twice in one life", e.attempt, e.key.1, e.key.0)
        })
        .collect();
    twice.into_iter()
}

/// Design, guarantee 4: a body is outside. When one begins, everything that it follows from is durable.
fn in_order(lives: &[(Life, Snapshot)], now: &Snapshot) -> impl Iterator<Item = String> {
    let all: Vec<_> = lives.iter().flat_map(|(life, _)| effects(life)).collect();
    let mut furthest: BTreeMap<&str, usize> = BTreeMap::new();
    for effect in &all {
        let stage = furthest.entry(&effect.key.0).or_default();
        *stage = (*stage).max(effect.stage);
    }
    let is_open = |key: &Key| now.runs.get(&key.0).is_none_or(|run| !run.recorded.contains(&key.1));
    let early: BTreeSet<String> = all
        .iter()
        .filter(|effect| effect.stage < furthest[&*effect.key.0] && is_open(&effect.key))
        .map(|Effect { key, .. }| {
            format!("step {} of run {} is not recorded, and a later step began", key.1, key.0)
        })
        .collect();
    early.into_iter()
}

/// Design, guarantee 3: the user's rows and the record are there together, and once.
fn rows_with_records(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let rows: BTreeSet<_> = snapshot.rows.iter().cloned().collect();
    if rows.len() < snapshot.rows.len() {
        wrong.push(format!("rows were written twice: {:?}", snapshot.rows));
    }
    let is_row = |key: &&String| key.starts_with("row-") || ["debit", "credit"].contains(&key.as_str());
    let recorded: BTreeSet<Key> = snapshot
        .runs
        .iter()
        .flat_map(|(run, seen)| seen.recorded.iter().filter(is_row).map(|key| (run.clone(), key.clone())))
        .collect();
    wrong.extend(rows.symmetric_difference(&recorded).map(|(run, key)| {
        let rows = if rows.contains(&(run.clone(), key.clone())) {
            "rows without a record"
        } else {
            "a record without rows"
        };
        format!("transaction {key} of run {run} left {rows}")
    }));
    wrong.into_iter()
}

/// Design, guarantee 2: whatever is not to be repeated by itself was not.
fn policies(history: &History) -> impl Iterator<Item = String> {
    let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
    for effect in history.lives.iter().flat_map(|(life, _)| effects(life)) {
        *counts.entry(effect.key).or_default() += 1;
    }
    let guarded = |key: &str| ["fail-", "ask-", "verify-"].iter().any(|policy| key.starts_with(policy));
    counts
        .into_iter()
        .filter(move |(key, count)| guarded(&key.1) && *count > 1)
        .map(|((run, key), count)| format!("step {key} of run {run} ran {count} times against its policy"))
}

/// Design, guarantee 6: every run comes to its end.
fn end(history: &History) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let (last, snapshot) = history.lives.last().expect("somebody lived");
    if last.death != Death::AllOver {
        wrong.push(format!("it does not come to its end: {:?}, {:?}", last.death, last.lines.last()));
    }
    let open = snapshot.runs.iter().filter(|(_, run)| !run.status.is_over());
    wrong.extend(open.map(|(id, run)| format!("run {id} is {} at the end", run.status)));
    wrong.into_iter()
}

/// The results are those of the undisturbed history, but for what a policy says of attempts in doubt.
fn results(history: &History, expected: &BTreeMap<String, Expected>) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let told = told_results(history);
    for (run, expected) in expected {
        let value = &expected.value;
        match told.get(run).map(Vec::as_slice) {
            None | Some([]) => wrong.push(format!("run {run} has no result")),
            Some(all) => {
                for result in all {
                    if !is_allowed(history, run, result, expected) {
                        wrong.push(format!("run {run} has the result `{result}` instead of `{value}`"));
                    }
                    if result != &all[0] {
                        wrong.push(format!("run {run} has two results: `{result}`, `{}`", all[0]));
                    }
                }
            }
        }
    }
    wrong.into_iter()
}

fn told_results(history: &History) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in history.lives.iter().flat_map(|(life, _)| &life.lines) {
        if let Some((run, result)) = line.strip_prefix("result ").and_then(|rest| rest.split_once(' ')) {
            told.entry(run.to_string()).or_default().push(result.to_string());
        }
    }
    told
}

fn is_allowed(history: &History, run: &str, result: &str, expected: &Expected) -> bool {
    let (tokens, wanted): (Vec<_>, Vec<_>) =
        (result.split(',').collect(), expected.value.split(',').collect());
    let in_doubt = |key: &str| {
        history.lives.iter().any(|(_, s)| s.runs.get(run).is_some_and(|run| run.started.contains(key)))
    };
    let same = |(token, wanted): (&&str, &&str)| {
        token == wanted
            || token.strip_suffix("=doubted").is_some_and(|key| key.starts_with("fail-") && in_doubt(key))
            || token.strip_suffix("=answered").is_some_and(|key| key.starts_with("ask-") && in_doubt(key))
    };
    // The wish to cancel may come when the function has returned.
    (expected.cancelled && result == "cancelled")
        || (tokens.len() == wanted.len() && tokens.iter().zip(&wanted).all(same))
}

/// Looks for everything that was acknowledged in a life in what was durable after it; how many facts.
fn acknowledged(history: &History, violations: &mut Vec<String>) -> usize {
    let mut facts = 0;
    for (life, snapshot) in &history.lives {
        for line in &life.lines {
            let words: Vec<&str> = line.split(' ').collect();
            let Some(holds) = holds(&words, snapshot) else { continue };
            facts += 1;
            if !holds {
                violations.push(format!("`{line}` was acknowledged, and is lost"));
            }
        }
    }
    facts
}

/// Whether an acknowledgement holds; `None` if the line is none.
fn holds(words: &[&str], snapshot: &Snapshot) -> Option<bool> {
    let run = |id: &str, so: &dyn Fn(&RunSeen) -> bool| snapshot.runs.get(id).is_some_and(so);
    Some(match words {
        ["started", id] => run(id, &|_| true),
        ["done" | "gave-up", id, key] => run(id, &|run| run.in_journal.contains(*key)),
        ["completed", id] => run(id, &|run| run.status == Status::Completed),
        ["asked", id] => run(id, &|run| run.asked || run.status.is_over()),
        ["signalled", id] => run(id, &|run| run.signalled),
        ["result", id, "failed"] => run(id, &|run| run.status == Status::Failed),
        ["answered", id, _] => run(id, &|run| run.answered),
        ["result", id, "cancelled"] => run(id, &|run| run.status == Status::Cancelled),
        ["result", id, value] => run(id, &|run| run.value.as_deref() == Some(*value)),
        _ => return None,
    })
}

/// Effects that happened again because nobody knew of them: allowed, and shown.
fn repeated(history: &History) -> usize {
    let mut seen = BTreeSet::new();
    let all = history.lives.iter().flat_map(|(life, _)| effects(life));
    all.filter(|effect| !seen.insert((effect.key.clone(), effect.attempt))).count()
}

fn effects(life: &Life) -> Vec<Effect> {
    life.lines.iter().filter_map(|line| effect(line)).collect()
}

fn effect(line: &str) -> Option<Effect> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["effect", run, key, attempt, stage] => Some(Effect {
            key: (run.to_string(), key.to_string()),
            attempt: attempt.parse().ok()?,
            stage: stage.parse().ok()?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::history::Plan;

    fn life(death: Death, lines: &[&str]) -> Life {
        Life { lines: lines.iter().map(ToString::to_string).collect(), death }
    }

    fn keys(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    /// A database with run `r` in it.
    fn holding(recorded: &[&str], started: &[&str], status: Status) -> Snapshot {
        let run = RunSeen {
            status,
            recorded: keys(recorded),
            in_journal: keys(recorded),
            started: keys(started),
            asked: false,
            signalled: false,
            answered: false,
            value: (status == Status::Completed).then(|| "a=1,fail-1=1".to_string()),
        };
        Snapshot { runs: [("r".to_string(), run)].into(), ..Snapshot::default() }
    }

    const A: &str = "effect r a 1 0";
    const FAIL: &str = "effect r fail-1 1 1";

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
