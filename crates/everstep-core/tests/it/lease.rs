//! The lease of a worker whose renewals meet a bad network.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::common::{W, engine, engine_with, nap, settings, virtual_time, wrapped::Wrapped};
use everstep_core::{Ctx, Simulation, store::Store as _};

/// Three leases, and a renewal every quarter of one.
const LOST: u64 = 12;

/// faults.md row 16: a renewal that was made though its reply was lost does not stand in the way of the next. For three
/// leases no reply comes: the worker is not taken for dead, begins no body meanwhile, because it cannot know, and goes
/// on afterwards.
#[test]
fn renewals_whose_replies_are_lost_lose_no_lease() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let bodies = Arc::new(AtomicU64::new(0));
        let counted = bodies.clone();
        let workflow = move |ctx: Ctx, n: u64| {
            let counted = counted.clone();
            async move {
                let long = async || {
                    nap(25_000).await;
                    Ok(counted.fetch_add(1, Ordering::SeqCst))
                };
                ctx.step("long", long).await?;
                ctx.step("next", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).await?;
                Ok(n.to_string())
            }
        };
        let busy = engine_with(&store, &world, settings(), workflow.clone()).await;
        let _looks_on = engine(&store.memory, &world, workflow).await;
        let run = busy.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        store.lose_replies_of_beats(LOST);
        nap(27_000).await;
        assert_eq!(bodies.load(Ordering::SeqCst), 1, "it does not know whether it may begin the next");
        assert_eq!(run.result().await.expect("it goes on"), "7");
        assert!(store.all_replies_were_lost());
        assert_eq!(bodies.load(Ordering::SeqCst), 2);
        let workers = store.memory.workers().await.expect("reads");
        assert!(workers.iter().all(|worker| !worker.fenced), "{workers:?}");
    });
}
