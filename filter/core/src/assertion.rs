//! The assertion: a signed statement to the application about the user of a request, as a JWT (RFC 7519) with HS256. An
//! application that verifies it need not trust whoever can connect to its port. docs/headers.md has the claims.
//!
//! It is signed for a session or a token as this worker remembers it, and used again for at most [`REUSED_FOR`]: most
//! requests cost no signature.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::config;
use crate::encoding::base64url;
use crate::principal::{Kind, Principal, SERVICE_ACCOUNT_PREFIX};
use crate::secret::Secret;
use crate::time::Timestamp;

/// `exp` − `iat`.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long an assertion is used again. An assertion on its way to the application is valid for the rest of
/// [`LIFETIME`] at least.
pub const REUSED_FOR: Duration = Duration::from_secs(30);

/// A key's id is an HMAC over this text, so both sides compute it, and nobody configures it.
const KEY_ID_LABEL: &[u8] = b"oidc-gate assertion key id";

/// Signs assertions for one application.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
    /// The JOSE header, encoded.
    header: String,
    issuer: String,
    audience: String,
}

/// The last assertion about one principal.
#[derive(Debug, Default)]
pub struct Memo(RefCell<Option<(Timestamp, Rc<Secret>)>>);

impl Clone for Memo {
    /// A copy of a session or verdict begins without an assertion: the principal may be changed in the copy.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    groups: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    iat: u64,
    exp: u64,
}

impl Signer {
    /// Signs with the first of the configured keys. `None` never happens: HMAC takes a key of any length.
    pub fn new(config: &config::Assertion) -> Option<Self> {
        let mac = Hmac::new_from_slice(config.keys.first().expose()).ok()?;
        let header = Header { alg: "HS256", kid: &key_id(&mac), typ: "JWT" };
        Some(Self {
            header: base64url(serde_json::to_vec(&header).ok()?),
            mac,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })
    }

    /// The assertion about `principal`, with these of its groups. It is taken from `memo` if that one is fresh.
    pub fn sign(&self, principal: &Principal, groups: &[&str], now: Timestamp, memo: &Memo) -> Rc<Secret> {
        if let Some((made, assertion)) = &*memo.0.borrow()
            && *made <= now
            && now.duration_since(*made) < REUSED_FOR
        {
            return assertion.clone();
        }
        let assertion = Rc::new(Secret::new(self.token(principal, groups, now)));
        memo.0.replace(Some((now, assertion.clone())));
        assertion
    }

    fn token(&self, principal: &Principal, groups: &[&str], now: Timestamp) -> String {
        let name = name(principal);
        let iat = now.as_secs();
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: principal.subject.as_str(),
            name: &name,
            email: principal.email.as_deref().filter(|_| principal.kind == Kind::Person),
            groups,
            client_id: name.strip_prefix(SERVICE_ACCOUNT_PREFIX).filter(|_| principal.kind == Kind::Client),
            iat,
            exp: iat.saturating_add(LIFETIME.as_secs()),
        };
        // Texts and numbers can always be written as JSON.
        let payload = base64url(serde_json::to_vec(&claims).unwrap_or_default());
        let signed = format!("{}.{payload}", self.header);
        let signature = self.mac.clone().chain_update(signed.as_bytes()).finalize().into_bytes();
        format!("{signed}.{}", base64url(signature))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// The size of an assertion about `principal`, in bytes, and rather too much than too little.
pub fn weight(principal: &Principal) -> usize {
    // Base64 makes four bytes of three.
    principal.weight().saturating_mul(4).div_euclid(3).saturating_add(256)
}

/// The name by which the application knows the user. RFC 9068 5: a client must not be mistaken for a person with the
/// same name, nor a person for a client.
fn name(principal: &Principal) -> String {
    let username = principal.preferred_username.as_deref();
    match principal.kind {
        Kind::Person => {
            let own = username.filter(|name| !is_of_a_client(name));
            own.unwrap_or(principal.subject.as_str()).to_owned()
        }
        Kind::Client => match username.filter(|name| name.starts_with(SERVICE_ACCOUNT_PREFIX)) {
            Some(name) => name.to_owned(),
            None => format!("{SERVICE_ACCOUNT_PREFIX}{}", principal.subject.as_str()),
        },
    }
}

fn is_of_a_client(name: &str) -> bool {
    let prefix = name.get(..SERVICE_ACCOUNT_PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(SERVICE_ACCOUNT_PREFIX))
}

/// The first 16 hexadecimal digits of an HMAC-SHA-256 of [`KEY_ID_LABEL`].
fn key_id(mac: &Hmac<Sha256>) -> String {
    let digest = mac.clone().chain_update(KEY_ID_LABEL).finalize().into_bytes();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::encoding::from_base64url;
    use crate::testing::test;

    const KEY: &str = "an assertion key of the unit tests, 44 bytes";

    fn signer(keys: &[&str]) -> Signer {
        Signer::new(&config::Assertion {
            keys: keys.iter().map(|key| Secret::new(*key)).collect::<Vec<_>>().try_into().unwrap(),
            issuer: "oidc-gate".to_owned(),
            audience: "mlflow".to_owned(),
            header: "x-mlflow-authorization".to_owned(),
        })
        .unwrap()
    }

    fn person() -> Principal {
        Principal {
            issuer: "https://idp.example".to_owned(),
            subject: "f:1:a".into(),
            kind: Kind::Person,
            preferred_username: Some("ann".to_owned()),
            name: Some("Ann Other".to_owned()),
            email: Some("ann@example.com".to_owned()),
            groups: vec!["/mlflow_users".to_owned()],
            groups_elsewhere: false,
            sid: None,
        }
    }

    fn sign(principal: &Principal, at: u64) -> String {
        let groups: Vec<&str> = principal.groups.iter().map(String::as_str).collect();
        let assertion = signer(&[KEY]).sign(principal, &groups, Timestamp::from_secs(at), &Memo::default());
        assertion.expose_str().unwrap().to_owned()
    }

    fn part(token: &str, index: usize) -> Value {
        serde_json::from_slice(&from_base64url(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn it_says_who_the_user_is_for_a_minute() {
        let token = sign(&person(), 1_000);
        assert_eq!(
            part(&token, 1),
            json!({
                "iss": "oidc-gate", "aud": "mlflow", "sub": "f:1:a", "name": "ann", "email": "ann@example.com",
                "groups": ["/mlflow_users"], "iat": 1_000, "exp": 1_060,
            })
        );
        assert_eq!(part(&token, 0)["alg"], "HS256");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(KEY.as_bytes()).unwrap();
        assert!(mac.chain_update(signed).verify_slice(&from_base64url(signature).unwrap()).is_ok());
    }

    #[test]
    fn a_client_is_never_named_as_a_person() {
        let client = |subject: &str, username: Option<&str>| Principal {
            kind: Kind::Client,
            subject: subject.into(),
            preferred_username: username.map(str::to_owned),
            ..person()
        };
        for (principal, name, id) in [
            (client("uuid", Some("service-account-ci")), "service-account-ci", "ci"),
            (client("ann", None), "service-account-ann", "ann"),
            (client("ann", Some("ann")), "service-account-ann", "ann"),
        ] {
            let claims = part(&sign(&principal, 0), 1);
            assert_eq!((&claims["name"], &claims["client_id"]), (&json!(name), &json!(id)));
            assert_eq!(claims.get("email"), None);
        }
        for name in ["service-account-ci", "Service-Account-CI"] {
            let posing = Principal { preferred_username: Some(name.to_owned()), ..person() };
            let claims = part(&sign(&posing, 0), 1);
            assert_eq!((&claims["name"], claims.get("client_id")), (&json!("f:1:a"), None));
        }
        let nameless = Principal { preferred_username: None, ..person() };
        assert_eq!(part(&sign(&nameless, 0), 1)["name"], "f:1:a");
    }

    #[test]
    fn the_first_key_signs_and_is_named_by_its_id() {
        let id = |keys: &[&str]| {
            let token = signer(keys).sign(&person(), &[], Timestamp::default(), &Memo::default());
            part(token.expose_str().unwrap(), 0)["kid"].as_str().unwrap().to_owned()
        };
        let other = "another assertion key of the tests, 44 bytes";
        assert_eq!(id(&[KEY]), id(&[KEY, other]));
        assert_ne!(id(&[KEY]), id(&[other, KEY]));
        // As `python3 -c 'import hmac; print(hmac.digest(KEY, b"oidc-gate assertion key id", "sha256").hex()[:16])'`.
        assert_eq!(id(&[KEY]), "7bdc275c75a6df56");
    }

    #[test]
    fn it_is_signed_again_after_half_a_minute_and_when_the_clock_was_set_back() {
        let (signer, memo) = (signer(&[KEY]), Memo::default());
        let at = |secs| signer.sign(&person(), &[], Timestamp::from_secs(secs), &memo);
        let first = at(1_000);
        assert!(Rc::ptr_eq(&first, &at(1_029)));
        let second = at(1_030);
        assert_eq!(part(second.expose_str().unwrap(), 1)["exp"], 1_090);
        assert_eq!(part(at(500).expose_str().unwrap(), 1)["exp"], 560);
    }

    #[test]
    fn neither_key_nor_assertion_is_printed() {
        let (signer, memo) = (signer(&[KEY]), Memo::default());
        let token = signer.sign(&person(), &[], Timestamp::default(), &memo);
        let printed = format!("{signer:?} {memo:?} {token:?}");
        assert!(!printed.contains(token.expose_str().unwrap()) && !printed.contains(KEY), "{printed}");
    }
}
