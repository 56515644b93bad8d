//! `session`: browser sessions and the Redis that stores them.

use vec1::Vec1;

use super::entries::each;
use super::session_key;
use super::text;
use super::timing::limits;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{Redis, Session, WithoutRefreshToken};
use crate::config::raw;
use crate::config::scalar::{List, SecretText};
use crate::secret::Secret;

/// The cookie name if none is configured.
pub(in crate::config) const DEFAULT_COOKIE_NAME: &str = "oidc-gate";

/// The key prefix if none is configured.
pub(in crate::config) const DEFAULT_PREFIX: &str = "oidc-gate";

const MAX_COOKIE_NAME_LEN: usize = 64;
const MAX_PREFIX_LEN: usize = 64;

pub(super) fn session(raw: raw::Session, place: &Place<'_>) -> Result<Session, Reported> {
    let keys = field!(raw.keys, place).required(keys);
    let idle = field!(raw.idle_timeout, place);
    let idle_place = idle.place.clone();
    let idle_timeout = limits::IDLE_TIMEOUT.read(idle);
    let absolute_timeout = limits::ABSOLUTE_TIMEOUT.read(field!(raw.absolute_timeout, place));
    let cache_ttl = limits::CACHE_TTL.read(field!(raw.cache_ttl, place));
    let refresh_ahead = limits::REFRESH_AHEAD.read(field!(raw.refresh_ahead, place));
    let check_interval = limits::CHECK_INTERVAL.read_optional(field!(raw.check_interval, place));
    let without_refresh_token = raw.without_refresh_token.or_else(|| Ok(WithoutRefreshToken::End));
    let cookie_name = field!(raw.cookie_name, place).text().or(DEFAULT_COOKIE_NAME, cookie_name);
    let redis = field!(raw.redis, place).required(redis);

    if let (Ok(idle), Ok(absolute)) = (idle_timeout, absolute_timeout)
        && idle > absolute
    {
        let absolute = humantime::format_duration(absolute);
        return Err(idle_place.refuse(format!("must not be longer than absolute_timeout ({absolute})")));
    }
    Ok(Session {
        keys: keys?,
        idle_timeout: idle_timeout?,
        absolute_timeout: absolute_timeout?,
        cache_ttl: cache_ttl?,
        refresh_ahead: refresh_ahead?,
        check_interval: check_interval?,
        without_refresh_token: without_refresh_token?,
        cookie_name: cookie_name?,
        redis: redis?,
    })
}

fn keys(list: List<SecretText>, place: &Place<'_>) -> Result<Vec1<Secret>, Reported> {
    let mut earlier: Vec<Secret> = Vec::new();
    let keys = each(list.0, place, |_, SecretText(key), at| {
        if earlier.contains(&key) {
            return Err(at.refuse("is the same key as an earlier one"));
        }
        session_key::check(&key).map_err(|weakness| at.refuse(weakness.to_string()))?;
        earlier.push(key.clone());
        Ok(key)
    })?;
    Vec1::try_from_vec(keys).map_err(|_| place.refuse("is empty: no session could be encrypted"))
}

/// RFC 6265 4.1.1: a token. `__` at the beginning is reserved for browsers' prefixes, one of which the gate adds
/// itself.
fn cookie_name(name: String, place: &Place<'_>) -> Result<String, Reported> {
    if name.is_empty() || name.len() > MAX_COOKIE_NAME_LEN || !name.bytes().all(is_token_char) {
        Err(place
            .refuse(format!("must be a token (RFC 6265 4.1.1) of 1 to {MAX_COOKIE_NAME_LEN} characters")))
    } else if name.starts_with("__") {
        Err(place.refuse("must not begin with __; the gate adds __Host- where it applies"))
    } else {
        Ok(name)
    }
}

/// RFC 9110 5.6.2.
pub(super) fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn redis(raw: raw::Redis, place: &Place<'_>) -> Result<Redis, Reported> {
    let cluster = field!(raw.cluster, place).text().required(text::name);
    let nodes = field!(raw.nodes, place).text().optional(|name, at| {
        let nodes = text::name(name, at)?;
        if cluster.as_ref().is_ok_and(|cluster| *cluster == nodes) {
            return Err(
                at.refuse("is also session.redis.cluster; it needs a separate cluster of type ORIGINAL_DST")
            );
        }
        Ok(nodes)
    });
    let user = field!(raw.username, place).text();
    let user_place = user.place.clone();
    let username = user.optional(text::name);
    let password = field!(raw.password, place).optional(|SecretText(password), at| {
        if password.expose().trim_ascii().is_empty() {
            return Err(at.refuse("is empty; remove it if Redis requires no password"));
        }
        Ok(password)
    });
    let prefix = field!(raw.prefix, place).text().or(DEFAULT_PREFIX, key_prefix);
    let timeout = limits::REDIS_TIMEOUT.read(field!(raw.timeout, place));
    match (&username, &password) {
        (Ok(Some(_)), Ok(None)) => return Err(user_place.refuse("needs a password")),
        (Ok(None), Ok(None)) => {
            place.warn(
                "has no password: anyone who can connect to Redis can end sessions, but not read or forge them",
            );
        }
        _ => {}
    }
    Ok(Redis {
        cluster: cluster?,
        nodes: nodes?,
        username: username?,
        password: password?,
        prefix: prefix?,
        timeout: timeout?,
    })
}

/// Few characters are allowed: a prefix is part of every key and must not be able to end one.
fn key_prefix(prefix: String, place: &Place<'_>) -> Result<String, Reported> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=MAX_PREFIX_LEN).contains(&prefix.len()) && prefix.bytes().all(is_plain) {
        Ok(prefix)
    } else {
        Err(place.refuse(format!("must be 1 to {MAX_PREFIX_LEN} of the characters A-Z a-z 0-9 . _ -")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    #[test]
    fn cookie_names_are_tokens_without_a_browsers_prefix() {
        for good in ["oidc-gate", "_x", "a.b~c", "x__y", &"n".repeat(MAX_COOKIE_NAME_LEN)] {
            assert!(checked(|place| cookie_name(good.to_owned(), place)).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "a b",
            "a;b",
            "a=b",
            "a,b",
            "a\"b",
            "caf\u{e9}",
            "a\n",
            "__Host-x",
            "__Secure-x",
            "__x",
            &"n".repeat(MAX_COOKIE_NAME_LEN + 1),
        ] {
            assert!(checked(|place| cookie_name(wrong.to_owned(), place)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ss12_prefixes_cannot_end_a_key() {
        for good in ["mlflow", "a", "Team_1.prod-x", &"p".repeat(MAX_PREFIX_LEN)] {
            assert!(checked(|place| key_prefix(good.to_owned(), place)).is_ok(), "{good}");
        }
        for wrong in ["", "a:b", "a b", "{a}", "a*", "a\r\n", "\u{e9}", &"p".repeat(MAX_PREFIX_LEN + 1)] {
            assert!(checked(|place| key_prefix(wrong.to_owned(), place)).is_err(), "{wrong}");
        }
    }
}
