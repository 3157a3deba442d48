//! What is written, verb by verb.

pub(crate) mod entry;
pub(crate) mod start;
pub(crate) mod turn;

pub(crate) mod act;
pub(crate) mod child;
pub(crate) mod claim;
pub(crate) mod cut;
pub(crate) mod delete;
pub(crate) mod mark;
pub(crate) mod place;
pub(crate) mod post;
pub(crate) mod promise;
pub(crate) mod renew;
pub(crate) mod say;
pub(crate) mod transact;
pub(crate) mod worker;
