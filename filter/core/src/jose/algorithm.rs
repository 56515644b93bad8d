//! The signature algorithms (RFC 7518 3.1) that a configuration may allow. `none` and the HS family are not among them,
//! so no configuration can allow those.

pub use crate::host::HostSignature;

/// An asymmetric signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
}

impl Algorithm {
    /// All algorithms, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Es256, Self::Es384, Self::Es512];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// Accepts only the registered name: case-sensitive, without trimming.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm's name in the host's interface.
    pub const fn host_signature(self) -> HostSignature {
        match self {
            Self::Rs256 => HostSignature::RsaPkcs1Sha256,
            Self::Rs384 => HostSignature::RsaPkcs1Sha384,
            Self::Rs512 => HostSignature::RsaPkcs1Sha512,
            Self::Es256 => HostSignature::EcdsaSha256,
            Self::Es384 => HostSignature::EcdsaSha384,
            Self::Es512 => HostSignature::EcdsaSha512,
        }
    }
}
