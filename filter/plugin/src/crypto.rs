//! Signature checks by the host's BoringSSL: Envoy's foreign function `verify_signature`.

use oidc_gate_core::host::{CryptoUnavailable, HostSignature, SignatureCheck};
use prost::Message;

use crate::hostcalls::{Refused, foreign_function};

/// `envoy.source.extensions.common.wasm.VerifySignatureArguments`. It has no `Debug`: the signed text and the signature
/// together are a token.
#[derive(Message)]
#[prost(skip_debug)]
struct Arguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes, tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes, tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes, tag = "4")]
    clear_text: Vec<u8>,
}

/// `envoy.source.extensions.common.wasm.VerifySignatureResult`. Its `error` is not read.
#[derive(Message)]
struct Verdict {
    #[prost(bool, tag = "1")]
    result: bool,
}

/// Asks the host to verify a signature. `Err` means that the host cannot; an invalid signature is `Ok(false)`.
pub fn verify_signature(check: &SignatureCheck<'_>) -> Result<bool, CryptoUnavailable> {
    let hash_function = match check.algorithm {
        HostSignature::RsaPkcs1Sha256 | HostSignature::EcdsaSha256 => "sha256",
        HostSignature::RsaPkcs1Sha384 | HostSignature::EcdsaSha384 => "sha384",
        HostSignature::RsaPkcs1Sha512 | HostSignature::EcdsaSha512 => "sha512",
    };
    let arguments = Arguments {
        hash_function: hash_function.to_owned(),
        public_key: check.spki_der.to_vec(),
        signature: check.signature.to_vec(),
        clear_text: check.signed.to_vec(),
    };
    match foreign_function("verify_signature", &arguments.encode_to_vec()) {
        Ok(result) => Ok(Verdict::decode(result.as_slice()).is_ok_and(|verdict| verdict.result)),
        Err(Refused::NOT_FOUND) => Err(CryptoUnavailable("the foreign function verify_signature is missing")),
        // A key or signature that BoringSSL cannot parse verifies nothing.
        Err(_) => Ok(false),
    }
}
