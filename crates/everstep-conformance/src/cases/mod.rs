//! The cases, one noun a file; their list is in `list`.

pub(crate) mod act;
pub(crate) mod bell;
pub(crate) mod child;
pub(crate) mod claim;
pub(crate) mod cut;
pub(crate) mod end;
pub(crate) mod kept;
pub(crate) mod letter;
pub(crate) mod mark;
pub(crate) mod payload;
pub(crate) mod promise;
pub(crate) mod read;
pub(crate) mod reply;
pub(crate) mod say;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod transact;
pub(crate) mod turn;
pub(crate) mod whole;
pub(crate) mod worker;
