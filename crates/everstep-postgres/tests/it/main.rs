//! The store on a real server.

mod fixture;
mod hand;

mod ambiguity;
mod conformance;
