//! What the writer does for each verb, one noun a file. Each decides before it writes, so that a refusal concerns
//! nobody else in the transaction.

pub(crate) mod act;
pub(crate) mod child;
pub(crate) mod claim;
pub(crate) mod cut;
pub(crate) mod delete;
pub(crate) mod entry;
mod inside;
pub(crate) mod mark;
pub(crate) mod place;
pub(crate) mod post;
pub(crate) mod promise;
pub(crate) mod renew;
pub(crate) mod say;
pub(crate) mod start;
pub(crate) mod transact;
pub(crate) mod turn;
pub(crate) mod worker;
