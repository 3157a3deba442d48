//! The store trait, verb by verb.

use std::sync::{Arc, atomic::Ordering};

use super::Memory;
use crate::{
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, NewRun, Post,
        Posted, Receipt, RunId, Started, Store, Transact, Transacted, Transfer, Turn, WorkerId, WorkerInfo,
        WorkerSeen,
    },
    time::Timestamp,
};

impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.0.bell
    }

    fn transfer(&self) -> Option<&dyn Transfer> {
        Some(self)
    }

    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        self.write(|content| {
            content.check_mark()?;
            Ok(content.enroll(info.build))
        })
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        self.write(|content| content.beat(fence))
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.read(|content| content.seen_workers())
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.write(|content| content.fence(fence, other, beat))
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.write(|content| content.free(fence, other, limit))
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.write(|content| content.leave(fence))
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        self.start_all(runs, claim)
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        let turn = self.0.claims.fetch_add(1, Ordering::Relaxed);
        self.write(|content| content.claim(self.0.number, fence, &claim, turn))
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.write(|content| content.reload(self.0.number, fence, run))
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.read(|content| content.next_due(&workflows))
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.write(|content| content.nudged(fence))
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.commit_turn(fence, turn, receipt.clone());
    }

    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        self.run_step(fence, step)
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        self.write(|content| {
            content.check_mark()?;
            content.post(post)
        })
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.write(|content| {
            content.check_mark()?;
            content.cut(cut)
        })
    }

    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        self.write(|content| {
            content.check_mark()?;
            content.act(does, act)
        })
    }

    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.write(|content| {
            content.check_mark()?;
            Ok(runs.iter().map(|run| content.delete(run)).collect())
        })
    }
}
