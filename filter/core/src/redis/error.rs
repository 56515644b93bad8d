//! Why Redis gave no usable answer.

/// Why Redis gave no usable answer. It always means "don't know", never "not found".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisError(pub &'static str);

impl RedisError {
    /// The reason in words, for the log.
    pub fn text(&self) -> &'static str {
        self.0
    }
}
