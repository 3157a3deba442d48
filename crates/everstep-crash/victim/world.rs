//! The world outside the workflows: effects are lines on the standard output, whole and in order.

use std::{collections::HashSet, io::Write as _, sync::Arc};

use everstep::{Ctx, StepCtx};

/// What earlier lives have left in the world, and whose SQL transactional steps speak.
#[derive(Clone)]
pub(crate) struct World {
    seen: Arc<HashSet<String>>,
    pub(crate) on_postgres: bool,
}

impl World {
    pub(crate) fn new(seen: &str, on_postgres: bool) -> World {
        let seen = std::fs::read_to_string(seen).unwrap_or_default();
        World { seen: Arc::new(seen.lines().map(str::to_string).collect()), on_postgres }
    }

    /// A body takes effect. Everything of an earlier `stage` of its run is to be recorded by now.
    pub(crate) fn effect(&self, ctx: &Ctx, s: &StepCtx, stage: usize) {
        effect(ctx.id(), s.key(), s, stage);
    }

    /// As [`World::effect`], of a generation: the same key is another step in another one.
    pub(crate) fn effect_of(&self, ctx: &Ctx, s: &StepCtx, stage: usize, generation: u32) {
        match generation {
            0 => self.effect(ctx, s, stage),
            _ => effect(ctx.id(), &format!("{}@{generation}", s.key()), s, stage),
        }
    }

    /// A body that runs beside all others takes effect.
    pub(crate) fn effect_beside(&self, ctx: &Ctx, s: &StepCtx) {
        effect(ctx.id(), s.key(), s, "-");
    }

    /// Whether a body of this step took effect in an earlier life.
    pub(crate) fn has_seen(&self, run: &str, key: &str) -> bool {
        self.seen.contains(&format!("{run} {key}"))
    }
}

fn effect(run: &str, key: &str, s: &StepCtx, stage: impl std::fmt::Display) {
    say(format!("effect {run} {key} {} {stage} {}", s.attempt(), s.idempotency_key()));
}

/// An undo, or what is done when a run is cancelled, takes effect.
pub(crate) fn undoes(run: &str, key: &str, stage: usize) {
    say(format!("effect {run} undo/{key} 1 {stage} -"));
}

/// One line, in one write: whoever is killed has said it or not.
pub(crate) fn say(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
