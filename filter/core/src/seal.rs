//! Authenticated encryption and signatures with a key ring: XChaCha20-Poly1305 and HMAC-SHA-256, with keys derived by
//! HKDF-SHA-256.
//!
//! Each value names the ring key that it was made with, so keys can be rotated by adding a new one at the front.
//! Purpose and context are authenticated, each with its length in front. A value made for one place is therefore
//! invalid in any other.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use vec1::Vec1;
use zeroize::Zeroizing;

use crate::encoding::length_prefixed;
use crate::host::{Host, RandomUnavailable};
use crate::secret::Secret;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;
/// The length of a signature: the key id and an HMAC-SHA-256.
pub const SIGNATURE_LEN: usize = KEY_ID_LEN + 32;

/// What a value is sealed for. It cannot be opened for another purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The cookie that carries a login from redirect to callback.
    Login,
    /// The path in `state` to which a login leads. It grants nothing.
    ReturnPath,
    /// A session record in Redis.
    Session,
    /// The ticket in a session cookie. It is signed, not encrypted.
    Ticket,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Login => b"oidc-gate/login/1",
            Self::ReturnPath => b"oidc-gate/return-path/1",
            Self::Session => b"oidc-gate/session/1",
            Self::Ticket => b"oidc-gate/signed-ticket/1",
        }
    }
}

/// The value cannot be opened. The reason is not given, so that it helps no attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not open")]
pub struct Unopenable;

/// The result of a signature check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// Made with a key of this ring.
    Ours,
    /// The key is not in this ring, or no longer. The signature cannot be checked.
    UnknownKey,
    /// The key is in this ring, but the signature is wrong.
    Forged,
}

/// The sealing keys of one tenant, newest first.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec1<Secret>,
    tenant: Vec<u8>,
    /// Derived once, because each request with a session checks a signature.
    signers: Vec<Signer>,
}

#[derive(Clone)]
struct Signer {
    id: [u8; KEY_ID_LEN],
    mac: Hmac<Sha256>,
}

impl KeyRing {
    /// `tenant` identifies the gate among others with the same keys.
    pub fn new(keys: Vec1<Secret>, tenant: &[u8]) -> Self {
        let signers = keys.iter().filter_map(|key| Signer::new(key, Purpose::Ticket)).collect();
        Self { keys, tenant: tenant.to_vec(), signers }
    }

    /// Signs a ticket with the newest key. The signature begins with the key id.
    ///
    /// # Errors
    /// No key for signatures can be derived.
    pub fn sign(&self, ticket: &[u8]) -> Result<[u8; SIGNATURE_LEN], Unopenable> {
        let signer = self.signers.first().ok_or(Unopenable)?;
        let mac = self.mac(signer, ticket).finalize().into_bytes();
        let mut signature = [0; SIGNATURE_LEN];
        for (to, from) in signature.iter_mut().zip(signer.id.iter().chain(mac.iter())) {
            *to = *from;
        }
        Ok(signature)
    }

    /// Checks a signature of [`KeyRing::sign`] in constant time.
    pub fn check(&self, ticket: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Signed {
        let (id, mac) = signature.split_at(KEY_ID_LEN);
        // The key id is not secret, so it is not compared in constant time.
        let Some(signer) = self.signers.iter().find(|signer| signer.id == id) else {
            return Signed::UnknownKey;
        };
        match self.mac(signer, ticket).verify_slice(mac) {
            Ok(()) => Signed::Ours,
            Err(_) => Signed::Forged,
        }
    }

    fn mac(&self, signer: &Signer, ticket: &[u8]) -> Hmac<Sha256> {
        signer.mac.clone().chain_update(self.aad(Purpose::Ticket, &[ticket]))
    }

    /// Seals with the newest key. `bound` enters the derivation of the key (such as the secret half of a ticket).
    /// `context` is authenticated with the value.
    ///
    /// # Errors
    /// No randomness for a nonce.
    pub fn seal(
        &self,
        host: &dyn Host,
        purpose: Purpose,
        bound: &[u8],
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, RandomUnavailable> {
        let key = self.keys.first();
        let mut nonce = [0; NONCE_LEN];
        host.random(&mut nonce)?;
        let aad = self.aad(purpose, context);
        let sealed = cipher(key, purpose, bound)
            .and_then(|cipher| {
                cipher
                    .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: &aad })
                    .map_err(|_| Unopenable)
            })
            .map_err(|Unopenable| RandomUnavailable)?;
        Ok([&[VERSION][..], &key_id(key), &nonce, &sealed].concat())
    }

    /// Opens a value that was sealed with any key of the ring.
    ///
    /// # Errors
    /// The same error for every reason, so that it is no oracle for attackers.
    pub fn open(
        &self,
        purpose: Purpose,
        bound: &[u8],
        context: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unopenable> {
        let (version, rest) = sealed.split_first().ok_or(Unopenable)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(Unopenable)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unopenable)?;
        if *version != VERSION {
            return Err(Unopenable);
        }
        let key = self.keys.iter().find(|key| key_id(key) == *id).ok_or(Unopenable)?;
        let aad = self.aad(purpose, context);
        cipher(key, purpose, bound)?
            .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| Unopenable)
    }

    fn aad(&self, purpose: Purpose, context: &[&[u8]]) -> Vec<u8> {
        length_prefixed(&[&[purpose.label(), &self.tenant], context].concat())
    }
}

impl Signer {
    fn new(key: &Secret, purpose: Purpose) -> Option<Self> {
        let derived = derive(key, purpose, &[]).ok()?;
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(derived.as_ref()).ok()?;
        Some(Self { id: key_id(key), mac })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

fn cipher(key: &Secret, purpose: Purpose, bound: &[u8]) -> Result<XChaCha20Poly1305, Unopenable> {
    Ok(XChaCha20Poly1305::new(&Key::from(*derive(key, purpose, bound)?)))
}

fn derive(key: &Secret, purpose: Purpose, bound: &[u8]) -> Result<Zeroizing<[u8; 32]>, Unopenable> {
    let mut derived = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(Some(bound), key.expose())
        .expand(purpose.label(), derived.as_mut())
        .map_err(|_| Unopenable)?;
    Ok(derived)
}

/// A short public id of a key, so that opening a value tries only one key.
fn key_id(key: &Secret) -> [u8; KEY_ID_LEN] {
    let digest = Sha256::new().chain_update(b"oidc-gate/key-id/1").chain_update(key.expose()).finalize();
    let mut id = [0; KEY_ID_LEN];
    for (to, from) in id.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    id
}

#[cfg(test)]
mod tests;
