//! The paths in a Rust file: in `use` declarations, in code, and in the arguments of macros.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::source::is_for_tests;

/// A path by its names: `crate`, `oidc`, `Login`.
pub type Path = Vec<String>;

/// The paths in a file.
#[derive(Default)]
pub struct Paths {
    /// The paths of its `use` declarations, each with the name that it introduces.
    pub uses: Vec<(Path, String)>,
    /// All other paths.
    pub others: Vec<Path>,
    /// Whether items that are compiled only for tests count.
    with_tests: bool,
}

impl Paths {
    /// All paths in a file.
    pub fn all(file: &syn::File) -> Self {
        Self { with_tests: true, ..Self::default() }.of(file)
    }

    /// The paths in a file, except for those in its tests.
    pub fn without_tests(file: &syn::File) -> Self {
        Self::default().of(file)
    }

    fn of(mut self, file: &syn::File) -> Self {
        self.visit_file(file);
        self
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs[..],
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            _ => &[],
        };
        if self.with_tests || !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    /// `pub(in crate::config)` says who may import, and imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if self.with_tests || !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.uses.extend(leaves(&item.tree, &[]));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.others.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.others.extend(in_tokens(call.tokens.clone()));
        visit::visit_macro(self, call);
    }
}

/// The paths of a `use` declaration, each with the name that it introduces.
fn leaves(tree: &syn::UseTree, before: &[String]) -> Vec<(Path, String)> {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    let last = || before.last().cloned().unwrap_or_default();
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident)),
        syn::UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
        syn::UseTree::Name(name) if name.ident == "self" => vec![(before.to_vec(), last())],
        syn::UseTree::Name(name) => vec![(with(&name.ident), name.ident.to_string())],
        syn::UseTree::Rename(rename) if rename.ident == "self" => {
            vec![(before.to_vec(), rename.rename.to_string())]
        }
        syn::UseTree::Rename(rename) => vec![(with(&rename.ident), rename.rename.to_string())],
        syn::UseTree::Glob(_) => vec![(before.to_vec(), last())],
    }
}

/// The paths `first::…` in tokens, such as the arguments of a macro.
fn in_tokens(tokens: TokenStream) -> Vec<Path> {
    let mut found = Vec::new();
    let mut path: Path = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
            TokenTree::Ident(identifier) => {
                if colons != 2 {
                    found.push(std::mem::take(&mut path));
                }
                path.push(identifier.to_string());
                colons = 0;
            }
            other => {
                found.push(std::mem::take(&mut path));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    found.extend(in_tokens(group.stream()));
                }
            }
        }
    }
    found.push(path);
    found.retain(|path| path.len() > 1);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_the_arguments_of_macros() {
        let tokens = "a, crate::b::c(super::d), x: y, [e::f { g::h }] i".parse().unwrap();
        let found: Vec<_> = in_tokens(tokens).into_iter().map(|path| path.join("::")).collect();
        assert_eq!(found, ["crate::b::c", "super::d", "e::f", "g::h"]);
    }
}
