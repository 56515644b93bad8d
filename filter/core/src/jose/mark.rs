//! What marks a token as an access token. RFC 9068 is the standard; most providers have ways of their own.

/// One way to tell an access token from the other tokens of the same issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTokenMark {
    /// Its header says so: `typ: at+jwt` (RFC 9068 2.1).
    Rfc9068,
    /// Keycloak's own mark: `typ: Bearer` among the claims.
    Keycloak,
    /// The operator's rule.
    Claims(ClaimRule),
}

/// Claims that only the access tokens of an issuer have, and claims that only its other tokens have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Each of these must be there; never empty.
    pub present: Vec<RequiredClaim>,
    /// None of these may be there; each a path of member names.
    pub absent: Vec<Vec<String>>,
}

/// A claim that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Where it is, as a path of member names.
    pub claim: Vec<String>,
    /// It must be one of these, or a list that has one of them; empty: whatever it is.
    pub values: Vec<String>,
}

impl AccessTokenMark {
    /// The marks that hold where nothing is said.
    pub const DEFAULT: [Self; 2] = [Self::Rfc9068, Self::Keycloak];
}

/// Claims that tell what kind a token is, and what they say of an access token, in any case. A rule may name other
/// values, but none that tells of another kind.
pub const KIND_CLAIMS: [(&str, &[&str]); 3] = [
    ("typ", &["Bearer", "at+jwt", "access", "access_token"]),
    ("token_use", &["access"]),
    ("token_type", &["Bearer", "access", "access_token"]),
];
