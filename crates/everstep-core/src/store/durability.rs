//! What commits survive.

/// How much a commit of this store survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// The process may die. Power loss may take the last commits.
    Process,
    /// Power may fail.
    Power,
}
