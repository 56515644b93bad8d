//! URLs: the gate's address, the issuer, the allowed origins, and whether plain http is acceptable.

use url::{Host, Url};

use super::text;
use crate::config::error::{Place, Reported, quote};
use crate::config::model::PublicUrl;

/// Whether the operator allows plain http.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    /// `allow_insecure_http`.
    pub(super) allow_insecure: bool,
}

impl Transport {
    /// Accepts plain http only for loopback, or if the operator allows it.
    fn accept(self, url: &Url, place: &Place<'_>) -> Result<(), Reported> {
        if url.scheme() == "https" {
            return Ok(());
        }
        if is_loopback(url) {
            place.warn("is plain http on loopback: for development only");
        } else if self.allow_insecure {
            place.warn(
                "is plain http, allowed by allow_insecure_http: cookies and tokens can be read in transit",
            );
        } else {
            return Err(place.refuse(
                "is plain http to a host that is not loopback; use https (or set allow_insecure_http)",
            ));
        }
        Ok(())
    }
}

/// The gate's own origin.
pub(super) fn public_url(
    written: &str,
    place: &Place<'_>,
    transport: Transport,
) -> Result<PublicUrl, Reported> {
    let url = origin(written, place)?;
    transport.accept(&url, place)?;
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(PublicUrl {
        origin: url.origin().ascii_serialization(),
        authority,
        secure_cookies: url.scheme() == "https",
    })
}

/// An issuer identifier: https, no query or fragment (OIDC Discovery 3), and no user information.
pub(super) fn issuer(written: &str, place: &Place<'_>, transport: Transport) -> Result<Url, Reported> {
    let url = parse(written, place)?;
    refuse_parts(written, &url, place, &[Part::UserInfo, Part::Query, Part::Fragment])?;
    transport.accept(&url, place)?;
    Ok(url)
}

/// An origin for the provider's endpoints, as `Url::origin` prints it.
pub(super) fn allowed_origin(
    written: String,
    place: &Place<'_>,
    transport: Transport,
) -> Result<String, Reported> {
    let written = text::without_wildcard(written, place)?;
    let url = origin(&written, place)?;
    transport.accept(&url, place)?;
    Ok(url.origin().ascii_serialization())
}

/// A page to which sign-out may lead. No fragment, because it would not be compared.
pub(super) fn return_url(
    written: String,
    place: &Place<'_>,
    transport: Transport,
) -> Result<String, Reported> {
    let written = text::without_wildcard(written, place)?;
    let url = parse(&written, place)?;
    refuse_parts(&written, &url, place, &[Part::UserInfo, Part::Fragment])?;
    transport.accept(&url, place)?;
    if written.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(written)
    } else {
        Err(place.refuse("must be ASCII, with everything else percent-encoded"))
    }
}

fn origin(written: &str, place: &Place<'_>) -> Result<Url, Reported> {
    let url = parse(written, place)?;
    refuse_parts(written, &url, place, &[Part::UserInfo, Part::Path, Part::Query, Part::Fragment])?;
    Ok(url)
}

/// The parser tolerates what browsers tolerate (`http:host`, backslashes, tabs). These are refused here, because an
/// operator's typing error should not be guessed at.
fn parse(written: &str, place: &Place<'_>) -> Result<Url, Reported> {
    let wrong =
        |why: &str| place.refuse(format!("is not a URL such as \"https://mlflow.example.com\": {why}"));
    let Some(rest) = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://")) else {
        return Err(wrong(&format!("it must begin with https:// or http://, found {}", scheme_of(written))));
    };
    if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
        return Err(wrong("the host is missing"));
    }
    if written.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(wrong("it contains white space, control characters or a backslash"));
    }
    let url = Url::parse(written).map_err(|error| wrong(&error.to_string()))?;
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return Err(wrong("'*' is not a host"));
    }
    if url.port() == Some(0) {
        return Err(wrong("port 0 cannot be reached"));
    }
    Ok(url)
}

/// The text in place of the scheme. Never more of the text, which may contain a password.
fn scheme_of(written: &str) -> String {
    written.split_once("://").map_or_else(|| "no scheme".to_owned(), |(scheme, _)| quote(scheme))
}

#[derive(Clone, Copy)]
enum Part {
    UserInfo,
    Path,
    Query,
    Fragment,
}

fn refuse_parts(written: &str, url: &Url, place: &Place<'_>, parts: &[Part]) -> Result<(), Reported> {
    let found: Vec<&str> = parts.iter().filter_map(|part| part.found_in(written, url)).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(place.refuse(format!("must not have {}", found.join(" and "))))
}

impl Part {
    fn found_in(self, written: &str, url: &Url) -> Option<&'static str> {
        match self {
            // `https://@host` has user information too, although it is empty.
            Self::UserInfo => {
                let authority = written.split("://").nth(1)?.split(['/', '?', '#']).next()?;
                authority.contains('@').then_some("user information")
            }
            Self::Path => (url.path() != "/").then_some("a path"),
            Self::Query => url.query().map(|_| "a query"),
            Self::Fragment => url.fragment().map(|_| "a fragment"),
        }
    }
}

/// RFC 6761 6.3 for names, RFC 1122 3.2.1.3 and RFC 4291 2.5.3 for addresses.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::{ConfigErrors, Report};
    use crate::testing::test;

    const STRICT: Transport = Transport { allow_insecure: false };
    const INSECURE: Transport = Transport { allow_insecure: true };

    fn checked<T>(
        check: impl FnOnce(&Place<'_>) -> Result<T, Reported>,
    ) -> Result<(T, Vec<String>), ConfigErrors> {
        let report = Report::default();
        let read = check(&report.root().field("here"));
        report.finish(read)
    }

    fn public(written: &str, transport: Transport) -> Result<(PublicUrl, Vec<String>), ConfigErrors> {
        checked(|place| public_url(written, place, transport))
    }

    #[test]
    fn a_public_url_becomes_origin_and_authority() {
        for (written, origin, authority, secure) in [
            ("https://mlflow.example.com", "https://mlflow.example.com", "mlflow.example.com", true),
            ("https://mlflow.example.com/", "https://mlflow.example.com", "mlflow.example.com", true),
            ("https://MLflow.Example.com:443", "https://mlflow.example.com", "mlflow.example.com", true),
            (
                "https://mlflow.example.com:8443",
                "https://mlflow.example.com:8443",
                "mlflow.example.com:8443",
                true,
            ),
            ("http://localhost:5000", "http://localhost:5000", "localhost:5000", false),
            ("http://[::1]:5000", "http://[::1]:5000", "[::1]:5000", false),
            ("https://münchen.example", "https://xn--mnchen-3ya.example", "xn--mnchen-3ya.example", true),
        ] {
            let expected =
                PublicUrl { origin: origin.into(), authority: authority.into(), secure_cookies: secure };
            assert_eq!(public(written, STRICT).unwrap().0, expected, "{written}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for loopback in [
            "http://localhost",
            "http://LOCALHOST:5000",
            "http://mlflow.localhost",
            "http://127.0.0.1:5000",
            "http://127.8.9.10",
            "http://[::1]",
        ] {
            let (url, warnings) = public(loopback, STRICT).unwrap();
            assert!(!url.secure_cookies);
            assert_eq!(warnings, ["here: is plain http on loopback: for development only"], "{loopback}");
        }
        for elsewhere in [
            "http://mlflow.example.com",
            "http://localhost.example.com",
            "http://notlocalhost",
            "http://0.0.0.0",
            "http://128.0.0.1",
            "http://[::2]",
            "http://10.0.0.1:5000",
            "http://127.0.0.1.example.com",
        ] {
            assert!(public(elsewhere, STRICT).is_err(), "{elsewhere}");
            let (url, warnings) = public(elsewhere, INSECURE).unwrap();
            assert!(!url.secure_cookies && warnings.len() == 1, "{elsewhere}");
        }
        assert_eq!(public("https://localhost", STRICT).unwrap().1, [""; 0]);
    }

    #[test]
    fn a_public_url_has_no_other_parts() {
        for (written, error) in [
            ("https://h.example/mlflow", "must not have a path"),
            ("https://h.example/?", "must not have a query"),
            ("https://h.example/#", "must not have a fragment"),
            ("https://u:p@h.example", "must not have user information"),
            ("https://@h.example", "must not have user information"),
            ("https://h.example/a?b#c", "must not have a path and a query and a fragment"),
        ] {
            assert_eq!(
                public(written, STRICT).unwrap_err().to_string(),
                format!("here: {error}"),
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_no_url_is_not_guessed_at() {
        for written in [
            "",
            "mlflow.example.com",
            "localhost:5000",
            "ftp://h.example",
            "file:///etc/passwd",
            "https:h.example",
            "https:/h.example",
            "https:///h.example",
            "https://",
            "https://?x",
            "https:\\\\h.example",
            "https://h.example\\x",
            " https://h.example",
            "https://h.exa\tmple",
            "https://h.example\n",
            "https://h.example:99999",
            "https://h.example:0",
            "https://h.example:x",
            "https://*.example.com",
            "https://[::1",
            "https://h example",
            "javascript:alert(1)",
            "HTTPS://h.example",
        ] {
            let error = public(written, INSECURE).unwrap_err().to_string();
            assert!(
                error.starts_with("here: is not a URL such as") && error.lines().count() == 1,
                "{written}: {error}"
            );
        }
    }

    #[test]
    fn an_issuer_keeps_its_path_and_nothing_more() {
        let read = |written| checked(|place| issuer(written, place, STRICT));
        let (url, _) = read("https://idp.example/realms/mlflow").unwrap();
        assert_eq!(url.path(), "/realms/mlflow");
        assert!(read("http://localhost:8080/realms/mlflow").is_ok());
        for (written, error) in [
            ("https://idp.example/realms/mlflow?x", "must not have a query"),
            ("https://idp.example/realms/mlflow#x", "must not have a fragment"),
            ("https://u@idp.example/", "must not have user information"),
            (
                "http://idp.example/",
                "is plain http to a host that is not loopback; use https (or set allow_insecure_http)",
            ),
        ] {
            assert_eq!(read(written).unwrap_err().to_string(), format!("here: {error}"));
        }
        assert!(read("https://idp.example/a@b").is_ok());
    }

    #[test]
    fn allowed_origins_are_origins() {
        let read = |written: &str| checked(|place| allowed_origin(written.to_owned(), place, STRICT));
        assert_eq!(read("https://Login.example:443/").unwrap().0, "https://login.example");
        for wrong in ["*", "https://*.example", "https://h.example/x", "http://h.example", "h.example"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_never_printed() {
        for written in ["https://u:hunter2@h.example", "ftp://u:hunter2@h.example", "u:hunter2@h.example"] {
            assert!(!public(written, STRICT).unwrap_err().to_string().contains("hunter2"));
        }
    }
}
