//! How a value becomes a record, and comes back from it: what the function gets is always what decodes.

use serde::Serialize;

use crate::{
    body::Data,
    error::{Code, Error, Result},
    journal::Payload,
    name::limit_error,
};

/// A value, as it decodes from its record, and the record.
pub(crate) struct Made<T> {
    pub(crate) value: T,
    pub(crate) payload: Payload,
    /// The inbox number of a record that a transaction has committed.
    pub(crate) letter: Option<u64>,
}

/// The record of a value, and the value as it comes back from it.
pub(crate) fn record<T: Data>(value: T, bytes_max: usize) -> Result<Made<T>> {
    let unrecordable = |why: serde_json::Error| {
        Error::misuse(
            Code::NOT_RECORDABLE,
            format!(
                "a `{}` does not come back from its own JSON: {why}. What a step returns must be readable again after a crash",
                std::any::type_name::<T>()
            ),
        )
    };
    let bytes = serde_json::to_vec(&value).map_err(unrecordable)?;
    if bytes.len() > bytes_max {
        return Err(limit_error(
            Code::TOO_LARGE,
            format!(
                "a step's result has at most {bytes_max} bytes; this one has {}. Keep large data elsewhere and return where it is",
                bytes.len()
            ),
        ));
    }
    let value = serde_json::from_slice(&bytes).map_err(unrecordable)?;
    Ok(Made { value, payload: Payload::json(bytes), letter: None })
}

/// The record of a step's input.
pub(super) fn record_input<V: Serialize + ?Sized>(value: &V, bytes_max: usize) -> Result<Box<Payload>> {
    let bytes = serde_json::to_vec(value)
        .map_err(|why| Error::misuse(Code::NOT_RECORDABLE, format!("the step's input: {why}")))?;
    if bytes.len() > bytes_max {
        let got = bytes.len();
        let message =
            format!("a step's input has at most {bytes_max} bytes; this one has {got}. Give what names it");
        return Err(limit_error(Code::TOO_LARGE, message));
    }
    Ok(Box::new(Payload::json(bytes)))
}
