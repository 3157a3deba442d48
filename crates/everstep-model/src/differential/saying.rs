//! What turns tell others: readers, holders of tokens, askers. Absent on purpose: children and parents, which the
//! conformance suite covers.

use everstep_core::store::{RunId, Say};

use super::{
    operation::{Saying, When},
    sample,
    world::{World, against},
};

impl World {
    /// What a turn of this run says.
    pub(super) fn says(&mut self, says: &[Saying], run: RunId) -> Vec<Say> {
        let at = sample::at(When::At(4));
        let mut told = Vec::new();
        for say in says {
            let seq = told.len() as u64;
            told.push(match *say {
                Saying::Publishes(name, flavour) => {
                    Say::Published { name: sample::name(name), body: sample::payload(flavour), seq, at }
                }
                Saying::Emits(stream, how, flavour) => {
                    let (name, body) = (sample::name(stream), sample::payload(flavour));
                    let n = against(self.next_item(run, &name), how);
                    Say::Emitted { name, n, body, at }
                }
                Saying::Sets(name, value) => {
                    let value = value.map(|value| sample::value_of(name, value));
                    Say::Attribute { name: sample::attribute(name), value }
                }
                Saying::Promises(hash, key, expires) => {
                    let expires = expires.then(|| sample::at(When::At(500)));
                    Say::Promised { hash: sample::hash(hash), key: sample::key(key), expires }
                }
                Saying::Answers(letter, flavour) => {
                    Say::Answered { id: sample::letter(letter, 1, 0).id, body: sample::payload(flavour), at }
                }
            });
        }
        told
    }
}
