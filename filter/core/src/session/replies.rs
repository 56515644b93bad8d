//! What Redis replies about a session: its sealed record, or a word of one of the scripts.

use std::rc::Rc;

use crate::assertion::Memo;
use crate::error::{Dependency, LoginError, Rejection, SessionEnd};
use crate::redis::resp::Value;
use crate::redis::{Command, MAX_VALUE_LEN, RedisError};
use crate::revocation::memory::session_id_hash;
use crate::seal::Purpose;
use crate::session::entry::Entry;
use crate::session::record::{Record, SCHEMA};
use crate::session::store::Store;
use crate::session::ticket::Ticket;

/// The parsed reply of one of our scripts.
pub(super) enum ScriptReply {
    /// `[word]`
    Word(String),
    /// `[word, number]`
    Number(String, u64),
    /// Another worker wrote the record in the meantime.
    Changed(Rc<Entry>),
}

impl Store {
    pub(super) async fn fetch_admitted(&self, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
        let key = self.key(&ticket.record_name());
        let reply = self.run_one(Command::new("HMGET").arg(key).arg("ver").arg("rec")).await?;
        let Value::Array(fields) = reply else { return Err(RedisError::WrongType.into()) };
        match fields.as_slice() {
            [Value::Nil, Value::Nil] => Err(self.gone(ticket)),
            [Value::Bulk(version), Value::Bulk(sealed)] => self.opened(ticket, version, sealed),
            // We never write only one of the two fields.
            [Value::Bulk(_), Value::Nil] | [Value::Nil, Value::Bulk(_)] => {
                Err(Rejection::SessionEnded(SessionEnd::Unreadable))
            }
            // Not a reply to this command.
            _ => Err(RedisError::WrongType.into()),
        }
    }

    /// Parses the reply of one of our scripts: a word, a word and a number, or a newer record.
    pub(super) fn outcome(&self, ticket: &Ticket, reply: Value) -> Result<ScriptReply, Rejection> {
        let Value::Array(parts) = reply else { return Err(RedisError::WrongType.into()) };
        match parts.as_slice() {
            [Value::Bulk(word)] if word == b"gone" => Err(self.gone(ticket)),
            [Value::Bulk(word), Value::Bulk(version), Value::Bulk(sealed)] if word == b"changed" => {
                self.opened(ticket, version, sealed).map(ScriptReply::Changed)
            }
            [Value::Bulk(word)] => Ok(ScriptReply::Word(String::from_utf8_lossy(word).into_owned())),
            [Value::Bulk(word), Value::Integer(number)] => Ok(ScriptReply::Number(
                String::from_utf8_lossy(word).into_owned(),
                u64::try_from(*number).unwrap_or_default(),
            )),
            _ => Err(RedisError::WrongType.into()),
        }
    }

    pub(super) fn gone(&self, ticket: &Ticket) -> Rejection {
        let name = ticket.record_name();
        self.forget(&name);
        let end = SessionEnd::Unknown;
        self.ended.remember(session_id_hash(&name), ticket.fingerprint(), end, self.host.now());
        Rejection::SessionEnded(end)
    }

    /// Accepts only a record that this ticket decrypts, with this version and our schema.
    fn opened(&self, ticket: &Ticket, version: &[u8], sealed: &[u8]) -> Result<Rc<Entry>, Rejection> {
        let name = ticket.record_name();
        let open = || {
            let version: u64 = std::str::from_utf8(version).ok()?.parse().ok()?;
            let context = [name.as_bytes(), &version.to_be_bytes()];
            let plain = self.keys.open(Purpose::Session, ticket.secret(), &context, sealed).ok()?;
            let record: Record = serde_json::from_slice(&plain).ok()?;
            (record.schema == SCHEMA).then_some((record, version))
        };
        let (record, version) = open().ok_or(Rejection::SessionEnded(SessionEnd::Unreadable))?;
        Ok(self.remember(self.entry(ticket, record, version, sealed.len())))
    }

    pub(super) fn entry(&self, ticket: &Ticket, record: Record, version: u64, size: usize) -> Entry {
        let name = ticket.record_name();
        let revocation_keys = record.revocation_keys().of_session(&name);
        let memo = Memo::default();
        Entry {
            record,
            version,
            memo,
            fingerprint: ticket.fingerprint(),
            revocation_keys,
            name,
            weight: size,
        }
    }

    /// Seals a record. The name and the version are authenticated, so the sealed bytes do not open under another one.
    pub(super) fn seal(&self, ticket: &Ticket, record: &Record, version: u64) -> Result<Vec<u8>, Rejection> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| Dependency::Host)?);
        let name = ticket.record_name();
        let context = [name.as_bytes(), &version.to_be_bytes()];
        let sealed = self.keys.seal(&*self.host, Purpose::Session, ticket.secret(), &context, &plain)?;
        if sealed.len() > MAX_VALUE_LEN { Err(LoginError::TooLarge(sealed.len()).into()) } else { Ok(sealed) }
    }
}
