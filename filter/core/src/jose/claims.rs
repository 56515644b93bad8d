//! The claims of a verified token (RFC 7519 4.1, OIDC Core 2), each with its own type.

use std::fmt;

use serde_json::{Map, Value};

use super::error::TokenError;
use crate::json::{self, ClaimError, ClaimProblem};
use crate::time::Timestamp;

/// Longest `sub` and `sid`, in characters. OIDC Core 2 sets this limit for `sub`.
pub const MAX_IDENTIFIER_CHARS: usize = 255;

/// How many characters of an untrusted audience the log shows.
const MAX_SHOWN_CHARS: usize = 100;

/// The audiences of a token besides our client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// Only us.
    Us,
    /// Other audiences too, all trusted by the operator.
    UsAndTrusted,
}

/// The claims of a token whose signature was checked.
///
/// Accessors return `Ok(None)` only if the claim is absent or null. A claim of another wrong type is an error. A caller
/// may treat the error as "absent" only for claims that decide nothing: see `principal`.
#[derive(Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Callers must have checked a signature, or received the claims on the gate's own connection to the provider.
    pub(crate) const fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// Issuer.
    ///
    /// # Errors
    /// Wrong type.
    pub fn iss(&self) -> Result<Option<&str>, ClaimError> {
        self.string("iss")
    }

    /// Subject: 1 to [`MAX_IDENTIFIER_CHARS`] characters without control characters.
    ///
    /// # Errors
    /// Wrong type, empty, too long, control characters.
    pub fn sub(&self) -> Result<Option<&str>, ClaimError> {
        self.identifier("sub")
    }

    /// Audience. A single string becomes a list of one.
    ///
    /// # Errors
    /// Wrong type, too many entries, an entry too long.
    pub fn aud(&self) -> Result<Option<Vec<&str>>, ClaimError> {
        json::string_or_list(&self.0, "aud")
    }

    /// The party to which the token was issued.
    ///
    /// # Errors
    /// Wrong type.
    pub fn azp(&self) -> Result<Option<&str>, ClaimError> {
        self.string("azp")
    }

    /// The value that binds an ID token to our authorization request.
    ///
    /// # Errors
    /// Wrong type.
    pub fn nonce(&self) -> Result<Option<&str>, ClaimError> {
        self.string("nonce")
    }

    /// When the token expires.
    ///
    /// # Errors
    /// Wrong type, out of range.
    pub fn exp(&self) -> Result<Option<Timestamp>, ClaimError> {
        json::numeric_date(&self.0, "exp")
    }

    /// The time before which the token is not valid.
    ///
    /// # Errors
    /// Wrong type, out of range.
    pub fn nbf(&self) -> Result<Option<Timestamp>, ClaimError> {
        json::numeric_date(&self.0, "nbf")
    }

    /// When the token was issued.
    ///
    /// # Errors
    /// Wrong type, out of range.
    pub fn iat(&self) -> Result<Option<Timestamp>, ClaimError> {
        json::numeric_date(&self.0, "iat")
    }

    /// When the user last authenticated; `None` if the form is unknown. Some providers send it as text. No login
    /// requires it, because none sends `max_age`.
    pub fn auth_time(&self) -> Option<Timestamp> {
        json::numeric_date(&self.0, "auth_time").unwrap_or_default()
    }

    /// [`super::hash::left_half_hash`] of the access token.
    ///
    /// # Errors
    /// Wrong type.
    pub fn at_hash(&self) -> Result<Option<&str>, ClaimError> {
        self.string("at_hash")
    }

    /// The session at the provider: 1 to [`MAX_IDENTIFIER_CHARS`] characters without control characters.
    ///
    /// # Errors
    /// Wrong type, empty, too long, control characters.
    pub fn sid(&self) -> Result<Option<&str>, ClaimError> {
        self.identifier("sid")
    }

    /// The token's own identifier.
    ///
    /// # Errors
    /// Wrong type.
    pub fn jti(&self) -> Result<Option<&str>, ClaimError> {
        self.string("jti")
    }

    /// The events that a logout token reports (RFC 8417 2.2).
    ///
    /// # Errors
    /// Wrong type.
    pub fn events(&self) -> Result<Option<&Map<String, Value>>, ClaimError> {
        json::object(&self.0, "events")
    }

    /// Whether the token is bound to a key that its sender must prove (`cnf`, RFC 7800). A `cnf` of any form counts.
    pub fn is_sender_constrained(&self) -> bool {
        self.0.contains_key("cnf")
    }

    /// Another claim that is a string.
    ///
    /// # Errors
    /// Wrong type.
    pub fn string(&self, name: &'static str) -> Result<Option<&str>, ClaimError> {
        json::string(&self.0, name)
    }

    /// Adds claims about the same subject from another trusted source (UserInfo). The caller must have compared the
    /// subjects.
    #[must_use]
    pub fn extended(mut self, more: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.0.extend(more);
        self
    }

    /// All claims.
    pub const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// `iss` must equal this issuer byte for byte (OIDC Core 3.1.3.7 (2), RFC 9068 4). Neither case nor a final slash
    /// is ignored.
    ///
    /// # Errors
    /// [`TokenError::WrongIssuer`]; [`TokenError::Claim`] if it is absent or not a string.
    pub fn require_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        if require("iss", self.iss()?)? == issuer { Ok(()) } else { Err(TokenError::WrongIssuer) }
    }

    /// `aud` must contain one of these, exactly (RFC 7519 4.1.3). If `accepted` is empty, no token passes.
    ///
    /// # Errors
    /// [`TokenError::WrongAudience`]; [`TokenError::Claim`] when it is absent or no list of strings.
    pub fn require_audience(&self, accepted: &[impl AsRef<str>]) -> Result<(), TokenError> {
        let audience = require("aud", self.aud()?)?;
        let is_ours = |entry: &&str| accepted.iter().any(|ours| ours.as_ref() == *entry);
        if audience.iter().any(is_ours) { Ok(()) } else { Err(TokenError::WrongAudience) }
    }

    /// `aud` must contain our `client_id`, and otherwise only audiences that the operator trusts
    /// (OIDC Core 3.1.3.7 (3)).
    ///
    /// # Errors
    /// [`TokenError::WrongAudience`]; [`TokenError::ForeignAudience`] if it contains one that is not trusted;
    /// [`TokenError::Claim`] if it is absent or not a list of strings.
    pub fn require_audience_of(&self, ours: &str, trusted: &[String]) -> Result<Audiences, TokenError> {
        self.require_audience(&[ours])?;
        let mut others =
            self.aud()?.unwrap_or_default().into_iter().filter(|entry| *entry != ours).peekable();
        let found = if others.peek().is_some() { Audiences::UsAndTrusted } else { Audiences::Us };
        match others.find(|entry| !trusted.iter().any(|trusted| trusted == entry)) {
            Some(foreign) => {
                Err(TokenError::ForeignAudience(foreign.chars().take(MAX_SHOWN_CHARS).collect()))
            }
            None => Ok(found),
        }
    }

    /// `sub`, which is required.
    ///
    /// # Errors
    /// As [`Claims::sub`], and absent.
    pub fn require_subject(&self) -> Result<&str, ClaimError> {
        require("sub", self.sub()?)
    }

    fn identifier(&self, name: &'static str) -> Result<Option<&str>, ClaimError> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(ClaimProblem::Malformed.of(name));
        }
        if text.chars().count() > MAX_IDENTIFIER_CHARS {
            return Err(ClaimProblem::TooLong.of(name));
        }
        Ok(Some(text))
    }
}

impl fmt::Debug for Claims {
    /// Prints only the names, because the values are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The value of a required claim.
///
/// # Errors
/// [`ClaimProblem::Missing`].
pub fn require<T>(claim: &'static str, value: Option<T>) -> Result<T, ClaimError> {
    value.ok_or(ClaimProblem::Missing.of(claim))
}

#[cfg(test)]
mod tests {
    use crate::testing::test;
    use serde_json::json;

    use super::*;
    use crate::jose::testing::claims;
    use ClaimProblem::{Malformed, Missing, OutOfRange, TooLong, WrongType};

    #[test]
    fn every_claim_is_absent_when_it_is_not_there() {
        let null = json!({
            "iss": null, "sub": null, "aud": null, "azp": null, "nonce": null, "exp": null, "nbf": null, "iat": null,
            "auth_time": null, "at_hash": null, "sid": null, "jti": null, "events": null,
        });
        for none in [claims(json!({})), claims(null)] {
            let texts = [none.iss(), none.sub(), none.azp(), none.nonce(), none.at_hash(), none.sid()];
            for text in texts {
                assert_eq!(text, Ok(None));
            }
            for date in [none.exp(), none.nbf(), none.iat()] {
                assert_eq!(date, Ok(None));
            }
            assert_eq!(none.auth_time(), None);
            assert_eq!(none.jti(), Ok(None));
            assert_eq!(none.aud(), Ok(None));
            assert_eq!(none.events(), Ok(None));
            assert!(!none.is_sender_constrained());
        }
    }

    #[test]
    fn every_claim_has_its_type() {
        let event = "http://schemas.openid.net/event/backchannel-logout";
        let token = claims(json!({
            "iss": "https://issuer", "sub": "s", "aud": "a", "azp": "z", "nonce": "n", "exp": 3, "nbf": 1, "iat": 2,
            "auth_time": 1, "at_hash": "h", "sid": "session", "jti": "j", "events": {event: {}},
            "cnf": null, "name": "N",
        }));
        assert_eq!(token.iss(), Ok(Some("https://issuer")));
        assert_eq!(token.require_subject(), Ok("s"));
        assert_eq!(token.aud(), Ok(Some(vec!["a"])));
        assert_eq!(token.azp(), Ok(Some("z")));
        assert_eq!(token.nonce(), Ok(Some("n")));
        assert_eq!(token.exp(), Ok(Some(Timestamp::from_secs(3))));
        assert_eq!(token.nbf(), Ok(Some(Timestamp::from_secs(1))));
        assert_eq!(token.iat(), Ok(Some(Timestamp::from_secs(2))));
        assert_eq!(token.auth_time(), Some(Timestamp::from_secs(1)));
        assert_eq!(token.at_hash(), Ok(Some("h")));
        assert_eq!(token.sid(), Ok(Some("session")));
        assert_eq!(token.jti(), Ok(Some("j")));
        assert!(token.events().unwrap().unwrap().contains_key(event));
        assert!(token.is_sender_constrained());
        assert_eq!(token.string("name"), Ok(Some("N")));
    }

    /// IT24.
    #[test]
    fn a_claim_of_the_wrong_type_is_an_error() {
        type Read = fn(&Claims) -> Option<ClaimError>;
        let table: [(&'static str, Value, ClaimProblem, Read); 16] = [
            ("sub", json!(123), WrongType, |c| c.sub().err()),
            ("sub", json!(""), Malformed, |c| c.sub().err()),
            ("iss", json!(["https://issuer"]), WrongType, |c| c.iss().err()),
            ("exp", json!("9999999999"), WrongType, |c| c.exp().err()),
            ("exp", json!(1e300), OutOfRange, |c| c.exp().err()),
            ("exp", json!(-1), OutOfRange, |c| c.exp().err()),
            ("nbf", json!("x"), WrongType, |c| c.nbf().err()),
            ("iat", json!({}), WrongType, |c| c.iat().err()),
            ("aud", json!({}), WrongType, |c| c.aud().err()),
            ("aud", json!([1]), WrongType, |c| c.aud().err()),
            ("azp", json!(["a"]), WrongType, |c| c.azp().err()),
            ("nonce", json!(1), WrongType, |c| c.nonce().err()),
            ("at_hash", json!(false), WrongType, |c| c.at_hash().err()),
            ("sid", json!(7), WrongType, |c| c.sid().err()),
            ("sid", json!(""), Malformed, |c| c.sid().err()),
            ("events", json!("http://…"), WrongType, |c| c.events().err()),
        ];
        for (name, value, problem, read) in table {
            let error = read(&claims(json!({ name: value.clone() })));
            assert_eq!(error, Some(problem.of(name)), "{name}: {value}");
        }
    }

    #[test]
    fn f104_a_time_of_authentication_that_is_no_date_is_none() {
        for odd in [json!("1767225600"), json!([1]), json!(-1), json!(1e300), json!("")] {
            assert_eq!(claims(json!({"auth_time": odd})).auth_time(), None, "{odd}");
        }
    }

    #[test]
    fn a_subject_is_a_short_text_without_control_characters() {
        let longest = "s".repeat(MAX_IDENTIFIER_CHARS);
        let too_long = "é".repeat(MAX_IDENTIFIER_CHARS + 1);
        for (sub, expected) in [
            ("f:1:user@example.com", Ok("f:1:user@example.com")),
            ("ADMIN ", Ok("ADMIN ")),
            (longest.as_str(), Ok(longest.as_str())),
            (too_long.as_str(), Err(TooLong)),
            ("", Err(Malformed)),
            ("a\r\nX-Admin: 1", Err(Malformed)),
            ("a\0", Err(Malformed)),
            ("a\u{7f}", Err(Malformed)),
            ("a\u{85}", Err(Malformed)),
        ] {
            let token = claims(json!({ "sub": sub }));
            assert_eq!(token.require_subject(), expected.map_err(|problem| problem.of("sub")), "{sub:?}");
        }
        assert_eq!(claims(json!({})).require_subject(), Err(Missing.of("sub")));
    }

    #[test]
    fn the_issuer_is_compared_byte_for_byte() {
        let ours = "https://kc.example/realms/mlflow";
        for (iss, expected) in [
            (json!(ours), Ok(())),
            (json!("https://kc.example/realms/mlflow/"), Err(TokenError::WrongIssuer)),
            (json!("https://KC.example/realms/mlflow"), Err(TokenError::WrongIssuer)),
            (json!("https://kc.example:443/realms/mlflow"), Err(TokenError::WrongIssuer)),
            (json!("http://kc.example/realms/mlflow"), Err(TokenError::WrongIssuer)),
            (json!("https://kc.example/realms/mlflow2"), Err(TokenError::WrongIssuer)),
            (json!(""), Err(TokenError::WrongIssuer)),
            (json!([ours]), Err(WrongType.of("iss").into())),
        ] {
            assert_eq!(claims(json!({ "iss": iss.clone() })).require_issuer(ours), expected, "{iss}");
        }
        assert_eq!(claims(json!({})).require_issuer(ours), Err(Missing.of("iss").into()));
    }

    #[test]
    fn the_audience_must_name_us_as_a_whole_entry() {
        let wrong = || Err(TokenError::WrongAudience);
        for (aud, expected) in [
            (json!("mlflow"), Ok(())),
            (json!(["mlflow"]), Ok(())),
            (json!(["account", "mlflow"]), Ok(())),
            (json!("other"), Ok(())),
            (json!("account"), wrong()),
            (json!(["account"]), wrong()),
            (json!("mlflow "), wrong()),
            (json!("MLflow"), wrong()),
            (json!("mlflow2"), wrong()),
            (json!("mlf"), wrong()),
            (json!("mlflow other"), wrong()),
            (json!([]), wrong()),
            (json!({"mlflow": 1}), Err(WrongType.of("aud").into())),
            (json!(["mlflow", 1]), Err(WrongType.of("aud").into())),
        ] {
            let token = claims(json!({ "aud": aud.clone() }));
            assert_eq!(token.require_audience(&["mlflow", "other"]), expected, "{aud}");
        }
        assert_eq!(claims(json!({})).require_audience(&["mlflow"]), Err(Missing.of("aud").into()));
        let nobody: [&str; 0] = [];
        assert_eq!(claims(json!({"aud": "mlflow"})).require_audience(&nobody), wrong());
    }

    #[test]
    fn printing_claims_shows_no_value() {
        let printed = format!("{:?}", claims(json!({"sub": "alice", "email": "alice@example.com"})));
        assert_eq!(printed, r#"Claims{"email", "sub"}"#);
    }
}
