//! A configuration, and what a provider and Redis answer to it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oidc_gate_core::host::{Callout, CalloutReply};
use serde_json::{Value, json};

use super::host::{BEGIN, GOOD_SIGNATURE, MemoryHost};
use crate::instance::Instance;

pub const ISSUER: &str = "https://idp.example/realms/mlflow";

/// Bearer tokens and browser login.
pub fn configuration() -> Value {
    json!({
        "public_url": "https://gate.example",
        "issuer": {"url": ISSUER, "cluster": "keycloak"},
        "client": {"id": "mlflow", "secret": "a-secret-of-the-client"},
        "login": {},
        "session": {
            "keys": [STANDARD.encode(std::array::from_fn::<u8, 32, _>(|place| place as u8 * 7))],
            "redis": {"cluster": "redis", "prefix": "mlflow"},
        },
        "bearer": {"audiences": ["mlflow"], "algorithms": ["RS256"]},
        "groups": {},
        "policy": {"preset": "mlflow", "users": "mlflow_users"},
    })
}

/// An instance that serves [`configuration`].
pub fn serving(host: &std::rc::Rc<MemoryHost>) -> Instance {
    let instance = host.instance();
    assert!(instance.configure(configuration().to_string().as_bytes()), "{:#?}", host.log.borrow());
    instance
}

/// The value of `authorization` for a valid token.
pub fn bearer() -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(json!({"alg": "RS256", "kid": "k-1", "typ": "JWT"}));
    let claims = encode(json!({
        "iss": ISSUER, "aud": "mlflow", "sub": "s-1", "typ": "Bearer", "iat": BEGIN, "exp": BEGIN + 300,
        "preferred_username": "mona", "groups": ["/mlflow_users"],
    }));
    format!("Bearer {header}.{claims}.{}", URL_SAFE_NO_PAD.encode(GOOD_SIGNATURE))
}

/// A session cookie that only Redis can verify.
pub fn session_cookie() -> String {
    format!("__Host-oidc-gate={}", URL_SAFE_NO_PAD.encode([9; 48]))
}

/// The provider's replies.
pub fn answer(callout: &Callout) -> CalloutReply {
    let path = callout.headers.iter().find(|(name, _)| name == ":path").map(|(_, value)| value.as_str());
    let body = match path {
        Some("/realms/mlflow/.well-known/openid-configuration") => json!({
            "issuer": ISSUER,
            "authorization_endpoint": format!("{ISSUER}/auth"),
            "token_endpoint": format!("{ISSUER}/token"),
            "jwks_uri": format!("{ISSUER}/certs"),
        }),
        Some("/realms/mlflow/certs") => {
            let modulus = URL_SAFE_NO_PAD.encode([0xff; 256]);
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k-1", "n": modulus, "e": "AQAB"}]})
        }
        other => panic!("nobody asks the provider for {other:?}"),
    };
    let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
    CalloutReply { status: 200, headers, body: body.to_string().into_bytes() }
}

/// Answers the root context's requests to the provider. Requests to Redis stay unanswered.
pub fn provide(host: &MemoryHost, instance: &Instance) {
    loop {
        host.tick(instance);
        let asked: Vec<_> =
            host.take_sent().into_iter().filter(|sent| sent.callout.cluster == "keycloak").collect();
        if asked.is_empty() {
            return;
        }
        for sent in asked {
            host.answer(instance, &sent, Ok(answer(&sent.callout)));
        }
    }
}
