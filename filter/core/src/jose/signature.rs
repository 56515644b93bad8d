//! Converts a JOSE signature to the form that the host can check.

use std::borrow::Cow;

use super::der;
use super::jwk::KeyType;
use crate::host::{CryptoUnavailable, Host, SignatureCheck};

/// Checks signatures. Every [`Host`] implements this.
pub trait SignatureVerifier {
    /// Checks a signature.
    ///
    /// # Errors
    /// [`CryptoUnavailable`] if there is no verdict. A key or signature that cannot be parsed is `Ok(false)`.
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable>;
}

impl<H: Host + ?Sized> SignatureVerifier for H {
    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
        Host::verify_signature(self, check)
    }
}

/// The signature in the host's form. `None` if no key of this type can have made it.
pub(super) fn for_host(key_type: KeyType, signature: &[u8]) -> Option<Cow<'_, [u8]>> {
    match key_type {
        // RFC 8017 8.2.2 (1): exactly as long as the modulus.
        KeyType::Rsa { modulus_len } => (signature.len() == modulus_len).then_some(Cow::Borrowed(signature)),
        // RFC 7518 3.4: r followed by s, each as long as the field. ASN.1 is not accepted.
        KeyType::Ec(curve) => {
            let (r, s) = signature.split_at_checked(curve.field_len())?;
            let is_zero = |number| der::without_leading_zeros(number).is_empty();
            // FIPS 186-5 6.4.2 (1): both are at least 1. The host checks that they are below n.
            if s.len() != curve.field_len() || is_zero(r) || is_zero(s) {
                return None;
            }
            Some(Cow::Owned(der::ecdsa_signature(r, s)))
        }
    }
}
