//! What marks a token as an access token. RFC 9068 is the standard, but most providers use other marks.

use vec1::{Vec1, vec1};

/// One way to tell an access token from the other tokens of the same issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTokenMark {
    /// The header's `typ: at+jwt` (RFC 9068 2.1).
    Rfc9068,
    /// Keycloak's `typ: Bearer` in the payload.
    Keycloak,
    /// A rule of the operator.
    Claims(ClaimRule),
}

/// A rule over claims that distinguishes an issuer's access tokens from its other tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Claims that must be present.
    pub present: Vec1<RequiredClaim>,
    /// Claims that must be absent, each as a path of member names.
    pub absent: Vec<Vec<String>>,
}

/// A claim that must be present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    /// The claim, as a path of member names.
    pub claim: Vec<String>,
    /// The accepted values. The claim is one of them, or a list that contains one of them. If empty, any value will do.
    pub values: Vec<String>,
}

impl AccessTokenMark {
    /// The marks that apply if none are configured.
    pub fn defaults() -> Vec1<Self> {
        vec1![Self::Rfc9068, Self::Keycloak]
    }
}

/// Claims that state the kind of a token, and the values that access tokens have there, case-insensitive. A rule may
/// list other values, but never one that states another kind.
pub const KIND_CLAIMS: [(&str, &[&str]); 3] = [
    ("typ", &["Bearer", "at+jwt", "access", "access_token"]),
    ("token_use", &["access"]),
    ("token_type", &["Bearer", "access", "access_token"]),
];
