//! The methods that the gate lets through.

/// Methods that applications are sent; any other gets 400.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
