//! From a JOSE signature to what the host can check.

use std::borrow::Cow;

use super::algorithm::HostSignature;
use super::der;
use super::jwk::KeyType;
use crate::host::{CryptoUnavailable, Host};

/// The arithmetic of signatures. Every [`Host`] is one.
pub trait SignatureVerifier {
    /// Checks `signature` over `signed` with a public key (SPKI, DER). ECDSA signatures are ASN.1 DER here.
    ///
    /// # Errors
    /// [`CryptoUnavailable`] when there is no verdict; a key or signature that can't be parsed is `Ok(false)`.
    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable>;
}

impl<H: Host + ?Sized> SignatureVerifier for H {
    fn verify_signature(
        &self,
        algorithm: HostSignature,
        spki_der: &[u8],
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, CryptoUnavailable> {
        Host::verify_signature(self, algorithm, spki_der, signed, signature)
    }
}

/// The signature as the host wants it; `None` when no key of this type can have made it.
pub(super) fn for_host(key_type: KeyType, signature: &[u8]) -> Option<Cow<'_, [u8]>> {
    match key_type {
        // RFC 8017 8.2.2 (1): exactly as long as the modulus.
        KeyType::Rsa { modulus_len } => (signature.len() == modulus_len).then_some(Cow::Borrowed(signature)),
        // RFC 7518 3.4: r and s, each of the field's length, one after the other; ASN.1 is not accepted.
        KeyType::Ec(curve) => {
            let (r, s) = signature.split_at_checked(curve.field_len())?;
            let is_zero = |number| der::without_leading_zeros(number).is_empty();
            // FIPS 186-5 6.4.2 (1): both at least 1. That they are below n is for the host to see.
            if s.len() != curve.field_len() || is_zero(r) || is_zero(s) {
                return None;
            }
            Some(Cow::Owned(der::ecdsa_signature(r, s)))
        }
    }
}
