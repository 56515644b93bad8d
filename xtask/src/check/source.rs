//! The repository's files, as the checks need them.

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

use crate::workspace::Workspace;

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the root of the repository.
    pub name: String,
    pub text: String,
}

impl Source {
    #[cfg(test)]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }

    /// The extension of the name, or the file name if it has none: `rs`, `Dockerfile`.
    pub fn kind(&self) -> &str {
        let file = self.name.rsplit('/').next().unwrap_or(&self.name);
        file.rsplit('.').next().unwrap_or(file)
    }

    pub fn is_rust(&self) -> bool {
        self.kind() == "rs"
    }

    /// The tokens of a Rust file, without its comments.
    pub fn tokens(&self) -> Result<TokenStream> {
        // This parser's error is not `Sync`.
        self.text.parse().map_err(|error| anyhow::anyhow!("{}: {error}", self.name))
    }

    pub fn parsed(&self) -> Result<syn::File> {
        syn::parse_file(&self.text).with_context(|| format!("cannot parse {}", self.name))
    }
}

/// All text files that are tracked by git or not ignored.
pub fn all(workspace: &Workspace) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in workspace.files()? {
        let content = std::fs::read(workspace.root().join(&name)).with_context(|| name.clone())?;
        // All other files are images.
        if let Ok(text) = String::from_utf8(content) {
            sources.push(Source { name, text });
        }
    }
    Ok(sources)
}

pub fn text<'a>(sources: &'a [Source], name: &str) -> Result<&'a str> {
    let source = sources.iter().find(|source| source.name == name);
    Ok(&source.with_context(|| format!("{name} is missing"))?.text)
}

/// The lines of the first fenced block that opens with this text and comes after this heading.
pub fn block<'a>(document: &'a str, heading: &str, fence: &str) -> Result<Vec<&'a str>> {
    let mut lines = document.lines().skip_while(|line| *line != heading).skip_while(|line| *line != fence);
    lines.next().with_context(|| format!("there is no block {fence} under {heading}"))?;
    Ok(lines.take_while(|line| *line != "```").collect())
}

/// Whether an item is compiled only for tests: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        is_test(attribute)
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| {
                    let condition = list.tokens.to_string();
                    condition == "test"
                        || condition.starts_with("all (test")
                        || condition.starts_with("all(test")
                })
    })
}

fn is_test(attribute: &syn::Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

/// The names of the test functions of a Rust file.
pub fn test_names(source: &Source) -> Result<Vec<String>> {
    struct Names(Vec<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
            if function.attrs.iter().any(is_test) {
                self.0.push(function.sig.ident.to_string());
            }
        }
    }
    let mut names = Names(Vec::new());
    names.visit_file(&source.parsed()?);
    Ok(names.0)
}

/// Whether an identifier occurs in the tokens.
pub fn has_identifier(tokens: TokenStream, wanted: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(identifier) => identifier == wanted,
        TokenTree::Group(group) => has_identifier(group.stream(), wanted),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_attribute_and_wherever_they_stand() {
        let source = Source::new(
            "a.rs",
            "#[test] fn one() {}\nfn helper() {}\n#[cfg(test)] mod tests { #[tokio::test] async fn two() {} }",
        );
        assert_eq!(test_names(&source).unwrap(), ["one", "two"]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_known() {
        for (attribute, expected) in [
            ("#[test]", true),
            ("#[cfg(test)]", true),
            ("#[cfg(all(test, unix))]", true),
            ("#[cfg(not(test))]", false),
            ("#[cfg(any(test, unix))]", false),
            ("#[cfg(unix)]", false),
            ("#[inline]", false),
        ] {
            let item: syn::ItemFn = syn::parse_str(&format!("{attribute} fn f() {{}}")).unwrap();
            assert_eq!(is_for_tests(&item.attrs), expected, "{attribute}");
        }
    }

    #[test]
    fn a_block_is_found_by_heading_and_fence() {
        let document = "```text\nno\n```\n## Layout\nwords\n```text\nyes\n```\n```text\nlater\n```\n";
        assert_eq!(block(document, "## Layout", "```text").unwrap(), ["yes"]);
        assert!(block(document, "## Other", "```text").is_err());
        assert!(block(document, "## Layout", "```sh").is_err());
    }
}
