//! Redirects a browser that opens the gate under another host name, or by plain http, to the public address before a
//! login begins. The login cookie would otherwise be bound to the wrong host.

use std::time::Duration;

use crate::config::PublicUrl;
use crate::http::cookies::GateCookies;
use crate::http::reply::Reply;
use crate::http::request::{Audience, Request};

/// How long a browser is not redirected again. If a proxy in front of Envoy changes Host, no request ever appears to
/// use the public address, and the login must still work.
const ONCE_IN: Duration = Duration::from_secs(60);
/// Longest path and query that are sent back, in bytes.
const MAX_TARGET_LEN: usize = 8192;

/// Redirects a navigation to the same path at the public address. `None` for any other request, and if the browser is
/// already there or was redirected recently.
pub fn redirect(public_url: &PublicUrl, cookies: &GateCookies, request: &Request) -> Option<Reply> {
    let target = request.target();
    let asks_twice = || cookies.ours(request).any(|(name, _)| name == cookies.redirected());
    if request.audience() != Audience::Navigation
        || is_public(public_url, request)
        || target.len() > MAX_TARGET_LEN
        || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        || asks_twice()
    {
        return None;
    }
    // No open redirect: the configured origin ends with its host or port, and the target begins with a slash.
    let location = format!("{}{target}", public_url.origin);
    Some(Reply::found(location).with_cookies([cookies.set(&cookies.redirected(), "1", ONCE_IN)]))
}

/// Whether the browser uses the host and scheme that the login cookie needs. Cookies are not isolated by port (RFC 6265
/// 8.5). Envoy sets `x-forwarded-proto` itself unless it trusts a proxy in front of it.
fn is_public(public_url: &PublicUrl, request: &Request) -> bool {
    let same_host = request
        .header(":authority")
        .is_some_and(|authority| host(authority).eq_ignore_ascii_case(host(&public_url.authority)));
    let is_plain =
        request.header("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    same_host && !(is_plain && public_url.origin.starts_with("https://"))
}

fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;

    const HTML: (&str, &str) = ("accept", "text/html");

    fn sent(origin: &str, authority: &str, target: &str, headers: &[(&str, &str)]) -> Option<Reply> {
        let public_url = PublicUrl {
            origin: origin.to_owned(),
            authority: origin.split_once("//").unwrap().1.to_owned(),
            secure_cookies: origin.starts_with("https"),
        };
        let mut all = vec![(":method", "GET"), (":path", target), (":authority", authority)];
        all.extend_from_slice(headers);
        let all = all.into_iter().map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())).collect();
        redirect(&public_url, &GateCookies::new("oidc-gate", &public_url), &Request::parse(all).ok()?)
    }

    fn location(reply: Option<Reply>) -> Option<String> {
        let headers = reply?.headers;
        headers.into_iter().find(|(name, _)| *name == "location").map(|(_, value)| value)
    }

    #[test]
    fn f604_only_another_name_or_plain_http_is_sent_to_the_public_address() {
        let public = "https://mlflow.example:8443";
        for (authority, scheme, moves) in [
            ("mlflow.example:8443", "https", false),
            ("MLFLOW.Example:8443", "HTTPS", false),
            ("mlflow.example", "https", false),
            ("mlflow.example:443", "https", false),
            ("mlflow.example:8443", "http", true),
            ("mlflow.example", "HTTP", true),
            ("www.mlflow.example:8443", "https", true),
            ("mlflow.example.", "https", true),
            ("127.0.0.1:8443", "https", true),
            ("[::1]:8443", "https", true),
            ("[::1]", "https", true),
            ("evil.example", "https", true),
            ("mlflow.example:8443@evil.example", "https", true),
            ("mlflow.example:x", "https", true),
        ] {
            let reply = sent(public, authority, "/a%2Fb?c=%20", &[HTML, ("x-forwarded-proto", scheme)]);
            let expected = moves.then(|| format!("{public}/a%2Fb?c=%20"));
            assert_eq!(location(reply), expected, "{authority} {scheme}");
        }
        assert!(
            sent("http://localhost:5000", "localhost:5000", "/", &[HTML, ("x-forwarded-proto", "https")])
                .is_none()
        );
        assert!(sent("http://[::1]:5000", "[::1]:5000", "/", &[HTML]).is_none(), "no scheme is known");
        assert!(sent("http://[::1]:5000", "[::2]:5000", "/", &[HTML]).is_some());
    }

    #[test]
    fn f604_the_path_is_kept_as_it_was_sent_and_the_host_is_the_configured_one() {
        for target in
            ["/", "/a%2Fb//c?d=//evil.example", "/x?y=@evil.example:80", "/@evil.example", "/;p=1?q"]
        {
            let reply = sent("http://localhost:5000", "127.0.0.1:5000", target, &[HTML]);
            assert_eq!(location(reply), Some(format!("http://localhost:5000{target}")), "{target}");
        }
        // A target that no header may contain, or that URL parsers read differently, goes to the login without a
        // redirect.
        let long = format!("/{}", "a".repeat(MAX_TARGET_LEN));
        for target in [long.as_str(), "/x?y=\\evil.example"] {
            assert_eq!(
                location(sent("http://localhost:5000", "127.0.0.1:5000", target, &[HTML])),
                None,
                "{target}"
            );
        }
    }

    #[test]
    fn f604_a_browser_is_sent_once_a_minute_and_nothing_else_is() {
        let reply = sent("https://mlflow.example", "10.0.0.1", "/x", &[HTML]).unwrap();
        let cookie = reply.headers.iter().find(|(name, _)| *name == "set-cookie").unwrap().1.as_str();
        assert_eq!(
            cookie,
            "__Host-oidc-gate-redirected=1; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"
        );
        let again = [HTML, ("cookie", "a=b; __Host-oidc-gate-redirected=1")];
        assert!(sent("https://mlflow.example", "10.0.0.1", "/x", &again).is_none());
        for headers in [
            &[][..],
            &[("accept", "application/json")],
            &[HTML, ("sec-fetch-dest", "iframe"), ("sec-fetch-mode", "navigate")],
            &[HTML, ("x-requested-with", "XMLHttpRequest")],
        ] {
            assert!(sent("https://mlflow.example", "10.0.0.1", "/x", headers).is_none(), "{headers:?}");
        }
    }
}
