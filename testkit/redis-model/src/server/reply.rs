//! Replies that many commands share.

use crate::resp::Reply;

impl Reply {
    /// `+OK`
    pub(super) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// A bulk string, or nil.
    pub(super) fn bulk(value: Option<&Vec<u8>>) -> Self {
        value.map_or(Self::Nil, |value| Self::Bulk(value.clone()))
    }

    /// 1 or 0.
    pub(super) fn truth(holds: bool) -> Self {
        Self::Integer(i64::from(holds))
    }

    /// A length.
    pub(super) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// The command does not apply to the key's type.
    pub(super) fn wrong_type() -> Self {
        Self::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
    }

    /// The command has an unknown word.
    pub(super) fn syntax() -> Self {
        Self::Error("ERR syntax error".to_owned())
    }

    /// An argument is not a number.
    pub(super) fn not_an_integer() -> Self {
        Self::Error("ERR value is not an integer or out of range".to_owned())
    }
}
