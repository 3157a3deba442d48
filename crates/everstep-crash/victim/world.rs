//! The world outside the workflows: effects are lines on the standard output, whole and in order.

use std::{collections::HashSet, io::Write as _, sync::Arc};

use everstep::{Ctx, StepCtx};

/// What earlier lives have left in the world.
#[derive(Clone)]
pub(crate) struct World(Arc<HashSet<String>>);

impl World {
    pub(crate) fn new(seen: &str) -> World {
        let seen = std::fs::read_to_string(seen).unwrap_or_default();
        World(Arc::new(seen.lines().map(str::to_string).collect()))
    }

    /// A body takes effect. Everything of an earlier `stage` of its run is to be recorded by now.
    pub(crate) fn effect(&self, ctx: &Ctx, s: &StepCtx, stage: usize) {
        say(format!("effect {} {} {} {stage}", ctx.id(), s.key(), s.attempt()));
    }

    /// Whether a body of this step took effect in an earlier life.
    pub(crate) fn has_seen(&self, run: &str, key: &str) -> bool {
        self.0.contains(&format!("{run} {key}"))
    }
}

/// One line, in one write: whoever is killed has said it or not.
pub(crate) fn say(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
