#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) i64);

#[derive(Clone, Debug)]
pub(crate) struct StoreError;

pub(crate) use bell::Bell;
