//! A worker that stands still in the middle of a transaction, behind a pooler, where its session has no settings.

use std::time::Duration;

use everstep_cluster::proxy::{Direction, Fault, Moment, Proxy};
use everstep_core::{
    Timestamp,
    store::{Claim, Store as _, WorkerInfo},
};

use crate::fixture::Desk;

/// The moment that is granted, many times over.
const SOON: Duration = Duration::from_secs(15);

/// Its transaction holds its fence. Whoever takes over waits for that, but not for as long as the process stands still.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "a bound against hanging")]
async fn a_takeover_waits_only_a_moment_for_a_transaction_that_stands_still() {
    let desk = Desk::new();
    let taker = desk.open().await;
    let proxy = Proxy::start(&Desk::url()).await.expect("starts");
    let stopped = desk.options().pooled(true).open(&proxy.url_of("postgres")).await.expect("opens");
    let info = |name: &str| WorkerInfo { name: name.into(), build: "b".into(), at: Timestamp(1) };
    let lost = stopped.enroll(info("lost")).await.expect("is made");
    let by = taker.enroll(info("taker")).await.expect("is made");
    // Nothing comes after what it has begun.
    let stands = proxy.at(Moment::before("COMMIT"), Fault::Hold(Direction::Both));
    let claim = Claim { workflows: ["w".into()].into(), due: Timestamp(1), limit: 1 };
    let claims = tokio::spawn(stopped.claim(lost, claim));
    stands.happened().await;
    let fences = async {
        // While its fence is locked, nobody waits for it.
        while !taker.fence(by, lost.worker, 0).await.expect("is answered") {}
    };
    let fenced = tokio::time::timeout(SOON, fences).await;
    // First, or a failure would wait for it too.
    proxy.heal().await;
    fenced.expect("is fenced in a moment");
    assert!(claims.await.expect("no panic").is_err(), "a fenced worker has claimed");
}
