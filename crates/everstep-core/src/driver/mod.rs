//! Drives one run: polls its function, delivers its journal, turns what happens into entries.
//!
//! `stack` who runs on this thread · `wake` wakers · `table` the open operations · `dropped` those that are over ·
//! `due` deadlines · `run` the run as all see it · `drive` the rounds · `replay` recorded entries · `candidates` what becomes an entry ·
//! `commands` what the function does by a call · `children` what parents and children say to each other ·
//! `inbox` letters · `asked` what people want of it · `mail` signals and who waits for them · `links` what is waited for by key · `outbox` what is sent and told ·
//! `room` a place to run · `waiting` what wakes it · `ending` how a load ends · `closing` a run that fails or is cancelled ·
//! `undos` what is undone then.

mod asked;
mod candidates;
pub(crate) mod children;
mod closing;
pub(crate) mod commands;
mod drive;
mod dropped;
mod due;
mod ending;
mod inbox;
pub(crate) mod links;
pub(crate) mod mail;
mod news;
mod outbox;
mod replay;
mod room;
pub(crate) mod run;
pub(crate) mod stack;
pub(crate) mod table;
pub(crate) mod undos;
mod waiting;
pub(crate) mod wake;

pub(crate) use closing::killed;
pub(crate) use drive::{Drive, Exit};
pub(crate) use ending::LEAVE;
pub(crate) use inbox::{find_cancel, find_kill};
