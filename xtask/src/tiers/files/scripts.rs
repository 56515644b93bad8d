//! Checks shell scripts, and the commands that documents print, with shellcheck.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Source, lay};

/// Findings that are allowed in a printed command, but not in a script.
const PRINTED_EXCEPTIONS: &str = concat!(
    // SC2034: the next block uses the variable, or it is a line of .env.
    "SC2034,", // SC2155: the user who types the command sees if it fails.
    "SC2155",
);

/// A piece of shell, with a name for messages.
pub struct Script {
    name: String,
    text: String,
    printed: bool,
}

/// All shell scripts, recognised by their name or first line.
pub fn scripts(sources: &[Source]) -> Vec<Script> {
    let is_script = |source: &&Source| {
        let first = source.content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        source.name.ends_with(".sh") || (first.starts_with("#!") && first.ends_with("sh"))
    };
    let script = |source: &Source| Script {
        name: source.name.clone(),
        text: source.text().into_owned(),
        printed: false,
    };
    sources.iter().filter(is_script).map(script).collect()
}

/// All shell blocks in documents, named by page and line.
pub fn printed(sources: &[Source]) -> Vec<Script> {
    let pages = sources.iter().filter(|source| source.name.ends_with(".md"));
    pages.flat_map(|page| blocks(&page.name, &page.text())).collect()
}

fn blocks(page: &str, text: &str) -> Vec<Script> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let indentation = line.len() - line.trim_start().len();
        if line.trim_start() != "```sh" {
            continue;
        }
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        // In a list, the block is indented.
        let text = inside.map(|line| format!("{}\n", line.get(indentation..).unwrap_or_default())).collect();
        found.push(Script { name: format!("{page}:{}", number + 1), text, printed: true });
    }
    found
}

/// # Errors
/// If there is nothing to check, or shellcheck finds something. The message is shellcheck's.
pub fn check(scripts: &[Script]) -> Result<()> {
    ensure!(scripts.len() > 5, "there are only {} scripts", scripts.len());
    let complaints = complaints(scripts)?;
    ensure!(complaints.is_empty(), "{complaints}");
    Ok(())
}

/// Checks that shellcheck finds a problem of each kind, with the options that are used here.
pub fn control() -> Result<()> {
    let bad = [
        ("a name that is split into words", "#!/bin/bash\nrm -rf $1/*\n", false, "SC2086"),
        ("what only bash knows", "#!/bin/sh\nif [[ -n $1 ]]; then exit; fi\n", false, "SC3010"),
        ("a variable for nothing", "#!/bin/sh\nunused=1\n", false, "SC2034"),
        ("a printed block", "cat $FILE | grep secret\n", true, "SC2086"),
    ];
    for (what, text, printed, code) in bad {
        let said = complaints(&[Script { name: "planted.sh".to_owned(), text: text.to_owned(), printed }])?;
        ensure!(said.contains(code), "{what} is not found: {said}");
    }
    let page =
        Source { name: "page.md".to_owned(), content: b"1. x\n\n   ```sh\n   rm $FILE\n   ```\n".to_vec() };
    let said = complaints(&printed(&[page]))?;
    ensure!(said.contains("SC2086") && said.contains("page.md:3"), "a block on a page is not found: {said}");
    Ok(())
}

fn complaints(scripts: &[Script]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    lay(folder.path(), scripts.iter().map(|script| (script.name.as_str(), script.text.as_bytes())))?;
    let mut all = String::new();
    for printed in [false, true] {
        let names = scripts.iter().filter(|script| script.printed == printed).map(|script| &script.name);
        let mut shellcheck = shellcheck(folder.path());
        if printed {
            shellcheck.args(["--shell", "bash", "--exclude", PRINTED_EXCEPTIONS]);
        }
        if names.clone().next().is_none() {
            continue;
        }
        let output = shellcheck.arg("--").args(names).output()?;
        // 1 means that it has found something. Other statuses are errors of shellcheck itself.
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "shellcheck ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        all += &String::from_utf8_lossy(&output.stdout);
    }
    Ok(all)
}

fn shellcheck(folder: &Path) -> Command {
    let mut command = Command::new("shellcheck");
    command.current_dir(folder).stdin(Stdio::null());
    // No settings from files, especially not from the home folder.
    command.args(["--norc", "--severity", "style", "--color=never", "--format", "gcc"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), content: text.as_bytes().to_vec() }
    }

    #[test]
    fn scripts_are_known_by_their_name_or_by_their_first_line() {
        let sources = [
            source("a/run", "#!/usr/bin/env bash\n"),
            source("b.sh", "true\n"),
            source("c", "#!/bin/sh"),
            source("d.py", "#!/usr/bin/env python3\n"),
            source("e.md", "```sh\n#!/bin/sh\n```\n"),
        ];
        let names: Vec<_> = scripts(&sources).into_iter().map(|script| script.name).collect();
        assert_eq!(names, ["a/run", "b.sh", "c"]);
    }

    #[test]
    fn printed_blocks_are_read_without_the_indentation_of_their_list() {
        let page = source(
            "p.md",
            "# x\n\n```sh\none\n```\n\n```text\nno\n```\n\n1. y\n\n   ```sh\n   two\n     three\n   ```\n",
        );
        let found: Vec<_> = printed(&[page]).into_iter().map(|script| (script.name, script.text)).collect();
        let expected = [("p.md:3", "one\n"), ("p.md:13", "two\n  three\n")];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}
