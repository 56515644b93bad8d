//! Why a token is refused. Each reason has one variant and one label. A label contains nothing from the token.

use crate::json::{ClaimError, JsonError};

/// Longest token that is parsed, in bytes. Envoy limits the headers of a request to less, 60 KiB by default. A token
/// with 500 groups of 45 characters has 31 KB.
pub const MAX_TOKEN_LEN: usize = 96 * 1024;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_LEN`]. The field is the length in bytes.
    #[error("the token is longer than allowed")]
    TooLong(usize),
    /// Five segments: a JWE. The gate has no key to decrypt it, and would not decompress it.
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
    /// `alg` is not one of the supported asymmetric algorithms.
    #[error("unsupported algorithm")]
    UnsupportedAlgorithm,
    /// `alg` is `none`, or symmetric: a key that can check an HMAC can also create it.
    #[error("not signed, or signed with a symmetric key")]
    NoSignature,
    /// `alg` is supported, but the configuration does not allow it.
    #[error("algorithm not allowed")]
    AlgorithmNotAllowed,
    /// No key has this `kid`, or the token has no `kid` and no key fits. The key set may be out of date.
    #[error("unknown key")]
    UnknownKey,
    /// The token names no key, and several keys fit.
    #[error("several keys fit, and the token names none")]
    AmbiguousKey,
    /// The key that the token names cannot be used with this algorithm.
    #[error("the key is not for this algorithm")]
    KeyNotForAlgorithm,
    /// The form of the signature does not fit the key.
    #[error("malformed signature")]
    MalformedSignature,
    /// The signature was not made with the key.
    #[error("the signature does not verify")]
    BadSignature,
    /// The host gave no verdict. The token may be valid.
    #[error("the host cannot verify signatures")]
    CryptoUnavailable,
    /// The signature is good, but the payload is not a JSON object.
    #[error("payload: {0}")]
    PayloadJson(JsonError),
    /// A token of another kind, such as an access token in place of an ID token.
    #[error("wrong kind of token")]
    WrongKind,
    /// A claim is missing or of the wrong form.
    #[error("claim {0}")]
    Claim(#[from] ClaimError),
    /// `iss` names another issuer.
    #[error("wrong issuer")]
    WrongIssuer,
    /// `aud` does not contain us.
    #[error("wrong audience")]
    WrongAudience,
    /// `exp` is in the past.
    #[error("expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// `iat` is in the future.
    #[error("issued in the future")]
    IssuedInFuture,
    /// The times in the token are plausible, but our clock is outside of them: one of the two clocks is wrong.
    #[error("not valid now by this Envoy's clock; the clocks of gate and provider disagree")]
    ClocksDisagree,
    /// `aud` also contains an audience that the operator does not trust. The field is that audience, cut to fit a log
    /// line.
    #[error("untrusted audience {0:?}")]
    ForeignAudience(String),
    /// `azp` names another client.
    #[error("issued to another client")]
    WrongAuthorizedParty,
    /// `nonce` is absent or belongs to another login.
    #[error("wrong nonce")]
    WrongNonce,
    /// `iat` is long before the login began.
    #[error("issued long before the login began")]
    IssuedBeforeLogin,
    /// The ID token of a refresh describes another login than the original one (OIDC Core 12.2).
    #[error("belongs to another login")]
    OtherLogin,
    /// The user or session was signed out.
    #[error("signed out")]
    SignedOut,
    /// The provider says that the token is not active (RFC 7662 2.2).
    #[error("not active")]
    Inactive,
    /// `events` does not contain the logout event (Back-Channel Logout 1.0 2.4), or not the action that was expected.
    #[error("no logout event")]
    NoLogoutEvent,
    /// A logout token must not have a `nonce` (Back-Channel Logout 1.0 2.4).
    #[error("logout token has a nonce")]
    UnexpectedNonce,
    /// A logout token has neither `sub` nor `sid`.
    #[error("logout token has neither sub nor sid")]
    NobodyNamed,
    /// `iat` is too old for a message that is sent immediately.
    #[error("too old")]
    TooOld,
    /// `at_hash` does not match the access token.
    #[error("at_hash does not match")]
    WrongAccessTokenHash,
    /// The token has `cnf`. It is valid only with a proof of possession, which Bearer does not carry.
    #[error("sender-constrained tokens need a proof of possession")]
    SenderConstrained,
    /// The time from `iat` to `exp` is longer than allowed.
    #[error("lives longer than allowed")]
    LivesTooLong,
}

impl TokenError {
    /// For the log: [`TokenError::label`] and details where they help. The only text from the token is the name of an
    /// untrusted audience, which is not escaped yet.
    pub fn detail(&self) -> String {
        match self {
            Self::Claim(error) | Self::HeaderParameter(error) => format!("{}: {}", self.label(), error.claim),
            Self::HeaderJson(error) | Self::PayloadJson(error) => format!("{}: {error}", self.label()),
            Self::ForeignAudience(name) => format!("{}: {name}", self.label()),
            Self::TooLong(size) => format!("{}: {size} bytes, the limit is {MAX_TOKEN_LEN}", self.label()),
            _ => self.label().to_owned(),
        }
    }

    /// Whether the reason points to a forged or stolen token: its signature was not made with one of the provider's
    /// keys, or it belongs to another login, client or issuer. A faulty provider, clock or configuration can cause all
    /// other reasons.
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
