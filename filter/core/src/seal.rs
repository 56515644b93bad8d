//! Authenticated encryption with a key ring: XChaCha20-Poly1305 under keys derived by HKDF-SHA-256.
//!
//! A sealed value says which ring key it was made with, so keys rotate by putting a new one in front. Purpose and
//! context are bound in, each with its length: a value sealed for one place opens in no other.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::host::{Host, RandomUnavailable};
use crate::secret::Secret;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;

/// What a value is sealed for; a value of one purpose opens for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The cookie that carries a login from redirect to callback.
    Login,
    /// A session record in Redis.
    Session,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Login => b"oidc-gate/login/1",
            Self::Session => b"oidc-gate/session/1",
        }
    }
}

/// The value does not open: which of the many reasons is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not open")]
pub struct Unopenable;

/// Sealing keys, newest first, for one tenant.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<Secret>,
    tenant: Vec<u8>,
}

impl KeyRing {
    /// `tenant` names everything that sets this gate apart from another with the same keys.
    pub fn new(keys: Vec<Secret>, tenant: &[u8]) -> Self {
        Self { keys, tenant: tenant.to_vec() }
    }

    /// Seals with the newest key. `bound` is mixed into the key (such as the secret half of a ticket), `context` is
    /// authenticated with the value.
    ///
    /// # Errors
    /// No randomness for a nonce, or no key.
    pub fn seal(
        &self,
        host: &dyn Host,
        purpose: Purpose,
        bound: &[u8],
        context: &[&[u8]],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, RandomUnavailable> {
        let key = self.keys.first().ok_or(RandomUnavailable)?;
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
    /// The same for every reason (no oracle).
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

    /// Each field with its length in front: no two lists of fields have the same bytes (CVE-2023-35941).
    fn aad(&self, purpose: Purpose, context: &[&[u8]]) -> Vec<u8> {
        let mut aad = Vec::new();
        for field in [purpose.label(), &self.tenant].iter().chain(context) {
            aad.extend_from_slice(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            aad.extend_from_slice(field);
        }
        aad
    }
}

fn cipher(key: &Secret, purpose: Purpose, bound: &[u8]) -> Result<XChaCha20Poly1305, Unopenable> {
    let mut derived = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha256>::new(Some(bound), key.expose())
        .expand(purpose.label(), derived.as_mut())
        .map_err(|_| Unopenable)?;
    Ok(XChaCha20Poly1305::new(&Key::from(*derived)))
}

/// A short public name of a key, so that opening tries one key and not all.
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
