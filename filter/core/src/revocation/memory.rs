//! The revocations that one worker knows, and how the workers of an Envoy exchange them. Envoys exchange them through
//! `super::log`.
//!
//! Shared data holds a counter, which every request compares, and a ring with the latest 128 revocations. A worker that
//! has missed more than these reads the complete list and drops all cached sessions. The list is written again after
//! every 64 revocations. It keeps the order in which revocations arrived, because beyond 16384 the oldest ones are
//! dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::host::{Host, shared_or};
use crate::record_name::RecordName;
use crate::time::Timestamp;

/// Revocations that workers hand each other one by one; whoever misses more reads the whole list.
const RING: usize = 128;
/// Revocations that are remembered; the oldest go.
pub const MAX_KNOWN: usize = 16_384;
const KNOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(MAX_KNOWN - 1);
/// After so many revocations the whole list is written anew: before the ring loses one of them, it is in there.
const SHARE_EVERY: u64 = 64;
/// What strangers can have announced in a second, by all workers together. A worker that does not look for longer than
/// it remembers a session misses no more than the ring holds.
const FOR_STRANGERS: u8 = 8;
/// How often a write is tried again when another worker wrote first.
const TRIES: u32 = 16;
/// kind, key, moment.
const ENCODED: usize = 1 + KEY_LEN + 8;
const KEY_LEN: usize = 16;

type Key = [u8; KEY_LEN];

/// What a [`Revocation`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum RevocationKind {
    /// One session of ours.
    Session = b's',
    /// All that came of one session at the provider (`sid`).
    ProviderSession = b'p',
    /// All that the provider issued to one user before a moment.
    User = b'u',
    /// All that the provider issued to anybody before a moment.
    Everyone = b'e',
    /// A session goes on, but is not what it was: its groups changed.
    Changed = b'c',
    /// Revocations may have been missed: nothing that a worker remembers of sessions counts any more.
    Missed = b'm',
}

/// One revocation. It holds hashes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    kind: RevocationKind,
    key: Key,
    before: Timestamp,
}

impl Revocation {
    /// A session of ours ended.
    pub fn session(name: &RecordName) -> Self {
        Self { kind: RevocationKind::Session, key: session_id_hash(name), before: Timestamp::default() }
    }

    /// A session of ours has a new record that differs in what it allows.
    pub fn changed(name: &RecordName) -> Self {
        Self { kind: RevocationKind::Changed, ..Self::session(name) }
    }

    /// A session at the provider ended, and with it all sessions and tokens that carry its `sid`.
    pub fn provider_session(issuer: &str, sid: &str) -> Self {
        let key = hash(&[b"provider session", issuer.as_bytes(), sid.as_bytes()]);
        Self { kind: RevocationKind::ProviderSession, key, before: Timestamp::default() }
    }

    /// All that was issued to a user before `before` is void.
    pub fn user(issuer: &str, subject: &str, before: Timestamp) -> Self {
        let key = hash(&[b"user", issuer.as_bytes(), subject.as_bytes()]);
        Self { kind: RevocationKind::User, key, before }
    }

    /// All that was issued to anybody before `before` is void.
    pub fn everyone(issuer: &str, before: Timestamp) -> Self {
        Self { kind: RevocationKind::Everyone, key: hash(&[b"everyone", issuer.as_bytes()]), before }
    }

    /// Revocations may have been missed.
    pub fn missed() -> Self {
        Self { kind: RevocationKind::Missed, key: Key::default(), before: Timestamp::default() }
    }

    /// The same, but not for what is issued after `latest`: nobody may be kept out for ever.
    #[must_use]
    pub fn until(self, latest: Timestamp) -> Self {
        Self { before: self.before.min(latest), ..self }
    }

    /// 25 bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&[self.kind as u8][..], &self.key, &self.before.as_millis().to_be_bytes()].concat()
    }

    /// `None` for whatever we did not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (key, before) = rest.split_first_chunk::<KEY_LEN>()?;
        let before = Timestamp::from_millis(u64::from_be_bytes(before.try_into().ok()?));
        let kind = match kind {
            b's' => RevocationKind::Session,
            b'p' => RevocationKind::ProviderSession,
            b'u' => RevocationKind::User,
            b'e' => RevocationKind::Everyone,
            b'c' => RevocationKind::Changed,
            b'm' => RevocationKind::Missed,
            _ => return None,
        };
        Some(Self { kind, key: *key, before })
    }
}

/// What would end a session or a token: its names in the list of revocations.
#[derive(Clone, Copy, Debug)]
pub struct RevocationKeys {
    session: Option<Key>,
    provider_session: Option<Key>,
    user: Key,
    everyone: Key,
    issued: Timestamp,
    same_second: SameSecond,
}

/// What becomes of something that was issued in the very second in which its user was signed out. `iat` counts whole
/// seconds, so it can't tell which of the two was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SameSecond {
    /// A token ends: nothing else would end it.
    Ends,
    /// A session goes on: those that began before are ended by name.
    GoesOn,
}

impl RevocationKeys {
    /// Of a session that began with what `issuer` issued to `subject` at `issued` (its `iat`), in its session `sid`.
    pub fn new(issuer: &str, subject: &str, sid: Option<&str>, issued: Timestamp) -> Self {
        Self {
            same_second: SameSecond::GoesOn,
            session: None,
            provider_session: sid.map(|sid| Revocation::provider_session(issuer, sid).key),
            user: Revocation::user(issuer, subject, issued).key,
            everyone: Revocation::everyone(issuer, issued).key,
            issued,
        }
    }

    /// Of a token that its bearer presents, and not of a session.
    #[must_use]
    pub fn of_token(self) -> Self {
        Self { same_second: SameSecond::Ends, ..self }
    }

    /// Of a session of ours, by its name, too.
    #[must_use]
    pub fn of_session(self, name: &RecordName) -> Self {
        Self { session: Some(session_id_hash(name)), ..self }
    }
}

/// What a worker has to forget after it caught up.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Forget {
    /// These sessions; perhaps none.
    Sessions(Vec<Key>),
    /// All of them.
    Everything,
}

/// The list of revocations of one worker.
pub struct Revocations {
    host: Rc<dyn Host>,
    head_key: String,
    ring_key: String,
    all_key: String,
    strangers_key: String,
    seen: Cell<u64>,
    /// Those that came last are the last to be forgotten.
    known: RefCell<LruCache<(RevocationKind, Key), Timestamp>>,
    /// Apart from the others, so that no number of them pushes it out: it ends what nothing else does. Of our issuer
    /// only: what somebody writes about others takes no place.
    everyone: RefCell<HashMap<Key, Timestamp>>,
}

impl Revocations {
    /// `tenant` keeps apart what has nothing to do with each other; all that is looked up is of `issuer`.
    pub fn new(host: Rc<dyn Host>, tenant: &str, issuer: &str) -> Self {
        let nobody = Revocation::everyone(issuer, Timestamp::default());
        Self {
            host,
            head_key: format!("oidc-gate.endings.{tenant}"),
            ring_key: format!("oidc-gate.endings.{tenant}.ring"),
            all_key: format!("oidc-gate.endings.{tenant}.all"),
            strangers_key: format!("oidc-gate.endings.{tenant}.strangers"),
            seen: Cell::default(),
            known: RefCell::new(LruCache::new(KNOWN)),
            everyone: RefCell::new(HashMap::from([(nobody.key, nobody.before)])),
        }
    }

    /// Tells all workers of this Envoy.
    pub fn announce(&self, revocations: &[Revocation]) {
        // Whatever the others hear: this worker knows.
        revocations.iter().for_each(|revocation| self.remember(revocation));
        let new = u64::try_from(revocations.len()).unwrap_or(u64::MAX);
        for _ in 0..TRIES {
            let Some((bytes, version)) = shared_or(&*self.host, &self.ring_key, &0u64.to_be_bytes()) else {
                break;
            };
            let (before, mut ring) = decode_list(&bytes);
            let count = before.wrapping_add(new);
            if before / SHARE_EVERY != count / SHARE_EVERY {
                self.share_all(&ring, revocations);
            }
            ring.extend_from_slice(revocations);
            let surplus = ring.len().saturating_sub(RING);
            ring.drain(..surplus);
            if self.host.shared_set(&self.ring_key, &encode_list(count, &ring), Some(version)).is_ok() {
                self.advance_head(count);
                return;
            }
        }
    }

    /// Whether something may be announced now that anybody can ask for. Counted for the whole Envoy.
    pub fn may_announce_for_strangers(&self) -> bool {
        let second = self.host.now().as_secs().to_be_bytes();
        let Some((bytes, version)) = shared_or(&*self.host, &self.strangers_key, &[]) else { return false };
        let count = match bytes.split_last() {
            Some((&count, counted)) if counted == second => count,
            _ => 0,
        };
        let counted = [&second[..], &[count.saturating_add(1)]].concat();
        count < FOR_STRANGERS && self.host.shared_set(&self.strangers_key, &counted, Some(version)).is_ok()
    }

    /// Says how far the ring goes; never back, when another worker was faster.
    fn advance_head(&self, count: u64) {
        for _ in 0..TRIES {
            let Some((bytes, version)) = shared_or(&*self.host, &self.head_key, &0u64.to_be_bytes()) else {
                break;
            };
            let head = bytes.first_chunk().copied().map_or(0, u64::from_be_bytes);
            if head >= count
                || self.host.shared_set(&self.head_key, &count.to_be_bytes(), Some(version)).is_ok()
            {
                return;
            }
        }
    }

    /// Reads what others announced since the last time.
    pub fn catch_up(&self) -> Forget {
        // Each request asks, so what is read is short.
        let head = self.host.shared_get(&self.head_key).and_then(|(bytes, _)| bytes.first_chunk().copied());
        if head.is_none_or(|head| u64::from_be_bytes(head) == self.seen.get()) {
            return Forget::Sessions(Vec::new());
        }
        let Some((bytes, _)) = self.host.shared_get(&self.ring_key) else {
            return Forget::Sessions(Vec::new());
        };
        let (count, ring) = decode_list(&bytes);
        let seen = self.seen.replace(count);
        let new = usize::try_from(count.wrapping_sub(seen)).unwrap_or(usize::MAX);
        match ring.len().checked_sub(new).and_then(|first| ring.get(first..)) {
            Some(latest) => {
                latest.iter().for_each(|revocation| self.remember(revocation));
                if latest.iter().any(|revocation| revocation.kind == RevocationKind::Missed) {
                    return Forget::Everything;
                }
                let sessions = latest.iter().filter(|revocation| {
                    matches!(revocation.kind, RevocationKind::Session | RevocationKind::Changed)
                });
                Forget::Sessions(sessions.map(|revocation| revocation.key).collect())
            }
            None => {
                self.learn_all();
                ring.iter().for_each(|revocation| self.remember(revocation));
                Forget::Everything
            }
        }
    }

    /// Leaves all that this worker knows, and others have left, for those who were away for longer. In the order in
    /// which they came, since the oldest are the first to be forgotten: what others have left, then `ring`, then
    /// `newest`.
    fn share_all(&self, ring: &[Revocation], newest: &[Revocation]) {
        for _ in 0..TRIES {
            let version = self.learn_all();
            ring.iter().chain(newest).for_each(|revocation| self.remember(revocation));
            let known = self.known.borrow();
            let everyone = self.everyone.borrow();
            let everyone = everyone.iter().map(|(&key, &before)| Revocation {
                kind: RevocationKind::Everyone,
                key,
                before,
            });
            // Its own order is the newest first.
            let all: Vec<Revocation> = known
                .iter()
                .rev()
                .map(|(&(kind, key), &before)| Revocation { kind, key, before })
                .chain(everyone)
                .collect();
            if self.host.shared_set(&self.all_key, &encode_list(0, &all), version).is_ok() {
                return;
            }
        }
    }

    /// Learns what others have left; gives back its compare-and-swap number.
    fn learn_all(&self) -> Option<u32> {
        let (bytes, version) = self.host.shared_get(&self.all_key)?;
        decode_list(&bytes).1.iter().for_each(|revocation| self.remember(revocation));
        Some(version)
    }

    /// Whether this very session has ended, by its name.
    pub fn is_session_revoked(&self, session: &[u8; KEY_LEN]) -> bool {
        self.known.borrow().contains(&(RevocationKind::Session, *session))
    }

    /// Whether one of the revocations is about a session or token with these keys.
    pub fn is_revoked(&self, keys: &RevocationKeys) -> bool {
        let known = self.known.borrow();
        let is_known = |kind, key: Option<Key>| key.is_some_and(|key| known.contains(&(kind, key)));
        let before = known.peek(&(RevocationKind::User, keys.user)).copied();
        let is_void = before.is_some_and(|before| match keys.same_second {
            SameSecond::Ends => keys.issued.as_secs() <= before.as_secs(),
            SameSecond::GoesOn => keys.issued < before,
        });
        is_known(RevocationKind::Session, keys.session)
            || is_known(RevocationKind::ProviderSession, keys.provider_session)
            || is_void
            || self.everyone.borrow().get(&keys.everyone).is_some_and(|before| keys.issued < *before)
    }

    fn remember(&self, revocation: &Revocation) {
        match revocation.kind {
            RevocationKind::Changed | RevocationKind::Missed => return,
            RevocationKind::Everyone => {
                if let Some(before) = self.everyone.borrow_mut().get_mut(&revocation.key) {
                    *before = revocation.before.max(*before);
                }
                return;
            }
            RevocationKind::Session | RevocationKind::ProviderSession | RevocationKind::User => {}
        }
        let mut known = self.known.borrow_mut();
        let id = (revocation.kind, revocation.key);
        let before = known.get(&id).map_or(revocation.before, |before| revocation.before.max(*before));
        known.put(id, before);
    }
}

/// The name of a session in the list of revocations.
pub fn session_id_hash(name: &RecordName) -> Key {
    hash(&[b"session", name.as_bytes()])
}

fn hash(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    hash.update(b"oidc-gate/ending/1");
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

/// How many there ever were, then the latest, oldest first.
fn encode_list(count: u64, revocations: &[Revocation]) -> Vec<u8> {
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.extend(revocations.iter().flat_map(Revocation::encode));
    bytes
}

fn decode_list(bytes: &[u8]) -> (u64, Vec<Revocation>) {
    match bytes.split_first_chunk::<8>() {
        Some((count, rest)) => {
            let revocations =
                rest.as_chunks::<ENCODED>().0.iter().filter_map(|bytes| Revocation::decode(bytes));
            (u64::from_be_bytes(*count), revocations.collect())
        }
        None => (0, Vec::new()),
    }
}

#[cfg(test)]
mod tests;
