//! The command as people call it: what it prints, and how it ends.

mod copy;
mod journal;
mod list;
mod sample;
mod show;
mod stage;
