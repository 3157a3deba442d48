//! Facts: what was acknowledged, and must be found in what is durable.

use everstep::Status;

use crate::{
    history::History,
    snapshot::{RunSeen, Snapshot},
};

/// Looks for everything that was acknowledged in a life in what was durable after it; how many facts.
pub(super) fn check(history: &History, violations: &mut Vec<String>) -> usize {
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
        ["signalled", id, name, value] => run(id, &|run| run.signals.contains(&format!("{name} {value}"))),
        ["settled", id, promise] => run(id, &|run| run.settled.contains(*promise)),
        ["reply", id, _, answer] => {
            let reply = format!("{{\"value\":{answer}}}");
            run(id, &|run| run.replies.contains(&reply))
        }
        ["read", id, n, item] => run(id, &|run| run.items.contains(&format!("{n} {item}"))),
        ["rewound", id] => run(id, &|run| !run.taken_back.is_empty()),
        ["result", id, "failed"] => run(id, &|run| run.status == Status::Failed),
        ["answered", id, _] => run(id, &|run| run.answered),
        ["result", id, "cancelled"] => run(id, &|run| run.status == Status::Cancelled),
        ["result", id, value] => run(id, &|run| run.value.as_deref() == Some(*value)),
        _ => return None,
    })
}
