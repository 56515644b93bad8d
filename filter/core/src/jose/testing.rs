//! For tests: fixed keys, tokens signed with them, and a verifier in pure Rust that replaces the host's BoringSSL.

use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _, Verifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};

use super::algorithm::{Algorithm, HostSignature};
use super::claims::Claims;
use super::jwk_set::JwkSet;
use super::signature::SignatureVerifier;
use crate::encoding::base64url;
use crate::host::{CryptoUnavailable, SignatureCheck};

/// A key pair that is used only in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestKey {
    /// RSA, 2048 bits.
    Rsa,
    /// A second RSA key.
    OtherRsa,
    /// EC, P-256.
    P256,
    /// A second P-256 key.
    OtherP256,
    /// EC, P-384.
    P384,
    /// EC, P-521.
    P521,
}

impl TestKey {
    /// The key in [`jwks`] that signs with this algorithm.
    pub const fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => Self::Rsa,
            Algorithm::Es256 => Self::P256,
            Algorithm::Es384 => Self::P384,
            Algorithm::Es512 => Self::P521,
        }
    }

    /// Its `kid` in [`jwks`].
    pub const fn key_id(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::OtherRsa => "other-rsa",
            Self::P256 => "p256",
            Self::OtherP256 => "other-p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
        }
    }

    /// The public key as a JWK with `kid` and `use`, without `alg`.
    pub fn jwk(self, key_id: &str) -> Value {
        macro_rules! ec {
            ($curve:ident, $name:literal) => {{
                let key = $curve::ecdsa::SigningKey::from_pkcs8_pem(self.pem()).unwrap();
                let point = key.verifying_key().to_sec1_point(false);
                let (x, y) = (base64url(point.x().unwrap()), base64url(point.y().unwrap()));
                json!({"kty": "EC", "crv": $name, "kid": key_id, "use": "sig", "x": x, "y": y})
            }};
        }
        match self {
            Self::Rsa | Self::OtherRsa => {
                let key = self.rsa();
                let (n, e) = (base64url(key.n_bytes()), base64url(key.e_bytes()));
                json!({"kty": "RSA", "kid": key_id, "use": "sig", "n": n, "e": e})
            }
            Self::P256 | Self::OtherP256 => ec!(p256, "P-256"),
            Self::P384 => ec!(p384, "P-384"),
            Self::P521 => ec!(p521, "P-521"),
        }
    }

    /// The public key as SubjectPublicKeyInfo in DER, encoded by the key's own crate.
    pub fn spki_der(self) -> Vec<u8> {
        use p256::pkcs8::EncodePublicKey as _;
        let document = match self {
            Self::Rsa | Self::OtherRsa => self.rsa().to_public_key().to_public_key_der(),
            Self::P256 | Self::OtherP256 => {
                p256::SecretKey::from_pkcs8_pem(self.pem()).unwrap().public_key().to_public_key_der()
            }
            Self::P384 => {
                p384::SecretKey::from_pkcs8_pem(self.pem()).unwrap().public_key().to_public_key_der()
            }
            Self::P521 => {
                p521::SecretKey::from_pkcs8_pem(self.pem()).unwrap().public_key().to_public_key_der()
            }
        };
        document.unwrap().into_vec()
    }

    /// A signature in JOSE form (for ECDSA, r followed by s).
    pub fn sign(self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        macro_rules! ec {
            ($curve:ident) => {{
                let key = $curve::ecdsa::SigningKey::from_pkcs8_pem(self.pem()).unwrap();
                let signature: $curve::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }};
        }
        macro_rules! rsa {
            ($hash:ty) => {
                rsa::pkcs1v15::SigningKey::<$hash>::new(self.rsa()).sign(message).to_vec()
            };
        }
        match (self, algorithm) {
            (Self::Rsa | Self::OtherRsa, Algorithm::Rs256) => rsa!(Sha256),
            (Self::Rsa | Self::OtherRsa, Algorithm::Rs384) => rsa!(Sha384),
            (Self::Rsa | Self::OtherRsa, Algorithm::Rs512) => rsa!(Sha512),
            (Self::P256 | Self::OtherP256, Algorithm::Es256) => ec!(p256),
            (Self::P384, Algorithm::Es384) => ec!(p384),
            (Self::P521, Algorithm::Es512) => ec!(p521),
            (key, algorithm) => panic!("{key:?} does not sign {algorithm:?}"),
        }
    }

    const fn pem(self) -> &'static str {
        match self {
            Self::Rsa => include_str!("testing/rsa.pem"),
            Self::OtherRsa => include_str!("testing/rsa_other.pem"),
            Self::P256 => include_str!("testing/p256.pem"),
            Self::OtherP256 => include_str!("testing/p256_other.pem"),
            Self::P384 => include_str!("testing/p384.pem"),
            Self::P521 => include_str!("testing/p521.pem"),
        }
    }

    fn rsa(self) -> rsa::PrivateKey {
        rsa::PrivateKey::from_pkcs8_pem(self.pem()).unwrap()
    }
}

/// A signed token. Its header has `alg`, `kid` (if given) and the members of `header`, which override the first two. It
/// is signed with the key of [`jwks`] for the algorithm.
pub fn sign(algorithm: Algorithm, key_id: Option<&str>, header: Value, payload: Value) -> String {
    let mut all = json!({"alg": algorithm.name()});
    let members = all.as_object_mut().unwrap();
    members.extend(key_id.map(|key_id| ("kid".to_owned(), json!(key_id))));
    members.extend(header.as_object().unwrap().clone());
    sign_text(TestKey::of(algorithm), algorithm, &all.to_string(), payload.to_string())
}

/// A signed token with exactly this header and payload, which need not be JSON.
pub fn sign_text(key: TestKey, algorithm: Algorithm, header: &str, payload: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(payload));
    let signature = key.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", base64url(signature))
}

/// Claims as if they came from a verified token.
pub fn claims(members: Value) -> Claims {
    Claims::new(members.as_object().unwrap().clone())
}

/// A JWK set with one key of each type: `rsa`, `p256`, `p384`, `p521`.
pub fn jwks() -> Value {
    let keys = [TestKey::Rsa, TestKey::P256, TestKey::P384, TestKey::P521];
    json!({"keys": keys.map(|key| key.jwk(key.key_id()))})
}

/// [`jwks`], parsed.
pub fn jwk_set() -> JwkSet {
    parse_jwk_set(&jwks())
}

/// A JWK set of exactly these keys. Panics if one of them is unusable.
pub fn jwk_set_of(keys: &[Value]) -> JwkSet {
    let set = parse_jwk_set(&json!({ "keys": keys }));
    assert_eq!(set.skipped(), []);
    set
}

fn parse_jwk_set(set: &Value) -> JwkSet {
    JwkSet::parse(set.to_string().as_bytes()).unwrap()
}

/// Checks signatures like the host, but in pure Rust.
#[derive(Clone, Copy, Debug)]
pub struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        Ok(is_good(check))
    }
}

/// Checks a signature in pure Rust. A key or signature that cannot be parsed is not good.
fn is_good(check: &SignatureCheck<'_>) -> bool {
    let SignatureCheck { algorithm, spki_der, signed, signature } = *check;
    macro_rules! rsa {
        ($hash:ty) => {
            rsa::PublicKey::from_public_key_der(spki_der).ok().and_then(|key| {
                let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
                rsa::pkcs1v15::VerifyingKey::<$hash>::new(key).verify(signed, &signature).ok()
            })
        };
    }
    macro_rules! ec {
        ($curve:ident) => {
            $curve::ecdsa::VerifyingKey::from_public_key_der(spki_der).ok().and_then(|key| {
                let signature = $curve::ecdsa::Signature::from_der(signature).ok()?;
                key.verify(signed, &signature).ok()
            })
        };
    }
    let verdict = match algorithm {
        HostSignature::RsaPkcs1Sha256 => rsa!(Sha256),
        HostSignature::RsaPkcs1Sha384 => rsa!(Sha384),
        HostSignature::RsaPkcs1Sha512 => rsa!(Sha512),
        HostSignature::EcdsaSha256 => ec!(p256),
        HostSignature::EcdsaSha384 => ec!(p384),
        HostSignature::EcdsaSha512 => ec!(p521),
    };
    verdict.is_some()
}
