//! The commands that docs/compose.md and docs/production.md print.

use std::collections::BTreeMap;

/// A block of the page that says how it is run: `<!-- run: NAME -->`, or `<!-- run: NAME after OTHER -->`.
struct Block {
    language: String,
    after: Option<String>,
    text: String,
}

/// The commands under a name as a shell script, preceded by those of the block that they come after.
pub fn printed(name: &str) -> String {
    let blocks = blocks();
    let block = blocks.get(name).unwrap_or_else(|| panic!("no page prints {name}"));
    let before = block.after.as_deref().map(printed).unwrap_or_default();
    let text = match block.language.as_str() {
        "python" => format!("python3 - <<'PYTHON'\n{}PYTHON\n", block.text),
        _ => block.text.clone(),
    };
    format!("{before}{text}")
}

fn blocks() -> BTreeMap<String, Block> {
    let mut found = BTreeMap::new();
    let pages = [include_str!("../../../docs/compose.md"), include_str!("../../../docs/production.md")];
    let mut lines = pages.iter().flat_map(|page| page.lines());
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let (name, after) = match mark.split_once(" after ") {
            Some((name, after)) => (name, Some(after.to_owned())),
            None => (mark, None),
        };
        let fence = lines.next().and_then(|line| line.strip_prefix("```"));
        let language = fence.unwrap_or_else(|| panic!("no block follows {line}")).to_owned();
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        let twice = found.insert(name.to_owned(), Block { language, after, text });
        assert!(twice.is_none(), "{name} is printed twice");
    }
    found
}

/// The source files of these tests.
fn sources() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let tests = files.filter(|file| file.extension().is_some_and(|name| name == "rs"));
    let sources: Vec<_> = tests.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(sources.len() > 8, "{} has {} files only", folder.display(), sources.len());
    sources
}

#[test]
fn every_block_that_says_it_is_run_is_run_by_a_test() {
    let sources = sources();
    // Compare without white space, because calls may be broken into lines.
    let sources: Vec<String> = sources.iter().map(|source| source.split_whitespace().collect()).collect();
    let blocks = blocks();
    assert!(blocks.len() > 15, "the pages have lost their marks");
    for name in blocks.keys() {
        let run = sources.iter().any(|source| {
            source.contains(&format!(".run(\"{name}\")")) || source.contains(&format!(".run_and(\"{name}\""))
        }) || blocks.values().any(|block| block.after.as_deref() == Some(name));
        assert!(run, "no test runs {name}");
    }
}

/// The table that says which tests are about which section of docs/compose.md.
fn table() -> &'static str {
    let document = include_str!("../../../CONTRIBUTING.md");
    let (_, section) = document.split_once("### What the Compose tests cover").expect("the table is there");
    section.split_once("\n#").map_or(section, |(table, _)| table)
}

#[test]
fn every_test_that_the_table_names_exists() {
    let sources = sources();
    let mut names = 0;
    for row in table().lines().filter(|line| line.starts_with("| ")).skip(1) {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        for name in
            last.split(',').map(|name| name.trim().trim_matches('`')).filter(|name| name.contains('_'))
        {
            names += 1;
            assert!(
                sources.iter().any(|source| source.contains(&format!("fn {name}()"))),
                "there is no test {name}"
            );
        }
    }
    assert!(names > 20, "the table names {names} tests only");
}

/// The Rust files of the workspace below a folder.
fn rust_files(folder: &std::path::Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            rust_files(&path, into);
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
}

/// All texts in backquotes that look like names of tests: sentences of at least four words.
fn names_of_tests(page: &str) -> Vec<&str> {
    let words = |name: &str| {
        name.split('_').count() > 3
            && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|name| words(name)).collect()
}

#[test]
fn every_test_that_contributing_names_exists_somewhere_in_the_workspace() {
    let mut files = Vec::new();
    for folder in ["filter", "testkit", "tests", "xtask"] {
        rust_files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder), &mut files);
    }
    let mut tests = std::collections::BTreeSet::new();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let names = source.split("fn ").skip(1).filter_map(|rest| rest.split_once("()"));
        tests.extend(names.map(|(name, _)| name.to_owned()));
    }
    let names = names_of_tests(include_str!("../../../CONTRIBUTING.md"));
    assert!(names.len() > 60, "CONTRIBUTING.md names {} tests only", names.len());
    for name in names {
        assert!(tests.contains(name), "CONTRIBUTING.md names {name}, and there is no such test");
    }
}

/// `cargo xtask check` finds an id without a row, and a row whose tests do not exist.
#[test]
fn every_promise_has_the_id_of_a_threat() {
    let (_, promises) = include_str!("../../../SECURITY.md").split_once("## Promises").expect("it promises");
    let (promises, _) = promises.split_once("\n## ").expect("something follows it");
    let is_id = |word: &str| {
        let (area, number) = word.split_at(word.find(|letter: char| letter.is_ascii_digit()).unwrap_or(0));
        (1..=2).contains(&area.len()) && number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("| ---")) {
        count += 1;
        let ids = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        assert!(ids.split([' ', ',']).any(is_id), "no id: {row}");
    }
    assert!(count > 40, "there are {count} promises only");
}

#[test]
fn the_table_has_each_section_of_the_readme_that_it_is_about() {
    let rows: Vec<_> = table().lines().filter_map(|line| line.strip_prefix("| ")).collect();
    for section in [
        "Architecture",
        "Building the image",
        "Push to a registry",
        "Quick start: environment",
        "Quick start: start the services",
        "Quick start: configure Keycloak",
        "Access",
        "Configuration: required variables",
        "User groups",
        "Logs",
        "Stop services",
        "Reset all data",
        "Add new users",
        "Token: create, use, curl",
        "Token: Python",
        "Token: list, delete",
        "Token: rotate",
        "Token: expiry",
        "\"Invalid scopes\"",
        "\"Missing OAuth state\"",
        "\"User is not allowed\"",
        "\"Internal Server Error\"",
        "Keycloak not starting",
        "Files",
        "Support",
    ] {
        let row = rows.iter().find(|row| row.starts_with(section));
        let row = row.unwrap_or_else(|| panic!("there is no row {section}"));
        assert!(
            row.contains('`') || row.contains("no test: "),
            "{section} names neither a test nor why there is none"
        );
    }
}

#[test]
fn every_printed_command_is_run_or_says_why_not() {
    let pages = [
        ("compose.md", include_str!("../../../docs/compose.md")),
        ("production.md", include_str!("../../../docs/production.md")),
        ("service-mesh.md", include_str!("../../../docs/service-mesh.md")),
        ("troubleshooting.md", include_str!("../../../docs/troubleshooting.md")),
    ];
    for (page, text) in pages {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| ["```sh", "```python"].contains(&pair[1])) {
            let reason = pair[0].strip_prefix("<!-- not run: ").and_then(|rest| rest.strip_suffix(" -->"));
            let said = pair[0].starts_with("<!-- run: ") || reason.is_some_and(|reason| reason.len() > 10);
            assert!(said, "{page} has a block without a mark, after: {}", pair[0]);
        }
    }
}

#[test]
fn every_file_of_the_table_is_there_and_git_ignores_the_one_with_secrets() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = include_str!("../../../docs/compose.md");
    let (_, files) = page.split_once("## Files").expect("the page has a list of files");
    let (files, _) = files.split_once("\n## ").expect("something follows it");
    let mut names = Vec::new();
    for row in files.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap_or_default();
        names.extend(cell.split('`').skip(1).step_by(2));
    }
    for name in
        ["docker-compose.yml", ".env", ".env.example", "init-db.sh", "configure-keycloak.sh", ".gitignore"]
    {
        assert!(names.contains(&name), "{name} is not in the table: {names:?}");
    }
    for name in names.iter().filter(|name| **name != ".env") {
        assert!(root.join(name).exists(), "there is no {name}");
    }
    let ignored = |name: &str| {
        let mut git = std::process::Command::new("git");
        git.current_dir(&root)
            .args(["check-ignore", "--quiet", "--no-index", name])
            .status()
            .unwrap()
            .success()
    };
    assert!(ignored(".env") && !ignored(".env.example") && !ignored("docker-compose.yml"));
}
