//! Browser sessions: the ticket in the cookie, the sealed record in Redis, and the store between them with a
//! short-lived cache in front.
//!
//! ## What the cookie holds
//!
//! A ticket (`ticket`): 16 random bytes of id, 32 random bytes of secret, and a signature. It is new at every login.
//! `BrowserLogin::ticket` is the only way to one, and it checks the signature before Redis is asked (`door`).
//!
//! ## What Redis holds
//!
//! One record for each session (`record`). Its name is a hash of the ticket's id. It contains the principal with its
//! groups, the times of the session, the ID token for `id_token_hint`, the refresh token, and what a refreshed ID token
//! is compared with (`iat`, `auth_time`, `azp`, `nonce`). It contains no access token.
//!
//! The record is sealed with XChaCha20-Poly1305. The key is derived from `SECRET_KEY` and from the secret in the
//! ticket. So a record opens only with the cookie: a copy of Redis is not enough, `SECRET_KEY` is not enough, and both
//! together are not enough. Purpose, tenant, record name and version are authenticated. A record therefore opens only
//! under its own name and in its own version. Someone who can write to Redis can still restore an older record together
//! with its version, and so hide that a session was idle. The absolute limit is the same in both records.
//!
//! The limits of a session (created, expires, last used) are inside the seal. The TTL in Redis only removes expired
//! keys.
//!
//! | key (`p` is `session.redis.prefix`) | content | lives |
//! | --- | --- | --- |
//! | `p:s:{name}` | hash with record, version and lease (`script`) | until the session expires |
//! | `p:sid:{hash}`, `p:sub:{hash}` | records of a provider session, of a user (`index`) | `absolute_timeout` |
//! | `p:revoked` | the revocation stream, about 16384 entries (`crate::revocation`) | as long as revocations matter |
//! | `p:jti:{hash}` | a logout notification that was processed (`replay`) | 20 minutes |
//! | `p:code:{hash}` | a login flow that was used (`replay`) | until `login.timeout` and `clock_leeway` are over |
//!
//! Every command and every script touches one key. A value has at most 60 KiB, because some transports truncate longer
//! replies. A session in use costs one operation for each `cache_ttl` and worker: writing down its use replaces one of
//! those reads (`usage`).

pub(crate) mod cache;
pub(crate) mod door;
pub(crate) mod ended;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod record;
pub(crate) mod renewal;
pub(crate) mod replay;
pub(crate) mod replies;
pub mod script;
pub(crate) mod store;
pub mod ticket;
pub(crate) mod unwritten;
pub(crate) mod usage;
