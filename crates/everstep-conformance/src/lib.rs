//! What every store of Everstep must do, as data.
#![deny(missing_docs)]
