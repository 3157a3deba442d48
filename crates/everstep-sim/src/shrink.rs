//! Makes a failing plan smaller, as long as it fails: fewer runs, faults and workers, smaller programs.

use crate::{
    fleet,
    plan::{Plan, RunPlan},
    program::{Block, Goal, Mapping, Node, Offspring},
};

/// Plans tried at most: a failing one may take its whole bound of virtual time.
const TRIES_MAX: usize = 300;

/// The smallest plan found that still fails, and how.
pub fn shrink(plan: &Plan, violations: &[String]) -> (Plan, Vec<String>) {
    let (mut best, mut why, mut tries) = (plan.clone(), violations.to_vec(), 0);
    loop {
        let mut smaller = smaller(&best).into_iter();
        let found = smaller.by_ref().find_map(|plan| {
            tries += 1;
            let violations = if tries > TRIES_MAX { Vec::new() } else { fleet::twice(&plan).1 };
            (!violations.is_empty()).then_some((plan, violations))
        });
        match found {
            Some((plan, violations)) => (best, why) = (plan, violations),
            None => return (best, why),
        }
    }
}

/// Plans a bit smaller than this one, the smallest first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut other = plan.clone();
        change(&mut other);
        if other != *plan {
            plans.push(other);
        }
    };
    for run in 0..plan.runs.len() {
        // The others keep their numbers: what is left of a run is almost nothing.
        with(&|plan| {
            let runs = &mut plan.runs;
            match run + 1 == runs.len() && run > 0 {
                true => drop(runs.pop()),
                false => runs[run].program = Node::Sequence(Vec::new()),
            }
        });
    }
    for fault in &plan.faults {
        with(&|plan| plan.faults.retain(|other| other != fault));
    }
    with(&|plan| plan.workers = (plan.workers - 1).max(1));
    with(&|plan| (plan.residents, plan.bodies) = (1_000, 1_000));
    for run in 0..plan.runs.len() {
        with(&|plan| plan.runs[run].cancel_ms = None);
        with(&|plan| plan.runs[run].again_ms = None);
        with(&|plan| plan.runs[run].pause_ms = None);
        with(&|plan| plan.runs[run].kill_ms = None);
        with(&|plan| plan.runs[run].rewind_ms = None);
        with(&|plan| plan.runs[run].deadline_ms = None);
        with(&|plan| plan.runs[run].asks.clear());
        for program in smaller_programs(&plan.runs[run].program) {
            with(&|plan| plan.runs[run] = RunPlan { program: program.clone(), ..plan.runs[run].clone() });
        }
    }
    plans
}

/// Programs with one node less, or with a part in place of the whole.
fn smaller_programs(node: &Node) -> Vec<Node> {
    let mut programs: Vec<Node> = node.parts().into_iter().cloned().collect();
    let within = |body: &Node, wrap: &dyn Fn(Box<Node>) -> Node| -> Vec<Node> {
        smaller_programs(body).into_iter().map(|smaller| wrap(Box::new(smaller))).collect()
    };
    match node {
        Node::Sequence(all) => programs.extend(smaller_lists(all, 0).into_iter().map(Node::Sequence)),
        Node::Join(all) => programs.extend(smaller_lists(all, 1).into_iter().map(Node::Join)),
        Node::Stream(all) => programs.extend(smaller_lists(all, 1).into_iter().map(Node::Stream)),
        Node::Race(all) => programs.extend(smaller_lists(all, 1).into_iter().map(Node::Race)),
        Node::Loop(times, body) => programs.extend(within(body, &|body| Node::Loop(*times, body))),
        Node::Scope(body) => programs.extend(within(body, &Node::Scope)),
        Node::Timeout(wait, body) => programs.extend(within(body, &|body| Node::Timeout(*wait, body))),
        Node::Catch(body) => programs.extend(within(body, &Node::Catch)),
        Node::Serve(body) => programs.extend(within(body, &Node::Serve)),
        Node::Restart(body) => programs.extend(within(body, &Node::Restart)),
        Node::Map(map) => programs.extend(
            smaller_lists(&map.items, 1)
                .into_iter()
                // More successes than there are items are no less, but something else.
                .filter(|items| !matches!(map.goal, Goal::AtLeast(n) if n > items.len()))
                .map(|items| Node::Map(Mapping { items, ..map.clone() })),
        ),
        Node::Block(block) => {
            programs.extend(within(&block.body, &|body| Node::Block(Block { body, ..block.clone() })))
        }
        Node::Child(child) => {
            let with = |program, meanwhile| {
                Node::Child(Box::new(Offspring { program, meanwhile, ..(**child).clone() }))
            };
            let own = smaller_programs(&child.program);
            programs.extend(own.into_iter().map(|program| with(program, child.meanwhile.clone())));
            let between = smaller_programs(&child.meanwhile);
            programs.extend(between.into_iter().map(|node| with(child.program.clone(), node)));
        }
        _ => {}
    }
    programs
}

fn smaller_lists(all: &[Node], least: usize) -> Vec<Vec<Node>> {
    let mut lists = Vec::new();
    for i in 0..all.len() {
        if all.len() > least {
            let mut fewer = all.to_vec();
            fewer.remove(i);
            lists.push(fewer);
        }
        for smaller in smaller_programs(&all[i]) {
            let mut other = all.to_vec();
            other[i] = smaller;
            lists.push(other);
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StoreKind;

    #[test]
    fn every_smaller_plan_is_smaller() {
        let size = |plan: &Plan| {
            let programs: usize = plan.runs.iter().map(|run| run.program.size()).sum();
            let extras = plan.runs.iter().map(|run| {
                let times = [run.cancel_ms, run.again_ms, run.kill_ms, run.rewind_ms, run.deadline_ms];
                let pause = usize::from(run.pause_ms.is_some());
                times.iter().flatten().count() + pause + run.asks.len()
            });
            programs
                + extras.sum::<usize>()
                + plan.faults.len()
                + plan.workers
                + usize::from(plan.residents < 1_000)
                + usize::from(plan.bodies < 1_000)
        };
        for seed in 0..50 {
            let plan = Plan::of_seed(seed, StoreKind::Memory);
            let plans = smaller(&plan);
            assert!(!plans.is_empty());
            assert!(plans.iter().all(|other| size(other) < size(&plan)), "seed {seed}");
        }
    }
}
