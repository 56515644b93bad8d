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

use crate::encoding::length_prefixed;
use crate::host::{Host, shared_or};
use crate::principal::{Sid, Subject};
use crate::record_name::RecordName;
use crate::time::Timestamp;

/// Revocations that workers pass on one by one. A worker that missed more reads the whole list.
const RING: usize = 128;
/// Most revocations that are remembered. The oldest are dropped.
pub const MAX_KNOWN: usize = 16_384;
const KNOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(MAX_KNOWN - 1);
/// The whole list is rewritten after this many revocations. So every revocation is in the list before the ring drops
/// it.
const SHARE_EVERY: u64 = 64;
/// Announcements per second that unauthenticated requests can cause, for all workers together. A worker that checks at
/// least once per cache TTL misses no more than the ring holds.
const FOR_STRANGERS: u8 = 8;
/// Tries to write shared data when another worker wrote first.
const TRIES: u32 = 16;
/// Kind, key, timestamp.
const ENCODED: usize = 1 + KEY_LEN + 8;
const KEY_LEN: usize = 16;

type Key = [u8; KEY_LEN];

/// The scope of a [`Revocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum RevocationKind {
    /// One of our sessions.
    Session = b's',
    /// Everything that came from one session at the provider (`sid`).
    ProviderSession = b'p',
    /// Everything that the provider issued to one user before a timestamp.
    User = b'u',
    /// Everything that the provider issued to anybody before a timestamp.
    Everyone = b'e',
    /// A session that continues with changed permissions: its groups changed.
    Changed = b'c',
    /// Revocations may have been missed: every worker must drop its cached sessions.
    Missed = b'm',
}

/// One revocation. It holds only hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    kind: RevocationKind,
    key: Key,
    before: Timestamp,
}

impl Revocation {
    /// One of our sessions ended.
    pub fn session(name: &RecordName) -> Self {
        Self { kind: RevocationKind::Session, key: session_id_hash(name), before: Timestamp::default() }
    }

    /// One of our sessions has a new record with different permissions.
    pub fn changed(name: &RecordName) -> Self {
        Self { kind: RevocationKind::Changed, ..Self::session(name) }
    }

    /// A session at the provider ended, and with it all sessions and tokens that carry its `sid`.
    pub fn provider_session(issuer: &str, sid: &Sid) -> Self {
        let key = hash(&[b"provider session", issuer.as_bytes(), sid.as_str().as_bytes()]);
        Self { kind: RevocationKind::ProviderSession, key, before: Timestamp::default() }
    }

    /// Everything that was issued to a user before `before` is revoked.
    pub fn user(issuer: &str, subject: &Subject, before: Timestamp) -> Self {
        let key = hash(&[b"user", issuer.as_bytes(), subject.as_str().as_bytes()]);
        Self { kind: RevocationKind::User, key, before }
    }

    /// Everything that was issued to anybody before `before` is revoked.
    pub fn everyone(issuer: &str, before: Timestamp) -> Self {
        Self { kind: RevocationKind::Everyone, key: hash(&[b"everyone", issuer.as_bytes()]), before }
    }

    /// Revocations may have been missed.
    pub fn missed() -> Self {
        Self { kind: RevocationKind::Missed, key: Key::default(), before: Timestamp::default() }
    }

    /// Limits the revocation to what was issued until `latest`, so that it cannot lock users out for ever.
    #[must_use]
    pub fn until(self, latest: Timestamp) -> Self {
        Self { before: self.before.min(latest), ..self }
    }

    /// 25 bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&[self.kind as u8][..], &self.key, &self.before.as_millis().to_be_bytes()].concat()
    }

    /// `None` for bytes that are not in our format.
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

/// The keys under which revocations of a session or token are looked up.
#[derive(Clone, Copy, Debug)]
pub struct RevocationKeys {
    session: Option<Key>,
    provider_session: Option<Key>,
    user: Key,
    everyone: Key,
    issued: Timestamp,
    same_second: SameSecond,
}

/// What happens to a token or session whose `iat` is in the same second as the revocation of its user. `iat` counts
/// whole seconds, so it does not tell which came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SameSecond {
    /// A token is revoked: nothing else would end it.
    Ends,
    /// A session goes on: earlier sessions are ended by name.
    GoesOn,
}

impl RevocationKeys {
    /// For a session that was issued by `issuer` to `subject` at `issued` (its `iat`), in the provider session `sid`.
    pub fn new(issuer: &str, subject: &Subject, sid: Option<&Sid>, issued: Timestamp) -> Self {
        Self {
            same_second: SameSecond::GoesOn,
            session: None,
            provider_session: sid.map(|sid| Revocation::provider_session(issuer, sid).key),
            user: Revocation::user(issuer, subject, issued).key,
            everyone: Revocation::everyone(issuer, issued).key,
            issued,
        }
    }

    /// For a bearer token, not a session.
    #[must_use]
    pub fn of_token(self) -> Self {
        Self { same_second: SameSecond::Ends, ..self }
    }

    /// Adds the name of one of our sessions.
    #[must_use]
    pub fn of_session(self, name: &RecordName) -> Self {
        Self { session: Some(session_id_hash(name)), ..self }
    }
}

/// What a worker must drop after it caught up.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Forget {
    /// These sessions; the list may be empty.
    Sessions(Vec<Key>),
    /// All sessions.
    Everything,
}

/// The revocations that one worker knows.
pub struct Revocations {
    host: Rc<dyn Host>,
    head_key: String,
    ring_key: String,
    all_key: String,
    strangers_key: String,
    seen: Cell<u64>,
    /// The most recently announced are dropped last.
    known: RefCell<LruCache<(RevocationKind, Key), Timestamp>>,
    /// Kept apart, so that other revocations cannot push it out: nothing else revokes what it revokes. Only for our
    /// issuer, so that entries about other issuers use no memory.
    everyone: RefCell<HashMap<Key, Timestamp>>,
}

impl Revocations {
    /// `tenant` keeps gates apart that do not belong together. All lookups are for `issuer`.
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

    /// Announces revocations to all workers of this Envoy.
    pub fn announce(&self, revocations: &[Revocation]) {
        // This worker must know them even if the shared data cannot be written.
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

    /// Whether an unauthenticated request may cause one more announcement now. Counted for the whole Envoy.
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

    /// Publishes the position of the ring. Never moves it back if another worker was faster.
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

    /// Reads what other workers announced since the last call.
    pub fn catch_up(&self) -> Forget {
        // Every request does this, so the first read is short.
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

    /// Publishes all revocations that this worker and others know, for workers that have missed some. They are
    /// remembered in the order in which they came (the shared list, `ring`, `newest`), since the oldest are dropped
    /// first.
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
            // `LruCache` iterates from the newest.
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

    /// Learns the shared list and returns its compare-and-swap number.
    fn learn_all(&self) -> Option<u32> {
        let (bytes, version) = self.host.shared_get(&self.all_key)?;
        decode_list(&bytes).1.iter().for_each(|revocation| self.remember(revocation));
        Some(version)
    }

    /// Whether this session was revoked by its name.
    pub fn is_session_revoked(&self, session: &[u8; KEY_LEN]) -> bool {
        self.known.borrow().contains(&(RevocationKind::Session, *session))
    }

    /// Whether a revocation applies to a session or token with these keys.
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

/// The key of a session in the list of revocations.
pub fn session_id_hash(name: &RecordName) -> Key {
    hash(&[b"session", name.as_bytes()])
}

fn hash(parts: &[&[u8]]) -> Key {
    let hash = Sha256::new().chain_update(b"oidc-gate/ending/1").chain_update(length_prefixed(parts));
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

/// The number of all revocations so far, then the latest ones, oldest first.
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
