//! Limits comments to 120 columns, so that they fit a window, and files to 500 lines, so that one can remember them.

use super::exceptions::{Exception, applied};
use super::source::Source;

const LONGEST_COMMENT: usize = 120;
const MOST_LINES: usize = 500;

/// Files that are too long and should be split.
const LONG_FILES: [Exception; 0] = [];

/// Comment lines that are too long.
pub fn comments(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let Some(begin) = comment(source) else { continue };
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if line.trim_start().starts_with(begin) && columns > LONGEST_COMMENT {
                problems.push(format!(
                    "{}:{}: a comment of {columns} columns, {LONGEST_COMMENT} at most",
                    source.name,
                    number + 1
                ));
            }
        }
    }
    problems
}

/// The marker of line comments in this kind of file.
fn comment(source: &Source) -> Option<&'static str> {
    match source.kind() {
        "rs" | "go" => Some("//"),
        "sh" | "py" | "yaml" | "yml" | "toml" | "Dockerfile" => Some("#"),
        _ => None,
    }
}

/// Files that are too long. Data and documents do not count, because nobody reads them from top to bottom.
pub fn lengths(sources: &[Source]) -> Vec<String> {
    too_long(sources, &LONG_FILES)
}

fn too_long(sources: &[Source], exceptions: &[Exception]) -> Vec<String> {
    let long = sources.iter().filter(|source| comment(source).is_some());
    let found = long.filter_map(|source| {
        let lines = source.text.lines().count();
        let problem = format!("{}: {lines} lines, {MOST_LINES} at most", source.name);
        (lines > MOST_LINES).then(|| (source.name.clone(), problem))
    });
    applied(found, exceptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_that_is_too_long_is_found_in_each_kind_of_file() {
        let text = |begin: &str, length: usize| {
            format!("first\n  {begin}{}\n", "ä".repeat(length - 2 - begin.len()))
        };
        for (name, begin) in [
            ("a.rs", "// "),
            ("a.rs", "//! "),
            ("a.go", "// "),
            ("a.sh", "# "),
            ("b/a.py", "# "),
            ("a.yaml", "# "),
            ("a.yml", "# "),
            ("a.toml", "# "),
            ("b/Dockerfile", "# "),
        ] {
            assert_eq!(comments(&[Source::new(name, &text(begin, 120))]), [""; 0], "{name}");
            let found = comments(&[Source::new(name, &text(begin, 121))]);
            assert_eq!(found, [format!("{name}:2: a comment of 121 columns, 120 at most")]);
        }
        assert_eq!(
            comments(&[Source::new("a.md", &text("# ", 200)), Source::new("a.rs", &text("", 200))]),
            [""; 0]
        );
    }

    #[test]
    fn a_file_that_is_too_long_is_found_unless_there_is_a_reason() {
        let long = Source::new("a.rs", &"line\n".repeat(501));
        let right = Source::new("b.rs", &"line\n".repeat(500));
        let sources = [long, right, Source::new("c.json", &"line\n".repeat(501))];
        assert_eq!(too_long(&sources, &[]), ["a.rs: 501 lines, 500 at most"]);
        assert_eq!(too_long(&sources, &[("a.rs", "a list")]), [""; 0]);
        assert_eq!(too_long(&sources, &[("a.rs", "a list"), ("b.rs", "was long")]).len(), 1);
    }
}
