//! What runs say: a published value never goes back, nobody reads what is not durable, each item of a stream comes once and
//! in order, and what stands in the end is what was said last.

use std::collections::BTreeMap;

use everstep_core::{AttributeValue, journal::Kind};

use super::{Content, Said, lives};
use crate::history::{Fact, Got, What};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let mut look = Look::default();
    history.iter().for_each(|fact| look.at(&fact.what));
    // A run that a person took back says again what it had said.
    let went_back = lives::went_back(history);
    look.found.retain(|(run, _)| !went_back.contains(run));
    for (run, said) in content.said.iter().filter(|(run, _)| !went_back.contains(run)) {
        let own = look.said.remove(run).unwrap_or_default();
        look.found.extend(own.differs(said).map(|why| (*run, why)));
    }
    look.found.into_iter().map(|(run, why)| format!("run-{run}: {why}")).collect()
}

#[derive(Default)]
struct Look {
    said: BTreeMap<usize, Own>,
    read: BTreeMap<usize, i64>,
    found: Vec<(usize, String)>,
}

/// What is committed of what a run says.
#[derive(Default)]
struct Own {
    published: Vec<i64>,
    items: Vec<i64>,
    stand: Option<i64>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::Turn { run, entries, .. } => {
                let own = self.said.entry(*run).or_default();
                for entry in entries {
                    let Some(Got::Value(made)) = entry.got else { continue };
                    match entry.kind {
                        Kind::Published => own.published.push(made.v),
                        Kind::Emitted => own.items.push(made.v),
                        Kind::AttributeSet => own.stand = Some(made.v),
                        _ => {}
                    }
                }
            }
            What::ReadPublished { run, value } => {
                let before = self.read.insert(*run, *value);
                let is_durable = self.said.get(run).is_some_and(|own| own.published.contains(value));
                if !is_durable || before.is_some_and(|before| before > *value) {
                    self.found.push((*run, format!("somebody read {value} after {before:?}")));
                }
            }
            What::ReadItem { run, n, value } => {
                let item = self.said.get(run).and_then(|own| own.items.get(*n as usize));
                if item != Some(value) {
                    self.found.push((*run, format!("somebody read {value} as item {n}, which is {item:?}")));
                }
            }
            _ => {}
        }
    }
}

impl Own {
    fn differs(&self, held: &Said) -> Option<String> {
        let stand = held.stand.as_ref().map(|value| match value {
            AttributeValue::Integer(value) => *value,
            other => unreachable!("{other:?} is no number"),
        });
        let is_same = held.published == self.published.last().copied()
            && held.items == self.items
            && stand == self.stand;
        (!is_same).then(|| {
            format!(
                "it has said {:?}, {:?}, {:?}, and held is {held:?}",
                self.published, self.items, self.stand
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::history::{Made, Noted};

    fn says(kind: Kind, v: i64) -> What {
        turn(1, vec![Noted { got: Some(Got::Value(Made { v, by: 0 })), ..entry(1, kind) }])
    }

    fn finds(facts: Vec<What>, said: Said) -> usize {
        check(&history(facts), &Content { said: [(0, said)].into(), ..Content::default() }).len()
    }

    fn held() -> Said {
        Said { published: Some(2), items: vec![3], stand: Some(4.into()), ..Said::default() }
    }

    fn all() -> Vec<What> {
        vec![
            says(Kind::Published, 1),
            says(Kind::Published, 2),
            says(Kind::Emitted, 3),
            says(Kind::AttributeSet, 4),
        ]
    }

    #[test]
    fn what_stands_otherwise_than_it_was_said_is_found() {
        assert_eq!(finds(all(), held()), 0);
        for wrong in [
            Said { published: Some(1), ..held() },
            Said { items: vec![3, 3], ..held() },
            Said { items: vec![], ..held() },
            Said { stand: None, ..held() },
        ] {
            assert_eq!(finds(all(), wrong), 1);
        }
    }

    #[test]
    fn a_reader_who_sees_too_much_or_an_older_value_is_found() {
        let value = |value| What::ReadPublished { run: 0, value };
        let with = |reads: Vec<What>| finds(all().into_iter().chain(reads).collect(), held());
        assert_eq!((with(vec![value(1), value(2)]), with(vec![value(2), value(1)])), (0, 1));
        assert_eq!(with(vec![value(5)]), 1, "nobody has said so");
        let item = |n, value| What::ReadItem { run: 0, n, value };
        assert_eq!((with(vec![item(0, 3)]), with(vec![item(1, 3)]), with(vec![item(0, 9)])), (0, 1, 1));
    }
}
