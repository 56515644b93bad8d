//! Bearer tokens (RFC 6750) → principal: form, signature, issuer, audience, lifetime, binding. A verdict is remembered
//! under the hash of the whole token, until the token expires or the keys change.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::config::{self, Config};
use crate::error::Rejection;
use crate::host::Host;
use crate::http::request::Request;
use crate::jose::claims::Claims;
use crate::jose::error::TokenError;
use crate::jose::kind::AccessToken;
use crate::jose::validity::{Clock, Validity};
use crate::oidc::provider::Keeper;
use crate::oidc::verify::{VerifyError, verify};
use crate::principal::Principal;
use crate::session::cache::Cache;
use crate::time::Timestamp;

/// Verdicts that one worker remembers at most.
const CACHE_CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// Verifies bearer tokens for one tenant.
pub struct Verifier {
    config: Rc<Config>,
    accepted: config::Bearer,
    verdicts: RefCell<Cache<Principal>>,
    keys_of: Cell<Option<Timestamp>>,
}

impl Verifier {
    /// For the audiences and algorithms of the configuration.
    pub fn new(config: Rc<Config>, accepted: config::Bearer) -> Self {
        let verdicts = RefCell::new(Cache::new(CACHE_CAPACITY));
        Self { config, accepted, verdicts, keys_of: Cell::default() }
    }

    /// Who presents this token.
    ///
    /// # Errors
    /// [`Rejection::InvalidToken`], or [`Rejection::Unavailable`] when the keys can't be had.
    pub async fn verify(
        &self,
        keeper: &Keeper,
        host: &dyn Host,
        token: &str,
    ) -> Result<Rc<Principal>, Rejection> {
        // The whole token: same header and payload with another signature is another token (BT15).
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let provider = keeper.current().await?;
        if self.keys_of.replace(Some(provider.fetched)) != Some(provider.fetched) {
            self.verdicts.borrow_mut().clear();
        }
        if let Some(principal) = self.verdicts.borrow_mut().get(&key, host.now()) {
            return Ok(principal);
        }
        let verified =
            verify::<AccessToken>(keeper, host, token, &self.accepted.algorithms).await.map_err(|error| {
                match error {
                    VerifyError::Token(error) => Rejection::InvalidToken(error),
                    VerifyError::Unavailable(rejection) => rejection,
                }
            })?;
        let claims = verified.claims();
        let expires = self.check(claims, host.now()).map_err(Rejection::InvalidToken)?;
        let principal = Principal::from_claims(&self.config, claims).map_err(Rejection::InvalidToken)?;
        let principal = Rc::new(principal);
        self.verdicts.borrow_mut().put(key, principal.clone(), expires);
        Ok(principal)
    }

    /// RFC 9068 4, and when the token ends.
    fn check(&self, claims: &Claims, now: Timestamp) -> Result<Timestamp, TokenError> {
        claims.require_issuer(&self.config.issuer.url)?;
        claims.require_audience(&self.accepted.audiences)?;
        claims.require_subject()?;
        let leeway = self.config.clock_leeway;
        let validity = Validity::of(claims)?;
        validity.require_now(Clock { now, leeway })?;
        if let Some(longest) = self.accepted.max_lifetime {
            validity.require_lifetime(longest)?;
        }
        // RFC 9449 7.2, RFC 8705 3: a bound token sent as Bearer lacks its proof.
        if claims.is_sender_constrained() {
            return Err(TokenError::SenderConstrained);
        }
        Ok(validity.expires.plus(leeway))
    }
}

/// What the Authorization header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// There is none.
    Absent,
    /// One well-formed Bearer credential.
    Bearer(&'a str),
    /// Anything else: another scheme, more than one, or not well-formed.
    Unusable,
}

/// RFC 6750 2.1: `Bearer`, in any case, one space, one b64token.
pub fn authorization(request: &Request) -> Authorization<'_> {
    if !request.has_header("authorization") {
        return Authorization::Absent;
    }
    request
        .header("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && is_b64token(token))
        .map_or(Authorization::Unusable, |(_, token)| Authorization::Bearer(token))
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
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn bt10_one_scheme_one_space_one_token() {
        for value in ["Bearer abc.def-_~+/==", "bearer x", "BEARER x"] {
            let request = request("GET", "/", &[("authorization", value)]).unwrap();
            assert!(matches!(authorization(&request), Authorization::Bearer(_)), "{value}");
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
            "Basic dXNlcjpwdw==",
            "DPoP x",
            "",
            " Bearer x",
            "Bearer =",
            "Bearer x=y",
            "Bearer \u{e9}",
        ] {
            let request = request("GET", "/", &[("authorization", value)]).unwrap();
            assert_eq!(authorization(&request), Authorization::Unusable, "{value:?}");
        }
        let twice =
            request("GET", "/", &[("authorization", "Bearer x"), ("authorization", "Bearer x")]).unwrap();
        assert_eq!(authorization(&twice), Authorization::Unusable);
        assert_eq!(authorization(&request("GET", "/", &[]).unwrap()), Authorization::Absent);
    }
}
