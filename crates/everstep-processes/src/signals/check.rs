//! What must hold of a play: the ledger of the senders against what the runs told at their ends. Pure.
//!
//! The signals that a run got and those that it left undelivered are, name by name, one list. In it every signal that
//! was acknowledged stands once, and none that was not sent, or only in vain; and whatever was acknowledged before
//! another was begun to be sent stands before it, whoever sent the two.

use std::collections::BTreeMap;

use super::{
    ledger::Line,
    plan::Planned,
    waits::{END, NAMES, Told},
};

/// A run at its end.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) told: Told,
    /// Name and number of each signal that it reports undelivered.
    pub(crate) left: Vec<(usize, usize)>,
}

/// What became of the sends of one signal, by the lines of the ledger.
#[derive(Clone, Debug, Default)]
struct Fate {
    begun: Option<usize>,
    acked: Option<usize>,
    sends: usize,
    refusals: usize,
}

/// What does not hold, in words.
pub(crate) fn violations(
    signals: &[Planned],
    lines: &[Line],
    outcomes: &BTreeMap<usize, Outcome>,
) -> Vec<String> {
    let fates = fates(signals, lines);
    let mut found = Vec::new();
    let mut heard = vec![0usize; signals.len()];
    for (run, outcome) in outcomes {
        for (name, list) in by_name(outcome) {
            for signal in &list {
                match signals.get(*signal) {
                    Some(planned) if (planned.run, planned.name) == (*run, name) => heard[*signal] += 1,
                    _ => found.push(format!("run {run} got {signal} as `{}`: not sent so", NAMES[name])),
                }
            }
            found.extend(out_of_order(*run, &list, &fates));
        }
    }
    for (signal, fate) in fates.iter().enumerate() {
        let run = signals[signal].run;
        let may_be_heard = fate.sends > fate.refusals;
        match heard[signal] {
            0 if fate.acked.is_some() => {
                found.push(format!("run {run} lost {signal}, which was acknowledged"))
            }
            0 => {}
            1 if !may_be_heard => found.push(format!("run {run} got {signal}, which was never taken in")),
            1 => {}
            n => found.push(format!("run {run} got {signal} {n} times")),
        }
    }
    found.extend(refused_too_early(signals, lines, &fates));
    found.extend(seen_otherwise(lines, outcomes));
    found
}

fn fates(signals: &[Planned], lines: &[Line]) -> Vec<Fate> {
    let mut fates = vec![Fate::default(); signals.len()];
    for (at, line) in lines.iter().enumerate() {
        match line {
            Line::Sent(signal) => {
                fates[*signal].begun.get_or_insert(at);
                fates[*signal].sends += 1;
            }
            Line::Acked(signal) => {
                fates[*signal].acked.get_or_insert(at);
            }
            Line::Refused(signal) => fates[*signal].refusals += 1,
            _ => {}
        }
    }
    fates
}

/// What a run got and then what it left, by name.
fn by_name(outcome: &Outcome) -> BTreeMap<usize, Vec<usize>> {
    let mut lists = BTreeMap::<usize, Vec<usize>>::new();
    for (name, signal) in outcome.told.got.iter().chain(&outcome.left) {
        lists.entry(*name).or_default().push(*signal);
    }
    lists
}

/// Signals that were acknowledged before one was begun that stands before them.
fn out_of_order(run: usize, list: &[usize], fates: &[Fate]) -> Vec<String> {
    let (mut found, mut latest) = (Vec::new(), None);
    for signal in list {
        let Some(fate) = fates.get(*signal) else { continue };
        if fate.acked.is_some() && fate.acked < latest {
            found.push(format!(
                "run {run} got {signal} too late: it was acknowledged before others were sent"
            ));
        }
        latest = latest.max(fate.begun);
    }
    found
}

/// A run that nobody has told to end is open, and takes everything.
fn refused_too_early(signals: &[Planned], lines: &[Line], fates: &[Fate]) -> Vec<String> {
    let ends: BTreeMap<usize, Option<usize>> = signals
        .iter()
        .zip(fates)
        .filter(|(s, _)| s.name == END)
        .map(|(s, fate)| (s.run, fate.begun))
        .collect();
    let refusals = lines.iter().enumerate().filter_map(|(at, line)| match line {
        Line::Refused(signal) => Some((at, *signal)),
        _ => None,
    });
    let is_early = |at: usize, signal: usize| {
        ends.get(&signals[signal].run).copied().flatten().is_none_or(|begun| begun > at)
    };
    refusals
        .filter(|(at, signal)| is_early(*at, *signal))
        .map(|(_, signal)| format!("{signal} was refused by run {}, which was open", signals[signal].run))
        .collect()
}

/// What a step of a run saw is what the run tells in the end, however often it was read anew between.
fn seen_otherwise(lines: &[Line], outcomes: &BTreeMap<usize, Outcome>) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines {
        let Line::Saw(run, at, signal) = line else { continue };
        let Some(outcome) = outcomes.get(run) else { continue };
        let told = outcome.told.got.get(*at).map(|(_, signal)| *signal);
        if told != Some(*signal) {
            found.push(format!("run {run} had got {signal} after {at} others, and told {told:?} in the end"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: usize = 0;
    const B: usize = 1;

    /// Signals 0 to 3 of run 0: two of one name, one of another, and the end; 4 is refused, 5 is run 1's.
    fn signals() -> Vec<Planned> {
        [(0, A), (0, A), (0, B), (0, END), (0, A), (1, A)]
            .map(|(run, name)| Planned { run, name, keyed: true })
            .to_vec()
    }

    fn lines() -> Vec<Line> {
        use Line::{Acked, Refused, Saw, Sent};
        vec![
            Sent(0),
            Acked(0),
            Sent(2),
            Sent(1),
            Acked(1),
            Saw(0, 0, 0),
            Acked(2),
            // Once more, whoever sends it.
            Sent(0),
            Acked(0),
            Sent(3),
            Acked(3),
            Sent(4),
            Refused(4),
            // Nobody knows.
            Sent(5),
        ]
    }

    fn outcomes() -> BTreeMap<usize, Outcome> {
        let end =
            Outcome { told: Told { got: vec![(A, 0), (B, 2), (END, 3)], waits: 4 }, left: vec![(A, 1)] };
        BTreeMap::from([(0, end), (1, Outcome { told: Told::default(), left: vec![] })])
    }

    /// What is said of a play in which something was changed.
    #[track_caller]
    fn says(change: impl FnOnce(&mut Vec<Line>, &mut BTreeMap<usize, Outcome>), expected: &[&str]) {
        let (mut lines, mut outcomes) = (lines(), outcomes());
        change(&mut lines, &mut outcomes);
        assert_eq!(violations(&signals(), &lines, &outcomes), expected);
    }

    fn got(outcomes: &mut BTreeMap<usize, Outcome>) -> &mut Vec<(usize, usize)> {
        &mut outcomes.get_mut(&0).expect("is there").told.got
    }

    fn left(outcomes: &mut BTreeMap<usize, Outcome>) -> &mut Vec<(usize, usize)> {
        &mut outcomes.get_mut(&0).expect("is there").left
    }

    #[test]
    fn a_play_that_holds_is_silent() {
        says(|_, _| {}, &[]);
    }

    #[test]
    fn what_nobody_knows_of_may_have_come_or_not() {
        says(|_, outcomes| outcomes.get_mut(&1).expect("is there").left.push((A, 5)), &[]);
    }

    #[test]
    fn an_acknowledged_signal_that_is_nowhere_is_lost() {
        says(|_, outcomes| left(outcomes).clear(), &["run 0 lost 1, which was acknowledged"]);
        let changed = |_: &mut Vec<Line>, outcomes: &mut BTreeMap<usize, Outcome>| {
            got(outcomes).remove(1);
        };
        says(changed, &["run 0 lost 2, which was acknowledged"]);
    }

    #[test]
    fn a_signal_counts_once() {
        says(|_, outcomes| got(outcomes).push((B, 2)), &["run 0 got 2 2 times"]);
        says(|_, outcomes| left(outcomes).push((B, 2)), &["run 0 got 2 2 times"]);
        // The copy that was sent with the same key.
        let expected =
            ["run 0 got 0 too late: it was acknowledged before others were sent", "run 0 got 0 2 times"];
        says(|_, outcomes| left(outcomes).push((A, 0)), &expected);
    }

    #[test]
    fn nothing_is_heard_that_was_not_sent_or_refused() {
        says(|_, outcomes| left(outcomes).push((A, 4)), &["run 0 got 4, which was never taken in"]);
        says(|_, outcomes| got(outcomes).push((B, 77)), &["run 0 got 77 as `b`: not sent so"]);
        let expected = ["run 0 got 5 as `a`: not sent so"];
        says(|_, outcomes| left(outcomes).push((A, 5)), &expected);
        let expected = ["run 0 got 1 as `b`: not sent so", "run 0 lost 1, which was acknowledged"];
        says(|_, outcomes| left(outcomes)[0].0 = B, &expected);
        says(
            |lines, outcomes| {
                lines.pop();
                outcomes.get_mut(&1).expect("is there").left.push((A, 5));
            },
            &["run 1 got 5, which was never taken in"],
        );
    }

    #[test]
    fn what_was_acknowledged_first_comes_first() {
        let swap = |_: &mut Vec<Line>, outcomes: &mut BTreeMap<usize, Outcome>| {
            got(outcomes)[0].1 = 1;
            left(outcomes)[0].1 = 0;
        };
        let late = "run 0 got 0 too late: it was acknowledged before others were sent";
        says(swap, &[late, "run 0 had got 0 after 0 others, and told Some(1) in the end"]);
        // Sent while the other was on its way: either order.
        let at_once = |lines: &mut Vec<Line>, outcomes: &mut BTreeMap<usize, Outcome>| {
            lines.swap(1, 3);
            lines.retain(|line| !matches!(line, Line::Saw(..)));
            swap(lines, outcomes);
        };
        says(at_once, &[]);
    }

    #[test]
    fn a_run_that_was_not_told_to_end_refuses_nothing() {
        let early = |lines: &mut Vec<Line>, _: &mut BTreeMap<usize, Outcome>| {
            let refused = lines.remove(12);
            lines.insert(9, refused);
        };
        says(early, &["4 was refused by run 0, which was open"]);
    }

    #[test]
    fn a_run_that_was_read_anew_got_what_it_had_got() {
        let expected = ["run 0 had got 2 after 0 others, and told Some(0) in the end"];
        says(|lines, _| lines[5] = Line::Saw(0, 0, 2), &expected);
        let expected = ["run 0 had got 2 after 9 others, and told None in the end"];
        says(|lines, _| lines[5] = Line::Saw(0, 9, 2), &expected);
    }
}
