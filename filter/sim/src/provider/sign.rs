//! Tokens in JWS form with `alg` RS256, whose signature is a cheap keyed hash.
//!
//! A real RSA signature takes a millisecond, and a run makes hundreds. The simulation is about order and time, not
//! about arithmetic. Tokens, keys and signatures have the form that the core expects (a key of 2048 bits, a signature
//! of 256 bytes), and the simulated host verifies what the simulated provider signed. The core's own tests and its
//! start-up probe show that a real host verifies real signatures.

use oidc_gate_core::encoding::base64url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Length of the modulus and of a signature, in bytes.
const MODULUS_LEN: usize = 256;

/// A signing key.
#[derive(Clone, Debug)]
pub struct Key {
    /// `kid`
    pub id: String,
    modulus: Vec<u8>,
}

impl Key {
    /// The key with this number.
    pub fn new(number: u64) -> Self {
        let mut modulus = Vec::with_capacity(MODULUS_LEN);
        for block in 0_u64.. {
            if modulus.len() >= MODULUS_LEN {
                break;
            }
            let hash =
                Sha256::new().chain_update(number.to_be_bytes()).chain_update(block.to_be_bytes()).finalize();
            modulus.extend_from_slice(&hash);
        }
        // 2048 bits, and odd, as every RSA modulus is.
        modulus[0] |= 0x80;
        modulus[MODULUS_LEN - 1] |= 1;
        Self { id: format!("key-{number}"), modulus }
    }

    /// A token with this `typ` and these claims.
    pub fn sign(&self, media_type: &str, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "typ": media_type, "kid": self.id});
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = signature(&self.modulus, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }
}

impl oidc_gate_provider_model::Key for Key {
    fn algorithm(&self) -> &'static str {
        "RS256"
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "e": "AQAB", "n": base64url(&self.modulus),
        })
    }
}

/// Whether `signature` was made with the key in `spki_der`.
pub fn verify(spki_der: &[u8], signed: &[u8], given: &[u8]) -> bool {
    // A SubjectPublicKeyInfo of this size ends with the modulus and then the exponent (5 bytes).
    let Some(end) = spki_der.len().checked_sub(5) else { return false };
    let Some(modulus) = end.checked_sub(MODULUS_LEN).and_then(|start| spki_der.get(start..end)) else {
        return false;
    };
    signature(modulus, signed) == given
}

fn signature(modulus: &[u8], signed: &[u8]) -> Vec<u8> {
    let hash = Sha256::new().chain_update(b"sim").chain_update(modulus).chain_update(signed).finalize();
    hash.iter().copied().cycle().take(MODULUS_LEN).collect()
}

#[cfg(test)]
mod tests {
    use oidc_gate_core::jose::jwk_set::JwkSet;
    use oidc_gate_provider_model::Key as _;

    use super::*;

    #[test]
    fn the_core_takes_these_keys_for_keys() {
        let document = json!({"keys": [Key::new(1).jwk(), Key::new(2).jwk()]}).to_string();
        let set = JwkSet::parse(document.as_bytes()).unwrap();
        assert_eq!(set.skipped(), []);
        assert!(!set.is_empty());
    }
}
