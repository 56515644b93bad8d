//! Which modules of the core import which others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::paths::{Path, Paths};
use super::source::{Source, is_for_tests};

/// The folder of the core's modules.
pub const FOLDER: &str = "filter/core/src/";

/// The modules of a crate, without tests, each with the modules that it imports. The root of the crate has an empty
/// name.
#[derive(Debug)]
pub struct Graph {
    pub imports: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Reads the files below a folder.
    ///
    /// # Errors
    /// If one of them cannot be parsed.
    pub fn read(sources: &[Source], folder: &str) -> Result<Self> {
        let mut files = BTreeMap::new();
        for source in sources.iter().filter(|source| source.is_rust()) {
            if let Some(path) = source.name.strip_prefix(folder) {
                files.insert(module(path), source.parsed()?);
            }
        }
        let for_tests: BTreeSet<_> =
            files.iter().flat_map(|(name, file)| modules_for_tests(name, &file.items)).collect();
        let is_test = |name: &String| {
            for_tests.iter().any(|test| name == test || name.starts_with(&format!("{test}::")))
        };
        files.retain(|name, _| !is_test(name));
        let modules: BTreeSet<_> = files.keys().cloned().collect();
        let imports = files
            .iter()
            .map(|(name, file)| {
                let reader = Reader { modules: &modules, module: name, aliases: BTreeMap::new() };
                let mut found = reader.found(Paths::without_tests(file));
                found.remove(name);
                (name.clone(), found)
            })
            .collect();
        Ok(Self { imports })
    }

    /// The circles: the largest sets of modules in which each imports each other one, directly or indirectly.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reached: BTreeMap<_, _> = self.imports.keys().map(|name| (name, self.reached(name))).collect();
        let mut circles = BTreeSet::new();
        for (name, from_here) in &reached {
            let circle: Vec<_> = from_here
                .iter()
                .filter(|other| reached.get(other).is_some_and(|from_there| from_there.contains(*name)))
                .cloned()
                .collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// All modules that a module imports, directly or indirectly.
    fn reached(&self, name: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<_> = self.imports.get(name).into_iter().flatten().cloned().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module.clone()) {
                next.extend(self.imports.get(&module).into_iter().flatten().cloned());
            }
        }
        reached
    }
}

/// `oidc/mod.rs` and `oidc.rs` are `oidc`, `oidc/client.rs` is `oidc::client`, `lib.rs` is the root.
pub fn module(path: &str) -> String {
    let name = path.trim_end_matches(".rs");
    let name = name.strip_suffix("/mod").unwrap_or(name);
    if name == "lib" { String::new() } else { name.replace('/', "::") }
}

pub fn below(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn modules_for_tests(module: &str, items: &[syn::Item]) -> Vec<String> {
    let modules = items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if is_for_tests(&item.attrs) => Some(below(module, &item.ident.to_string())),
        _ => None,
    });
    modules.collect()
}

/// Resolves the paths in one file.
struct Reader<'a> {
    modules: &'a BTreeSet<String>,
    module: &'a str,
    /// The names that `use` declarations introduce, with their paths from the root.
    aliases: BTreeMap<String, Path>,
}

impl Reader<'_> {
    /// The modules that the paths lead to.
    fn found(mut self, Paths { uses, others, .. }: Paths) -> BTreeSet<String> {
        for (path, name) in &uses {
            if let Some(path) = self.absolute(path) {
                self.aliases.insert(name.clone(), path);
            }
        }
        let others = others.iter().filter(|path| path.len() > 1);
        uses.iter().map(|(path, _)| path).chain(others).filter_map(|path| self.imported(path)).collect()
    }

    /// A path as written from the root of the crate. `None` if it leads to another crate or to a local item.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let mut here: Vec<_> =
            self.module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => here.extend_from_slice(rest),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                here.truncate(here.len().saturating_sub(up));
                here.extend(path.iter().skip(up).cloned());
            }
            name if self.aliases.contains_key(name) => {
                here = self.aliases.get(name)?.clone();
                here.extend_from_slice(rest);
            }
            name if self.modules.contains(&below(self.module, name)) => here.extend_from_slice(path),
            _ => return None,
        }
        Some(here)
    }

    fn imported(&self, path: &[String]) -> Option<String> {
        let path = self.absolute(path)?;
        let mut modules =
            (0..=path.len()).rev().filter_map(|parts| path.get(..parts)).map(|parts| parts.join("::"));
        modules.find(|module| self.modules.contains(module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        let sources: Vec<_> =
            files.iter().map(|(name, text)| Source::new(&format!("core/{name}"), text)).collect();
        Graph::read(&sources, "core/").unwrap()
    }

    #[test]
    fn imports_are_found_however_they_are_written() {
        for (text, expected) in [
            ("use crate::b;", "b"),
            ("use crate::b::Thing;", "b"),
            ("use crate::{b::{self, Thing}, c::d::Other};", "b c::d"),
            ("use crate::c::d as other;", "c::d"),
            ("pub use super::c::d;", "c::d"),
            ("use crate::c; fn f() { c::d::g() }", "c c::d"),
            ("fn f() -> crate::b::Thing { crate::c::d::g::<crate::c::Thing>() }", "b c c::d"),
            ("impl From<crate::b::Thing> for X { fn from(x: crate::b::Thing) -> Self { Self } }", "b"),
            ("fn f() { let x = vec![crate::b::Thing]; format!(\"{}\", super::c::d::g()) }", "b c::d"),
            ("use std::fmt; use serde::b; fn f() { b::g() }", ""),
            ("// crate::b::Thing\n/// [`crate::b`]\nfn f() { \"crate::b\"; }", ""),
            ("#[cfg(test)] mod tests { use crate::b; }", ""),
            ("#[cfg(test)] use crate::b; #[test] fn f() { crate::b::g() }", ""),
        ] {
            let graph = graph(&[
                ("lib.rs", ""),
                ("a.rs", text),
                ("b.rs", ""),
                ("c/mod.rs", "mod d;"),
                ("c/d.rs", ""),
            ]);
            let imports: Vec<_> = graph.imports["a"].iter().map(String::as_str).collect();
            assert_eq!(imports.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn a_parent_and_its_child_import_from_each_other_by_relative_paths() {
        let graph = graph(&[("a/mod.rs", "mod b; pub use b::Thing;"), ("a/b.rs", "fn f() { super::g() }")]);
        assert_eq!(graph.circles(), [["a", "a::b"]]);
    }

    #[test]
    fn files_of_tests_are_no_modules() {
        let graph = graph(&[
            ("a.rs", "use crate::b::g; #[cfg(test)] mod tests;"),
            ("a/tests.rs", "mod more; use crate::b;"),
            ("a/tests/more.rs", "use crate::b;"),
            ("b.rs", "fn g() {}"),
        ]);
        assert_eq!(graph.imports.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_circle_over_several_modules_is_found_and_what_only_hangs_on_it_is_not_part_of_it() {
        let graph = graph(&[
            ("a.rs", "use crate::b::X;"),
            ("b.rs", "use crate::c::X;"),
            ("c.rs", "use crate::a::X; use crate::e::X;"),
            ("d.rs", "use crate::a::X;"),
            ("e.rs", ""),
        ]);
        assert_eq!(graph.circles(), [["a", "b", "c"]]);
    }
}
