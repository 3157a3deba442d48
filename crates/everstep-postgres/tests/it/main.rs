//! The store on a real server.

mod fixture;
mod hand;
mod hints;
mod world;

mod ambiguity;
mod clocks;
mod conformance;
mod dialects;
mod due;
mod fences;
mod guests;
#[cfg(feature = "testing")]
mod hostile;
mod late;
mod openings;
mod orders;
mod outages;
mod pooled;
mod roles;
mod stopped;
mod tls;
mod transactions;
mod workers;
