//! Why a token is refused: one variant per reason, one label per variant, and nothing of the token itself.

use crate::json::{ClaimError, JsonError};

/// Longest token that is looked at, in bytes: more than Envoy lets into the headers of a request, which is
/// 60 KiB by default. A token with 500 groups of 45 characters has 31 KB.
pub const MAX_TOKEN_LEN: usize = 96 * 1024;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_LEN`]: this many bytes.
    #[error("the token is longer than allowed")]
    TooLong(usize),
    /// Five segments: a JWE. We have no key to open one, and would not inflate it.
    #[error("encrypted tokens are not accepted")]
    Encrypted,
    /// Not three segments.
    #[error("not a signed token in compact form")]
    NotCompact,
    /// A segment is not base64url.
    #[error("a segment is not base64url")]
    NotBase64Url,
    /// The second segment is empty.
    #[error("the payload is empty")]
    EmptyPayload,
    /// The third segment is empty.
    #[error("the token is not signed")]
    EmptySignature,
    /// The header is not a JSON object.
    #[error("header: {0}")]
    HeaderJson(JsonError),
    /// A header parameter is missing or of the wrong form.
    #[error("header parameter {0}")]
    HeaderParameter(ClaimError),
    /// The header has `crit`: we implement no extension.
    #[error("critical header extensions are not supported")]
    CriticalHeader,
    /// The header has `b64` (RFC 7797).
    #[error("unencoded payloads are not supported")]
    UnencodedPayload,
    /// `alg` names none of the asymmetric algorithms we know.
    #[error("unsupported algorithm")]
    UnsupportedAlgorithm,
    /// `alg` is `none`, or a symmetric one, which whoever can check can also sign with.
    #[error("not signed, or with a symmetric key")]
    NoSignature,
    /// `alg` is one we know, but not allowed here.
    #[error("algorithm not allowed")]
    AlgorithmNotAllowed,
    /// No key of that `kid`, or, without a `kid`, no key that fits: the set may be out of date.
    #[error("unknown key")]
    UnknownKey,
    /// The token names no key, and several would fit.
    #[error("several keys would fit, and the token names none")]
    AmbiguousKey,
    /// The named key is not for this algorithm.
    #[error("the key is not for this algorithm")]
    KeyNotForAlgorithm,
    /// The signature has not the form that the key demands.
    #[error("malformed signature")]
    MalformedSignature,
    /// The signature is not the key's.
    #[error("the signature does not verify")]
    BadSignature,
    /// The host could not tell. Not the token's fault.
    #[error("the host cannot verify signatures")]
    CryptoUnavailable,
    /// Signed, but the payload is not a JSON object.
    #[error("payload: {0}")]
    PayloadJson(JsonError),
    /// A token of another kind: an access token as ID token, a logout token as access token.
    #[error("a token of another kind")]
    WrongKind,
    /// A claim is missing or of the wrong form.
    #[error("claim {0}")]
    Claim(#[from] ClaimError),
    /// `iss` is another issuer.
    #[error("another issuer")]
    WrongIssuer,
    /// `aud` does not name us.
    #[error("another audience")]
    WrongAudience,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` is still to come.
    #[error("not valid yet")]
    NotYetValid,
    /// `iat` is still to come.
    #[error("issued in the future")]
    IssuedInFuture,
    /// By our clock it is not good now, but in itself it is: one of the clocks is wrong.
    #[error("not good now, by our clock; the clocks of gate and provider disagree")]
    ClocksDisagree,
    /// `aud` names somebody besides us whom the operator does not trust; cut to a length that a log line can hold.
    #[error("another audience besides us: {0:?}")]
    ForeignAudience(String),
    /// `azp` is another client.
    #[error("issued to another client")]
    WrongAuthorizedParty,
    /// `nonce` is absent or another login's.
    #[error("another nonce")]
    WrongNonce,
    /// Issued long before the login began.
    #[error("issued long before the login began")]
    IssuedBeforeLogin,
    /// The ID token of a refresh speaks of another login than the one before (OIDC Core 12.2).
    #[error("of another login")]
    OtherLogin,
    /// Its user or session was signed out.
    #[error("signed out")]
    SignedOut,
    /// The provider says that it is not good any more (RFC 7662 2.2).
    #[error("not active")]
    Inactive,
    /// `events` does not say that this is a logout (Back-Channel Logout 1.0 2.4), or not the one that was asked for.
    #[error("no logout event")]
    NoLogoutEvent,
    /// A logout token must have none (Back-Channel Logout 1.0 2.4).
    #[error("a nonce in a logout token")]
    UnexpectedNonce,
    /// Neither `sub` nor `sid`: whose logout?
    #[error("neither sub nor sid")]
    NobodyNamed,
    /// Issued too long ago for what should arrive at once.
    #[error("too old")]
    TooOld,
    /// `at_hash` is not the access token's.
    #[error("at_hash does not match")]
    WrongAccessTokenHash,
    /// `cnf`: only good together with a proof that Bearer does not carry.
    #[error("sender-constrained tokens need a proof")]
    SenderConstrained,
    /// From `iat` to `exp` it is longer than allowed.
    #[error("lives longer than allowed")]
    LivesTooLong,
}

impl TokenError {
    /// For the log: [`TokenError::label`], and what it is about where that is not plain. Of what the token says only
    /// the name of a foreign audience is in it, not escaped yet.
    pub fn detail(&self) -> String {
        match self {
            Self::Claim(error) | Self::HeaderParameter(error) => format!("{}: {}", self.label(), error.claim),
            Self::HeaderJson(error) | Self::PayloadJson(error) => format!("{}: {error}", self.label()),
            Self::ForeignAudience(name) => format!("{}: {name}", self.label()),
            Self::TooLong(size) => format!("{}: {size} bytes, the limit is {MAX_TOKEN_LEN}", self.label()),
            _ => self.label().to_owned(),
        }
    }

    /// Whether a token that the provider should have issued for us was made by somebody else, or for somebody else: the
    /// signature is not one of its keys', or it is not for this login, this client or this issuer. All other reasons
    /// are what a provider, a clock or a configuration can bring about by themselves.
    pub const fn is_forgery(&self) -> bool {
        matches!(
            self,
            Self::NoSignature
                | Self::EmptySignature
                | Self::MalformedSignature
                | Self::BadSignature
                | Self::UnknownKey
                | Self::KeyNotForAlgorithm
                | Self::CriticalHeader
                | Self::UnencodedPayload
                | Self::WrongKind
                | Self::WrongIssuer
                | Self::WrongAudience
                | Self::WrongAuthorizedParty
                | Self::WrongNonce
                | Self::WrongAccessTokenHash
        )
    }

    /// Stable name for logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "token_too_long",
            Self::Encrypted => "token_encrypted",
            Self::NotCompact => "token_not_compact",
            Self::NotBase64Url => "token_not_base64url",
            Self::EmptyPayload => "token_empty_payload",
            Self::EmptySignature => "token_not_signed",
            Self::HeaderJson(_) => "token_header_json",
            Self::HeaderParameter(_) => "token_header_parameter",
            Self::CriticalHeader => "token_critical_header",
            Self::UnencodedPayload => "token_unencoded_payload",
            Self::UnsupportedAlgorithm | Self::NoSignature => "unsupported_algorithm",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::KeyNotForAlgorithm => "key_not_for_algorithm",
            Self::MalformedSignature => "malformed_signature",
            Self::BadSignature => "bad_signature",
            Self::CryptoUnavailable => "crypto_unavailable",
            Self::PayloadJson(_) => "token_payload_json",
            Self::WrongKind => "wrong_token_kind",
            Self::Claim(error) => error.problem.label(),
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::IssuedInFuture => "token_issued_in_future",
            Self::ClocksDisagree => "clocks_disagree",
            Self::ForeignAudience(_) => "foreign_audience",
            Self::WrongAuthorizedParty => "wrong_authorized_party",
            Self::WrongNonce => "wrong_nonce",
            Self::IssuedBeforeLogin => "issued_before_login",
            Self::OtherLogin => "other_login",
            Self::SignedOut => "signed_out",
            Self::Inactive => "token_inactive",
            Self::NoLogoutEvent => "no_logout_event",
            Self::UnexpectedNonce => "unexpected_nonce",
            Self::NobodyNamed => "nobody_named",
            Self::TooOld => "token_too_old",
            Self::WrongAccessTokenHash => "wrong_access_token_hash",
            Self::SenderConstrained => "sender_constrained",
            Self::LivesTooLong => "token_lives_too_long",
        }
    }
}
