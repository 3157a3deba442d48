use std::collections::BTreeSet;

use shuttle::thread;

use crate::{digest::Incarnation, scope::Scope};

/// Three claim the same name and draw: a `Ctx` may be used from any thread, and what it hands out is never handed out
/// twice. (Which of them gets which is for the driver to forbid.)
pub(crate) fn every_claim_has_its_own_key() {
    let scope = Scope::root();
    let claims = (0..3).map(|_| {
        let scope = scope.clone();
        thread::spawn(move || {
            let claim = scope.claim("step", "x").map_err(drop).expect("nobody was polled");
            (claim.key.to_string(), scope.draw(Incarnation, 0))
        })
    });
    let claims: Vec<_> = claims.collect();
    let got: Vec<_> = claims.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let keys: BTreeSet<_> = got.iter().map(|(key, _)| key.as_str()).collect();
    let draws: BTreeSet<_> = got.iter().map(|(_, draw)| draw).collect();
    assert_eq!(keys, BTreeSet::from(["x", "x#2", "x#3"]));
    assert_eq!(draws.len(), 3);
}
