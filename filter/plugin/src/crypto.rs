//! Signature checks by the host's BoringSSL: Envoy's foreign function `verify_signature`.

use oidc_gate_core::host::{CryptoUnavailable, HostSignature, SignatureCheck};

use crate::hostcalls::{Refused, foreign_function};

/// Asks the host to verify a signature. `Err` means that the host cannot; an invalid signature is `Ok(false)`.
pub fn verify_signature(check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
    let hash = match check.algorithm {
        HostSignature::RsaPkcs1Sha256 | HostSignature::EcdsaSha256 => "sha256",
        HostSignature::RsaPkcs1Sha384 | HostSignature::EcdsaSha384 => "sha384",
        HostSignature::RsaPkcs1Sha512 | HostSignature::EcdsaSha512 => "sha512",
    };
    // envoy.source.extensions.common.wasm.VerifySignatureArguments
    let mut arguments = Vec::new();
    let fields = [(1, hash.as_bytes()), (2, check.spki_der), (3, check.signature), (4, check.signed)];
    for (number, field) in fields {
        push_bytes(&mut arguments, number, field);
    }
    let result = match foreign_function("verify_signature", &arguments) {
        Ok(result) => result,
        Err(Refused::NOT_FOUND) => {
            return Err(CryptoUnavailable("the foreign function verify_signature is missing"));
        }
        // A key or signature that BoringSSL cannot parse verifies nothing.
        Err(_) => return Ok(false),
    };
    // VerifySignatureResult { bool result = 1; string error = 2; }; false is left out.
    Ok(result.starts_with(&[0x08, 0x01]))
}

/// A length-delimited protobuf field.
fn push_bytes(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push((number << 3) | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        message.push(u8::try_from(len & 0x7f).unwrap_or_default() | 0x80);
        len >>= 7;
    }
    message.push(u8::try_from(len).unwrap_or_default());
    message.extend_from_slice(bytes);
}
