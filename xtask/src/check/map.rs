//! The layout in ARCHITECTURE.md must name every folder of the repository and every module of the filter.

use std::collections::BTreeSet;

use anyhow::Result;

use super::source::{self, Source};

const DOCUMENT: &str = "ARCHITECTURE.md";
/// Folders whose entries must all be named.
const IN_FULL: [&str; 3] = ["filter/adapter/src", "filter/core/src", "filter/plugin/src"];

pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    let block = source::block(source::text(sources, DOCUMENT)?, "## Layout", "```text")?;
    let mapped = paths(&block);
    let mut problems = Vec::new();
    let files: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    for path in &mapped {
        let is_there = |file: &&str| {
            **file == **path || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        if !files.iter().any(is_there) {
            problems.push(format!("{DOCUMENT}: the layout names {path}, which does not exist"));
        }
    }
    // If the map names one entry of a folder, it must name all of them.
    let mut detailed: BTreeSet<&str> = IN_FULL.into_iter().collect();
    for path in &mapped {
        detailed.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
    }
    let mut missing = BTreeSet::new();
    for file in &files {
        for entry in entries(file, &detailed) {
            let is_named = mapped.iter().any(|path| path == entry || path.starts_with(&format!("{entry}/")));
            if !is_named {
                missing.insert(entry);
            }
        }
    }
    problems.extend(missing.into_iter().map(|entry| format!("{DOCUMENT}: the layout lacks {entry}")));
    Ok(problems)
}

/// The names that the map needs for this file: its top-level folder, and each part of its path in a folder that the map
/// describes in detail. Files in the root and manifests need no description.
fn entries<'a>(file: &'a str, detailed: &BTreeSet<&str>) -> Vec<&'a str> {
    let ends = file.match_indices('/').map(|(at, _)| at).chain([file.len()]);
    let parts: Vec<_> = ends.filter_map(|end| file.get(..end)).collect();
    let is_needed = |part: &&str| match part.rsplit_once('/') {
        None => *part != file && !part.starts_with('.'),
        Some((folder, name)) => detailed.contains(folder) && name != "Cargo.toml",
    };
    parts.into_iter().filter(is_needed).collect()
}

/// The paths in the layout. A line is `folder/  description`, or has names within this folder after an indentation of
/// two blanks.
fn paths(block: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut base = "";
    for line in block {
        let indent = line.len() - line.trim_start().len();
        let names = line.trim_start().split("  ").next().unwrap_or_default();
        let names = names.split(", ").map(|name| name.trim_end_matches('/'));
        match indent {
            0 => {
                base = names.clone().next().unwrap_or_default();
                paths.extend(names.map(str::to_owned));
            }
            2 => {
                // `src/a.rs, b.rs`: the second name is in the folder of the first.
                let folder = names
                    .clone()
                    .next()
                    .and_then(|first| first.rsplit_once('/'))
                    .map_or("", |(folder, _)| folder);
                paths.extend(names.map(|name| match name.contains('/') || folder.is_empty() {
                    true => format!("{base}/{name}"),
                    false => format!("{base}/{folder}/{name}"),
                }));
            }
            // The description continues.
            _ => {}
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "core/            decides\n  src/lib.rs     words,\n                 more words\n  src/a.rs, a/   words\n  src/b/   words\ndocs/    pages\n";

    fn problems(map: &str, files: &[&str]) -> Vec<String> {
        let document = Source::new(DOCUMENT, &format!("## Layout\n\n```text\n{map}```\n"));
        let files = files.iter().map(|name| Source::new(name, ""));
        check(&files.chain([document]).collect::<Vec<_>>()).unwrap()
    }

    /// Parts of the filter that must always be named.
    const FILES: [&str; 7] = [
        "README.md",
        ".ci/run",
        "core/Cargo.toml",
        "core/src/lib.rs",
        "core/src/a.rs",
        "core/src/a/c.rs",
        "docs/x.md",
    ];

    #[test]
    fn a_map_that_names_everything_has_no_problem() {
        assert_eq!(problems(MAP, &[&FILES[..], &["core/src/b/mod.rs"]].concat()), [""; 0]);
    }

    #[test]
    fn what_the_map_lacks_and_what_is_gone_is_found() {
        for (file, expected) in [
            ("core/src/new.rs", "the layout lacks core/src/new.rs"),
            ("core/src/new/mod.rs", "the layout lacks core/src/new"),
            ("core/tests/new.rs", "the layout lacks core/tests"),
            ("new/a.txt", "the layout lacks new"),
            ("filter/core/src/new.rs", "the layout lacks filter"),
        ] {
            let found = problems(MAP, &[&FILES[..], &["core/src/b/mod.rs", file]].concat());
            assert!(found.iter().any(|problem| problem.ends_with(expected)), "{file}: {found:?}");
        }
        assert_eq!(
            problems(MAP, &FILES),
            ["ARCHITECTURE.md: the layout names core/src/b, which does not exist"]
        );
    }

    #[test]
    fn the_modules_of_the_filter_are_named_even_where_the_map_names_none_of_them() {
        let found = problems("filter/core/  decides\n", &["filter/core/src/gate.rs"]);
        assert_eq!(found, ["ARCHITECTURE.md: the layout lacks filter/core/src/gate.rs"]);
    }
}
