//! Which steps of a program of one outcome take place, named as the engine names them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Goal, Node, Out, mix,
    reference::{all_of, alone, at_the_end, branch_name, caught, of_step, outcomes},
};

/// The keys of the steps that have an outcome in the journal of the last generation; `None` if that is open.
pub(super) fn steps(program: &Node) -> Option<BTreeSet<String>> {
    is_exact(program).then(|| {
        let mut walk = Walk::default();
        walk.node(program);
        walk.steps
    })
}

/// Whether each step's outcome is known: no races, no time that may run out, nobody who answers.
fn is_exact(node: &Node) -> bool {
    let is_sure = |node: &Node| outcomes(node).is_some_and(|all| all.len() == 1);
    let itself = match node {
        Node::Race(_) | Node::Timeout(..) => false,
        Node::Step(step) => of_step(step).len() == 1,
        Node::Promise(_) | Node::Child(_) => is_sure(node),
        Node::Map(map) => match map.goal {
            Goal::Each => true,
            Goal::All => outcomes(node).is_some_and(|all| all.iter().all(|out| !matches!(out, Out::Fail(_)))),
            Goal::AtLeast(_) => false,
        },
        // An error that stops the retries may be in any of these.
        Node::Block(block) => !block.body.any(&|node| match node {
            Node::Step(step) => step.terminal,
            Node::Promise(_) | Node::Child(_) => true,
            _ => false,
        }),
        _ => true,
    };
    itself && node.parts().into_iter().all(is_exact)
}

/// Walks a program of one outcome.
#[derive(Default)]
struct Walk {
    scope: String,
    used: BTreeMap<String, u32>,
    steps: BTreeSet<String>,
}

impl Walk {
    fn claim(&mut self, name: &str) -> String {
        let plain = format!("{}{name}", self.scope);
        let used = self.used.entry(plain.clone()).or_default();
        *used += 1;
        if *used == 1 { plain } else { format!("{plain}#{used}") }
    }

    fn step(&mut self, name: &str) {
        let key = self.claim(name);
        self.steps.insert(key);
    }

    fn inside(&mut self, name: &str, body: &Node) -> Out {
        let key = self.claim(name);
        self.under(&key, body)
    }

    fn under(&mut self, key: &str, body: &Node) -> Out {
        let outer = std::mem::replace(&mut self.scope, format!("{key}/"));
        let out = self.node(body);
        self.scope = outer;
        out
    }

    fn row<'n>(&mut self, all: impl Iterator<Item = &'n Node>) -> Out {
        let mut sum = 0;
        for node in all {
            match self.node(node) {
                Out::Go(value) => sum = mix(sum, value),
                over => return over,
            }
        }
        Out::Go(sum)
    }

    fn map(&mut self, items: &[Node]) -> Out {
        let key = self.claim("map");
        let ends: Vec<_> =
            items.iter().zip(1..).map(|(item, n)| caught(self.under(&format!("{key}/{n}"), item))).collect();
        all_of(&ends)
    }

    fn block(&mut self, block: &super::Block) -> Out {
        let key = self.claim("block");
        let mut last = Out::Fail(block.value);
        for n in 1..=block.attempts {
            last = match self.under(&format!("{key}/{n}"), &block.body) {
                Out::Go(_) if n <= block.fails => Out::Fail(block.value),
                Out::Fail(code) => Out::Fail(code),
                over => return over,
            };
        }
        last
    }

    fn node(&mut self, node: &Node) -> Out {
        match node {
            Node::Step(step) => {
                self.step(&step.name.to_string());
                alone(step)
            }
            Node::Transact(name, value) => {
                self.step(&name.to_string());
                Out::Go(*value)
            }
            Node::Promise(_) => {
                self.step("hand");
                self.only(node)
            }
            Node::Child(child) => match self.node(&child.meanwhile) {
                Out::Go(_) => self.only(node),
                over => over,
            },
            Node::Sequence(all) => self.row(all.iter()),
            Node::Loop(times, body) => self.row((0..*times).map(|_| &**body)),
            Node::Scope(body) => self.inside("scope", body),
            Node::Serve(body) => self.inside("serve", body),
            Node::Join(all) | Node::Stream(all) => {
                let branches: Vec<_> =
                    all.iter().zip(1..).map(|(node, at)| self.inside(&branch_name(at), node)).collect();
                all_of(&branches)
            }
            Node::Map(map) => self.map(&map.items),
            Node::Block(block) => self.block(block),
            Node::Catch(body) => caught(self.node(body)),
            Node::Restart(body) => {
                *self = Walk::default();
                at_the_end(self.node(body))
            }
            Node::Generation(_, body) => self.node(body),
            other => self.only(other),
        }
    }

    fn only(&self, node: &Node) -> Out {
        outcomes(node).and_then(|all| all.first().copied()).unwrap_or(Out::Go(1))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Block, Mapping, Policy, Step, expected},
        *,
    };

    fn node(value: i64) -> Node {
        Node::Step(Step::plain('a', value))
    }

    fn keys(program: &Node) -> Vec<String> {
        expected(program).expect("few").steps.expect("exact").into_iter().collect()
    }

    #[test]
    fn keys_are_counted_as_the_engine_counts_them() {
        let program = Node::Sequence(vec![
            node(1),
            Node::Loop(2, Box::new(Node::Join(vec![node(2), Node::Transact('b', 3)]))),
            Node::Scope(Box::new(node(4))),
            node(5),
        ]);
        let joined = ["a", "a#2", "branch1#2/a", "branch1/a", "branch2#2/b", "branch2/b", "scope/a"];
        assert_eq!(keys(&program), joined);
        let doubtful = Node::Step(Step { doubt: Policy::Fail, ..Step::plain('a', 1) });
        assert_eq!(expected(&doubtful).expect("few").steps, None, "a crash may fail it");
    }

    #[test]
    fn items_attempts_and_generations_have_keys_of_their_own() {
        let map = Mapping { limit: 1, goal: Goal::Each, items: vec![node(1), node(2)] };
        assert_eq!(keys(&Node::Map(map)), ["map/1/a", "map/2/a"]);
        let block = Block { attempts: 3, fails: 1, value: 9, pause_ms: 0, body: Box::new(node(1)) };
        assert_eq!(keys(&Node::Block(block)), ["block/1/a", "block/2/a"]);
        let again = Node::Restart(Box::new(Node::Scope(Box::new(node(2)))));
        assert_eq!(keys(&Node::Sequence(vec![node(1), again])), ["scope/a"], "of the last generation");
    }
}
