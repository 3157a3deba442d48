//! What threads share in Everstep, in every order in which they can meet: the writer's queue, the bell, the wakes of
//! drivers, what they are told, who is in memory, the claiming of keys.
//!
//! The sources are the engine's own, compiled here a second time against [`sync`] (see `build.rs`), and once more for
//! each way of weakening them that [`weak`] lists: what finds nothing in the sound one must find each of those.
//!
//! Absent: memory orderings (every atomic is sequentially consistent here); `futures_util`'s `AtomicWaker` and tokio's
//! channels (locks with the same contract stand for them); tokio's scheduler; timers that fire at their time (they fire
//! at any time); the driver's own loop (the plays look at their news in its order).

extern crate self as everstep_weave;

pub mod channel;
pub mod explore;
pub mod sync;
pub mod weak;

/// The compiled sources: `sound`, and one module for each weakened variant.
mod woven {
    include!(concat!(env!("OUT_DIR"), "/woven.rs"));
}

/// Something that threads do together.
pub type Play = fn();

/// All plays with the sources as they are.
pub fn plays() -> &'static [(&'static str, Play)] {
    woven::sound::plays::ALL
}

/// The play that must find a weakened variant, with the sources weakened so.
pub fn weakened(weak: &weak::Weak) -> Play {
    let variant = woven::WEAK.iter().find(|(name, _)| *name == weak.name).expect("each has been compiled");
    variant.1.iter().find(|(name, _)| *name == weak.found_by).expect("there is such a play").1
}
