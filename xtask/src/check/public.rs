//! A module of the core may be public only if another crate names it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::exceptions::{Exception, applied};
use super::modules::{FOLDER, below, module};
use super::paths::{Path, Paths};
use super::source::{Source, is_for_tests};

/// The name of the core in other crates.
const CRATE: &str = "oidc_gate_core";

/// Public modules that no other crate names. These should be made private.
const PUBLIC: [Exception; 0] = [];

pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    without_user(sources, &PUBLIC)
}

fn without_user(sources: &[Source], exceptions: &[Exception]) -> Result<Vec<String>> {
    let public = public(sources)?;
    let mut used = BTreeSet::new();
    let others = sources.iter().filter(|source| source.is_rust() && !source.name.starts_with(FOLDER));
    for source in others.filter(|source| source.text.contains(CRATE)) {
        for path in into_the_core(Paths::all(&source.parsed()?)) {
            used.extend((1..=path.len()).filter_map(|parts| path.get(..parts)).map(|parts| parts.join("::")));
        }
    }
    let found = public.difference(&used).map(|module| {
        (module.clone(), format!("no other crate names {module}: `mod` or `pub(crate) mod` is enough"))
    });
    Ok(applied(found, exceptions))
}

/// The modules that another crate can name.
fn public(sources: &[Source]) -> Result<BTreeSet<String>> {
    let mut declared = BTreeSet::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(path) = source.name.strip_prefix(FOLDER) else { continue };
        for item in source.parsed()?.items {
            if let syn::Item::Mod(item) = item
                && matches!(item.vis, syn::Visibility::Public(_))
                && !is_for_tests(&item.attrs)
            {
                declared.insert(below(&module(path), &item.ident.to_string()));
            }
        }
    }
    let is_open = |module: &String| {
        module
            .match_indices("::")
            .filter_map(|(at, _)| module.get(..at))
            .all(|parent| declared.contains(parent))
    };
    Ok(declared.iter().filter(|module| is_open(module)).cloned().collect())
}

/// The paths into the core, without its name.
fn into_the_core(Paths { uses, others, .. }: Paths) -> Vec<Path> {
    let mut aliases = BTreeMap::<String, Path>::new();
    let inside = |aliases: &BTreeMap<String, Path>, path: &[String]| {
        let (first, rest) = path.split_first()?;
        if first == CRATE { Some(rest.to_vec()) } else { Some([aliases.get(first)?, rest].concat()) }
    };
    // A name may be used before the declaration that introduces it.
    for (path, name) in uses.iter().chain(&uses) {
        if let Some(path) = inside(&aliases, path) {
            aliases.insert(name.clone(), path);
        }
    }
    let all = uses.iter().map(|(path, _)| path).chain(&others);
    all.filter_map(|path| inside(&aliases, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(user: &str, exceptions: &[Exception]) -> Vec<String> {
        let core = |name: &str, text: &str| Source::new(&format!("{FOLDER}{name}"), text);
        let sources = [
            core("lib.rs", "pub mod a; pub(crate) mod c; mod d; #[cfg(test)] pub mod testing;"),
            core("a/mod.rs", "pub mod b; use crate::a::b;"),
            core("d/mod.rs", "pub mod e;"),
            Source::new("other/src/lib.rs", user),
        ];
        without_user(&sources, exceptions).unwrap()
    }

    #[test]
    fn a_public_module_that_no_other_crate_names_is_found() {
        for (user, expected) in [
            ("", 2),
            ("use oidc_gate_core::a::Thing;", 1),
            ("use oidc_gate_core::a::b::Thing;", 0),
            ("use oidc_gate_core::a; fn f() { a::b::g() }", 0),
            ("fn f() { a::b::g() } use oidc_gate_core::a;", 0),
            ("fn f() { println!(\"{}\", oidc_gate_core::a::b::g()) }", 0),
            ("use other::a::b; // oidc_gate_core::a::b", 2),
        ] {
            assert_eq!(problems(user, &[]).len(), expected, "{user}: {:?}", problems(user, &[]));
        }
        let named = [("a", "to be removed"), ("a::b", "to be removed")];
        assert_eq!(problems("", &named), [""; 0]);
        assert_eq!(problems("use oidc_gate_core::a::Thing;", &named).len(), 1);
    }
}
