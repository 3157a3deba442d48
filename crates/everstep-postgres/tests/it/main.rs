//! The store on a real server.

mod fixture;

mod conformance;
mod roles;
mod tls;
mod workers;
