//! The verified identity from which a request comes.

mod groups;
mod id;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Config, EmailVerified};
use crate::host::{Host, Level};
use crate::jose::claims::{Claims, MAX_IDENTIFIER_CHARS};
use crate::jose::error::TokenError;
use crate::quote::quote;
use groups::Groups;
pub use id::{Sid, Subject};

/// A verified identity. Only `(issuer, subject)` identifies it (OIDC Core 5.7). Names and email addresses are for
/// display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Subject,
    /// Whether this is a person, or a client acting for itself.
    pub kind: Kind,
    /// `preferred_username`, for display.
    pub preferred_username: Option<String>,
    /// `name`, for display.
    pub name: Option<String>,
    /// `email`, for display. Absent if the provider says that it is not verified.
    pub email: Option<String>,
    /// Groups, as the claim contains them.
    pub groups: Vec<String>,
    /// Whether the provider sent a reference in place of the list of groups (`_claim_names`).
    #[serde(default)]
    pub groups_elsewhere: bool,
    /// The session at the provider, if there is one.
    pub sid: Option<Sid>,
}

/// Person or client. RFC 9068 5: the two must not be confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user who signed in.
    Person,
    /// A client that acts for itself (`client_credentials`).
    Client,
}

/// The prefix of the names of Keycloak's service accounts, the users that stand for clients.
pub const SERVICE_ACCOUNT_PREFIX: &str = "service-account-";
/// Claims that name the client to which the token was issued.
const CLIENTS: [&str; 2] = ["client_id", "azp"];
/// Claims with names for display.
const NAMES: [&str; 3] = ["preferred_username", "name", "email"];

impl Principal {
    /// `user` and `sub` for a log line, escaped.
    pub fn for_log(&self) -> String {
        format!(
            "user={} sub={}",
            quote(self.preferred_username.as_deref().unwrap_or("-"), MAX_IDENTIFIER_CHARS),
            quote(self.subject.as_str(), MAX_IDENTIFIER_CHARS)
        )
    }

    /// The name that the gate's pages show.
    pub fn display_name(&self) -> &str {
        let name = self.preferred_username.as_deref().or(self.email.as_deref());
        name.unwrap_or(self.subject.as_str())
    }

    /// Reads the claims of a verified ID token of the configured issuer. Only people sign in with a browser, whatever
    /// their names are.
    ///
    /// # Errors
    /// As [`Principal::from_access_token`].
    pub fn from_id_token(config: &Config, claims: &Claims) -> Result<Self, TokenError> {
        Self::read(config, claims, Kind::Person)
    }

    /// Reads the claims of a verified access token of the configured issuer.
    ///
    /// `sub` and groups are read strictly, because they decide about access. An unusable name, or `sid`, is left out;
    /// [`log_left_out`] logs which.
    ///
    /// # Errors
    /// `sub` or the groups have the wrong type. This never counts as "absent" (IT24).
    pub fn from_access_token(config: &Config, claims: &Claims) -> Result<Self, TokenError> {
        let subject = claims.require_subject()?;
        let account = claims.string("preferred_username").unwrap_or_default();
        let account = account.and_then(|name| name.strip_prefix(SERVICE_ACCOUNT_PREFIX));
        // A client that acts for itself is the token's subject (RFC 9068 2.2). With Keycloak the subject is the service
        // account of this client, in lower case. A token of a person also names a client: the one through which the
        // person signed in.
        let is_client =
            CLIENTS.iter().filter_map(|name| claims.string(name).unwrap_or_default()).any(|client| {
                client == subject || account.is_some_and(|account| account.eq_ignore_ascii_case(client))
            });
        Self::read(config, claims, if is_client { Kind::Client } else { Kind::Person })
    }

    fn read(config: &Config, claims: &Claims, kind: Kind) -> Result<Self, TokenError> {
        let described = |name| {
            let text = claims.string(name).unwrap_or_default();
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let subject = Subject::from(claims.require_subject()?);
        let preferred_username = described("preferred_username");
        let sid = claims.sid().unwrap_or_default().map(Sid::from);
        let (groups, groups_elsewhere) = match groups::read(claims.members(), &config.groups)? {
            Groups::Listed(groups) => (groups, false),
            Groups::Elsewhere => (Vec::new(), true),
        };
        Ok(Self {
            issuer: config.issuer.url.clone(),
            subject,
            kind,
            preferred_username,
            name: described("name"),
            email: described("email").filter(|_| email_counts(config.identity.email_verified, claims)),
            groups,
            groups_elsewhere,
            sid,
        })
    }

    /// Approximate size in memory, in bytes.
    pub fn weight(&self) -> usize {
        let names = [&self.preferred_username, &self.name, &self.email].into_iter().flatten();
        let texts = names.chain([&self.issuer]).chain(&self.groups).map(String::as_str);
        let texts = texts.chain([self.subject.as_str()]).chain(self.sid.as_ref().map(Sid::as_str));
        texts.fold(size_of::<Self>(), |sum, text| sum.saturating_add(text.len()).saturating_add(32))
    }
}

/// Logs the claims that a [`Principal`] lacks because they are unusable. Without a usable `sid` the
/// provider can revoke this person's sessions by `sub` only.
pub fn log_left_out(host: &dyn Host, claims: &Claims) {
    let names = NAMES.iter().filter_map(|name| claims.string(name).err());
    for error in names.chain(claims.sid().err()).chain(claims.azp().err()) {
        let subject = claims.require_subject().unwrap_or_default();
        let consequence =
            if error.claim == "sid" { "; the provider can log out this session by sub only" } else { "" };
        host.log(
            Level::Warn,
            &format!("claim {} is ignored: {}{consequence} sub={subject:?}", error.claim, error.problem),
        );
    }
}

/// OIDC Core 5.1: whether the email address counts as verified. Some providers send the flag as a string.
fn email_counts(setting: EmailVerified, claims: &Claims) -> bool {
    match claims.members().get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified == "true",
        None | Some(Value::Null) => setting == EmailVerified::Optional,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::testing::claims;
    use crate::testing::config::config;
    use crate::testing::test;

    const ABSENT: Value = Value::String(String::new());

    fn email(setting: EmailVerified, verified: Value) -> Option<String> {
        let mut config = config();
        config.identity.email_verified = setting;
        let mut members = json!({"sub": "s-1", "email": "mona@example.com"});
        if verified != ABSENT {
            members["email_verified"] = verified;
        }
        Principal::from_id_token(&config, &claims(members)).unwrap().email
    }

    #[test]
    fn f303_a_name_alone_makes_nobody_a_client() {
        let kind = |members: Value| {
            let claims = claims(members);
            let of = |read: fn(&Config, &Claims) -> Result<Principal, TokenError>| {
                read(&config(), &claims).unwrap().kind
            };
            [of(Principal::from_access_token), of(Principal::from_id_token)]
        };
        for (members, by_access_token) in [
            (json!({"sub": "s", "preferred_username": "service-account-ci", "azp": "ci"}), Kind::Client),
            (
                json!({"sub": "s", "preferred_username": "service-account-ci", "client_id": "CI"}),
                Kind::Client,
            ),
            (json!({"sub": "ci", "client_id": "ci"}), Kind::Client),
            (json!({"sub": "s", "preferred_username": "service-account-ci", "azp": "web"}), Kind::Person),
            (json!({"sub": "s", "preferred_username": "service-account-ci"}), Kind::Person),
            (json!({"sub": "s", "preferred_username": "service-account-", "azp": "web"}), Kind::Person),
            (json!({"sub": "s", "preferred_username": "ann", "azp": "ann"}), Kind::Person),
        ] {
            assert_eq!(kind(members.clone()), [by_access_token, Kind::Person], "{members}");
        }
    }

    #[test]
    fn f1102_an_address_that_the_provider_has_not_verified_does_not_count() {
        for (verified, optional, required) in [
            (json!(true), true, true),
            (json!("true"), true, true),
            (ABSENT, true, false),
            (Value::Null, true, false),
            (json!(false), false, false),
            (json!("false"), false, false),
            (json!("yes"), false, false),
            (json!(1), false, false),
            (json!([true]), false, false),
        ] {
            assert_eq!(email(EmailVerified::Optional, verified.clone()).is_some(), optional, "{verified}");
            assert_eq!(email(EmailVerified::Required, verified.clone()).is_some(), required, "{verified}");
        }
    }
}
