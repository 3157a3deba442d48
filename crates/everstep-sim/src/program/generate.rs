//! Makes random programs.

use std::collections::BTreeSet;

use super::{Block, Feature, Goal, Kept, Mapping, Node, Offspring, Owed, Policy, Step, Telling, expected};
use crate::chance::Chance;

/// Names are few, so that they come again.
const NAMES: [char; 4] = ['a', 'b', 'c', 'd'];
/// A program has at most so many nodes, a bit more or less.
const BUDGET: u64 = 14;

/// A program of these features whose possible outcomes can be counted.
pub fn generate(chance: &mut Chance, features: &BTreeSet<Feature>) -> Node {
    loop {
        let budget = chance.between(3, BUDGET) as usize;
        let mut making = Making { chance, features, left: budget, value: 0, parents: 0 };
        let program = making.whole();
        if expected(&program).is_some() {
            return program;
        }
    }
}

struct Making<'a> {
    chance: &'a mut Chance,
    features: &'a BTreeSet<Feature>,
    left: usize,
    value: i64,
    /// How many runs above the one that is made.
    parents: usize,
}

impl Making<'_> {
    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn next_value(&mut self) -> i64 {
        self.value += 1;
        self.value
    }

    /// A whole program. It begins anew only where nothing of it is open.
    fn whole(&mut self) -> Node {
        let program = self.sequence(0);
        let restarts = self.has(Feature::Restart) && self.chance.one_in(4);
        match program {
            Node::Sequence(mut all) if restarts => {
                self.left = self.left.max(3);
                all.push(Node::Restart(Box::new(self.whole())));
                Node::Sequence(all)
            }
            program => program,
        }
    }

    fn sequence(&mut self, depth: u32) -> Node {
        let most = if self.has(Feature::Sequence) { 4 } else { 2 };
        let n = self.chance.between(1, most);
        Node::Sequence((0..n).map(|_| self.node(depth + 1)).collect())
    }

    fn branches(&mut self, depth: u32) -> Vec<Node> {
        let n = self.chance.between(2, 3);
        (0..n)
            .map(|_| if self.chance.one_in(3) { self.sequence(depth + 1) } else { self.node(depth + 1) })
            .collect()
    }

    fn node(&mut self, depth: u32) -> Node {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || depth > 5 || self.chance.one_in(3) {
            return self.leaf();
        }
        use Feature as F;
        let inner = [
            F::Join,
            F::Stream,
            F::Race,
            F::Loop,
            F::Scope,
            F::Timeout,
            F::Error,
            F::Map,
            F::Block,
            F::Child,
            F::Request,
        ];
        match *self.chance.pick(&inner) {
            feature if !self.has(feature) => self.leaf(),
            F::Join => Node::Join(self.branches(depth)),
            F::Stream => Node::Stream(self.branches(depth)),
            F::Race => Node::Race(self.branches(depth)),
            F::Loop => Node::Loop(self.chance.between(2, 3) as u32, Box::new(self.sequence(depth + 1))),
            F::Scope => Node::Scope(Box::new(self.sequence(depth + 1))),
            F::Timeout => Node::Timeout(self.wait(), Box::new(self.sequence(depth + 1))),
            F::Map => self.map(depth),
            F::Block => self.block(depth),
            F::Child if self.parents < 2 => self.child(),
            F::Request if self.parents == 0 => Node::Serve(Box::new(self.sequence(depth + 1))),
            F::Child | F::Request => self.leaf(),
            _ => Node::Catch(Box::new(self.sequence(depth + 1))),
        }
    }

    fn map(&mut self, depth: u32) -> Node {
        let items: Vec<_> = (0..self.chance.between(1, 4)).map(|_| self.node(depth + 1)).collect();
        let goal = match self.chance.below(3) {
            0 => Goal::All,
            1 => Goal::Each,
            _ => Goal::AtLeast(self.chance.between(0, items.len() as u64) as usize),
        };
        Node::Map(Mapping { limit: self.chance.between(1, 3) as usize, goal, items })
    }

    fn block(&mut self, depth: u32) -> Node {
        let attempts = self.chance.between(1, 3) as u32;
        let fails = self.chance.below(u64::from(attempts) + 1) as u32;
        let fails = if self.has(Feature::Error) { fails } else { fails.min(attempts - 1) };
        let (value, pause_ms) = (self.next_value(), self.chance.between(0, 3_000));
        Node::Block(Block { attempts, fails, value, pause_ms, body: Box::new(self.sequence(depth + 1)) })
    }

    /// A child does a bit of everything, but for what people outside would have to send to it.
    fn child(&mut self) -> Node {
        let left = std::mem::replace(&mut self.left, 4);
        self.parents += 1;
        let program = self.whole();
        self.parents -= 1;
        self.left = left.saturating_sub(2);
        Node::Child(Box::new(Offspring {
            program,
            left: self.has(Feature::Left) && self.chance.one_in(3),
            awaited: !self.has(Feature::Unawaited) || !self.chance.one_in(3),
            cancelled: self.has(Feature::ChildCancel) && self.chance.one_in(3),
            meanwhile: if self.chance.one_in(2) { self.leaf() } else { Node::Yield(1) },
        }))
    }

    fn wait(&mut self) -> u64 {
        match self.chance.below(4) {
            0 => self.chance.between(1, 20),
            1 | 2 => self.chance.between(20, 2_000),
            _ => self.chance.between(2_000, 20_000),
        }
    }

    fn leaf(&mut self) -> Node {
        use Feature as F;
        match self.chance.below(28) {
            0 | 1 if self.has(F::Transaction) => Node::Transact(*self.chance.pick(&NAMES), self.next_value()),
            2 | 3 if self.has(F::Timer) => Node::Sleep(self.wait()),
            4 | 5 if self.has(F::Yield) => Node::Yield(self.chance.between(1, 4) as u32),
            6 if self.has(F::Draw) => Node::Draw,
            7 if self.has(F::Error) && self.chance.one_in(2) => Node::Raise(self.next_value()),
            8 if self.has(F::Return) && self.chance.one_in(2) => Node::Return(self.next_value()),
            9..12 if self.has(F::Signal) && self.parents == 0 => Node::Signal(self.chance.below(2) as usize),
            12..14 if self.has(F::Promise) => Node::Promise(self.owed()),
            14 if self.has(F::Publish) => Node::Tell(Telling::Publish),
            15 if self.has(F::Emit) => Node::Tell(Telling::Emit),
            16 if self.has(F::Attribute) => Node::Tell(Telling::Attribute),
            17 if self.has(F::OnCancel) => Node::OnCancel,
            _ => Node::Step(self.step()),
        }
    }

    fn owed(&mut self) -> Owed {
        use Feature as F;
        let rejects = self.has(F::Reject) && self.chance.one_in(3);
        let expires_ms = (self.has(F::Expiry) && self.chance.one_in(3)).then(|| self.wait());
        let how = match expires_ms {
            Some(_) if self.chance.one_in(2) => Kept::Never,
            _ if rejects => Kept::Rejects,
            _ => Kept::Resolves,
        };
        Owed { value: self.next_value(), how, after_ms: self.wait(), expires_ms }
    }

    fn step(&mut self) -> Step {
        use Feature as F;
        let mut step = Step {
            name: *self.chance.pick(&NAMES),
            value: self.next_value(),
            ms: match self.chance.below(4) {
                0 => 0,
                1 | 2 => self.chance.between(1, 200),
                _ => self.chance.between(200, 6_000),
            },
            fails: 0,
            hangs: 0,
            terminal: false,
            attempts: 1,
            pause_ms: self.chance.between(0, 3_000),
            limit_ms: None,
            typed: self.chance.one_in(2),
            input: self.chance.one_in(4),
            doubt: self.policy(),
            undo: self.has(F::Undo) && self.chance.one_in(3),
        };
        if self.has(F::Retry) && self.chance.one_in(3) {
            step.attempts = self.chance.between(2, 4) as u32;
            step.fails = self.chance.below(u64::from(step.attempts)) as u32;
        }
        if self.has(F::Error) && self.chance.one_in(5) {
            step.fails = step.attempts;
            step.terminal = self.chance.one_in(3);
        }
        if self.has(F::Timeout)
            && self.chance.one_in(6)
            && step.doubt != Policy::Fail
            && step.doubt != Policy::Ask
        {
            step.limit_ms = Some(step.ms + self.chance.between(500, 4_000));
            step.hangs = self.chance.below(u64::from(step.attempts) + 1) as u32;
        }
        step
    }

    fn policy(&mut self) -> Policy {
        use Feature as F;
        match self.chance.below(8) {
            0 if self.has(F::DoubtFail) => Policy::Fail,
            1 if self.has(F::DoubtAsk) => Policy::Ask,
            2 | 3 if self.has(F::Verify) => Policy::Verify,
            _ => Policy::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_program_and_each_feature_comes() {
        let all = BTreeSet::from(Feature::ALL);
        let make = |seed| generate(&mut Chance::new(seed), &all);
        assert_eq!(make(7), make(7));
        let text: String = (0..200).map(|seed| format!("{:?}", make(seed))).collect();
        for word in
            ["Join", "Stream", "Race", "Loop", "Scope", "Timeout", "Catch", "Raise", "Return", "Transact"]
        {
            assert!(text.contains(word), "{word}");
        }
        for word in [
            "Signal",
            "Promise",
            "Child",
            "Serve",
            "Tell",
            "Map",
            "Block",
            "OnCancel",
            "Restart",
            "undo: true",
        ] {
            assert!(text.contains(word), "{word}");
        }
        for word in ["Sleep", "Yield", "Draw", "Fail", "Ask", "Verify", "hangs: 1", "terminal: true"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
