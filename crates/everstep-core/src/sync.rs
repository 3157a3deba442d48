//! What threads share, in one place: everstep-weave compiles the files that take it from here against another, which
//! tries out the orders in which threads can meet. Nothing more than names, in every build of this crate.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, atomic};

pub(crate) use futures_util::task::AtomicWaker;

pub(crate) use crate::watch;
