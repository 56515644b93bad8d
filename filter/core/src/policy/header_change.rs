//! What a permit does to the headers of a request.

use std::borrow::Cow;
use std::fmt;

/// One change to the request's headers. Changes are applied in order.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Remove all headers of this name.
    Remove(String),
    /// Remove all headers of this name and set this single value.
    Set(Cow<'static, str>, Vec<u8>),
}

impl fmt::Debug for HeaderChange {
    /// Prints no value, because one may be an assertion.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(name) => write!(f, "Remove({name})"),
            Self::Set(name, _) => write!(f, "Set({name})"),
        }
    }
}
