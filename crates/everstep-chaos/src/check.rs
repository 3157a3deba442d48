//! What must hold, judged from outside: by the ledger, by what those outside were told, and by the database in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    kind::{self, ONCE},
    ledger::Line,
    snapshot::Snapshot,
};

/// Entries that record the outcome of a step.
const OUTCOMES: [&str; 2] = ["done", "failed"];

/// All that is known in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Runs of the play.
    pub(crate) runs: usize,
    pub(crate) lines: Vec<Line>,
    /// Acknowledged.
    pub(crate) started: BTreeSet<usize>,
    pub(crate) signalled: BTreeSet<(usize, usize)>,
    /// How runs ended, as those outside were told.
    pub(crate) ends: BTreeMap<usize, String>,
    pub(crate) snapshot: Snapshot,
}

/// What is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// Bodies.
    pub(crate) bodies: usize,
    /// Of these, those that made an attempt again.
    pub(crate) repeated: usize,
    /// Of these, those on their way when their worker was stopped, which began when it went on.
    pub(crate) late: usize,
}

impl Account {
    /// What must hold at every moment, by the ledger and a glance at the database that was taken after it.
    pub(crate) fn judge_so_far(&self) -> Verdict {
        let mut verdict = Walk::default().through(&self.lines, &self.snapshot.fenced);
        let mut seen = BTreeSet::new();
        let twice = self.snapshot.moved.iter().filter(|row| !seen.insert(*row));
        verdict.violations.extend(twice.map(|(run, key)| format!("transaction {key} of {run} has two rows")));
        verdict.violations.extend(self.stale_writes());
        verdict
    }

    /// What must hold in the end.
    pub(crate) fn judge(&self) -> Verdict {
        let mut verdict = self.judge_so_far();
        verdict.violations.extend(self.ends());
        verdict.violations.extend(self.acknowledged());
        verdict.violations.extend(self.journals());
        verdict.violations.extend(self.transactions());
        verdict
    }

    /// Guarantee 6: every run ends, and as it must, in the database and for those who wait.
    fn ends(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for run in 0..self.runs {
            match self.ends.get(&run) {
                None => wrong.push(format!("{} has no end", kind::id(run))),
                Some(told) if !kind::is_right(run, told) => {
                    wrong.push(format!("{} ended with `{told}`", kind::id(run)));
                }
                Some(_) => {}
            }
        }
        let is_over = |status: &str| ["completed", "failed", "cancelled"].contains(&status);
        let open = self.snapshot.runs.iter().filter(|(_, seen)| !is_over(&seen.status));
        wrong.extend(open.map(|(run, seen)| format!("{run} is {} in the end", seen.status)));
        wrong
    }

    /// Guarantee 6: what was acknowledged is there, and each signal is taken once.
    fn acknowledged(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for run in &self.started {
            let ids = std::iter::once(kind::id(*run)).chain(kind::children(*run));
            let lost = ids.filter(|id| !self.snapshot.runs.contains_key(id));
            wrong.extend(lost.map(|id| format!("the start of {id} was acknowledged, and is lost")));
        }
        let mut signals: BTreeMap<usize, usize> = BTreeMap::new();
        for (run, _) in &self.signalled {
            *signals.entry(*run).or_default() += 1;
        }
        for (run, acknowledged) in signals {
            let taken =
                self.snapshot.runs.get(&kind::id(run)).map_or(0, |seen| {
                    seen.entries.iter().filter(|(_, what, _)| what == "signal taken").count()
                });
            if taken != acknowledged {
                let id = kind::id(run);
                wrong
                    .push(format!("{acknowledged} signals of {id} were acknowledged, and {taken} are taken"));
            }
        }
        wrong
    }

    /// Journals have no gaps, and one outcome for each step.
    fn journals(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (run, seen) in &self.snapshot.runs {
            if let Some((at, (seq, ..))) = (0i64..).zip(&seen.entries).find(|(at, (seq, ..))| at != seq) {
                wrong.push(format!("entry {seq} of {run} stands where entry {at} should be"));
            }
            let mut outcomes = BTreeSet::new();
            let is_outcome = |what: &str| OUTCOMES.contains(&what);
            let twice = seen.entries.iter().filter(|(_, what, _)| is_outcome(what));
            let twice = twice.filter(|(_, _, key)| !outcomes.insert(key));
            wrong.extend(twice.map(|(_, _, key)| format!("{run} has two outcomes of {key}")));
        }
        wrong
    }

    /// Guarantee 3: a transaction's rows are there once, where its record is.
    fn transactions(&self) -> Vec<String> {
        let mut rows: BTreeMap<(String, String), usize> = BTreeMap::new();
        for row in &self.snapshot.moved {
            *rows.entry(row.clone()).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for (run, key) in (0..self.runs).flat_map(kind::transactions) {
            let many = rows.remove(&(run.clone(), key.clone())).unwrap_or(0);
            let is_recorded =
                self.snapshot.runs.get(&run).is_some_and(|seen| {
                    seen.entries.iter().any(|(_, what, of)| what == "done" && *of == key)
                });
            if many != usize::from(is_recorded) {
                let record = if is_recorded { "a record" } else { "no record" };
                wrong.push(format!("transaction {key} of {run} has {record} and {many} rows"));
            }
        }
        wrong.extend(rows.keys().map(|(run, key)| format!("{run} has rows of {key}, which nobody wrote")));
        wrong
    }

    /// Guarantee 5: a worker that was fenced writes nothing.
    fn stale_writes(&self) -> Vec<String> {
        let changed = self.snapshot.written.iter().filter(|(_, (then, now))| then != now);
        changed
            .map(|(name, (then, now))| {
                format!("{name} had written {then:?} when it was fenced, and has {now:?}")
            })
            .collect()
    }
}

/// The ledger from its beginning to its end.
#[derive(Default)]
struct Walk<'a> {
    verdict: Verdict,
    recorded: BTreeSet<(&'a str, &'a str)>,
    over: BTreeSet<&'a str>,
    /// The attempts that began of each step, and under whom.
    begun: BTreeMap<(&'a str, &'a str), Vec<(u32, &'a str)>>,
    /// Workers that went on and have done nothing since: one body may have been on its way.
    fresh: BTreeSet<&'a str>,
    dead: BTreeSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn through(mut self, lines: &'a [Line], fenced: &BTreeSet<String>) -> Verdict {
        for line in lines {
            match line {
                Line::Begins { run, key, attempt, by } => self.begins((run, key), *attempt, by, fenced),
                Line::Done { run, key, .. } => drop(self.recorded.insert((run, key))),
                Line::Over { run, .. } => drop(self.over.insert(run)),
                Line::Stopped { .. } => {}
                Line::GoesOn { by } => drop(self.fresh.insert(by)),
                Line::Dead { by } => drop(self.dead.insert(by)),
                Line::Missed { by } => self.says(format!("the ledger lacks what {by} did")),
            }
        }
        self.verdict
    }

    fn says(&mut self, what: String) {
        self.verdict.violations.push(what);
    }

    fn begins(&mut self, of: (&'a str, &'a str), attempt: u32, by: &'a str, fenced: &BTreeSet<String>) {
        let (run, key) = of;
        self.verdict.bodies += 1;
        if self.dead.contains(by) {
            self.says(format!("{by} is dead, and began {key} of {run}"));
        }
        let is_late = self.fresh.remove(by);
        let is_recorded = self.recorded.contains(&of) || self.over.contains(run);
        if is_recorded && is_late {
            // The world outside is not fenced.
            self.verdict.late += 1;
        } else if is_recorded {
            self.says(format!("step {key} of {run} was recorded and ran again under {by}"));
        }
        let begun = self.begun.entry(of).or_default();
        let before: Vec<_> = begun.iter().filter(|(made, _)| *made == attempt).map(|(_, by)| *by).collect();
        begun.push((attempt, by));
        let times = begun.len();
        self.verdict.repeated += usize::from(!before.is_empty());
        for other in before {
            if other == by {
                self.says(format!("{by} made attempt {attempt} of {key} of {run} twice"));
            } else if !fenced.contains(other) {
                self.says(format!(
                    "{by} made attempt {attempt} of {key} of {run} again, and {other} was live"
                ));
            }
        }
        if key.split('#').next() == Some(ONCE) && times > 1 {
            self.says(format!("{key} of {run} must not be made twice, and was made {times} times"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{RunSeen, Written};

    /// Lines in short: `begins w1 plain-0 link 1`.
    fn lines(text: &[&str]) -> Vec<Line> {
        text.iter().map(|line| line.parse().expect("a line")).collect()
    }

    fn seen(status: &str, entries: &[(&str, &str)]) -> RunSeen {
        let entries = (0..).zip(entries).map(|(seq, (what, key))| (seq, what.to_string(), key.to_string()));
        RunSeen { status: status.to_string(), entries: entries.collect() }
    }

    /// Five runs of which a plain one, one with signals, one with transactions are told of.
    fn good() -> Account {
        let mut account = Account {
            runs: 5,
            lines: lines(&[
                "begins w1 plain-0 link 1",
                "done w1 plain-0 link",
                "begins w1 plain-0 link#2 1",
                "dead w1",
                "begins w2 plain-0 link#2 1",
                "done w2 plain-0 link#2",
                "over w2 plain-0",
            ]),
            started: (0..5).collect(),
            signalled: [(2, 20), (2, 21)].into(),
            ends: ["ok 3", "ok 5", "ok 20,21", "ok 5", "ok 5"]
                .map(str::to_string)
                .into_iter()
                .enumerate()
                .collect(),
            snapshot: Snapshot { fenced: ["w1".to_string()].into(), ..Snapshot::default() },
        };
        let runs = [
            ("plain-0", seen("completed", &[("started", ""), ("done", "link"), ("done", "link#2")])),
            ("parallel-1", seen("completed", &[("started", "")])),
            ("signals-2", seen("completed", &[("started", ""), ("signal taken", ""), ("signal taken", "")])),
            ("family-3", seen("completed", &[("started", "")])),
            ("family-3.a", seen("completed", &[("started", ""), ("done", "entry")])),
            ("family-3.b", seen("completed", &[("started", ""), ("done", "entry")])),
            ("transfer-4", seen("completed", &[("done", "debit"), ("done", "credit"), ("done", "fee")])),
        ];
        account.snapshot.runs = runs.map(|(run, seen)| (run.to_string(), seen)).into();
        let moved = (0..5).flat_map(kind::transactions).collect();
        account.snapshot.moved = moved;
        let written = Written { entries: 7, rows: 1 };
        account.snapshot.written.insert("w1".to_string(), (written, written));
        account
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Account), violation: &str) {
        let mut account = good();
        change(&mut account);
        let found = account.judge().violations;
        assert!(found.iter().any(|found| found.contains(violation)), "{found:#?}");
    }

    #[test]
    fn a_play_as_promised_holds() {
        assert_eq!(good().judge(), Verdict { bodies: 3, repeated: 1, ..Verdict::default() });
    }

    #[test]
    fn every_broken_promise_is_found() {
        let run = |account: &mut Account, run: &str| account.snapshot.runs.remove(run).expect("is there");
        finds(|account| drop(account.ends.remove(&1)), "parallel-1 has no end");
        finds(|account| drop(account.ends.insert(0, "ok 2".into())), "plain-0 ended with `ok 2`");
        finds(|account| drop(account.ends.insert(2, "ok 21,20".into())), "ended with `ok 21,20`");
        finds(|account| drop(run(account, "plain-0")), "the start of plain-0 was acknowledged, and is lost");
        finds(|account| drop(run(account, "family-3.b")), "family-3.b was acknowledged, and is lost");
        finds(
            |account| {
                account.signalled.insert((2, 22));
            },
            "3 signals of signals-2 were acknowledged, and 2",
        );
        finds(
            |account| account.snapshot.moved.push(("transfer-4".into(), "fee".into())),
            "a record and 2 rows",
        );
        finds(|account| drop(account.snapshot.moved.pop()), "a record and 0 rows");
        finds(|account| account.snapshot.moved.push(("plain-0".into(), "x".into())), "which nobody wrote");
        let entries = |account: &mut Account, change: fn(&mut RunSeen)| {
            change(account.snapshot.runs.get_mut("plain-0").expect("is there"));
        };
        finds(
            |account| entries(account, |seen| drop(seen.entries.remove(1))),
            "stands where entry 1 should be",
        );
        finds(|account| entries(account, |seen| seen.entries[2].2 = "link".into()), "two outcomes of link");
        finds(|account| entries(account, |seen| seen.status = "stuck".into()), "plain-0 is stuck in the end");
        let later = |account: &mut Account| {
            account.snapshot.written.get_mut("w1").expect("is there").1.entries += 1;
        };
        finds(later, "w1 had written");
    }

    #[test]
    fn what_was_recorded_runs_again_only_where_it_was_on_its_way() {
        finds(|account| account.lines.extend(lines(&["begins w2 plain-0 link 1"])), "recorded and ran again");
        finds(|account| account.lines.extend(lines(&["begins w2 plain-0 new 1"])), "recorded and ran again");
        finds(|account| account.lines.extend(lines(&["begins w1 saga-5 a 1"])), "w1 is dead, and began");
        let late = |more: &[&str]| {
            let mut account = good();
            account.snapshot.fenced.insert("w2".to_string());
            account.lines.extend(lines(&[
                "begins w3 plain-9 link 1",
                "stopped w2",
                "begins w3 plain-9 link#2 1",
            ]));
            account.lines.extend(lines(&[
                "done w3 plain-9 link#2",
                "goes-on w2",
                "begins w2 plain-9 link#2 1",
            ]));
            account.lines.extend(lines(more));
            let verdict = account.judge();
            (verdict.late, verdict.violations)
        };
        let live = "w2 made attempt 1 of link#2 of plain-9 again, and w3 was live".to_string();
        assert_eq!(late(&[]), (1, vec![live.clone()]));
        let again = "step link of plain-0 was recorded and ran again under w2".to_string();
        let twice = "w2 made attempt 1 of link of plain-0 again, and w3 was live".to_string();
        let (n, found) = late(&["begins w2 plain-0 link 1"]);
        assert_eq!((n, &found[1..]), (1, &[again][..]), "{twice}");
    }

    #[test]
    fn an_attempt_is_made_again_only_after_the_end_of_its_worker() {
        finds(|account| account.snapshot.fenced.clear(), "again, and w1 was live");
        finds(
            |account| account.lines.extend(lines(&["begins w2 saga-5 a 1", "begins w2 saga-5 a 1"])),
            "twice",
        );
        let other = |account: &mut Account| {
            account.lines.extend(lines(&["begins w1 careful-6 once#2 1", "begins w2 careful-6 once#2 1"]));
        };
        finds(other, "once#2 of careful-6 must not be made twice");
    }
}
