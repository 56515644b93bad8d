//! A browser's cookie jar. The store does paths, domains, expiry and `Secure` (loopback counts as secure); the rules
//! for the prefixes `__Host-` and `__Secure-` are here.

use cookie_store::{CookieStore, RawCookie};
use url::{Host, Url};

/// All cookies, in the order of their first storage by domain and path. As in a browser, the port is ignored: all
/// servers on localhost share them.
#[derive(Clone, Debug, Default)]
pub struct Jar(CookieStore);

impl Jar {
    /// Stores the cookies of a response from `url`. Those that break the rules are ignored, as in a browser
    /// (RFC 6265bis 5.7).
    pub fn store<'a>(&mut self, url: &Url, set_cookies: impl Iterator<Item = &'a [u8]>) {
        let lines = set_cookies.filter_map(|line| std::str::from_utf8(line).ok());
        let cookies = lines.filter_map(|line| RawCookie::parse(line.to_owned()).ok());
        self.0.store_response_cookies(cookies.filter(|cookie| is_acceptable(url, cookie)), url);
    }

    /// The Cookie header for a request to `url`.
    pub fn header_for(&self, url: &Url) -> Option<String> {
        let mut cookies = self.0.matches(url);
        // Longer paths first, then older cookies (RFC 6265bis 5.8.3). The sort is stable.
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> =
            cookies.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The value of the cookie with this name, if there is exactly one.
    pub fn get(&self, name: &str) -> Option<String> {
        let mut found = self.0.iter_unexpired().filter(|cookie| cookie.name() == name);
        let cookie = found.next()?;
        found.next().is_none().then(|| cookie.value().to_owned())
    }

    /// All names, oldest first.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter_unexpired().map(|cookie| cookie.name()).collect()
    }

    /// Adds a cookie directly, as an attacker with a stolen or forged one does.
    ///
    /// # Panics
    /// If the store refuses it, which is a typing error of the test.
    pub fn plant(&mut self, host: &str, name: &str, value: &str) {
        self.remove(name);
        let cookie = RawCookie::build((name, value)).path("/").build();
        let url = Url::parse(&format!("http://{host}/"));
        let planted = url.is_ok_and(|url| self.0.insert_raw(&cookie, &url).is_ok());
        assert!(planted, "{name} of {host} is not stored");
    }

    /// Removes the cookies with this name.
    pub fn remove(&mut self, name: &str) {
        let named = self.0.iter_any().filter(|cookie| cookie.name() == name);
        let places = named.map(|cookie| (String::from(&cookie.domain), String::from(&cookie.path)));
        for (domain, path) in places.collect::<Vec<_>>() {
            self.0.remove(&domain, &path, name);
        }
    }
}

/// Rules that the store does not have.
fn is_acceptable(url: &Url, cookie: &RawCookie<'_>) -> bool {
    let secure = cookie.secure().unwrap_or_default();
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    // RFC 6265bis 4.1.3.2: Secure, Path=/ and no Domain.
    let for_host = secure && cookie.domain().is_none() && cookie.path() == Some("/");
    (!secure || loopback || url.scheme() == "https")
        && (secure || !cookie.name().starts_with("__Secure-"))
        && (for_host || !cookie.name().starts_with("__Host-"))
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
