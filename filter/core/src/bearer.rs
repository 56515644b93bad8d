//! Bearer tokens (RFC 6750) → principal: form, signature, issuer, audience, lifetime, binding, and whether their
//! session was revoked.
//!
//! The issuer must be exactly the configured one. One of the audiences must be in `bearer.audiences`. `exp`, `nbf` and
//! `iat` are checked, and a longest lifetime if one is configured. A sender-constrained token (`cnf`) is refused.
//!
//! A verdict is cached under the hash of the whole token, until the token expires or the keys are fetched again.
//! Whether the token was revoked is checked for every request.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::assertion::{self, Memo};
use crate::config;
use crate::encoding::from_base64;
use crate::error::Rejection;
use crate::http::request::Request;
use crate::jose::claims::Claims;
use crate::jose::error::TokenError;
use crate::jose::kind::AccessToken;
use crate::jose::token::UntrustedToken;
use crate::jose::validity::{Clock, Validity};
use crate::oidc::introspection;
use crate::oidc::provider_client::ProviderClient;
use crate::oidc::verify::verify;
use crate::principal::{self, Principal};
use crate::revocation::memory::RevocationKeys;
use crate::secret::SecretText;
use crate::session::cache::{Cache, Weigh};
use crate::session::store::Store;
use crate::sync::{Flights, Role};
use crate::time::Timestamp;

/// Pause before the provider is asked again about a token if it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Most tokens for which an introspection result is remembered.
const MAX_SAID: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// Most bytes of verdicts that one worker caches.
const CACHE_CAPACITY: usize = 8 * 1024 * 1024;

/// Verifies bearer tokens for one tenant.
pub struct Verifier {
    client: Rc<ProviderClient>,
    accepted: config::Bearer,
    verdicts: RefCell<Cache<[u8; 32], Verdict>>,
    keys_of: Cell<Option<Timestamp>>,
    /// Introspections in progress, and recent results.
    asking: Flights<[u8; 32]>,
    said: RefCell<LruCache<[u8; 32], Said>>,
    /// The source of revocations; absent without browser login.
    sessions: Option<Rc<Store>>,
}

/// The cached result for a valid token.
pub struct Verdict {
    /// Whose token it is.
    pub principal: Principal,
    /// The last assertion about the principal.
    pub memo: Memo,
    revocation_keys: RevocationKeys,
    /// With the assertion that the memo may hold.
    weight: usize,
}

/// An introspection result.
struct Said {
    asked: Timestamp,
    answered: Timestamp,
    word: Result<(), Rejection>,
}

impl Said {
    /// Whether the result is still valid, or comes from a call that began after this request arrived.
    fn counts(&self, arrived: Timestamp, now: Timestamp, interval: Duration) -> bool {
        let age = match self.word {
            Ok(()) => now.duration_since(self.asked),
            // Requests that waited for a slow answer must not repeat the call one after the other.
            Err(_) => now.duration_since(self.answered),
        };
        let is_no_answer = matches!(self.word, Err(Rejection::Unavailable(_)));
        age < if is_no_answer { PAUSE } else { interval } || self.asked >= arrived
    }
}

impl Weigh for Verdict {
    fn weight(&self) -> usize {
        self.weight
    }
}

impl Verifier {
    /// A verifier for the configured audiences and algorithms.
    pub fn new(client: Rc<ProviderClient>, accepted: config::Bearer, sessions: Option<Rc<Store>>) -> Self {
        Self {
            client,
            sessions,
            accepted,
            verdicts: RefCell::new(Cache::new(CACHE_CAPACITY)),
            keys_of: Cell::default(),
            asking: Flights::default(),
            said: RefCell::new(LruCache::new(MAX_SAID)),
        }
    }

    /// Whether a token may be the password of Basic authentication.
    pub fn accepts_basic(&self) -> bool {
        self.accepted.basic
    }

    /// The verdict on a valid token.
    ///
    /// # Errors
    /// [`Rejection::InvalidToken`], or [`Rejection::Unavailable`] if the keys, or the introspection if configured, are
    /// unavailable.
    pub async fn verify(&self, token: &str) -> Result<Rc<Verdict>, Rejection> {
        // Hash the whole token: the same header and payload with another signature is a different token (BT15).
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let provider = match self.client.provider.now() {
            Some(provider) => provider,
            None => {
                // A malformed token does not wait for the keys.
                UntrustedToken::parse(token).map_err(Rejection::InvalidToken)?;
                self.client.provider.current().await?
            }
        };
        if self.keys_of.replace(Some(provider.fetched)) != Some(provider.fetched) {
            self.verdicts.borrow_mut().clear();
        }
        let now = self.client.host.now();
        let known = self.verdicts.borrow_mut().get(&key, now);
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let (verdict, expires) = self.judge(token).await?;
                let verdict = Rc::new(verdict);
                self.verdicts.borrow_mut().put(key, verdict.clone(), now..expires);
                verdict
            }
        };
        // The user or the session may have been signed out.
        if let Some(sessions) = &self.sessions {
            sessions.know_revocations().await;
            if sessions.revocations.is_revoked(&verdict.revocation_keys) {
                return Err(Rejection::InvalidToken(TokenError::SignedOut));
            }
        }
        if let Some(interval) = self.accepted.check_interval {
            self.require_active(token, key, interval).await?;
        }
        Ok(verdict)
    }

    /// Introspects a token at most once per interval, however many requests present it. If the provider does not
    /// answer, the next try comes after [`PAUSE`].
    async fn require_active(&self, token: &str, key: [u8; 32], interval: Duration) -> Result<(), Rejection> {
        let arrived = self.client.host.now();
        loop {
            let now = self.client.host.now();
            if let Some(said) =
                self.said.borrow_mut().get(&key).filter(|said| said.counts(arrived, now, interval))
            {
                return said.word.clone();
            }
            match self.asking.join(key) {
                Role::Follow(said) => said.await,
                Role::Lead(_asking) => {
                    let asked = self.client.host.now();
                    let word = introspection::require_active(&self.client, token).await;
                    let said = Said { asked, answered: self.client.host.now(), word: word.clone() };
                    self.said.borrow_mut().put(key, said);
                    return word;
                }
            }
        }
    }

    async fn judge(&self, token: &str) -> Result<(Verdict, Timestamp), Rejection> {
        let kind = AccessToken(&self.client.config.issuer.access_token_marks);
        let verified = verify(&self.client, token, &kind, &self.accepted.algorithms)
            .await
            .map_err(|error| error.into_rejection(Rejection::InvalidToken))?;
        let claims = verified.claims();
        let expires = self.check(claims, self.client.host.now()).map_err(Rejection::InvalidToken)?;
        let principal =
            Principal::from_access_token(&self.client.config, claims).map_err(Rejection::InvalidToken)?;
        principal::log_left_out(&*self.client.host, claims);
        // A token without `iat` counts as issued before every revocation.
        let issued = claims.iat().map_err(|error| Rejection::InvalidToken(error.into()))?.unwrap_or_default();
        let revocation_keys =
            RevocationKeys::new(&principal.issuer, &principal.subject, principal.sid.as_ref(), issued)
                .of_token();
        let asserts = self.client.config.identity.assertion.is_some();
        let of_assertion = if asserts { assertion::weight(&principal) } else { 0 };
        let weight = principal.weight().saturating_add(of_assertion);
        Ok((Verdict { principal, memo: Memo::default(), revocation_keys, weight }, expires))
    }

    /// RFC 9068 4. Returns when the token expires.
    fn check(&self, claims: &Claims, now: Timestamp) -> Result<Timestamp, TokenError> {
        claims.require_issuer(&self.client.config.issuer.url)?;
        claims.require_audience(&self.accepted.audiences)?;
        claims.require_subject()?;
        let leeway = self.client.config.clock_leeway;
        let validity = Validity::of(claims)?;
        validity.require_now(Clock { now, leeway })?;
        if let Some(longest) = self.accepted.max_lifetime {
            validity.require_lifetime(longest)?;
        }
        // RFC 9449 7.2, RFC 8705 3: a sender-constrained token sent as Bearer lacks its proof.
        if claims.is_sender_constrained() {
            return Err(TokenError::SenderConstrained);
        }
        Ok(validity.expires.saturating_add(leeway))
    }
}

/// The content of the header with the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// There is no such header.
    Absent,
    /// One well-formed Bearer credential.
    Bearer(&'a str),
    /// A well-formed token as the password of one Basic credential (RFC 7617).
    Basic(SecretText),
    /// Anything else: another scheme, more than one, or not well-formed.
    Unusable,
}

/// RFC 6750 2.1: `Bearer`, in any case, one space, one b64token. `header` is its name.
pub fn authorization<'a>(request: &'a Request, header: &str) -> Authorization<'a> {
    if !request.has_header(header) {
        return Authorization::Absent;
    }
    let usable = request.header(header).and_then(|value| value.split_once(' ')).and_then(
        |(scheme, value)| match scheme.to_ascii_lowercase().as_str() {
            "bearer" => is_b64token(value).then_some(Authorization::Bearer(value)),
            "basic" => password(value).map(Authorization::Basic),
            _ => None,
        },
    );
    usable.unwrap_or(Authorization::Unusable)
}

/// RFC 7617 2: the password of a Basic credential, if it has the form of a token. The user name may be any.
fn password(credential: &str) -> Option<SecretText> {
    let pair = Zeroizing::new(from_base64(credential)?);
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    is_b64token(password).then(|| SecretText::new(password))
}

fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::request;
    use crate::testing::test;

    #[test]
    fn a_token_may_be_the_password_of_any_user() {
        for (value, token) in [
            ("Basic dXNlcjpwdw==", "pw"),
            ("basic OmEuYi5j", "a.b.c"),
            ("BASIC dTphLmIuYy1fPT0=", "a.b.c-_=="),
        ] {
            let request = request("GET", "/", &[("authorization", value)]).unwrap();
            let expected = Authorization::Basic(SecretText::new(token));
            assert_eq!(authorization(&request, "authorization"), expected, "{value}");
        }
        let request = request("GET", "/", &[("x-mlflow-authorization", "Bearer t")]).unwrap();
        assert_eq!(authorization(&request, "authorization"), Authorization::Absent);
        assert_eq!(authorization(&request, "x-mlflow-authorization"), Authorization::Bearer("t"));
    }

    #[test]
    fn bt10_one_scheme_one_space_one_token() {
        for value in ["Bearer abc.def-_~+/==", "bearer x", "BEARER x"] {
            let request = request("GET", "/", &[("authorization", value)]).unwrap();
            assert!(matches!(authorization(&request, "authorization"), Authorization::Bearer(_)), "{value}");
        }
        for value in [
            "Bearer  x",
            "Bearer\tx",
            "Bearer x y",
            "Bearer x, Bearer y",
            "Bearer",
            "Bearer ",
            "BearerX",
            "Bearer \"x\"",
            "Token x",
            "Basic dXNlcg==",
            "Basic dXNlcjo=",
            "Basic dXNlcjpwIHc=",
            "Basic dXNlcjpwdw",
            "Basic dXNlcjpwdw== x",
            "DPoP x",
            "",
            " Bearer x",
            "Bearer =",
            "Bearer x=y",
            "Bearer \u{e9}",
        ] {
            let request = request("GET", "/", &[("authorization", value)]).unwrap();
            assert_eq!(authorization(&request, "authorization"), Authorization::Unusable, "{value:?}");
        }
        let twice =
            request("GET", "/", &[("authorization", "Bearer x"), ("authorization", "Bearer x")]).unwrap();
        assert_eq!(authorization(&twice, "authorization"), Authorization::Unusable);
        assert_eq!(authorization(&request("GET", "/", &[]).unwrap(), "authorization"), Authorization::Absent);
    }
}
