//! One public key of a JWK set (RFC 7517, RFC 7518 6), or the reason why it cannot check signatures.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::der;
use crate::encoding::from_base64url;
use crate::json;

/// Shortest RSA modulus that is accepted, in bits (RFC 7518 3.3).
pub const MIN_RSA_BITS: usize = 2048;
/// Longest RSA modulus that is accepted, in bits. The cost of a check grows with the square of its length.
pub const MAX_RSA_BITS: usize = 8192;
/// Longest RSA exponent that is accepted, in bits. The cost of a check grows with its length, and BoringSSL has the
/// same limit.
pub const MAX_RSA_EXPONENT_BITS: usize = 33;
/// Longest `kid`, in bytes.
pub const MAX_KEY_ID_LEN: usize = 256;

/// A public key for checking signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    key_id: Option<String>,
    algorithm: Option<Algorithm>,
    key_type: KeyType,
    spki_der: Vec<u8>,
}

/// The type of a key, and what determines the length of its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    /// RSA; a signature has as many octets as the modulus (RFC 8017 8.2.1).
    Rsa { modulus_len: usize },
    /// An elliptic curve. A signature is r followed by s, each as long as the field (RFC 7518 3.4).
    Ec(Curve),
}

/// A curve of RFC 7518 6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// Why a key of the set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The entry is not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A parameter is missing, of the wrong type, too long or not base64url.
    #[error("invalid parameter {0}")]
    BadParameter(&'static str),
    /// `oct`, a symmetric key: a key that can check an HMAC can also create it.
    #[error("a symmetric key")]
    Symmetric,
    /// It contains private parameters, so the private key is no longer secret.
    #[error("a private key")]
    Private,
    /// `kty` is neither RSA nor EC.
    #[error("unsupported key type")]
    UnsupportedKeyType,
    /// `crv` is not P-256, P-384 or P-521.
    #[error("unsupported curve")]
    UnsupportedCurve,
    /// `use` is not `sig`, or `key_ops` lacks `verify`.
    #[error("not for verifying signatures")]
    NotForSignatures,
    /// `alg` is not supported for this key type.
    #[error("for an unsupported algorithm")]
    UnsupportedAlgorithm,
    /// Modulus outside [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`].
    #[error("RSA modulus too short or too long")]
    RsaModulusSize,
    /// The modulus is even.
    #[error("RSA modulus is even")]
    RsaModulusEven,
    /// The exponent is 1, even, or longer than [`MAX_RSA_EXPONENT_BITS`].
    #[error("weak RSA exponent")]
    RsaExponent,
    /// A coordinate does not have the length of the curve's field.
    #[error("EC coordinate of the wrong length")]
    CoordinateLength,
    /// The set already contains the same key under the same `kid`.
    #[error("a duplicate")]
    Duplicate,
    /// The set has more than [`super::jwk_set::MAX_KEYS`] keys. This key and all that follow are ignored.
    #[error("too many keys: this one and all later ones are ignored")]
    TooMany,
}

impl Jwk {
    /// Parses one entry of `keys`.
    ///
    /// This does not check that an EC point lies on its curve. The host's BoringSSL refuses such a key, and so every
    /// signature with it. The point at infinity cannot be expressed with two coordinates.
    ///
    /// # Errors
    /// [`SkipReason`] if the key cannot check signatures.
    pub fn parse(entry: &Value) -> Result<Self, SkipReason> {
        let members = entry.as_object().ok_or(SkipReason::NotAnObject)?;
        let key_type = required(members, "kty")?;
        if key_type == "oct" {
            return Err(SkipReason::Symmetric);
        }
        // RFC 7518 6.2.2, 6.3.2, 6.4.1: private parameters.
        const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        if PRIVATE.iter().any(|name| json::is_there(members, name)) {
            return Err(SkipReason::Private);
        }
        require_signature_use(members)?;
        let (key_type, spki_der) = match key_type {
            "RSA" => rsa(members)?,
            "EC" => ec(members)?,
            _ => return Err(SkipReason::UnsupportedKeyType),
        };
        let algorithm = match optional(members, "alg")? {
            None => None,
            Some(name) => Some(
                Algorithm::from_name(name)
                    .filter(|algorithm| key_type.serves(*algorithm))
                    .ok_or(SkipReason::UnsupportedAlgorithm)?,
            ),
        };
        let key_id = optional(members, "kid")?;
        if key_id.is_some_and(|key_id| key_id.len() > MAX_KEY_ID_LEN) {
            return Err(SkipReason::BadParameter("kid"));
        }
        Ok(Self { key_id: key_id.map(str::to_owned), algorithm, key_type, spki_der })
    }

    /// `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether the key may check this algorithm: its type and curve fit, and its `alg`, if present, is the same
    /// (RFC 8725 3.1).
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.key_type.serves(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    pub(super) const fn key_type(&self) -> KeyType {
        self.key_type
    }
}

impl KeyType {
    /// RFC 7518 3.1: each ES algorithm belongs to one curve.
    fn serves(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => matches!(self, Self::Rsa { .. }),
            Algorithm::Es256 => self == Self::Ec(Curve::P256),
            Algorithm::Es384 => self == Self::Ec(Curve::P384),
            Algorithm::Es512 => self == Self::Ec(Curve::P521),
        }
    }
}

impl Curve {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    /// Octets of one coordinate, and of r and s (RFC 7518 6.2.1.2, 3.4).
    pub(super) const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The content octets of the curve's OBJECT IDENTIFIER (RFC 5480 2.1.1.1).
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }
}

/// RFC 7517 4.2, 4.3.
fn require_signature_use(members: &Map<String, Value>) -> Result<(), SkipReason> {
    if optional(members, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(SkipReason::NotForSignatures);
    }
    let operations =
        json::string_list(members, "key_ops").map_err(|_| SkipReason::BadParameter("key_ops"))?;
    if operations.is_some_and(|operations| !operations.contains(&"verify")) {
        return Err(SkipReason::NotForSignatures);
    }
    Ok(())
}

/// RFC 7518 6.3.1.
fn rsa(members: &Map<String, Value>) -> Result<(KeyType, Vec<u8>), SkipReason> {
    let modulus = unsigned(members, "n")?;
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits(&modulus)) {
        return Err(SkipReason::RsaModulusSize);
    }
    if !is_odd(&modulus) {
        return Err(SkipReason::RsaModulusEven);
    }
    let exponent = unsigned(members, "e")?;
    // With the exponent 1 every message is its own signature. An even exponent has no inverse (RFC 8017 3.1).
    if !(2..=MAX_RSA_EXPONENT_BITS).contains(&bits(&exponent)) || !is_odd(&exponent) {
        return Err(SkipReason::RsaExponent);
    }
    Ok((KeyType::Rsa { modulus_len: modulus.len() }, der::rsa_public_key(&modulus, &exponent)))
}

/// RFC 7518 6.2.1.
fn ec(members: &Map<String, Value>) -> Result<(KeyType, Vec<u8>), SkipReason> {
    let curve = Curve::from_name(required(members, "crv")?).ok_or(SkipReason::UnsupportedCurve)?;
    let x = octets(members, "x")?;
    let y = octets(members, "y")?;
    // RFC 7518 6.2.1.2: the full length of a coordinate, leading zeros included.
    if x.len() != curve.field_len() || y.len() != curve.field_len() {
        return Err(SkipReason::CoordinateLength);
    }
    Ok((KeyType::Ec(curve), der::ec_public_key(curve.oid(), &x, &y)))
}

/// A Base64urlUInt without leading zeros. RFC 7518 2 requires the fewest octets. One leading zero octet is tolerated,
/// because some libraries add it (6.3.1.1) and it does not change the value.
fn unsigned(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, SkipReason> {
    let octets = octets(members, name)?;
    match octets.as_slice() {
        [0, 0, ..] => Err(SkipReason::BadParameter(name)),
        [0, number @ ..] => Ok(number.to_vec()),
        _ => Ok(octets),
    }
}

/// The length in bits of a big-endian number without leading zero octets.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    number.len().saturating_mul(8).saturating_sub(unused as usize)
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last & 1 == 1)
}

fn octets(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, SkipReason> {
    from_base64url(required(members, name)?).map_err(|_| SkipReason::BadParameter(name))
}

fn required<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, SkipReason> {
    optional(members, name)?.ok_or(SkipReason::BadParameter(name))
}

fn optional<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, SkipReason> {
    json::string(members, name).map_err(|_| SkipReason::BadParameter(name))
}
