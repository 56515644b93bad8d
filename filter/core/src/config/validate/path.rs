//! The paths of rules, in the canonical form that requests are compared in.

use regex_lite::Regex;

use crate::config::error::{Place, Reported};
use crate::config::model::{Access, PathMatch};
use crate::config::raw;
use crate::config::scalar::Text;

/// Longest path or pattern, in bytes.
const MAX_LEN: usize = 1024;

/// Memory limit of a compiled pattern, in bytes. A pattern with large repetitions would fill the worker's memory.
const MAX_COMPILED: usize = 256 * 1024;

/// The gate answers all requests below this path itself.
const RESERVED: &str = "/oauth2";

/// Paths that show whether a pattern matches the gate's own endpoints.
const RESERVED_PROBES: [&str; 4] = ["/oauth2", "/oauth2/", "/oauth2/callback", "/oauth2/x"];

pub(super) fn path(raw: raw::PathMatch, place: &Place<'_>) -> Result<PathMatch, Reported> {
    match raw {
        raw::PathMatch::Exact(Text(path)) => literal(path, &place.field("exact")).map(PathMatch::Exact),
        raw::PathMatch::Prefix(Text(path)) => literal(path, &place.field("prefix")).map(PathMatch::Prefix),
        raw::PathMatch::Regex(Text(pattern)) => regex(&pattern, &place.field("regex")).map(PathMatch::Regex),
    }
}

/// Policy does not apply to the gate's endpoints. A rule that appears to open them would mislead its reader.
pub(super) fn refuse_public_reserved(
    path: &PathMatch,
    access: &Access,
    place: &Place<'_>,
) -> Result<(), Reported> {
    let about_reserved = match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => {
            path.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(regex) => {
            regex.as_str().contains("oauth2") && RESERVED_PROBES.iter().any(|probe| regex.is_match(probe))
        }
    };
    if about_reserved && *access == Access::Public {
        return Err(place.refuse("covers /oauth2/, the gate's own endpoints, which no rule can make public"));
    }
    Ok(())
}

/// With such a prefix MLflow would protect nothing, and `oidc-gate-mlflow` does not start.
const OPEN_TO_ALL: [&str; 3] = ["/health", "/static", "/favicon.ico"];

/// MLflow's `--static-prefix`, without a slash at the end.
pub(super) fn static_prefix(written: String, place: &Place<'_>) -> Result<String, Reported> {
    let path = literal(written, place)?;
    if OPEN_TO_ALL.iter().any(|open| path.starts_with(open)) {
        return Err(place.refuse(format!("must not begin with {}", OPEN_TO_ALL.join(", "))));
    }
    Ok(path.trim_end_matches('/').to_owned())
}

fn literal(path: String, place: &Place<'_>) -> Result<String, Reported> {
    let faults = [
        (!path.starts_with('/'), "must begin with /"),
        (path.len() > MAX_LEN, "is longer than 1024 bytes"),
        (path.contains("//"), "contains //, which no canonical path contains"),
        (path.split('/').any(|segment| matches!(segment, "." | "..")), "contains a . or .. segment"),
        (path.contains('%'), "contains %: paths are compared decoded, write the character itself"),
        (path.contains(['?', '#']), "contains ? or #: a query or fragment is not part of the path"),
        (path.contains('*'), "contains *: use prefix, or regex"),
        (
            path.contains('\\') || path.chars().any(char::is_control),
            "contains a backslash or control character",
        ),
    ];
    let found: Vec<&str> = faults.iter().filter(|(found, _)| *found).map(|(_, fault)| *fault).collect();
    if found.is_empty() { Ok(path) } else { Err(place.refuse(found.join("; "))) }
}

fn regex(pattern: &str, place: &Place<'_>) -> Result<Regex, Reported> {
    if pattern.is_empty() {
        return Err(place.refuse("is empty"));
    }
    if pattern.len() > MAX_LEN {
        return Err(place.refuse(format!("is longer than {MAX_LEN} bytes")));
    }
    let compile = |pattern: &str| regex_lite::RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    // First compile the pattern alone: `a)|(b` must not become valid through the surrounding group. Then anchor it as a
    // whole, so that `/a|/ab` matches all of /ab and not only its beginning.
    compile(pattern)
        .and_then(|_| compile(&format!(r"\A(?:{pattern})\z")))
        .map_err(|error| place.refuse(format!("does not compile: {}", one_line(&error.to_string()))))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    fn read(raw: raw::PathMatch) -> Result<PathMatch, String> {
        checked(|place| path(raw, place))
    }

    fn pattern(text: &str) -> Result<Regex, String> {
        read(raw::PathMatch::Regex(Text(text.to_owned()))).map(|path| match path {
            PathMatch::Regex(regex) => regex,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn canonical_paths_are_accepted() {
        for path in ["/", "/api", "/api/", "/api/2.0/mlflow", "/a b", "/caf\u{e9}", "/a..b/...", "/x;y=1"] {
            assert!(read(raw::PathMatch::Exact(Text(path.to_owned()))).is_ok(), "{path}");
            assert!(read(raw::PathMatch::Prefix(Text(path.to_owned()))).is_ok(), "{path}");
        }
    }

    #[test]
    fn paths_that_no_canonical_path_equals_are_refused() {
        for (path, error) in [
            ("", "must begin with /"),
            ("api", "must begin with /"),
            ("/a//b", "contains //"),
            ("/a/../b", "contains a . or .. segment"),
            ("/a/.", "contains a . or .. segment"),
            ("/a%2Fb", "contains %"),
            ("/a?b", "contains ? or #"),
            ("/a#b", "contains ? or #"),
            ("/api/*", "contains *: use prefix, or regex"),
            ("/a\\b", "contains a backslash"),
            ("/a\nb", "contains a backslash or control character"),
            (&format!("/{}", "a".repeat(MAX_LEN)), "is longer than 1024 bytes"),
        ] {
            let refused = read(raw::PathMatch::Prefix(Text(path.to_owned()))).unwrap_err();
            assert!(refused.starts_with(&format!("here.prefix: {error}")), "{path}: {refused}");
        }
        let refused = read(raw::PathMatch::Exact(Text("a//b%".to_owned()))).unwrap_err();
        assert_eq!(refused.lines().count(), 1, "one field, one line: {refused}");
    }

    #[test]
    fn patterns_match_the_whole_path() {
        let regex = pattern("/a|/ab").unwrap();
        assert_eq!(regex.find("/ab").map(|found| found.as_str()), Some("/ab"));
        assert!(
            regex.is_match("/a")
                && !regex.is_match("/abc")
                && !regex.is_match("x/a")
                && !regex.is_match("/a\n")
        );
        assert!(!pattern("(?m)/a$").unwrap().is_match("/a\n/b"));
    }

    #[test]
    fn patterns_that_do_not_compile_or_are_too_large_are_refused() {
        for text in [
            "(",
            "a)|(b",
            "[",
            "*",
            "(?P<",
            r"\p{Greek}",
            "a{5,2}",
            "(?x)/a # comment",
            "((((a{100}){100}){100}))",
        ] {
            let refused = pattern(text).unwrap_err();
            assert!(refused.starts_with("here.regex: does not compile: "), "{text}: {refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
        assert_eq!(pattern("").unwrap_err(), "here.regex: is empty");
        assert!(pattern(&"a".repeat(MAX_LEN)).is_ok());
        assert_eq!(pattern(&"a".repeat(MAX_LEN + 1)).unwrap_err(), "here.regex: is longer than 1024 bytes");
        assert!(pattern(&"(".repeat(MAX_LEN)).is_err());
    }

    #[test]
    fn the_gates_own_endpoints_cannot_be_made_public() {
        let refused = |path: PathMatch, access: &Access| {
            checked(|place| refuse_public_reserved(&path, access, place)).is_err()
        };
        for path in ["/oauth2", "/oauth2/", "/oauth2/callback"] {
            assert!(refused(PathMatch::Exact(path.into()), &Access::Public), "{path}");
            assert!(refused(PathMatch::Prefix(path.into()), &Access::Public), "{path}");
            assert!(!refused(PathMatch::Prefix(path.into()), &Access::Deny), "{path}");
        }
        for path in ["/", "/oauth2x", "/oauth", "/x/oauth2"] {
            assert!(!refused(PathMatch::Prefix(path.into()), &Access::Public), "{path}");
        }
        for (text, expected) in
            [("/oauth2/.*", true), ("/oauth2(/callback)?", true), ("/x/oauth2/.*", false), ("/.*", false)]
        {
            assert_eq!(
                refused(PathMatch::Regex(pattern(text).unwrap()), &Access::Public),
                expected,
                "{text}"
            );
        }
    }
}
