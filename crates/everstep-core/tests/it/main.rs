//! The engine on the in-memory store: its rules by the programs they exist for, mostly on virtual time.

mod blocks;
mod cancel;
mod commands;
mod common;
mod conformance;
mod doubt;
mod endings;
mod errors;
mod foreign;
mod lease;
mod letters;
mod limits;
mod maps;
mod orders;
mod panics;
mod replay;
mod restarts;
mod said;
mod seen;
mod signals;
mod starts;
mod timers;
mod undo;
mod values;
mod verbs;
