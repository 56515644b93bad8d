//! Replies that many commands have.

use crate::resp::Reply;

impl Reply {
    /// `+OK`
    pub(super) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// Some bytes or nothing.
    pub(super) fn bulk(value: Option<&Vec<u8>>) -> Self {
        value.map_or(Self::Nil, |value| Self::Bulk(value.clone()))
    }

    /// One or zero.
    pub(super) fn truth(holds: bool) -> Self {
        Self::Integer(i64::from(holds))
    }

    /// A length.
    pub(super) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// The key's type does not have this command.
    pub(super) fn wrong_type() -> Self {
        Self::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
    }

    /// The command has a word that it does not know.
    pub(super) fn syntax() -> Self {
        Self::Error("ERR syntax error".to_owned())
    }

    /// The command has something else than a number.
    pub(super) fn not_an_integer() -> Self {
        Self::Error("ERR value is not an integer or out of range".to_owned())
    }
}
