//! The canonical form of a request path: what policy is asked about, whatever spelling the client chose.
//!
//! Applications decode percent-escapes, merge slashes and drop parameters each in their own way. A path is refused
//! when no reading of it is safe (dot segments, backslashes, control characters, invalid escapes). Where readings
//! differ harmlessly, all of them are kept, and policy takes the strictest answer.

use percent_encoding::percent_decode_str;

use crate::error::Malformed;

/// Longest path accepted, in bytes.
pub const MAX_PATH_LEN: usize = 16 * 1024;

/// A path in every way in which an application could read it; never empty, each reading starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    readings: Vec<String>,
}

impl CanonicalPath {
    /// From the path component of a request target, without query.
    ///
    /// # Errors
    /// [`Malformed::Target`] when it does not start with `/`, [`Malformed::Path`] when readings of it disagree about
    /// which resource is meant.
    pub fn parse(raw: &str) -> Result<Self, Malformed> {
        if !raw.starts_with('/') {
            return Err(Malformed::Target);
        }
        // '#' never belongs into a request target; '\' and non-ASCII are rewritten by some servers and not by others.
        if raw.len() > MAX_PATH_LEN
            || raw.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || matches!(byte, b'\\' | b'#' | b'?'))
            || !escapes_are_valid(raw)
        {
            return Err(Malformed::Path);
        }
        let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| Malformed::Path)?;
        if decoded.chars().any(|c| c.is_control() || c == '\\') {
            return Err(Malformed::Path);
        }
        let mut readings = Vec::with_capacity(1);
        add(&mut readings, merge_slashes(&decoded));
        if raw.contains(';') || decoded.contains(';') {
            add(&mut readings, merge_slashes(&without_parameters(&decoded)));
        }
        // A server that routes before it decodes sees `%2F` as part of a segment.
        if contains_escaped_slash(raw) {
            let kept = raw.replace("%2f", "%252F").replace("%2F", "%252F");
            let kept = percent_decode_str(&kept).decode_utf8().map_err(|_| Malformed::Path)?;
            add(&mut readings, merge_slashes(&kept));
        }
        if readings.iter().any(|reading| has_dot_segment(reading)) {
            return Err(Malformed::Path);
        }
        Ok(Self { readings })
    }

    /// Every reading; the first is the fully decoded, slash-merged path.
    pub fn readings(&self) -> &[String] {
        &self.readings
    }

    /// The fully decoded, slash-merged path.
    pub fn as_str(&self) -> &str {
        self.readings.first().map_or("/", String::as_str)
    }
}

fn add(readings: &mut Vec<String>, reading: String) {
    if !readings.contains(&reading) {
        readings.push(reading);
    }
}

fn escapes_are_valid(raw: &str) -> bool {
    raw.split('%').skip(1).all(|rest| {
        let mut bytes = rest.bytes();
        matches!((bytes.next(), bytes.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

fn contains_escaped_slash(raw: &str) -> bool {
    raw.contains("%2F") || raw.contains("%2f")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

/// `.` and `..`, also after one more decoding: an application that decodes twice must not climb.
fn has_dot_segment(path: &str) -> bool {
    let again = percent_decode_str(path).decode_utf8_lossy();
    [path, &again].iter().any(|reading| {
        reading.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn spellings_of_one_resource_have_one_canonical_form() {
        for raw in [
            "/api/2.0/mlflow/experiments/search",
            "//api/2.0/mlflow/experiments/search",
            "/api/2.0/mlflow/experiments%2Fsearch",
            "/api/2.0/mlflow/experiments%2fsearch",
            "/api/2.0/mlflow/%65xperiments/search",
            "/%61pi//2.0/mlflow/experiments/search",
        ] {
            let path = CanonicalPath::parse(raw).unwrap();
            assert_eq!(path.as_str(), "/api/2.0/mlflow/experiments/search", "{raw}");
        }
    }

    #[test]
    fn pm03_parameters_are_read_both_ways() {
        let path = CanonicalPath::parse("/admin;x=y/users").unwrap();
        assert_eq!(path.readings(), ["/admin;x=y/users", "/admin/users"]);
        let path = CanonicalPath::parse("/admin%3Bx=y/users").unwrap();
        assert_eq!(path.readings(), ["/admin;x=y/users", "/admin/users"]);
    }

    #[test]
    fn an_escaped_slash_is_read_as_separator_and_as_part_of_a_segment() {
        let path = CanonicalPath::parse("/public%2Fadmin").unwrap();
        assert_eq!(path.readings(), ["/public/admin", "/public%2Fadmin"]);
    }

    #[test]
    fn what_two_parsers_read_differently_is_refused() {
        for raw in [
            "/a/../b",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/..%2fb",
            "/a%2f..%2fb",
            "/a/%252e%252e/b",
            "/..;/b",
            "/a/..;x/b",
            "/a\\b",
            "/a%5cb",
            "/a%00b",
            "/a%0d%0aSet-Cookie:x",
            "/a%0ab",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a#b",
            "/\u{e9}",
            "/a%ff",
            "/a b",
            "/a\tb",
            "/a%7fb",
        ] {
            assert_eq!(CanonicalPath::parse(raw), Err(Malformed::Path), "{raw}");
        }
    }

    #[test]
    fn pm05_targets_that_are_no_path_are_refused() {
        for raw in ["*", "", "http://evil.example/x", "example.com:443", "%2Fx"] {
            assert_eq!(CanonicalPath::parse(raw), Err(Malformed::Target), "{raw}");
        }
    }

    #[test]
    fn az09_an_overlong_path_is_refused_before_any_work() {
        let raw = format!("/{}", "a".repeat(MAX_PATH_LEN));
        assert_eq!(CanonicalPath::parse(&raw), Err(Malformed::Path));
    }
}
