//! The store on a real server.

mod fixture;

mod conformance;
mod tls;
