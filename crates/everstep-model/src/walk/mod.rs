//! The real stores driven by walks through the model: whatever a worker's call or a letter does in the model, both stores
//! must do. Here the model is the oracle; a rule that both stores broke in the same way would be found.

mod actual;
mod compare;
mod walks;

pub use walks::{Walked, benches, run, walk};
