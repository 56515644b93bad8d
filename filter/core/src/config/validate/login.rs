//! `login`: browser login.

use vec1::{Vec1, vec1};

use super::algorithm::algorithm;
use super::text;
use super::timing::limits;
use super::url::{self, Transport};
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::Login;
use crate::config::raw;
use crate::config::scalar::Flag;
use crate::jose::algorithm::Algorithm;

/// Keycloak's built-in scopes, which need no set-up.
pub(in crate::config) const DEFAULT_SCOPE: &str = "openid profile email";

/// OIDC Core 3.1.3.7 (7): the default for a registered client.
pub(in crate::config) fn default_id_token_algorithms() -> Vec1<Algorithm> {
    vec1![Algorithm::Rs256]
}

pub(super) fn login(raw: raw::Login, place: &Place<'_>, transport: Transport) -> Result<Login, Reported> {
    let scope = field!(raw.scope, place).text().or(DEFAULT_SCOPE, |text, at| scope(&text, at));
    let userinfo = raw.userinfo.or_else(|| Ok(Flag(false)));
    let timeout = limits::LOGIN_TIMEOUT.read(field!(raw.timeout, place));
    let id_token_algorithms = text::optional_filled_list(
        field!(raw.id_token_algorithms, place),
        "no ID token could be accepted",
        algorithm,
    );
    let trusted_audiences = text::list(field!(raw.trusted_audiences, place), text::without_wildcard);
    let logout_return_urls = text::list(field!(raw.logout_return_urls, place), |written, at| {
        url::return_url(written, at, transport)
    });
    let keep_fragment = raw.keep_fragment.or_else(|| Ok(Flag(false)));
    Ok(Login {
        scope: scope?,
        userinfo: userinfo?.0,
        timeout: timeout?,
        id_token_algorithms: id_token_algorithms?.unwrap_or_else(default_id_token_algorithms),
        trusted_audiences: trusted_audiences?,
        logout_return_urls: logout_return_urls?,
        keep_fragment: keep_fragment?.0,
    })
}

/// RFC 6749 3.3. It must contain `openid` (OIDC Core 3.1.2.1).
fn scope(written: &str, place: &Place<'_>) -> Result<String, Reported> {
    let tokens: Vec<&str> = written.split(' ').filter(|token| !token.is_empty()).collect();
    let is_scope_char = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !tokens.iter().all(|token| token.bytes().all(is_scope_char)) {
        return Err(place.refuse("must be scopes of printable ASCII, separated by spaces (RFC 6749 3.3)"));
    }
    if !tokens.contains(&"openid") {
        let hint = if written.contains(',') { "; scopes are separated by spaces, not commas" } else { "" };
        return Err(place.refuse(format!("must contain openid (OIDC Core 3.1.2.1){hint}")));
    }
    Ok(tokens.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    #[test]
    fn scopes_are_separated_by_spaces_and_contain_openid() {
        for (written, read) in [
            ("openid", "openid"),
            (" email  openid ", "email openid"),
            ("openid https://api.example/read", "openid https://api.example/read"),
        ] {
            assert_eq!(checked(|place| scope(written, place)).as_deref(), Ok(read));
        }
        for wrong in [
            "",
            "profile",
            "OpenID",
            "openidx",
            "openid,email",
            "openid\temail",
            "openid \"x\"",
            "openid a\\b",
        ] {
            assert!(checked(|place| scope(wrong, place)).is_err(), "{wrong}");
        }
    }
}
