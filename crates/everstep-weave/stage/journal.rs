#[derive(Clone, Debug)]
pub(crate) struct Outcome;
