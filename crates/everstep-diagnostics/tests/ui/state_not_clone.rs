//! A state that cannot be given to every run.
use everstep::{Engine, store::Memory};

struct Pool;

fn main() {
    let _ = Engine::builder(Memory::default()).state(Pool);
}
