//! The methods that the gate lets through.

use crate::labelled::labelled;

labelled! {
    /// A method that an application can receive. All others get 400.
    pub enum Method {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
        Options = "OPTIONS",
    }
}

impl Method {
    /// The method with this name. Names are case-sensitive (RFC 9110 9.1).
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|known| known.label().as_bytes() == name).copied()
    }
}
