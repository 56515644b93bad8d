//! Formats values from outside for log lines and error messages: quoted, escaped, on one line, and shortened.

/// Quotes and escapes at most `most` characters of the text, followed by `…` if more are left. Never for a secret.
///
/// Control characters, line separators, direction marks and quotes are escaped. A value can therefore imitate neither
/// another value nor a log line.
pub fn quote(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Formats at most `most` values with [`quote`], and adds the total number if some are left out.
pub fn quote_list(values: &[String], most: usize, most_chars: usize) -> String {
    let shown: Vec<String> = values.iter().take(most).map(|value| quote(value, most_chars)).collect();
    let shown = shown.join(", ");
    if values.len() > most { format!("[{shown}, … {} in all]", values.len()) } else { format!("[{shown}]") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn f1104_what_could_end_turn_or_fake_a_line_is_escaped() {
        for (text, quoted) in [
            ("mona", "\"mona\""),
            ("a b", "\"a b\""),
            ("a\nb\r\t\0", r#""a\nb\r\t\0""#),
            ("a\u{2028}b\u{2029}", r#""a\u{2028}b\u{2029}""#),
            ("\u{202e}b\u{200f}\u{2066}", r#""\u{202e}b\u{200f}\u{2066}""#),
            ("\u{feff}\u{200b}\u{ad}", r#""\u{feff}\u{200b}\u{ad}""#),
            ("\u{7f}\u{85}\u{1b}[31m", r#""\u{7f}\u{85}\u{1b}[31m""#),
            ("\" sub=\"x", r#""\" sub=\"x""#),
            ("a\\", r#""a\\""#),
            ("José", "\"José\""),
        ] {
            assert_eq!(quote(text, 100), quoted);
        }
    }

    #[test]
    fn f1104_what_is_long_is_cut_and_says_so() {
        assert_eq!(quote("abcdef", 3), "\"abc…\"");
        assert_eq!(quote("abc", 3), "\"abc\"");
        assert!(quote(&"x".repeat(10_000), 100).chars().count() < 110);
    }

    #[test]
    fn a_list_is_bounded_and_says_how_long_it_is() {
        let values: Vec<String> = ["a", "b\n", "c"].map(str::to_owned).to_vec();
        assert_eq!(quote_list(&values, 3, 10), r#"["a", "b\n", "c"]"#);
        assert_eq!(quote_list(&values, 2, 10), r#"["a", "b\n", … 3 in all]"#);
        assert_eq!(quote_list(&[], 2, 10), "[]");
    }
}
