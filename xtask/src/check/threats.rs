//! Every threat id has a row in `docs/threats.md`, and every row names a test, or a reason why there is none.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use regex_lite::Regex;

use super::source::{self, Source};

const LIST: &str = "docs/threats.md";
/// The beginning of the last column if there is no test.
const NO_TEST: &str = "no test: ";
/// The minimum length of a reason, in bytes.
const SHORTEST_REASON: usize = 15;

/// The id of a threat: `CB15`, `F1307`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    area: String,
    number: u32,
}

impl Id {
    /// Parses a text that is exactly one id in capital letters.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|letter: char| letter.is_ascii_digit())?;
        let (area, number) = text.split_at_checked(digits)?;
        let right = match area {
            "F" => matches!(number.len(), 3 | 4),
            _ => area.len() == 2 && area.bytes().all(|byte| byte.is_ascii_uppercase()) && number.len() == 2,
        };
        right.then(|| Some(Self { area: area.to_owned(), number: number.parse().ok()? })).flatten()
    }

    /// The beginning of the title of its section.
    fn section(&self) -> String {
        match self.area.as_str() {
            "F" => format!("Kind {}", self.number / 100),
            area => area.to_owned(),
        }
    }

    /// The ids from this one to another one of the same section.
    fn to(&self, last: &Self) -> Vec<Self> {
        if self.area != last.area {
            return vec![self.clone(), last.clone()];
        }
        (self.number..=last.number).map(|number| Self { area: self.area.clone(), number }).collect()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.area == "F" { 3 } else { 2 };
        write!(out, "{}{:0width$}", self.area, self.number)
    }
}

/// Returns the problems of the list, and of the references to it.
///
/// # Errors
/// If a file cannot be read or parsed.
pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut tests = BTreeMap::<String, &str>::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for name in source::test_names(source)? {
            tests.insert(name, &source.name);
        }
    }
    let list = source::text(sources, LIST)?;
    let (rows, mut problems) = rows(list, &tests);
    for (name, file) in &tests {
        let ids = ids_of_test(name);
        let unknown: Vec<_> = ids.iter().filter(|id| !rows.contains_key(id)).collect();
        let is_named = ids.iter().filter_map(|id| rows.get(id)).flatten().any(|test| test == name);
        if let Some(first) = ids.first()
            && unknown.is_empty()
            && !is_named
        {
            problems.push(format!("{file}: {name} is not in the row of {first} in {LIST}"));
        }
        problems.extend(unknown.iter().map(|id| format!("{file}: {name}: {id} has no row in {LIST}")));
    }
    let word = Regex::new(r"\b[A-Z]{1,2}[0-9]{2,4}\b")?;
    for source in sources.iter().filter(|source| source.name != LIST && is_read(source)) {
        for (number, line) in source.text.lines().enumerate() {
            let ids = word.find_iter(line).filter_map(|found| Id::parse(found.as_str()));
            let unknown = ids.filter(|id| !rows.contains_key(id));
            problems.extend(
                unknown.map(|id| format!("{}:{}: {id} has no row in {LIST}", source.name, number + 1)),
            );
        }
    }
    Ok(problems)
}

/// Whether the file was written by a person. In a generated file, text that looks like an id is part of a checksum.
fn is_read(source: &Source) -> bool {
    !matches!(source.kind(), "lock" | "json" | "pem" | "svg")
}

/// The ids that have a row, each with its tests, and the problems of the rows.
fn rows(list: &str, tests: &BTreeMap<String, &str>) -> (BTreeMap<Id, Vec<String>>, Vec<String>) {
    let mut rows = BTreeMap::new();
    let mut problems = Vec::new();
    let mut section = String::new();
    for (number, line) in list.lines().enumerate() {
        let mut problem = |text: String| problems.push(format!("{LIST}:{}: {text}", number + 1));
        if let Some(title) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with("##"))
        {
            section = title.split(':').next().unwrap_or_default().to_owned();
        }
        if !line.starts_with('|') || line.starts_with("| id |") || line.starts_with("| ---") {
            continue;
        }
        let cells: Vec<_> = cells(line);
        let [id, tried, must, test] = cells.as_slice() else {
            problem(format!("a row has four cells, and this one has {}", cells.len()));
            continue;
        };
        let of_row = ids_of_row(id);
        if of_row.is_empty() {
            problem(format!("{id:?} is not an id"));
        }
        if tried.is_empty() || must.is_empty() {
            problem(format!("{id} does not say what is tried and what must happen"));
        }
        let named: Vec<_> = test.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for name in named.iter().filter(|name| !tests.contains_key(*name)) {
            problem(format!("{id}: there is no test {name}"));
        }
        let reason = test.strip_prefix(NO_TEST).map_or(0, |reason| reason.chars().count());
        if named.is_empty() && reason < SHORTEST_REASON {
            problem(format!("{id} has neither a test nor `{NO_TEST}` with a reason"));
        }
        for id in of_row {
            if id.section() != section {
                problem(format!("{id} belongs under {}, and not under {section}", id.section()));
            }
            if rows.insert(id.clone(), named.clone()).is_some() {
                problem(format!("{id} has another row"));
            }
        }
    }
    (rows, problems)
}

/// The cells of a table row. `\|` stands for a bar inside of a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line).replace("\\|", "\u{0}");
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// `CB15`, or `IT01 to IT14` for a row about several ids.
fn ids_of_row(cell: &str) -> Vec<Id> {
    match cell.split_once(" to ") {
        None => Id::parse(cell).into_iter().collect(),
        Some((first, last)) => match (Id::parse(first), Id::parse(last)) {
            (Some(first), Some(last)) => first.to(&last),
            _ => Vec::new(),
        },
    }
}

/// The ids at the beginning of a test's name: `cb13_…`, `cb03_cb04_…`, `pm02_and_az09_…`. From a range,
/// `it01_to_it25_…`, only the first and the last, because ids in between may not exist.
fn ids_of_test(name: &str) -> Vec<Id> {
    let mut ids = Vec::new();
    for word in name.split('_') {
        match Id::parse(&word.to_ascii_uppercase()) {
            Some(id) => ids.push(id),
            None if !ids.is_empty() && matches!(word, "to" | "and") => {}
            None => break,
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// (CB15)\n#[test]\nfn cb13_one() {}\n#[test]\nfn two() {}\nfn three() {}\n";
    const HEAD: &str = "| id | what is tried | what must happen | the test |\n| --- | --- | --- | --- |\n";

    /// The problems of these rows under `## CB: callback`, with this code.
    fn problems(rows: &[&str], code: &str) -> Vec<String> {
        let list = format!("# Threats\n\n## CB: callback\n\n{HEAD}{}\n", rows.join("\n"));
        check(&[Source::new(LIST, &list), Source::new("a.rs", code)]).unwrap()
    }

    #[test]
    fn a_list_in_order_has_no_problem() {
        let rows =
            ["| CB13 | a \\| b | c | `cb13_one`, `two` |", "| CB15 | a | b | no test: nobody can see this |"];
        assert_eq!(problems(&rows, CODE), [""; 0]);
        assert_eq!(problems(&["| CB13 to CB15 | a | b | see `cb13_one` |"], CODE), [""; 0]);
    }

    #[test]
    fn whatever_is_wrong_with_a_row_or_missing_is_found() {
        let right = "| CB15 | a | b | `two` |";
        for (row, expected) in [
            ("", "a.rs: cb13_one: CB13 has no row"),
            ("| CB13 | a | b | `two` |", "a.rs: cb13_one is not in the row of CB13"),
            ("| CB13 | a | b | |", "CB13 has neither a test nor"),
            ("| CB13 | a | b | covered elsewhere |", "CB13 has neither a test nor"),
            ("| CB13 | a | b | no test: none |", "CB13 has neither a test nor"),
            ("| CB13 | a | b | `cb13_on` |", "CB13: there is no test cb13_on"),
            ("| CB13 | a | b | `two`, `three` |", "CB13: there is no test three"),
            ("| CB13 | a | b | `two` |\n| CB13 | c | d | `two` |", "CB13 has another row"),
            ("| CB13 | a | b | `two` |\n| CB13 to CB14 | c | d | `two` |", "CB13 has another row"),
            ("| CB13 | a | `two` |", "has four cells, and this one has 3"),
            ("| CB13 | | b | `two` |", "CB13 does not say"),
            ("| CB13 | a | b | `two` |\n| CB3 | a | b | `two` |", "\"CB3\" is not an id"),
            ("| CB13 | a | b | `two` |\n| CK01 | a | b | `two` |", "CK01 belongs under CK, and not under CB"),
        ] {
            let found = problems(&[row, right], CODE);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{row}: {found:?}");
        }
        let found = problems(&["| CB13 | a | b | `cb13_one` |"], CODE);
        assert_eq!(found, ["a.rs:1: CB15 has no row in docs/threats.md"]);
    }

    /// The sections of the list explain the letters. No second, incomplete table does.
    #[test]
    fn f1308_the_letters_of_test_names_are_the_sections_of_the_list_that_contributing_names() {
        let contributing = include_str!("../../../CONTRIBUTING.md");
        assert!(contributing.contains("[docs/threats.md](docs/threats.md)"));
        let list = include_str!("../../../docs/threats.md");
        let sections: Vec<_> =
            list.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(':')).collect();
        for area in ["AZ", "BT", "CB", "CF", "CK", "F", "HD", "IT", "JW", "LO", "PM", "RF", "RX", "SS"] {
            let about = sections.iter().find(|(name, _)| *name == area);
            assert!(about.is_some_and(|(_, about)| about.len() > 4), "{area} has no section");
            assert!(
                !contributing.contains(&format!("| `{}` |", area.to_lowercase())),
                "{area} stands there twice"
            );
        }
    }

    #[test]
    fn a_row_of_a_fault_stands_under_its_kind() {
        let list =
            |kind: &str| format!("## F: faults\n\n### {kind}: words\n\n{HEAD}| F1307 | a | b | `two` |\n");
        let found =
            |kind| check(&[Source::new(LIST, &list(kind)), Source::new("a.rs", "#[test] fn two() {}")]);
        assert_eq!(found("Kind 13").unwrap(), [""; 0]);
        assert_eq!(found("Kind 1").unwrap().len(), 1);
    }

    #[test]
    fn ids_are_found_in_names_and_nowhere_else() {
        for (name, expected) in [
            ("cb13_the_same_callback", "CB13"),
            ("cb03_cb04_a_state", "CB03 CB04"),
            ("it01_to_it25_an_id_token", "IT01 IT25"),
            ("pm02_and_az09_odd_targets", "PM02 AZ09"),
            ("f1307_what_is_missing", "F1307"),
            ("f1308_letters", "F1308"),
            ("a_token_of_cb13", ""),
            ("rs256_and_es256", ""),
            ("to_and_fro", ""),
            ("f16_is_no_id", ""),
        ] {
            let ids: Vec<_> = ids_of_test(name).iter().map(ToString::to_string).collect();
            assert_eq!(ids.join(" "), expected, "{name}");
        }
    }
}
