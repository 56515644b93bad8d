//! The kinds of token. They are distinguished by `typ` in header and payload (RFC 8725 3.11, 3.12), and by claims that
//! only one kind has. A token of one kind is never accepted as another.

use serde_json::{Map, Value};

use crate::jose::mark::{AccessTokenMark, ClaimRule, KIND_CLAIMS, RequiredClaim};
use crate::json::{self, ClaimError};

/// The event that makes a token a logout token (OIDC Back-Channel Logout 2.4).
pub const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// One kind of token.
pub trait TokenKind: sealed::Sealed {
    /// Whether a token with this `typ` in its header and these claims is of this kind.
    ///
    /// # Errors
    /// The payload's `typ` is not a string.
    fn accepts(&self, header_type: Option<&str>, claims: &Map<String, Value>) -> Result<bool, ClaimError>;
}

/// OIDC Core 2: tells one client who logged in. A token with one of the issuer's access token marks is not an ID token.
#[derive(Clone, Copy, Debug)]
pub struct IdToken<'a>(pub &'a [AccessTokenMark]);

/// RFC 9068: grants its bearer access to a resource. It must have one of the issuer's access token marks.
#[derive(Clone, Copy, Debug)]
pub struct AccessToken<'a>(pub &'a [AccessTokenMark]);

/// Keycloak's administrative messages: plain JWTs that carry no mark.
#[derive(Clone, Copy, Debug)]
pub struct AdminAction;

/// OIDC Back-Channel Logout 2.4: says that a session has ended.
#[derive(Clone, Copy, Debug)]
pub struct LogoutToken;

impl TokenKind for IdToken<'_> {
    /// The header's `typ` is `JWT` or absent, and the payload's is `ID` or absent. The token is neither a logout token
    /// nor an administrative message, and no rule of the operator makes it an access token.
    fn accepts(&self, header_type: Option<&str>, claims: &Map<String, Value>) -> Result<bool, ClaimError> {
        let is_plain = is_plain_jwt(header_type) && payload_type(claims)?.is_none_or(|mark| mark == "ID");
        let is_access_token = self.0.iter().any(|mark| match mark {
            AccessTokenMark::Rfc9068 | AccessTokenMark::Keycloak => false,
            AccessTokenMark::Claims(rule) => follows(rule, claims),
        });
        Ok(is_plain && !is_access_token && !has_logout_event(claims) && !has_action(claims))
    }
}

impl TokenKind for AccessToken<'_> {
    fn accepts(&self, header_type: Option<&str>, claims: &Map<String, Value>) -> Result<bool, ClaimError> {
        let payload_type = payload_type(claims)?;
        let says_so = header_type.is_some_and(|header| is_media_type(header, "at+jwt"));
        let says_nothing_else = says_so || is_plain_jwt(header_type);
        Ok(self.0.iter().any(|mark| match mark {
            AccessTokenMark::Rfc9068 => says_so && payload_type.is_none_or(|mark| mark == "Bearer"),
            AccessTokenMark::Keycloak => says_nothing_else && payload_type == Some("Bearer"),
            AccessTokenMark::Claims(rule) => says_nothing_else && follows(rule, claims),
        }))
    }
}

impl TokenKind for AdminAction {
    /// The header's `typ` is `JWT` or absent, the payload has no `typ`, and the claims name an action but no issuer,
    /// subject or audience.
    fn accepts(&self, header_type: Option<&str>, claims: &Map<String, Value>) -> Result<bool, ClaimError> {
        Ok(is_plain_jwt(header_type)
            && payload_type(claims)?.is_none()
            && has_action(claims)
            && !json::is_there(claims, "events"))
    }
}

impl TokenKind for LogoutToken {
    /// The payload's `typ` is `Logout` or absent, and the header's is `logout+jwt`. That header is only recommended
    /// (2.4, 4.1). If it is `JWT` or absent, the token must have the logout event.
    fn accepts(&self, header_type: Option<&str>, claims: &Map<String, Value>) -> Result<bool, ClaimError> {
        let says_so = header_type.is_some_and(|header| is_media_type(header, "logout+jwt"));
        Ok((says_so || is_plain_jwt(header_type) && has_logout_event(claims))
            && payload_type(claims)?.is_none_or(|mark| mark == "Logout"))
    }
}

/// Whether the logout event is present, with any value. A malformed logout token must not pass as an ID token.
fn has_logout_event(claims: &Map<String, Value>) -> bool {
    let events = claims.get("events").and_then(Value::as_object);
    events.is_some_and(|events| events.contains_key(LOGOUT_EVENT))
}

/// Whether the claims name an action or resource, but no issuer, subject or audience. Every other kind of token has at
/// least one of these three.
fn has_action(claims: &Map<String, Value>) -> bool {
    ["resource", "action"].iter().any(|name| json::is_there(claims, name))
        && ["iss", "sub", "aud"].iter().all(|name| !claims.contains_key(*name))
}

/// Claims of ID tokens (OIDC Core 2, 3.3.2.11) or logout tokens (Back-Channel Logout 2.4) that no access token has. A
/// token with one of them never matches a rule.
const OF_OTHER_KINDS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];

fn follows(rule: &ClaimRule, claims: &Map<String, Value>) -> bool {
    let is_there = |path: &Vec<String>| matches!(json::at(claims, path), Ok(Some(_)));
    rule.present.iter().all(|required| is_met(required, claims))
        && !rule.absent.iter().any(is_there)
        && !OF_OTHER_KINDS.iter().any(|name| json::is_there(claims, name))
        && !has_action(claims)
        && KIND_CLAIMS.iter().all(|(name, values)| match json::member(claims, name) {
            None => true,
            // The rule has already checked this claim's value.
            Some(_) if rule.present.iter().any(|required| names(required, name)) => true,
            Some(kind) => {
                kind.as_str().is_some_and(|kind| values.iter().any(|value| value.eq_ignore_ascii_case(kind)))
            }
        })
}

/// Whether a rule lists the values that this claim may have.
fn names(required: &RequiredClaim, name: &str) -> bool {
    required.claim == [name] && !required.values.is_empty()
}

fn is_met(required: &RequiredClaim, claims: &Map<String, Value>) -> bool {
    let is_one_of = |value: &Value| match value {
        Value::String(text) => required.values.contains(text),
        Value::Bool(_) | Value::Number(_) => required.values.contains(&value.to_string()),
        _ => false,
    };
    match json::at(claims, &required.claim) {
        Ok(Some(value)) if required.values.is_empty() => !json::is_empty(value),
        Ok(Some(Value::Array(entries))) => entries.iter().any(is_one_of),
        Ok(Some(value)) => is_one_of(value),
        _ => false,
    }
}

/// `typ` in the payload, where Keycloak states the kind.
fn payload_type(claims: &Map<String, Value>) -> Result<Option<&str>, ClaimError> {
    json::string(claims, "typ")
}

fn is_plain_jwt(header_type: Option<&str>) -> bool {
    header_type.is_none_or(|header| is_media_type(header, "JWT"))
}

/// RFC 7515 4.1.9: a media type, case-insensitive, whose `application/` may be left out.
fn is_media_type(value: &str, subtype: &str) -> bool {
    const PREFIX: &str = "application/";
    let bare = match value.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => value,
    };
    bare.eq_ignore_ascii_case(subtype)
}

mod sealed {
    /// Prevents other modules from adding kinds.
    pub trait Sealed {}
    impl Sealed for super::IdToken<'_> {}
    impl Sealed for super::AdminAction {}
    impl Sealed for super::AccessToken<'_> {}
    impl Sealed for super::LogoutToken {}
}

#[cfg(test)]
mod tests;
