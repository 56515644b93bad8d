//! The gate's cookies: names, reading, setting, deleting, and removing them from forwarded requests.

use std::time::Duration;

use cookie::{Cookie, SameSite};

use crate::config::PublicUrl;
use crate::http::request::Request;

/// How many cookie pairs of one request are read. Browsers keep fewer for one site.
const MAX_PAIRS: usize = 4096;

/// The names of this gate's cookies, and their common attributes.
#[derive(Clone, Debug)]
pub struct GateCookies {
    base: String,
    secure: bool,
}

impl GateCookies {
    /// `name` is the configured cookie name. `Secure` cookies get the `__Host-` prefix (RFC 6265bis 4.1.3.2).
    pub fn new(name: &str, public_url: &PublicUrl) -> Self {
        let secure = public_url.secure_cookies;
        Self { base: if secure { format!("__Host-{name}") } else { name.to_owned() }, secure }
    }

    /// The session cookie's name.
    pub fn session(&self) -> &str {
        &self.base
    }

    /// The name of one flow's login cookie. `tag` is the beginning of its `state`.
    pub fn login(&self, tag: &str) -> String {
        format!("{}{tag}", self.login_prefix())
    }

    /// The common prefix of all login cookie names.
    pub fn login_prefix(&self) -> String {
        format!("{}-login-", self.base)
    }

    /// The cookie that counts completed logins, to detect redirect loops.
    pub fn login_loop(&self) -> String {
        format!("{}-attempts", self.base)
    }

    /// The cookie that holds the `state` of a logout in progress.
    pub fn logout(&self) -> String {
        format!("{}-logout", self.base)
    }

    /// The cookie that marks a browser as recently redirected to the public address.
    pub fn redirected(&self) -> String {
        format!("{}-redirected", self.base)
    }

    /// Whether a cookie name belongs to the gate.
    pub fn is_ours(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.base.as_bytes()).is_some_and(|rest| {
            rest.is_empty()
                || rest.starts_with(b"-login-")
                || [&b"-attempts"[..], b"-logout", b"-redirected"].contains(&rest)
        })
    }

    /// A `Set-Cookie` value: HttpOnly, SameSite=Lax, Path=/, no Domain. It has `Secure` unless the gate uses plain
    /// http.
    pub fn set(&self, name: &str, value: &str, max_age: Duration) -> String {
        let max_age = cookie::time::Duration::try_from(max_age).unwrap_or(cookie::time::Duration::MAX);
        self.build(name, value, max_age)
    }

    /// A `Set-Cookie` value that deletes the cookie. It repeats the attributes because browsers otherwise ignore it for
    /// `__Host-` names.
    pub fn delete(&self, name: &str) -> String {
        self.build(name, "", cookie::time::Duration::ZERO)
    }

    fn build(&self, name: &str, value: &str, max_age: cookie::time::Duration) -> String {
        Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .max_age(max_age)
            .build()
            .to_string()
    }

    /// The gate's cookies in a request, as (name, value), in order.
    pub fn ours<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        request
            .header_values("cookie")
            .flat_map(|header| header.split(|byte| *byte == b';'))
            .take(MAX_PAIRS)
            .filter_map(split_pair)
            .filter(|(name, _)| self.is_ours(name))
            .filter_map(|(name, value)| {
                Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
            })
    }

    /// Whether a request contains one of the gate's cookies. One that [`GateCookies::ours`] cannot read counts too.
    pub fn has_ours(&self, request: &Request) -> bool {
        let pairs = request.header_values("cookie").flat_map(|header| header.split(|byte| *byte == b';'));
        pairs.into_iter().any(|pair| self.is_ours(name_of(pair)))
    }

    /// Whether a `Set-Cookie` value sets one of the gate's cookies, or a cookie that browsers would send back in the
    /// same form.
    pub fn would_set(&self, set_cookie: &[u8]) -> bool {
        self.is_ours(name_of(set_cookie.split(|byte| *byte == b';').next().unwrap_or_default()))
    }

    /// The Cookie header for the application: without the gate's cookies, the others unchanged byte for byte. `None` if
    /// no cookie is left.
    pub fn without_ours(&self, request: &Request) -> Option<Vec<u8>> {
        let mut kept: Vec<u8> = Vec::new();
        for header in request.header_values("cookie") {
            let mut first = true;
            for segment in header.split(|byte| *byte == b';') {
                if self.is_ours(name_of(segment)) {
                    continue;
                }
                if first {
                    // Join several Cookie headers as HTTP/2 does (RFC 9113 8.2.3).
                    if !kept.is_empty() {
                        kept.extend_from_slice(b"; ");
                    }
                    kept.extend_from_slice(segment.trim_ascii_start());
                } else {
                    kept.push(b';');
                    kept.extend_from_slice(segment);
                }
                first = false;
            }
        }
        kept.iter().any(|byte| !matches!(byte, b';' | b' ')).then_some(kept)
    }
}

/// The name in a pair. Browsers send a cookie without a name as its value alone (RFC 6265bis 5.8.3), which may look
/// like a pair: `=oidc-gate=x` arrives as `oidc-gate=x`. A pair without `=` therefore counts as a name.
fn name_of(pair: &[u8]) -> &[u8] {
    let begin = pair.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b'=');
    let rest = begin.and_then(|at| pair.get(at..)).unwrap_or_default();
    rest.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// Splits `name=value` and trims white space, as servers do that follow RFC 6265 5.4.
fn split_pair(segment: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = segment.iter().position(|byte| *byte == b'=')?;
    let (name, value) = segment.split_at_checked(at)?;
    Some((name.trim_ascii(), value.strip_prefix(b"=")?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::request;
    use crate::testing::test;

    fn jar(secure: bool) -> GateCookies {
        let origin = if secure { "https://mlflow.example.com" } else { "http://localhost:5000" };
        let authority = origin.split_once("//").unwrap().1;
        GateCookies::new(
            "oidc-gate",
            &PublicUrl { origin: origin.into(), authority: authority.into(), secure_cookies: secure },
        )
    }

    #[test]
    fn ck01_the_session_cookie_is_host_bound_secure_http_only_and_lax() {
        let jar = jar(true);
        let value = jar.set(jar.session(), "v", Duration::from_secs(60));
        assert_eq!(value, "__Host-oidc-gate=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60");
    }

    #[test]
    fn ck13_a_deletion_repeats_the_attributes() {
        let jar = jar(true);
        assert_eq!(
            jar.delete(jar.session()),
            "__Host-oidc-gate=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        );
    }

    #[test]
    fn ck12_other_cookies_reach_the_application_byte_for_byte() {
        let jar = jar(false);
        for (sent, kept) in [
            ("a=1; oidc-gate=x; b=2", Some("a=1; b=2")),
            ("oidc-gate=x; a=1;b=\"2 3\"; c", Some("a=1;b=\"2 3\"; c")),
            ("oidc-gate=x", None),
            ("oidc-gate-login-abcdefgh=x; oidc-gate-attempts=1.2; oidc-gate-redirected=1", None),
            (
                "oidc-gate2=x; oidc-gate-loginx=y; xoidc-gate=z",
                Some("oidc-gate2=x; oidc-gate-loginx=y; xoidc-gate=z"),
            ),
            ("a=1;  b=2 ; c=3", Some("a=1;  b=2 ; c=3")),
            ("", None),
            (";", None),
            ("a==b=; ;=;", Some("a==b=; ;=;")),
            ("=oidc-gate=x; a=1", Some("a=1")),
            ("a=1; = oidc-gate=x", Some("a=1")),
            ("oidc-gate; a=1", Some("a=1")),
            ("a=oidc-gate; b=oidc-gate=x", Some("a=oidc-gate; b=oidc-gate=x")),
        ] {
            let request = request("GET", "/", &[("cookie", sent)]).unwrap();
            let result = jar.without_ours(&request).map(|kept| String::from_utf8(kept).unwrap());
            assert_eq!(result.as_deref(), kept, "{sent}");
        }
    }

    #[test]
    fn f1103_our_cookie_is_found_wherever_it_stands_and_whatever_it_holds() {
        let jar = jar(false);
        let many = "a=b; ".repeat(MAX_PAIRS + 1);
        for (sent, kept) in [
            (b"oidc-gate=\xff\xfe".to_vec(), None),
            (b"a=\xff; oidc-gate=x".to_vec(), Some(b"a=\xff".to_vec())),
            (
                format!("{many}oidc-gate=x").into_bytes(),
                Some(many.trim_end_matches("; ").as_bytes().to_vec()),
            ),
        ] {
            let headers =
                [(":method", &b"GET"[..]), (":path", b"/"), (":authority", b"a"), ("cookie", &sent)];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec()));
            let request = Request::parse(headers.to_vec()).unwrap();
            assert!(jar.has_ours(&request));
            assert_eq!(jar.without_ours(&request), kept);
        }
    }

    #[test]
    fn f1103_what_browsers_would_send_back_as_ours_is_known() {
        let jar = jar(true);
        for ours in [
            "__Host-oidc-gate=x",
            "=__Host-oidc-gate=x; Path=/",
            " = \t=__Host-oidc-gate-login-abcdefgh=x",
            "__Host-oidc-gate ; Path=/",
            "__Host-oidc-gate-logout=x",
        ] {
            assert!(jar.would_set(ours.as_bytes()), "{ours}");
        }
        for theirs in ["a=__Host-oidc-gate=x", "a=1; __Host-oidc-gate=x", "oidc-gate=x", "", "=", "; a=1"] {
            assert!(!jar.would_set(theirs.as_bytes()), "{theirs}");
        }
    }

    #[test]
    fn repeated_cookie_headers_are_read_together() {
        let jar = jar(false);
        let request =
            request("GET", "/", &[("cookie", "a=1; oidc-gate=x"), ("cookie", "oidc-gate=y; b=2")]).unwrap();
        assert_eq!(jar.ours(&request).collect::<Vec<_>>(), [("oidc-gate", "x"), ("oidc-gate", "y")]);
        assert_eq!(jar.without_ours(&request).unwrap(), b"a=1; b=2");
    }

    #[test]
    fn ck11_cookie_headers_of_any_shape_are_survived() {
        let jar = jar(false);
        let many = "a=b; ".repeat(4000);
        let long = format!("oidc-gate={}", "x".repeat(60_000));
        let name = format!("{}=1", "n".repeat(20_000));
        for sent in ["", ";", "; ; ;", ";=;", "=", many.as_str(), long.as_str(), name.as_str()] {
            let request = request("GET", "/", &[("cookie", sent)]).unwrap();
            let _ = jar.ours(&request).count();
            let _ = jar.without_ours(&request);
        }
    }
}
