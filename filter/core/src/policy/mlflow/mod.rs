//! The preset `mlflow`: who may use which route of MLflow 3. `routes.txt` has the classes of the routes. MLflow itself
//! decides about single experiments, runs and models; the preset is the coarse layer in front of it.

use std::collections::BTreeMap;

use crate::config::{Access, RuleName};
use crate::methods::Method;

/// The header in which a client authenticates to MLflow where `Authorization` is for a model provider. MLflow never
/// passes it on.
pub(super) const CREDENTIAL: &str = "x-mlflow-authorization";

/// The header with the workspace that a client wants to work in.
pub(super) const WORKSPACE: &str = "x-mlflow-workspace";

/// Below this path, MLflow passes the headers of a request on to a model provider.
const GATEWAY: &str = "gateway";

const ROUTES: &str = include_str!("routes.txt");

/// Who reads the headers of a forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Audience {
    /// The application.
    Application,
    /// Also a model provider, to which MLflow passes all headers on, except for `X-MLflow-Authorization`.
    ModelProvider,
    /// One or the other: readings of the path differ. Nobody is told who the user is.
    Unclear,
}

/// The compiled preset.
#[derive(Clone, Debug)]
pub struct Routes {
    /// `--static-prefix` of the server, without a slash at the end. Empty if it has none.
    prefix: String,
    exact: BTreeMap<Path<'static>, Vec<Line>>,
    patterns: Vec<(Path<'static>, Line)>,
    classes: BTreeMap<Class, (Access, RuleName)>,
}

/// A path, and whether `/api` or `/ajax-api` was removed from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path<'p> {
    in_api: bool,
    rest: &'p str,
}

/// A line of `routes.txt` without its path.
#[derive(Clone, Copy, Debug)]
struct Line {
    class: Class,
    /// Separated by commas, or `*`.
    methods: &'static str,
}

/// The classes, the least strict first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Public,
    Read,
    Write,
    Delete,
    Invoke,
    Admin,
    /// A route that is not in the list.
    Unknown,
    Nobody,
    Hidden,
}

impl Class {
    const ALL: [Self; 9] = [
        Self::Public,
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Invoke,
        Self::Admin,
        Self::Unknown,
        Self::Nobody,
        Self::Hidden,
    ];

    /// The name in `routes.txt`, in the log and in the metric's reason.
    const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Invoke => "invoke",
            Self::Admin => "admin",
            Self::Unknown => "unknown",
            Self::Nobody => "nobody",
            Self::Hidden => "hidden",
        }
    }

    const fn access(self) -> Access {
        match self {
            Self::Public => Access::Public,
            Self::Read => Access::Viewers,
            Self::Write | Self::Delete | Self::Invoke => Access::Users,
            Self::Admin | Self::Unknown => Access::Admins,
            Self::Nobody => Access::Deny,
            Self::Hidden => Access::NotFound,
        }
    }
}

impl Routes {
    /// For a server with this `--static-prefix`, which is empty if it has none.
    pub fn new(static_prefix: &str) -> Self {
        let mut exact: BTreeMap<Path<'static>, Vec<Line>> = BTreeMap::new();
        let mut patterns = Vec::new();
        for (path, line) in lines() {
            if path.rest.contains('*') {
                patterns.push((path, line));
            } else {
                exact.entry(path).or_default().push(line);
            }
        }
        let rule =
            |class: Class| (class, (class.access(), RuleName::Own(format!("mlflow.{}", class.name()))));
        Self {
            prefix: static_prefix.trim_end_matches('/').to_owned(),
            exact,
            patterns,
            classes: Class::ALL.into_iter().map(rule).collect(),
        }
    }

    /// Who may send a request with this method to this path, and the name of the rule. `None` never happens: each class
    /// has a rule.
    pub(super) fn rule(&self, method: Method, path: &str) -> Option<(&Access, &RuleName)> {
        self.classes.get(&self.class(method, path)).map(|(access, name)| (access, name))
    }

    /// Who reads the headers of a request to this path.
    pub(super) fn audience(&self, path: &str) -> Audience {
        let path = self.path(path);
        let mut segments = path.rest.split('/');
        if path.in_api {
            Audience::Application
        } else if segments.next() == Some(GATEWAY) {
            Audience::ModelProvider
        } else if segments.any(|segment| segment == GATEWAY) {
            // Of a server with a `--static-prefix` that the gate does not know.
            Audience::Unclear
        } else {
            Audience::Application
        }
    }

    fn path<'p>(&self, path: &'p str) -> Path<'p> {
        match path.strip_prefix(self.prefix.as_str()) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Path::new(rest),
            _ => Path::new(path),
        }
    }

    fn class(&self, method: Method, path: &str) -> Class {
        let path = self.path(path);
        let exact = self.exact.get(&path).into_iter().flatten();
        let patterns =
            self.patterns.iter().filter(|(pattern, _)| pattern.matches(path)).map(|(_, line)| line);
        let matching = exact.chain(patterns).filter(|line| line.has(method));
        matching.map(|line| line.class).max().unwrap_or(Class::Unknown)
    }
}

impl Line {
    fn has(self, method: Method) -> bool {
        let wanted = if method == Method::Head { Method::Get } else { method };
        self.methods == "*" || self.methods.split(',').any(|listed| listed == wanted.label())
    }
}

impl<'p> Path<'p> {
    fn new(path: &'p str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        for api in ["/api/", "/ajax-api/"] {
            if let Some(rest) = path.strip_prefix(api) {
                return Self { in_api: true, rest };
            }
        }
        Self { in_api: false, rest: path.strip_prefix('/').unwrap_or(path) }
    }

    fn matches(self, path: Path<'_>) -> bool {
        self.in_api == path.in_api && segments_match(self.rest, path.rest)
    }
}

/// Whether a pattern matches a path. `**` stands only at the end of a pattern.
fn segments_match(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return segments.next().is_some_and(|segment| !segment.is_empty());
        }
        let Some(segment) = segments.next() else { return false };
        let matches = match wanted.split_once('*') {
            None => wanted == segment,
            Some((before, after)) => segment
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|rest| !rest.is_empty()),
        };
        if !matches {
            return false;
        }
    }
    segments.next().is_none()
}

/// The lines of `routes.txt`. A line that is not one is left out; a test refuses it.
fn lines() -> impl Iterator<Item = (Path<'static>, Line)> {
    ROUTES.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (class, methods, path) = (words.next()?, words.next()?, words.next()?);
        let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
        let path = match path.strip_prefix("/{api}/") {
            Some(rest) => Path { in_api: true, rest },
            None => Path::new(path),
        };
        Some((path, Line { class, methods }))
    })
}

#[cfg(test)]
mod tests;
