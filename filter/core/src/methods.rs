//! The methods that the gate lets through.

/// The methods that an application can receive. All others get 400.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
