//! Modules of the core import only in the order of ARCHITECTURE.md, and never in circles.

use std::collections::BTreeSet;

use anyhow::Result;

use super::exceptions::{Exception, applied};
use super::modules::Graph;
use super::source::{self, Source};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Circles that are tolerated: none. A new one is removed, not listed.
const CIRCLES: [Exception; 0] = [];

/// Imports that break the order.
pub fn directions(sources: &[Source], graph: &Graph) -> Result<Vec<String>> {
    let lines = source::block(source::text(sources, DOCUMENT)?, "### Imports", "```text imports")?;
    Ok(against(&lines, graph))
}

/// Circles of modules.
pub fn circles(graph: &Graph) -> Vec<String> {
    in_circles(graph, &CIRCLES)
}

fn against(lines: &[&str], graph: &Graph) -> Vec<String> {
    let layers: Vec<Vec<&str>> = lines.iter().map(|line| line.split(", ").collect()).collect();
    let layer = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut problems = Vec::new();
    let modules: BTreeSet<_> =
        graph.imports.keys().map(|module| top(module)).filter(|module| !module.is_empty()).collect();
    for module in modules.iter().filter(|module| layer(module).is_none()) {
        problems.push(format!("{DOCUMENT}: the order of imports lacks {module}"));
    }
    for module in layers.iter().flatten().filter(|module| !modules.contains(**module)) {
        problems.push(format!("{DOCUMENT}: the order of imports names {module}, which does not exist"));
    }
    for (module, imported) in
        graph.imports.iter().flat_map(|(module, all)| all.iter().map(move |other| (module, other)))
    {
        let (from, to) = (top(module), top(imported));
        if from != to
            && let (Some(above), Some(below)) = (layer(from), layer(to))
            && above >= below
        {
            problems.push(format!("{module} imports from {imported}, against the order of {DOCUMENT}"));
        }
    }
    problems
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn in_circles(graph: &Graph, exceptions: &[Exception]) -> Vec<String> {
    let found = graph.circles().into_iter().map(|circle| {
        let circle = circle.join(" ");
        (circle.clone(), format!("these modules import each other: {circle}"))
    });
    applied(found, exceptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        let sources: Vec<_> = files.iter().map(|(name, text)| Source::new(name, text)).collect();
        Graph::read(&sources, "").unwrap()
    }

    #[test]
    fn an_import_against_the_order_is_found() {
        let lines = ["gate", "oidc, policy", "host"];
        let with = |oidc: &str, host: &str| {
            let files = [
                ("gate.rs", "use crate::oidc::X; use crate::host::X;"),
                ("oidc/mod.rs", "mod login;"),
                ("oidc/login.rs", oidc),
                ("policy.rs", "use crate::host::X;"),
                ("host.rs", host),
            ];
            against(&lines, &graph(&files))
        };
        assert_eq!(with("use super::X; use crate::host::X;", ""), [""; 0]);
        for (oidc, host, expected) in [
            ("use crate::gate::X;", "", "oidc::login imports from gate"),
            ("fn f() { crate::policy::f() }", "", "oidc::login imports from policy"),
            ("", "use crate::oidc::login::X;", "host imports from oidc::login"),
        ] {
            let found = with(oidc, host);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn the_order_names_all_modules_and_no_others() {
        let graph = graph(&[("gate.rs", ""), ("host.rs", "")]);
        assert_eq!(against(&["gate", "host"], &graph), [""; 0]);
        assert_eq!(against(&["gate"], &graph), ["ARCHITECTURE.md: the order of imports lacks host"]);
        assert_eq!(against(&["gate", "host", "oidc"], &graph).len(), 1);
    }

    #[test]
    fn a_circle_is_found_and_one_that_is_gone_or_has_changed_too() {
        let graph = graph(&[("a.rs", "use crate::b::X;"), ("b.rs", "use crate::a::X;")]);
        assert_eq!(in_circles(&graph, &[]), ["these modules import each other: a b"]);
        assert_eq!(in_circles(&graph, &[("a b", "why")]), [""; 0]);
        assert_eq!(in_circles(&graph, &[("a b", "why"), ("c d", "why")]).len(), 1);
        assert_eq!(in_circles(&graph, &[("a b c", "why")]).len(), 2);
    }
}
