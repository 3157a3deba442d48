//! Everstep's own protocol as a model: leases, fences, claims, loads, turns, letters, started rows. Explored in full
//! within bounds, and once without each of its rules, so that each is shown to be needed.
//!
//! Absent on purpose: what a run's function is (here always two steps side by side and then a letter), times, and
//! databases.

mod rules;

mod content;
mod worker;

mod model;
mod property;

mod check;

pub use check::{CORNERS, Explored, WEAKENED, Weakened, explore, run, told};
pub use content::*;
pub use model::*;
pub use rules::Rules;
pub use worker::*;
