//! Where a login may lead: a path of the gate's own origin that no browser reads as another origin.

use crate::http::endpoint::Endpoint;

/// Longest return path that a login remembers, in bytes. A longer one is replaced by `/`.
pub const MAX_RETURN_PATH_LEN: usize = 2048;

/// A path with query on the gate's own origin. It has one leading `/`, no second character `/` or `\`, no backslash
/// anywhere, and only printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnPath(String);

impl ReturnPath {
    /// The start page.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// `raw` if it is safe, otherwise the start page.
    pub fn or_root(raw: &str) -> Self {
        if is_safe(raw) { Self(raw.to_owned()) } else { Self::root() }
    }

    /// The text for a `Location` header or a link.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_safe(raw: &str) -> bool {
    let mut bytes = raw.bytes();
    raw.len() <= MAX_RETURN_PATH_LEN
        && bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && raw.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'\\')
        // A login that ends at one of the gate's endpoints would start another one. The account page is the exception.
        && (raw == Endpoint::Account.path()
            || !(raw == "/oauth2" || raw.starts_with("/oauth2/") || raw.starts_with("/oauth2?")))
        && !decodes_to_another_origin(raw)
}

/// `/%2f…`, `/%5c…`, `/%09/…` are harmless in a browser, but not behind a proxy that decodes them.
fn decodes_to_another_origin(raw: &str) -> bool {
    let path = raw.split(['?', '#']).next().unwrap_or_default();
    let mut decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    decoded.retain(|c| !c.is_control());
    decoded.contains('\\') || decoded.starts_with("//") || path.contains("%00") || has_control(path)
}

fn has_control(path: &str) -> bool {
    percent_encoding::percent_decode_str(path).any(|byte| byte < 0x20 || byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_path_with_query_and_fragment_is_kept() {
        for raw in [
            "/",
            "/oauth2/account",
            "/#/experiments/0",
            "/a?b=c&d=%2Fx",
            "/x?next=https://example.com/",
            "/a/b;c=d",
        ] {
            assert_eq!(ReturnPath::or_root(raw).as_str(), raw);
        }
    }

    #[test]
    fn az02_what_could_lead_elsewhere_becomes_the_start_page() {
        for raw in [
            "",
            "x",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\t\\evil",
            "/%09/evil.example",
            "/%09%5cevil",
            "/%2fevil.example",
            "/%2Fevil.example",
            "/%5cevil.example",
            "/a\\b",
            "/a\r\nSet-Cookie: x=y",
            "/%0d%0aSet-Cookie:x=y",
            "/a%00b",
            "/\u{2044}evil",
            "/ evil",
            "javascript:x",
            "/oauth2/logout",
            "/oauth2/account/sign-out?everywhere=true",
            "/oauth2/account?x",
            "/oauth2/callback?code=x",
        ] {
            assert_eq!(ReturnPath::or_root(raw).as_str(), "/", "{raw:?}");
        }
    }

    #[test]
    fn az09_an_overlong_path_becomes_the_start_page() {
        assert_eq!(ReturnPath::or_root(&format!("/{}", "a".repeat(MAX_RETURN_PATH_LEN))), ReturnPath::root());
    }
}
