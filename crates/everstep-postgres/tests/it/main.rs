//! The store on a real server.

mod fixture;
mod hand;
mod world;

mod ambiguity;
mod clocks;
mod conformance;
mod due;
mod fences;
mod guests;
mod late;
mod openings;
mod outages;
mod roles;
mod stopped;
mod tls;
mod transactions;
mod workers;
