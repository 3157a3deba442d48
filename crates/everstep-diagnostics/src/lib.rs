//! What users read when they make the commonest mistakes is part of the API: the cases and what the compiler says of them stand
//! in `tests/ui`. A crate of its own, because they are compiled as a user's crate that has no more features than it needs.
