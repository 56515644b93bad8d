//! Identity headers: removes those that the client sent, and sets the gate's own.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::assertion::{Memo, Signer};
use crate::http::cookies::GateCookies;
use crate::http::request::Request;
use crate::policy::group;
use crate::policy::header_change::HeaderChange;
use crate::policy::mlflow::{self, Audience};
use crate::principal::{Kind, Principal};
use crate::reserved::Reserved;
use crate::time::Timestamp;

/// The user of a request.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// The verified identity.
    pub principal: &'a Principal,
    /// The last assertion about it.
    pub memo: &'a Memo,
    /// The time of the request.
    pub now: Timestamp,
}

/// A header with a signed statement about the user.
#[derive(Clone, Debug)]
pub struct AssertionHeader {
    /// The name, in lower case.
    pub name: String,
    /// What signs it.
    pub signer: Signer,
}

pub(super) const AUTHORIZATION: &str = "authorization";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const USER: &str = "x-forwarded-user";
const PREFERRED_USERNAME: &str = "x-forwarded-preferred-username";
const EMAIL: &str = "x-forwarded-email";
const GROUPS: &str = "x-forwarded-groups";
const HOST: &str = "x-forwarded-host";

/// Longest groups header, in bytes. If all groups do not fit, only those that the policy names are passed on.
const MAX_GROUPS_LEN: usize = 8 * 1024;
/// Longest other identity header, in bytes. A longer value is left out.
const MAX_VALUE_LEN: usize = 1024;

/// The characters that are percent-encoded in a header value. `%` is among them, so that decoding restores the claim
/// exactly.
const PLAIN: &AsciiSet = &CONTROLS.add(b'%');
/// In the list of groups, also the characters that list parsers treat as separators or strip from an item
/// (RFC 9110 5.6: commas, blanks, quotes, parameters), and the separators that other applications use.
const PLAIN_ITEM: &AsciiSet = &PLAIN.add(b',').add(b' ').add(b'"').add(b'\'').add(b';').add(b'\\').add(b'|');

/// How the headers of a request are rewritten for the application.
#[derive(Clone, Debug)]
pub struct Headers {
    cookies: GateCookies,
    public_authority: String,
    policy_groups: Vec<String>,
    reserved: Reserved,
    assertion: Option<AssertionHeader>,
}

impl Headers {
    /// `policy_groups` are all groups that the policy names.
    pub fn new(
        cookies: GateCookies,
        public_authority: String,
        policy_groups: Vec<String>,
        reserved: Reserved,
        assertion: Option<AssertionHeader>,
    ) -> Self {
        Self { cookies, public_authority, policy_groups, reserved, assertion }
    }

    pub(super) fn reserves(&self, name: &str) -> bool {
        self.reserved.covers(name)
    }

    /// All changes, removals first. An absent claim leaves its header absent.
    pub(super) fn changes(
        &self,
        request: &Request,
        user: Option<User<'_>>,
        audience: Audience,
    ) -> Vec<HeaderChange> {
        let mut changes: Vec<HeaderChange> = Vec::new();
        for name in request.header_names().filter(|name| self.removes(name, request, user, audience)) {
            let change = HeaderChange::Remove(name.to_owned());
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        let told = user.map(|user| (user, self.told_groups(&user.principal.groups)));
        if audience == Audience::Application {
            self.tell_application(request, told.as_ref(), &mut changes);
        }
        if let (Some((user, groups)), Some(header)) = (&told, &self.assertion)
            && (audience == Audience::Application
                || audience == Audience::ModelProvider && header.name == mlflow::CREDENTIAL)
        {
            let assertion = header.signer.sign(user.principal, &groups.names, user.now, user.memo);
            let value = [b"Bearer ", assertion.expose()].concat();
            changes.push(HeaderChange::Set(header.name.clone().into(), value));
        }
        changes
    }

    /// Whether a header of the client is removed. `name` is in lower case.
    fn removes(&self, name: &str, request: &Request, user: Option<User<'_>>, audience: Audience) -> bool {
        let reserved = self.reserved.covers(name) && !self.may_choose(name, request, user);
        match audience {
            Audience::Application => reserved,
            // The key of the model provider, unless it is the gate's own credential, as in the other header.
            Audience::ModelProvider if name == AUTHORIZATION && request.has_header(mlflow::CREDENTIAL) => {
                token(request, AUTHORIZATION) == token(request, mlflow::CREDENTIAL)
            }
            // Also what Envoy says about the client, except for its scheme: Envoy finds no route without it.
            Audience::ModelProvider | Audience::Unclear => {
                reserved
                    || name == "cookie"
                    || name.starts_with("x-forwarded-") && name != FORWARDED_PROTO
                    || name.starts_with("x-envoy-")
            }
        }
    }

    /// Whether this is the workspace of MLflow that a user chooses. An MLflow that knows the user checks the permission
    /// for it. Of two values, MLflow could check one and use the other.
    fn may_choose(&self, name: &str, request: &Request, user: Option<User<'_>>) -> bool {
        name == mlflow::WORKSPACE
            && user.is_some()
            && self.assertion.as_ref().is_some_and(|header| header.name == mlflow::CREDENTIAL)
            && request.header_values(name).nth(1).is_none()
    }

    /// Cookies without the gate's own, and who the user is.
    fn tell_application(
        &self,
        request: &Request,
        told: Option<&(User<'_>, ToldGroups<'_>)>,
        changes: &mut Vec<HeaderChange>,
    ) {
        if self.cookies.has_ours(request) || request.header_values("cookie").nth(1).is_some() {
            changes.push(match self.cookies.without_ours(request) {
                Some(cookies) => HeaderChange::Set("cookie".into(), cookies),
                None => HeaderChange::Remove("cookie".to_owned()),
            });
        }
        changes.push(HeaderChange::Set(HOST.into(), self.public_authority.clone().into_bytes()));
        let Some((User { principal, .. }, groups)) = told else { return };
        let mut set = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value.and_then(header_value) {
                changes.push(HeaderChange::Set(name.into(), value.into_bytes()));
            }
        };
        set(USER, Some(principal.subject.as_str()));
        // RFC 9068 5: a client must not be mistaken for a person with the same name.
        if principal.kind == Kind::Person {
            set(PREFERRED_USERNAME, principal.preferred_username.as_deref());
            set(EMAIL, principal.email.as_deref());
        }
        if !groups.list.is_empty() {
            changes.push(HeaderChange::Set(GROUPS.into(), groups.list.clone().into_bytes()));
        }
    }

    /// The groups that the application is told: all, or those that the policy names if all do not fit.
    fn told_groups<'a>(&self, groups: &'a [String]) -> ToldGroups<'a> {
        let is_named = |claimed: &&str| self.policy_groups.iter().any(|name| group::matches(name, claimed));
        let all = groups.iter().map(String::as_str);
        ToldGroups::that_fit(all.clone().collect())
            .or_else(|| ToldGroups::that_fit(all.filter(is_named).collect()))
            .unwrap_or_default()
    }
}

/// The groups that the application is told, for the assertion and for the header.
#[derive(Default)]
struct ToldGroups<'a> {
    names: Vec<&'a str>,
    /// The value of the header.
    list: String,
}

impl<'a> ToldGroups<'a> {
    /// `None` if they are longer than [`MAX_GROUPS_LEN`].
    fn that_fit(names: Vec<&'a str>) -> Option<Self> {
        let list = list(names.iter().copied());
        (list.len() <= MAX_GROUPS_LEN).then_some(Self { names, list })
    }
}

/// What follows the scheme in a header with a credential.
fn token<'a>(request: &'a Request, header: &str) -> Option<&'a str> {
    request.header(header)?.split_once(' ').map(|(_, token)| token.trim())
}

fn header_value(value: &str) -> Option<String> {
    let encoded = encode(value);
    (!encoded.is_empty() && encoded.len() <= MAX_VALUE_LEN).then_some(encoded)
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let named = items.filter(|item| !item.is_empty());
    named.map(|item| utf8_percent_encode(item, PLAIN_ITEM).to_string()).collect::<Vec<_>>().join(",")
}

/// Also encodes spaces at both ends. A server would trim them, but `admin ` and `admin` are different groups.
fn encode(value: &str) -> String {
    let trimmed = value.trim_matches(' ');
    let leading = value.len().saturating_sub(value.trim_start_matches(' ').len());
    let trailing = value.len().saturating_sub(leading).saturating_sub(trimmed.len());
    format!("{}{}{}", "%20".repeat(leading), utf8_percent_encode(trimmed, PLAIN), "%20".repeat(trailing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn hd05_claims_become_plain_header_values_that_decode_to_themselves() {
        for claim in [
            "a\r\nX-Admin: 1",
            "a\0b",
            "a\u{7f}",
            "a\tb",
            "é€😀",
            "\u{202e}rtl",
            "50%",
            " admin ",
            "ADMIN",
            "ａｄｍｉｎ",
            "a b",
        ] {
            let value = header_value(claim).unwrap();
            assert!(value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "{value}");
            assert_eq!(value, value.trim());
            assert_eq!(percent_encoding::percent_decode_str(&value).decode_utf8().unwrap(), claim);
        }
        assert_eq!(header_value("mlflow_user@example.com").unwrap(), "mlflow_user@example.com");
        assert_eq!(header_value(""), None);
        assert_eq!(header_value(&"x".repeat(100_000)), None);
    }

    #[test]
    fn f1101_no_group_is_two_for_whatever_reads_the_list() {
        for (group, value) in [
            ("/a,b", "/a%2Cb"),
            ("\"mlflow_admins\"", "%22mlflow_admins%22"),
            ("x;mlflow_admins", "x%3Bmlflow_admins"),
            ("x mlflow_admins", "x%20mlflow_admins"),
            (" mlflow_admins ", "%20mlflow_admins%20"),
            ("x\\\"mlflow_admins", "x%5C%22mlflow_admins"),
            ("x|mlflow_admins", "x%7Cmlflow_admins"),
            ("'mlflow_admins'", "%27mlflow_admins%27"),
            ("x\tmlflow_admins", "x%09mlflow_admins"),
            ("x\r\nmlflow_admins", "x%0D%0Amlflow_admins"),
            ("x\u{a0}mlflow_admins", "x%C2%A0mlflow_admins"),
            ("x\u{ff0c}mlflow_admins", "x%EF%BC%8Cmlflow_admins"),
            ("x%2Cmlflow_admins", "x%252Cmlflow_admins"),
            ("/dept/mlflow_admins", "/dept/mlflow_admins"),
        ] {
            assert_eq!(list([group, "/c"].into_iter()), format!("{value},/c"));
            assert_eq!(percent_encoding::percent_decode_str(value).decode_utf8().unwrap(), group);
        }
        assert_eq!(list(["", "/c", ""].into_iter()), "/c");
    }
}
