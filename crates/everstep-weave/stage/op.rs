use crate::store::RunId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Turn(RunId),
    Job,
    Client,
}

pub(crate) trait Op: Send {
    fn weight(&self) -> Weight;
    /// Whose operation it is, and which of his.
    fn label(&self) -> (usize, usize);
    /// The writer has it.
    fn taken(&self);
}
