//! A browser's cookie jar: paths, expiry, `Secure` (loopback counts as secure) and the `__Host-`/`__Secure-` rules.

use std::time::{Duration, Instant};

use cookie::Cookie as Parsed;
use url::{Host, Url};

/// One stored cookie.
#[derive(Clone, Debug)]
pub struct Cookie {
    /// The name with its prefix.
    pub name: String,
    /// The value as received.
    pub value: String,
    host: String,
    include_subdomains: bool,
    path: String,
    secure: bool,
    expires: Option<Instant>,
}

/// All cookies, oldest first. As in a browser, the port is ignored: all servers on localhost share them.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
}

impl Jar {
    /// Stores the cookies of a response from `url`. Those that break the rules are ignored, as in a browser
    /// (RFC 6265bis 5.7).
    pub fn store<'a>(&mut self, url: &Url, set_cookies: impl Iterator<Item = &'a [u8]>) {
        for line in set_cookies {
            let Some(parsed) = std::str::from_utf8(line).ok().and_then(|line| Parsed::parse(line).ok())
            else {
                continue;
            };
            let Some(cookie) = accept(url, &parsed) else { continue };
            let same = |other: &Cookie| {
                other.name == cookie.name && other.host == cookie.host && other.path == cookie.path
            };
            match self.cookies.iter_mut().find(|other| same(other)) {
                Some(old) => *old = cookie,
                None => self.cookies.push(cookie),
            }
        }
        self.cookies.retain(|cookie| cookie.expires.is_none_or(|expires| expires > Instant::now()));
    }

    /// The Cookie header for a request to `url`.
    pub fn header_for(&self, url: &Url) -> Option<String> {
        let mut cookies: Vec<&Cookie> = self.cookies.iter().filter(|cookie| cookie.goes_to(url)).collect();
        // Longer paths first, then older cookies (RFC 6265bis 5.8.3). The sort is stable.
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> =
            cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The cookie with this name, if there is exactly one.
    pub fn get(&self, name: &str) -> Option<&Cookie> {
        let mut found = self.cookies.iter().filter(|cookie| cookie.name == name);
        let cookie = found.next()?;
        found.next().is_none().then_some(cookie)
    }

    /// All names, oldest first.
    pub fn names(&self) -> Vec<&str> {
        self.cookies.iter().map(|cookie| cookie.name.as_str()).collect()
    }

    /// Adds a cookie directly, as an attacker with a stolen or forged one does.
    pub fn plant(&mut self, host: &str, name: &str, value: &str) {
        self.remove(name);
        self.cookies.push(Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            host: host.to_owned(),
            include_subdomains: false,
            path: "/".to_owned(),
            secure: false,
            expires: None,
        });
    }

    /// Removes the cookies with this name.
    pub fn remove(&mut self, name: &str) {
        self.cookies.retain(|cookie| cookie.name != name);
    }

    /// Removes all cookies.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }
}

impl Cookie {
    fn goes_to(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let host_fits = host == self.host
            || (self.include_subdomains
                && host.strip_suffix(&self.host).is_some_and(|rest| rest.ends_with('.')));
        host_fits
            && path_matches(url.path(), &self.path)
            && (!self.secure || is_trustworthy(url))
            && self.expires.is_none_or(|expires| expires > Instant::now())
    }
}

fn accept(url: &Url, parsed: &Parsed<'_>) -> Option<Cookie> {
    let host = url.host_str()?.to_owned();
    let secure = parsed.secure().unwrap_or_default();
    let domain = parsed.domain().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
    let path = parsed.path().filter(|path| path.starts_with('/'));
    if secure && !is_trustworthy(url) {
        return None;
    }
    if parsed.name().starts_with("__Secure-") && !secure {
        return None;
    }
    // RFC 6265bis 4.1.3.2: Secure, Path=/ and no Domain.
    if parsed.name().starts_with("__Host-") && !(secure && domain.is_none() && path == Some("/")) {
        return None;
    }
    if let Some(domain) = &domain {
        let covers =
            host == *domain || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        if !covers {
            return None;
        }
    }
    let max_age = parsed.max_age().map(|age| Duration::try_from(age).unwrap_or_default());
    Some(Cookie {
        name: parsed.name().to_owned(),
        value: parsed.value().to_owned(),
        include_subdomains: domain.is_some(),
        host: domain.unwrap_or(host),
        path: path.map_or_else(|| default_path(url), ToOwned::to_owned),
        secure,
        expires: max_age.map(|age| Instant::now() + age.min(Duration::from_secs(400 * 86_400))),
    })
}

/// Chromium treats loopback like https.
fn is_trustworthy(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || loopback
}

/// Path matching of RFC 6265bis 5.1.4.
fn path_matches(path: &str, cookie_path: &str) -> bool {
    path.strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie_path.ends_with('/'))
}

/// The default path of RFC 6265bis 5.1.4: everything before the last slash.
fn default_path(url: &Url) -> String {
    match url.path().rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(at) => url.path().chars().take(at).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn jar(origin: &str, lines: &[&str]) -> Jar {
        let mut jar = Jar::default();
        jar.store(&url(origin), lines.iter().map(|line| line.as_bytes()));
        jar
    }

    #[test]
    fn what_breaks_the_prefix_rules_is_not_stored() {
        for (origin, line, stored) in [
            ("http://localhost/", "__Host-a=1; Secure; Path=/", true),
            ("https://example.com/", "__Host-a=1; Secure; Path=/", true),
            ("http://example.com/", "__Host-a=1; Secure; Path=/", false),
            ("http://localhost/", "__Host-a=1; Path=/", false),
            ("http://localhost/", "__Host-a=1; Secure", false),
            ("http://localhost/", "__Host-a=1; Secure; Path=/x", false),
            ("http://localhost/", "__Host-a=1; Secure; Path=/; Domain=localhost", false),
            ("http://localhost/", "__Secure-a=1", false),
            ("http://localhost/", "a=1; Domain=example.com", false),
            ("http://example.com/", "a=1; Secure", false),
        ] {
            assert_eq!(!jar(origin, &[line]).names().is_empty(), stored, "{origin} {line}");
        }
    }

    #[test]
    fn cookies_go_where_their_path_and_host_say() {
        let jar = jar("http://localhost:5000/a/b", &["root=1; Path=/", "deep=2; Path=/a", "here=3"]);
        for (to, expected) in [
            ("http://localhost:5000/", Some("root=1")),
            ("http://localhost:8080/a", Some("deep=2; here=3; root=1")),
            ("http://localhost:5000/a/c", Some("deep=2; here=3; root=1")),
            ("http://localhost:5000/ab", Some("root=1")),
            ("http://other.localhost/", None),
        ] {
            assert_eq!(jar.header_for(&url(to)).as_deref(), expected, "{to}");
        }
    }

    #[test]
    fn max_age_zero_deletes_and_a_later_value_replaces() {
        let mut jar = jar("http://localhost/", &["a=1; Path=/", "b=1; Path=/", "a=2; Path=/; Max-Age=60"]);
        assert_eq!(jar.header_for(&url("http://localhost/")).as_deref(), Some("a=2; b=1"));
        jar.store(&url("http://localhost/"), [&b"b=; Path=/; Max-Age=0"[..]].into_iter());
        assert_eq!(jar.names(), ["a"]);
    }
}
