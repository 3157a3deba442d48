//! The store on a real server.

mod fixture;
mod hand;

mod ambiguity;
mod conformance;
mod fences;
mod guests;
mod openings;
mod outages;
mod roles;
mod tls;
mod transactions;
mod workers;
