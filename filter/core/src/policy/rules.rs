//! The list of rules: first the operator's, then the preset's. The first match decides.

use crate::config::{self, Access, PathMatch, Preset, Rule, RuleName};
use crate::http::request::Request;
use crate::methods::Method;
use crate::policy::mlflow;

#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Rule>);

/// The policy's answer for one reading of a path.
pub(super) struct Answer<'a> {
    pub(super) access: &'a Access,
    /// The rule that decided. `None` if no rule matches.
    pub(super) rule: Option<&'a RuleName>,
}

impl Rules {
    pub(super) fn new(config: &config::Policy) -> Self {
        // The gate's own endpoints are answered before policy is evaluated. All other paths below them do not exist.
        let mut rules = vec![Rule {
            name: RuleName::Own("reserved".to_owned()),
            path: PathMatch::Prefix("/oauth2".to_owned()),
            methods: Vec::new(),
            access: Access::NotFound,
        }];
        rules.extend(config.rules.iter().cloned());
        match config.preset {
            Some(Preset::Mlflow) => rules.extend(mlflow::rules()),
            // Without a preset, the configured groups may access all paths that no rule matches.
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

    /// The answer for each reading of the path. If no rule matches, it is a refusal.
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

fn applies(rule: &Rule, method: Method, path: &str) -> bool {
    // GET includes HEAD.
    let applies = |wanted: &Method| *wanted == method || (*wanted == Method::Get && method == Method::Head);
    let method_applies = rule.methods.is_empty() || rule.methods.iter().any(applies);
    method_applies && path_applies(&rule.path, path)
}

fn path_applies(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        // The expression is compiled with anchors at both ends.
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}
