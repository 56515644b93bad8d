//! Writing down that a session is in use, and ending one that is not. What Redis does not take is written later.

use std::rc::Rc;

use crate::error::{Dependency, Rejection, SessionEnd};
use crate::redis::RedisError;
use crate::revocation::memory::session_id_hash;
use crate::session::entry::Entry;
use crate::session::record::touch_interval;
use crate::session::replies::ScriptReply;
use crate::session::script;
use crate::session::store::Store;
use crate::session::ticket::Ticket;
use crate::session::unwritten::{PAUSE, Use};
use crate::time::Timestamp;

/// Tries to record a use while other workers write the record too.
const TRIES: u32 = 3;

impl Store {
    /// Whether a session is within its limits, by the uses that this worker knows.
    pub(super) fn check(&self, entry: &Entry) -> Result<(), SessionEnd> {
        let used = self.unwritten.used(&session_id_hash(&entry.name)).unwrap_or_default();
        entry.record.check_used(used, self.host.now(), &self.config)
    }

    pub(super) fn looks_idle(&self, entry: &Entry) -> bool {
        self.check(entry) == Err(SessionEnd::Idle)
    }

    pub(super) fn is_due_for_touch(&self, entry: &Entry) -> bool {
        entry.record.is_due_for_touch(self.host.now(), &self.config) && self.check(entry).is_ok()
    }

    /// Records in Redis that a session is in use now. `None` if Redis did not accept the write.
    pub(super) async fn note_use(
        &self,
        ticket: &Ticket,
        entry: &Rc<Entry>,
    ) -> Result<Option<Rc<Entry>>, Rejection> {
        if self.unwritten.is_refused() {
            return Ok(None);
        }
        match self.touch(ticket, entry, self.host.now()).await {
            Ok(entry) => Ok(Some(entry)),
            Err(Rejection::Unavailable(problem)) => {
                self.unwritten.refused(problem);
                Ok(None)
            }
            Err(ended) => Err(ended),
        }
    }

    /// Remembers a use, and starts a task that writes it as soon as Redis accepts writes.
    pub(super) fn keep_use(self: &Rc<Self>, ticket: &Ticket, entry: &Rc<Entry>) {
        if self.unwritten.keep(ticket, entry) {
            self.host.spawn_endless(Box::pin(self.clone().write_later()));
        }
    }

    /// Writes all pending uses, then returns.
    async fn write_later(self: Rc<Self>) {
        self.host.sleep(PAUSE).await;
        while let Some((session, Use { ticket, entry, at })) = self.unwritten.next() {
            // An expired session needs no write.
            let is_over = self.check(&entry).is_err();
            match if is_over { Ok(entry) } else { self.touch(&ticket, &entry, at).await } {
                Err(Rejection::Unavailable(problem)) => {
                    self.unwritten.refused(problem);
                    self.host.sleep(PAUSE).await;
                }
                // Written, or ended in the meantime.
                Ok(_) | Err(_) => self.unwritten.done(&session, at),
            }
        }
    }

    /// Ends a session that looks idle. That needs a write. If Redis refuses it, uses may not have been written either,
    /// and the session goes on.
    pub(super) async fn end_unused(
        self: &Rc<Self>,
        ticket: &Ticket,
        mut entry: Rc<Entry>,
    ) -> Result<Rc<Entry>, Rejection> {
        for _ in 0..TRIES {
            if self.unwritten.was_refused() {
                self.keep_use(ticket, &entry);
                return Ok(entry);
            }
            let ended =
                self.eval(script::END_UNUSED, &entry.name, |command| command.number(entry.version)).await;
            let reply = match ended {
                Err(Rejection::Unavailable(problem @ Dependency::Redis(RedisError::Refused(_)))) => {
                    self.unwritten.refused(problem);
                    continue;
                }
                reply => self.outcome(ticket, reply?)?,
            };
            match reply {
                ScriptReply::Word(word) if word == "ended" => {
                    // Best effort: stale index entries are harmless.
                    let _ = self.index.remove(&entry.record, &entry.name).await;
                    self.gone(ticket);
                    return Err(Rejection::SessionEnded(SessionEnd::Idle));
                }
                // A refresh is in progress, so somebody has just used the session. This use is written after it.
                ScriptReply::Word(word) if word == "busy" => {
                    self.keep_use(ticket, &entry);
                    return Ok(entry);
                }
                ScriptReply::Changed(newer) => entry = newer,
                _ => return Err(RedisError::WrongType.into()),
            }
            if !self.looks_idle(&entry) {
                break;
            }
        }
        Ok(entry)
    }

    async fn touch(
        &self,
        ticket: &Ticket,
        entry: &Rc<Entry>,
        used: Timestamp,
    ) -> Result<Rc<Entry>, Rejection> {
        let mut entry = entry.clone();
        for _ in 0..TRIES {
            let mut record = entry.record.clone();
            record.last_used = used.max(record.last_used);
            let version = entry.version.saturating_add(1);
            let sealed = self.seal(ticket, &record, version)?;
            let size = sealed.len();
            let reply = self
                .eval(script::TOUCH, &entry.name, |command| {
                    command
                        .number(entry.version)
                        .number(version)
                        .arg(sealed)
                        .number(self.ttl(&record))
                        .number(self.idle_at(&record))
                })
                .await?;
            match self.outcome(ticket, reply)? {
                ScriptReply::Word(word) if word == "written" => {
                    self.unwritten.written();
                    self.unwritten.done(&session_id_hash(&entry.name), used);
                    return Ok(self.remember(self.entry(ticket, record, version, size)));
                }
                // A refresh is in progress, and its commit records the use as well.
                ScriptReply::Word(word) if word == "busy" => return Ok(self.remember((*entry).clone())),
                // Another worker wrote the record since, but its last use may be long ago.
                ScriptReply::Changed(newer) => entry = newer,
                _ => return Err(RedisError::WrongType.into()),
            }
            if used.duration_since(entry.record.last_used) < touch_interval(&self.config) {
                break;
            }
        }
        Ok(entry)
    }
}
