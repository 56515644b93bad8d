//! Signing keys, and tokens of any form.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use oidc_gate_provider_model::{Key, KeyRing};
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::Generate as _;
use rsa::PrivateKey;
use rsa::pkcs1v15;
use rsa::signature::SignatureEncoding as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

/// Generating an RSA key takes almost a second, so all providers of a process share these keys.
static RSA_KEYS: Mutex<Vec<Arc<PrivateKey>>> = Mutex::new(Vec::new());

const RSA_BITS: usize = 2048;

/// A key that signs tokens. It determines the algorithm, whatever the header says.
#[derive(Clone)]
pub enum SigningKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256(Arc<PrivateKey>),
    /// ECDSA on P-256 with SHA-256, signature as r‖s.
    Es256(p256::ecdsa::SigningKey),
    /// HMAC with SHA-256 under these bytes.
    Hs256(Vec<u8>),
    /// HMAC with SHA-512 under these bytes.
    Hs512(Vec<u8>),
    /// An empty signature.
    Unsigned,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

impl SigningKey {
    /// The `number`th RSA key of this process.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn rsa(number: usize) -> Self {
        let mut keys = RSA_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        while keys.len() <= number {
            match PrivateKey::new(&mut system_random(), RSA_BITS) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(error) => panic!("no RSA key: {error}"),
            }
        }
        match keys.get(number) {
            Some(key) => Self::Rs256(Arc::clone(key)),
            None => unreachable!("keys were made up to that number"),
        }
    }

    /// A new P-256 key.
    pub fn ec() -> Self {
        Self::Es256(p256::ecdsa::SigningKey::generate_from_rng(&mut system_random()))
    }

    /// The key id: 43 base64url characters, like Keycloak's.
    pub fn kid(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.public_parts().to_string()))
    }

    /// A header with the correct `alg` and `kid`.
    pub fn header(&self, typ: &str) -> Value {
        json!({"alg": self.algorithm(), "typ": typ, "kid": self.kid()})
    }

    /// The public key as a JWK for signatures. `null` for keys without a public part.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.public_parts();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".into(), json!(self.kid()));
            members.insert("use".into(), json!("sig"));
            members.insert("alg".into(), json!(self.algorithm()));
        }
        jwk
    }

    fn public_parts(&self) -> Value {
        match self {
            Self::Rs256(key) => json!({
                "kty": "RSA",
                "n": URL_SAFE_NO_PAD.encode(key.n().to_be_bytes_trimmed_vartime()),
                "e": URL_SAFE_NO_PAD.encode(key.e().to_be_bytes_trimmed_vartime()),
            }),
            Self::Es256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let coordinate =
                    |bytes: Option<&p256::FieldBytes>| bytes.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
                json!({"kty": "EC", "crv": "P-256", "x": coordinate(point.x()), "y": coordinate(point.y())})
            }
            Self::Hs256(_) | Self::Hs512(_) | Self::Unsigned => Value::Null,
        }
    }

    /// Signs bytes.
    ///
    /// # Panics
    /// Never with the keys that this module makes.
    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Rs256(key) => pkcs1v15::SigningKey::<Sha256>::new((**key).clone()).sign(input).to_vec(),
            Self::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(input);
                signature.to_bytes().to_vec()
            }
            Self::Hs256(secret) => mac::<Hmac<Sha256>>(secret, input),
            Self::Hs512(secret) => mac::<Hmac<Sha512>>(secret, input),
            Self::Unsigned => Vec::new(),
        }
    }

    /// A compact JWS with exactly this header and payload, which need not be JSON.
    pub fn token(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(input.as_bytes()));
        format!("{input}.{signature}")
    }
}

impl Key for SigningKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::Hs256(_) => "HS256",
            Self::Hs512(_) => "HS512",
            Self::Unsigned => "none",
        }
    }

    fn jwk(&self) -> Value {
        self.jwk()
    }
}

fn mac<M: hmac::Mac + hmac::KeyInit>(secret: &[u8], input: &[u8]) -> Vec<u8> {
    match <M as hmac::KeyInit>::new_from_slice(secret) {
        Ok(mut mac) => {
            mac.update(input);
            mac.finalize().into_bytes().to_vec()
        }
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

fn system_random() -> rsa::rand_core::UnwrapErr<getrandom::SysRng> {
    rsa::rand_core::UnwrapErr(getrandom::SysRng)
}

/// One RSA and one EC key, for a realm that was given new keys this many times.
pub(super) fn pair(rotations: usize) -> Vec<SigningKey> {
    vec![SigningKey::rsa(rotations), SigningKey::ec()]
}

/// The first keys of a realm, and an encryption key, which Keycloak always lists too.
pub(super) fn key_ring() -> KeyRing<SigningKey> {
    // It is never used for decryption, so any odd number of this size will do.
    let mut modulus = super::random_bytes::<256>();
    modulus[0] |= 0x80;
    modulus[255] |= 1;
    let encryption = json!({
        "kid": URL_SAFE_NO_PAD.encode(Sha256::digest(modulus)), "kty": "RSA", "alg": "RSA-OAEP", "use": "enc",
        "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
    });
    KeyRing::new(pair(0), vec![encryption])
}
