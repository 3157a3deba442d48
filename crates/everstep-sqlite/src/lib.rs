//! Everstep on one SQLite file.
#![deny(missing_docs)]
