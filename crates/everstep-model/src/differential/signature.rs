//! The kinds of replies: a verb, what it was about, and how it was answered. A campaign has seen enough when no new one
//! comes.

use std::collections::BTreeSet;

use everstep_core::{
    Status,
    store::{Acted, Does, End, Posted, RunId, Say},
};

use super::{
    call::{Call, Verb},
    picture::Picture,
    reply::{Failure, Reply, Start},
};

/// The kinds of this reply; a call about several runs has several. `before` is what the stores looked like before the
/// call, if that is known: not if other calls were on their way.
pub(super) fn signatures(call: &Call, reply: &Reply, before: Option<&Picture>) -> Vec<String> {
    let says = says(call, reply, before).into_iter().map(String::from);
    let verbs: Vec<_> = [about(call, reply, before)].into_iter().chain(says).collect();
    let told = |answer: String| verbs.iter().map(move |verb| format!("{verb}: {answer}")).collect::<Vec<_>>();
    answers(reply).into_iter().flat_map(told).collect()
}

/// What a turn that tells others something does beside all else.
fn says(call: &Call, reply: &Reply, before: Option<&Picture>) -> Vec<&'static str> {
    let Verb::Commit(_, _, turn) = &call.verb else { return Vec::new() };
    let held = |stream: &str| before.and_then(|before| before.items(turn.run, stream)).unwrap_or(0);
    let is_durable = matches!(reply, Reply::Durable(_));
    let kinds = turn.says.iter().map(|say| match say {
        Say::Emitted { name, n, .. } if is_durable && *n < held(name) => "emit again after a cut",
        Say::Published { .. } | Say::Emitted { .. } | Say::Attribute { .. } => "say",
        Say::Promised { .. } => "promise",
        Say::Child { .. } => "bear a child",
        Say::Tell { .. } => "tell another run",
        Say::Answered { .. } => "answer",
        Say::Cancel { .. } => "cancel children",
    });
    kinds.collect::<BTreeSet<_>>().into_iter().collect()
}

fn about(call: &Call, reply: &Reply, before: Option<&Picture>) -> String {
    // The status of the run has to do with it only where the rules look at it.
    let looks = matches!(reply, Reply::Posted(Posted::Added) | Reply::Is(true) | Reply::Acted(Acted::Done));
    let of_a = |which: &dyn Fn(RunId, &str) -> bool| match (before, looks) {
        (Some(before), true) => status_of(before, which),
        _ => "run".into(),
    };
    match &call.verb {
        Verb::Open => "open".into(),
        Verb::Crash => "crash".into(),
        Verb::Enroll => "enroll".into(),
        Verb::Beat(_) => "beat".into(),
        Verb::Workers => "workers".into(),
        Verb::Fence(..) => "fence".into(),
        Verb::Free(..) => "free".into(),
        Verb::Leave(_) => "leave".into(),
        Verb::Start(None, _) => "start".into(),
        Verb::Start(Some(_), _) => "start by a worker".into(),
        Verb::Claim(..) => "claim".into(),
        Verb::Reload(..) => "reload".into(),
        Verb::NextDue(_) => "next due".into(),
        Verb::Nudged(_) => "nudged".into(),
        Verb::Commit(_, _, turn) => format!("commit that {}", ending(turn.end.as_ref())),
        Verb::Transact(..) => "transact".into(),
        Verb::Post(post) if post.to.run().is_none() => "post to a promise".into(),
        Verb::Act(Does::Post(post), _) => {
            format!("act that posts to a {}", of_a(&|_, id| post.to.run().is_some_and(|to| *id == **to)))
        }
        Verb::Act(Does::Pause(post), _) => {
            format!("act that pauses a {}", of_a(&|_, id| post.to.run().is_some_and(|to| *id == **to)))
        }
        Verb::Act(Does::Cut(cut), _) => format!("act that cuts a {}", of_a(&|run, _| run == cut.run)),
        Verb::Act(Does::Edit(edit), _) => format!("act that edits a {}", of_a(&|run, _| run == edit.run)),
        Verb::Delete(_) => "delete".into(),
        Verb::Reply(..) => "reply".into(),
        Verb::StreamNames(_) => "stream names".into(),
        Verb::Acts(..) => "acts".into(),
        Verb::Patches => "patches".into(),
        Verb::Post(post) => {
            let how = if post.revive && looks { "post that revives" } else { "post" };
            format!("{how} to a {}", of_a(&|_, id| post.to.run().is_some_and(|to| *id == **to)))
        }
        Verb::Cut(cut) => format!("cut of a {}", of_a(&|run, _| run == cut.run)),
        Verb::Run(_) => "run".into(),
        Verb::Find(..) => "find".into(),
        Verb::Load(_) => "load".into(),
        Verb::Inbox(..) => "inbox".into(),
        Verb::Last(_) => "last".into(),
        Verb::Stuck(_) => "stuck".into(),
        Verb::Counts => "counts".into(),
        Verb::Count(..) => "count".into(),
        Verb::Published(..) => "published".into(),
        Verb::PublishedAll(..) => "published all".into(),
        Verb::Stream(..) => "stream".into(),
        Verb::Attributes(_) => "attributes".into(),
    }
}

fn status_of(before: &Picture, which: &dyn Fn(RunId, &str) -> bool) -> String {
    let found = before.runs.iter().map(|run| &run.row).find(|row| which(row.run, &row.id));
    found.map_or("missing run".into(), |row| match (row.status, row.owner) {
        (Status::Stuck, Some(_)) => "stuck run that a worker has".into(),
        (status, _) => format!("{status} run"),
    })
}

fn ending(end: Option<&End>) -> &'static str {
    match end {
        None => "goes on",
        Some(End::Finished { status: Status::Completed, .. }) => "completes",
        Some(End::Finished { status: Status::Failed, .. }) => "fails",
        Some(End::Finished { status: Status::Cancelled, .. }) => "cancels",
        Some(End::Finished { .. }) => "ends as nothing can",
        Some(End::Parked { wake_at: None, .. }) => "parks",
        Some(End::Parked { wake_at: Some(_), .. }) => "parks until a time",
        Some(End::Stuck { .. }) => "is stuck",
        Some(End::Paused { .. }) => "is paused",
        Some(End::GivenBack { .. }) => "gives back",
        Some(End::Restarted { .. }) => "restarts",
    }
}

fn answers(reply: &Reply) -> Vec<String> {
    let some = |n: usize| match n {
        0 => "none",
        1 => "one",
        _ => "several",
    };
    let one = |answer: &str| vec![answer.to_string()];
    match reply {
        Reply::Done => one("done"),
        Reply::Is(yes) => one(if *yes { "yes" } else { "no" }),
        Reply::Freed(runs) => one(some(runs.iter().sum())),
        Reply::Enrolled(_) => one("a worker"),
        Reply::Workers(workers) => {
            let fenced = if workers.iter().any(|worker| worker.fenced) { ", fenced ones too" } else { "" };
            one(&format!("{}{fenced}", some(workers.len())))
        }
        Reply::Started(answers, adopted) => started(answers, adopted.len()),
        Reply::Claimed(rows) => one(some(rows.len())),
        Reply::Reloaded(row) => one(if row.is_some() { "again" } else { "not this worker's" }),
        Reply::Due(at) => one(if at.is_some() { "a time" } else { "never" }),
        Reply::Nudged(runs) => one(some(runs.len())),
        Reply::Durable(_) => one("durable"),
        Reply::Moved(_) => one("moved"),
        Reply::Recorded(..) => one("recorded"),
        Reply::RolledBack => one("rolled back"),
        Reply::Posted(posted) => one(heard(posted)),
        Reply::Row(row) => one(if row.is_some() { "a row" } else { "no such run" }),
        Reply::Rows(rows) => one(some(rows.len())),
        Reply::Loaded(whole) => one(some(whole.entries.len())),
        Reply::Letters(letters) => one(some(letters.len())),
        Reply::Entry(entry) => one(if entry.is_some() { "an entry" } else { "none" }),
        Reply::Stuck(stuck) => one(if stuck.is_some() { "why" } else { "it is not" }),
        Reply::Counts(counts) => one(some(counts.len())),
        Reply::Counted(n) => one(some(usize::try_from(*n).unwrap_or(usize::MAX))),
        Reply::Published(row) => one(if row.is_some() { "a value" } else { "none" }),
        Reply::PublishedAll(rows) => one(some(rows.len())),
        Reply::Items(items) => one(some(items.len())),
        Reply::Attributes(attributes) => one(some(attributes.len())),
        Reply::Acted(acted) => one(done(acted)),
        Reply::Each(all) if all.is_empty() => one("nothing"),
        Reply::Each(all) => {
            let kinds = [(all.contains(&true), "gone"), (all.contains(&false), "kept")];
            kinds.iter().filter(|(there, _)| *there).map(|(_, kind)| (*kind).to_string()).collect()
        }
        Reply::Answer(answer) => one(if answer.is_some() { "an answer" } else { "none" }),
        Reply::Names(names) => one(some(names.len())),
        Reply::Acts(acts) => one(some(acts.len())),
        Reply::Patches(patches) => one(some(patches.len())),
        Reply::Fenced(_) => one("fenced"),
        Reply::Failed(failure) => one(match failure {
            Failure::Refused => "refused",
            Failure::Unusable => "unusable",
            Failure::Damaged => "damaged",
            Failure::Full => "full",
            Failure::Closed => "closed",
            Failure::Other => "failed",
        }),
    }
}

fn heard(posted: &Posted) -> &'static str {
    match posted {
        Posted::Added => "added",
        Posted::Known => "known",
        Posted::NoSuchRun => "no such run",
        Posted::Refused(_) => "not in this status",
        Posted::Settled => "settled before",
        Posted::Expired => "expired",
    }
}

fn done(acted: &Acted) -> &'static str {
    match acted {
        Acted::Done => "done",
        Acted::Known => "known",
        Acted::NoSuchRun => "no such run",
        Acted::Refused(_) => "not in this status",
        Acted::Moved => "it has moved",
    }
}

fn started(answers: &[Start], adopted: usize) -> Vec<String> {
    let new = answers.iter().filter(|start| matches!(start, Start::New(_))).count();
    let kinds = [
        (answers.is_empty(), "nothing"),
        (adopted > 0, "taken"),
        (new > adopted, "new"),
        (new < answers.len(), "known"),
    ];
    kinds.iter().filter(|(there, _)| *there).map(|(_, kind)| (*kind).to_string()).collect()
}
