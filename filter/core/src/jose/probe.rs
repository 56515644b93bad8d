//! Known signatures. With them the gate tests at start-up that the host really checks signatures.
//!
//! They were made with OpenSSL, with one RSA key of 2048 bits and one key per curve
//! (`openssl dgst -sha256 -sign key.pem`). The private keys no longer exist.

use super::algorithm::HostSignature;
use super::signature::SignatureVerifier;
use crate::host::SignatureCheck;

const MESSAGE: &[u8] = b"oidc-gate signature probe";

/// Why the host's signature check cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The host gave no verdict.
    #[error("{0:?}: the host cannot check it")]
    Unavailable(HostSignature),
    /// The host refused a good signature.
    #[error("{0:?}: the host refused a good signature")]
    RefusedGood(HostSignature),
    /// The host accepted a bad signature, so its check is worthless.
    #[error("{0:?}: the host accepted a bad signature")]
    AcceptedBad(HostSignature),
}

/// One known good signature for each [`HostSignature`].
pub const fn vectors() -> [SignatureCheck<'static>; 6] {
    const RSA: &[u8] = include_bytes!("probe/rsa.spki.der");
    const fn vector(
        algorithm: HostSignature,
        spki_der: &'static [u8],
        signature: &'static [u8],
    ) -> SignatureCheck<'static> {
        SignatureCheck { algorithm, spki_der, signed: MESSAGE, signature }
    }
    [
        vector(HostSignature::RsaPkcs1Sha256, RSA, include_bytes!("probe/rs256.sig")),
        vector(HostSignature::RsaPkcs1Sha384, RSA, include_bytes!("probe/rs384.sig")),
        vector(HostSignature::RsaPkcs1Sha512, RSA, include_bytes!("probe/rs512.sig")),
        vector(
            HostSignature::EcdsaSha256,
            include_bytes!("probe/p256.spki.der"),
            include_bytes!("probe/es256.sig"),
        ),
        vector(
            HostSignature::EcdsaSha384,
            include_bytes!("probe/p384.spki.der"),
            include_bytes!("probe/es384.sig"),
        ),
        vector(
            HostSignature::EcdsaSha512,
            include_bytes!("probe/p521.spki.der"),
            include_bytes!("probe/es512.sig"),
        ),
    ]
}

/// Tests one algorithm of the host with the known signature, with one bit of it flipped, and with another message.
///
/// # Errors
/// [`ProbeError`]: tokens with this algorithm must not be accepted.
pub fn check(
    algorithm: HostSignature,
    verifier: &(impl SignatureVerifier + ?Sized),
) -> Result<(), ProbeError> {
    let known = vectors().into_iter().find(|vector| vector.algorithm == algorithm);
    let good = known.ok_or(ProbeError::Unavailable(algorithm))?;
    let verdict = |check: SignatureCheck<'_>| {
        verifier.verify_signature(&check).map_err(|_| ProbeError::Unavailable(algorithm))
    };
    let mut flipped = good.signature.to_vec();
    // The last octet always belongs to the number, never to the DER encoding.
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    if !verdict(good)? {
        return Err(ProbeError::RefusedGood(algorithm));
    }
    if verdict(SignatureCheck { signature: &flipped, ..good })?
        || verdict(SignatureCheck { signed: b"another message", ..good })?
    {
        return Err(ProbeError::AcceptedBad(algorithm));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;
    use crate::host::CryptoUnavailable;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::testing::Verifier;

    /// A host whose verdict is what the function returns.
    struct Broken<F>(F);

    impl<F: Fn(&SignatureCheck<'_>) -> Result<bool, CryptoUnavailable>> SignatureVerifier for Broken<F> {
        fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
            self.0(check)
        }
    }

    #[test]
    fn a_host_that_checks_signatures_passes_for_every_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(check(algorithm.host_signature(), &Verifier), Ok(()));
        }
    }

    #[test]
    fn a_host_that_does_not_check_is_found_out() {
        for algorithm in Algorithm::ALL.map(Algorithm::host_signature) {
            for (verdict, expected) in [
                (Ok(true), ProbeError::AcceptedBad(algorithm)),
                (Ok(false), ProbeError::RefusedGood(algorithm)),
                (Err(CryptoUnavailable("none")), ProbeError::Unavailable(algorithm)),
            ] {
                assert_eq!(check(algorithm, &Broken(|_: &SignatureCheck<'_>| verdict)), Err(expected));
            }
        }
    }

    #[test]
    fn a_host_that_checks_only_half_is_found_out() {
        for good in vectors() {
            let found_out = Err(ProbeError::AcceptedBad(good.algorithm));
            let only_message = Broken(|given: &SignatureCheck<'_>| Ok(given.signed == good.signed));
            assert_eq!(check(good.algorithm, &only_message), found_out);
            let only_signature = Broken(|given: &SignatureCheck<'_>| Ok(given.signature == good.signature));
            assert_eq!(check(good.algorithm, &only_signature), found_out);
        }
    }
}
