//! What a permit does to the headers of a request.

/// One change to the request's headers. Changes are applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Remove all headers of this name.
    Remove(String),
    /// Remove all headers of this name and set this single value.
    Set(&'static str, Vec<u8>),
}
