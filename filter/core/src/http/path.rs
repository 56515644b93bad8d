//! The canonical form of a request path. Policy is evaluated on it, whatever spelling the client chose.
//!
//! Applications differ in how they decode percent-escapes (some more than once), merge slashes, drop parameters and
//! fold look-alike characters. If a path has no safe reading (dot segments, backslashes, control characters, invalid
//! escapes), it is refused. If the readings differ but are harmless, all are kept, and the strictest answer of the
//! policy counts.

use percent_encoding::percent_decode_str;

use crate::error::Malformed;

/// Longest path accepted, in bytes.
pub const MAX_PATH_LEN: usize = 16 * 1024;
/// How many further decodings may change a path. A name that contains a percent sign needs one. It needs a second one
/// if the client encodes twice.
const MAX_FURTHER_DECODINGS: usize = 3;

/// A path with every reading that an application could give it. There is at least one, and each starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    readings: Vec<String>,
}

impl CanonicalPath {
    /// Parses the path component of a request target, without the query.
    ///
    /// # Errors
    /// [`Malformed::Target`] if it does not start with `/`; [`Malformed::Path`] if its readings disagree about the
    /// resource.
    pub fn parse(raw: &str) -> Result<Self, Malformed> {
        if !raw.starts_with('/') {
            return Err(Malformed::Target);
        }
        // '#' is not allowed in a request target. Only some servers rewrite '\' and non-ASCII characters.
        if raw.len() > MAX_PATH_LEN
            || raw.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || matches!(byte, b'\\' | b'#' | b'?'))
            || !escapes_are_valid(raw)
        {
            return Err(Malformed::Path);
        }
        let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| Malformed::Path)?;
        let mut texts = vec![decoded.into_owned()];
        // A server that routes before it decodes treats `%2F` as part of a segment.
        if contains_escaped_slash(raw) {
            let kept = raw.replace("%2f", "%252F").replace("%2F", "%252F");
            texts.push(percent_decode_str(&kept).decode_utf8().map_err(|_| Malformed::Path)?.into_owned());
        }
        // An application may decode more than once. If the path still changes after several decodings, it is refused:
        // no client sends such a path by mistake.
        decode_further(&mut texts)?;
        let mut readings = Vec::with_capacity(1);
        for text in &texts {
            for text in [Some(text.clone()), with_plain_separators(text)].into_iter().flatten() {
                if text.chars().any(|c| c.is_control() || c == '\\') {
                    return Err(Malformed::Path);
                }
                add(&mut readings, merge_slashes(&text));
                if text.contains(';') {
                    add(&mut readings, merge_slashes(&without_parameters(&text)));
                }
            }
        }
        if readings.iter().any(|reading| reading.split('/').any(could_climb)) {
            return Err(Malformed::Path);
        }
        Ok(Self { readings })
    }

    /// All readings. The first is the fully decoded, slash-merged path.
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

/// Decodes the first text repeatedly and adds each result, until decoding changes nothing.
fn decode_further(texts: &mut Vec<String>) -> Result<(), Malformed> {
    let mut current = texts.first().cloned().unwrap_or_default();
    for _ in 0..=MAX_FURTHER_DECODINGS {
        let next = percent_decode_str(&current).decode_utf8_lossy().into_owned();
        if next == current {
            return Ok(());
        }
        texts.push(next.clone());
        current = next;
    }
    Err(Malformed::Path)
}

/// Replaces characters that become `/` or `.` under Unicode compatibility normalisation, or when converted to a smaller
/// character set. `None` if the text has no such character.
fn with_plain_separators(text: &str) -> Option<String> {
    let plain = |c: char| match c {
        // Backslashes become `/` too: a server that folds them treats them as separators.
        '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{fe68}'
        | '\u{ff0f}' | '\u{ff3c}' => "/",
        '\u{2024}' | '\u{fe52}' | '\u{ff0e}' => ".",
        '\u{2025}' => "..",
        '\u{2026}' => "...",
        _ => "",
    };
    text.chars().any(|c| !plain(c).is_empty()).then(|| {
        text.chars().fold(String::with_capacity(text.len()), |mut folded, c| {
            match plain(c) {
                "" => folded.push(c),
                plain => folded.push_str(plain),
            }
            folded
        })
    })
}

/// Whether some server could read a segment as `.` or `..`. True if it is one of them once its parameters and invisible
/// characters are removed. Also true if it begins with `..` and continues with a character that does not start a name
/// (`.. `, `..#`).
fn could_climb(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    let mut seen = name.chars().filter(|c| !is_unseen(*c)).peekable();
    if seen.peek().is_none() {
        return false;
    }
    if seen.all(|c| c == '.') {
        return true;
    }
    let after = name.trim_start_matches(|c| is_unseen(c) || c == '.');
    let before = name.strip_suffix(after).unwrap_or_default();
    let climbs = before.chars().filter(|c| *c == '.').nth(1).is_some();
    let goes_on_as_a_name = before.chars().all(|c| c == '.')
        && after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
    climbs && !goes_on_as_a_name
}

/// White space, and zero-width characters that normalisation removes.
fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

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
    fn f1203_a_segment_that_could_climb_is_refused_however_it_is_written() {
        for raw in [
            "/pub/..%20/admin",
            "/pub/%20../admin",
            "/pub/.%20./admin",
            "/pub/..%c2%a0/admin",
            "/pub/..%e2%80%8b/admin",
            "/pub/.%ef%bb%bf./admin",
            "/pub/..%e2%80%ae/admin",
            "/pub/..%ef%bc%8fadmin",
            "/pub/..%e2%81%84admin",
            "/pub/..%e2%88%95admin",
            "/pub/..%ef%bc%bcadmin",
            "/pub/%ef%bc%8e%ef%bc%8e/admin",
            "/pub/%ef%bc%8e./admin",
            "/pub/%e2%80%a5/admin",
            "/pub/%e2%80%a4%e2%80%a4/admin",
            "/pub/%e2%80%a6/admin",
            "/pub/%252e%252e/admin",
            "/pub/%25252e%25252e/..",
            "/pub/%25252e%25252e/admin",
            "/pub/%2525252e%2525252e/admin",
            "/pub/%25252525252e%25252525252e/admin",
            "/pub/..%252fadmin",
            "/pub/..%25252fadmin",
            "/pub/%252e%252e%255cadmin",
            "/pub/..%23/admin",
            "/pub/..%3f/admin",
            "/pub/..%3b/admin",
            "/pub/..%253bx/admin",
            "/pub/..,x/admin",
            "/pub/..:$DATA/admin",
            "/pub/..%22/admin",
            "/pub/..%27/admin",
            "/pub/..*/admin",
            "/pub/..~/admin",
            "/pub/.../admin",
            "/pub/..../admin",
            "/pub/...%20/admin",
            "/pub/.%20/admin",
            "/pub/..%2500/admin",
            "/pub/x%255c..%255cadmin",
        ] {
            assert_eq!(CanonicalPath::parse(raw), Err(Malformed::Path), "{raw}");
        }
    }

    #[test]
    fn f1203_names_with_dots_spaces_and_foreign_letters_are_names() {
        for raw in [
            "/artifacts/..hidden",
            "/artifacts/...and-more",
            "/artifacts/.hidden",
            "/artifacts/a..b",
            "/artifacts/a..",
            "/artifacts/a%20b..%20c",
            "/artifacts/.%20a",
            "/artifacts/..%c3%a9t%c3%a9",
            "/artifacts/%e6%97%a5%e6%9c%ac",
            "/artifacts/50%25",
            "/artifacts/%20",
            "/artifacts/",
        ] {
            assert_eq!(CanonicalPath::parse(raw).unwrap().readings().len(), 1, "{raw}");
        }
    }

    #[test]
    fn f1203_what_is_decoded_again_or_folded_is_a_reading_too() {
        for (raw, readings) in [
            ("/pub%252Fadmin", &["/pub%2Fadmin", "/pub/admin"][..]),
            ("/%2561dmin", &["/%61dmin", "/admin"]),
            ("/%252561dmin", &["/%2561dmin", "/%61dmin", "/admin"]),
            ("/pub%ef%bc%8fadmin", &["/pub\u{ff0f}admin", "/pub/admin"]),
            ("/pub%ef%bc%bcadmin", &["/pub\u{ff3c}admin", "/pub/admin"]),
            ("/v1%e2%80%a40", &["/v1\u{2024}0", "/v1.0"]),
            ("/a%253bx/b", &["/a%3bx/b", "/a;x/b", "/a/b"]),
        ] {
            assert_eq!(CanonicalPath::parse(raw).unwrap().readings(), readings, "{raw}");
        }
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
