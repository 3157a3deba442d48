//! The protocol of Everstep as a model that is explored in full, the stores driven by the model's walks, and the stores
//! compared with each other.
#![deny(missing_docs)]

mod chance;
mod report;
mod spread;
mod stores;

pub mod differential;
pub mod protocol;
pub mod walk;

pub use report::Report;
pub use stores::Compared;

/// Keeps the panics that jobs are told to make from being printed: they are part of the test.
pub fn silence_jobs() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<String>().is_none_or(|said| said != "boom") {
            before(panic);
        }
    }));
}
