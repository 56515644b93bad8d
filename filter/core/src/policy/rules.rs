//! The list of rules: first the operator's, then the preset's. The first match decides.

use crate::config::{self, Access, PathMatch, Preset, Rule, RuleName};
use crate::http::request::Request;
use crate::methods::Method;
use crate::policy::mlflow::Routes;

#[derive(Clone, Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Where no rule matches and there is no preset: the groups that may read, and those that may do everything.
    viewers: Option<Rule>,
    members: Option<Rule>,
    /// The preset `mlflow`, for the paths that no rule matches.
    pub(super) mlflow: Option<Routes>,
}

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
        let mlflow = config.preset.map(|Preset::Mlflow| Routes::new(&config.static_prefix));
        // Without a preset, the configured groups may access all paths that no rule matches.
        let everywhere = |wanted: bool, access| {
            (wanted && mlflow.is_none()).then(|| Rule {
                name: RuleName::Own("members".to_owned()),
                path: PathMatch::Prefix("/".to_owned()),
                methods: Vec::new(),
                access,
            })
        };
        let groups = [&config.users, &config.admins, &config.viewers];
        let viewers = everywhere(!config.viewers.is_empty(), Access::Viewers);
        let members = everywhere(groups.iter().any(|groups| !groups.is_empty()), Access::Users);
        Self { rules, viewers, members, mlflow }
    }

    /// The answer for each reading of the path. If no rule matches, it is a refusal.
    pub(super) fn answers(&self, request: &Request) -> Vec<Answer<'_>> {
        request
            .canonical_path()
            .readings()
            .iter()
            .map(|path| {
                let rule = self.rules.iter().find(|rule| applies(rule, request, path));
                // Over a connection that was upgraded, a client can do more than read.
                let viewers = || self.viewers.as_ref().filter(|_| request.is_safe());
                let rule = rule.or_else(viewers).or(self.members.as_ref());
                let rule = rule.map(|rule| (&rule.access, &rule.name));
                let route = || self.mlflow.as_ref()?.rule(request.method(), path);
                match rule.or_else(route) {
                    Some((access, name)) => Answer { access, rule: Some(name) },
                    None => Answer { access: &Access::Deny, rule: None },
                }
            })
            .collect()
    }
}

fn applies(rule: &Rule, request: &Request, path: &str) -> bool {
    let method = request.method();
    // GET includes HEAD.
    let is_method = |wanted: &Method| *wanted == method || (*wanted == Method::Get && method == Method::Head);
    let method_applies = rule.methods.is_empty() || rule.methods.iter().any(is_method);
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
