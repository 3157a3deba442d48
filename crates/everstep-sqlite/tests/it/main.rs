//! What is SQLite's own about this store; what every store must do is in the conformance suite.

mod conformance;
mod copies;
mod damage;
mod fixture;
mod journal;
mod opening;
mod others;
mod transactions;
