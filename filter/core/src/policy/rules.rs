//! The rule list: the operator's rules, then the preset's; the first match decides.

use crate::config::{self, Access, PathMatch, Preset, Rule, RuleName};
use crate::http::request::Request;
use crate::policy::mlflow;

#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Rule>);

/// What is said of one reading of a path.
pub(super) struct Answer<'a> {
    pub(super) access: &'a Access,
    /// By which rule; `None` when none matches.
    pub(super) rule: Option<&'a RuleName>,
}

impl Rules {
    pub(super) fn new(config: &config::Policy) -> Self {
        // Our own endpoints are answered before policy is asked; what else lies below them is nobody's.
        let mut rules = vec![Rule {
            name: RuleName::Own("reserved".to_owned()),
            path: PathMatch::Prefix("/oauth2".to_owned()),
            methods: Vec::new(),
            access: Access::NotFound,
        }];
        rules.extend(config.rules.iter().cloned());
        match config.preset {
            Some(Preset::Mlflow) => rules.extend(mlflow::rules()),
            // Without a preset, groups that are named may use everything that no rule is about.
            None if !config.users.is_empty() || !config.admins.is_empty() => rules.push(Rule {
                name: RuleName::Own("members".to_owned()),
                path: PathMatch::Prefix("/".to_owned()),
                methods: Vec::new(),
                access: Access::Users,
            }),
            None => {}
        }
        Self(rules)
    }

    /// What the rules say of each reading of the path; refusal where no rule matches.
    pub(super) fn answers(&self, request: &Request) -> Vec<Answer<'_>> {
        request
            .canonical_path()
            .readings()
            .iter()
            .map(|path| {
                self.0.iter().find(|rule| applies(rule, request.method(), path)).map_or(
                    Answer { access: &Access::Deny, rule: None },
                    |rule| Answer { access: &rule.access, rule: Some(&rule.name) },
                )
            })
            .collect()
    }
}

fn applies(rule: &Rule, method: &str, path: &str) -> bool {
    let method_applies = rule.methods.is_empty()
        || rule.methods.iter().any(|wanted| wanted == method || (wanted == "GET" && method == "HEAD"));
    method_applies && path_applies(&rule.path, path)
}

fn path_applies(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        // Compiled with anchors at both ends.
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}
