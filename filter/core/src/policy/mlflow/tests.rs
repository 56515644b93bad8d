//! The preset for MLflow: every route that MLflow 3.17 has, and what is not in the list.

use super::*;
use crate::testing::test;

fn class(method: &str, path: &str) -> Class {
    Routes::new("").class(Method::parse(method.as_bytes()).unwrap(), path)
}

#[test]
fn every_line_of_the_list_is_read() {
    let written = ROUTES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in written.clone() {
        let words: Vec<&str> = line.split(' ').collect();
        let [class, methods, path] = words[..] else { panic!("{line}") };
        assert!(Class::ALL.iter().any(|known| known.name() == class && *known != Class::Unknown), "{line}");
        let known = |method: &str| Method::parse(method.as_bytes()).is_some();
        assert!(methods == "*" || methods.split(',').all(known), "{line}");
        assert!(path.starts_with('/') && !path.contains("//"), "{line}");
        assert!(!path.trim_end_matches("/**").contains("**"), "`**` stands at the end only: {line}");
    }
    assert_eq!(written.count(), lines().count());
    assert!(lines().count() > 250);
}

#[test]
fn a_route_has_the_class_of_its_line_under_both_apis() {
    for (method, path, wanted) in [
        ("GET", "/", Class::Read),
        ("GET", "/health", Class::Public),
        ("HEAD", "/version", Class::Public),
        ("GET", "/static-files/static/js/main.js", Class::Read),
        ("POST", "/graphql", Class::Read),
        ("POST", "/api/2.0/mlflow/runs/search", Class::Read),
        ("POST", "/ajax-api/2.0/mlflow/runs/search", Class::Read),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model/MLmodel", Class::Read),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model/MLmodel", Class::Write),
        ("POST", "/api/2.0/mlflow/runs/create", Class::Write),
        ("POST", "/api/2.0/mlflow/runs/delete", Class::Delete),
        ("DELETE", "/api/3.0/mlflow/mcp-servers/a/b/versions/1/tags/x/y", Class::Delete),
        ("POST", "/api/3.0/mlflow/mcp-servers/a/b/versions", Class::Write),
        ("POST", "/gateway/proxy/chat/v1/anything/else", Class::Invoke),
        ("POST", "/gateway/gemini/v1beta/models/chat:generateContent", Class::Invoke),
        ("POST", "/ajax-api/3.0/jobs", Class::Admin),
        ("POST", "/ajax-api/3.0/jobs/", Class::Admin),
        ("POST", "/ajax-api/3.0/jobs/search", Class::Read),
        ("GET", "/api/2.0/mlflow/webhooks/1", Class::Admin),
        ("GET", "/ajax-api/3.0/mlflow/gateway/secrets/config", Class::Admin),
        ("GET", "/ajax-api/3.0/mlflow/workspaces/x", Class::Read),
        ("PATCH", "/ajax-api/3.0/mlflow/workspaces/x", Class::Admin),
        ("GET", "/metrics", Class::Admin),
        ("GET", "/api/2.0/mlflow/users/current", Class::Read),
        ("POST", "/api/2.0/mlflow/users/create", Class::Nobody),
        ("PATCH", "/ajax-api/2.0/mlflow/users/update-password", Class::Nobody),
        ("GET", "/signup", Class::Nobody),
        ("POST", "/ajax-api/3.0/mlflow/assistant/sessions/1/tool-result", Class::Nobody),
        ("GET", "/ajax-api/9.0/mlflow/assistant/whatever/comes", Class::Nobody),
        ("GET", "/api/3.0/mlflow/server-info", Class::Hidden),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/x", Class::Hidden),
        ("GET", "/ajax-api/2.0/mlflow-artifacts/presigned/x/y", Class::Hidden),
    ] {
        assert_eq!(class(method, path), wanted, "{method} {path}");
    }
}

#[test]
fn what_is_not_in_the_list_is_for_admins() {
    for (method, path) in [
        ("GET", "/api/4.0/mlflow/runs/get"),
        ("GET", "/api/2.0/mlflow/runs"),
        ("GET", "/api/2.0/mlflow/runs/get/x"),
        ("PUT", "/api/2.0/mlflow/runs/create"),
        ("GET", "/api/2.0/mlflow/Runs/get"),
        ("GET", "/gateway"),
        ("GET", "/gateway/openai/v1/chat/completions"),
        ("GET", "/static-files"),
        ("GET", "/static-files/"),
        ("GET", "/{api}/2.0/mlflow/runs/get/"),
        ("OPTIONS", "/api/2.0/mlflow/runs/create"),
        ("GET", "/healthz"),
        ("POST", "/health"),
        ("GET", "/admin"),
    ] {
        assert_eq!(class(method, path), Class::Unknown, "{method} {path}");
    }
}

#[test]
fn a_static_prefix_is_removed_as_whole_segments() {
    let routes = Routes::new("/team/mlflow/");
    assert_eq!(routes.class(Method::Get, "/team/mlflow/ajax-api/2.0/mlflow/experiments/search"), Class::Read);
    assert_eq!(routes.class(Method::Get, "/team/mlflow"), Class::Read);
    assert_eq!(routes.class(Method::Get, "/team/mlflow/health"), Class::Public);
    assert_eq!(routes.class(Method::Get, "/health"), Class::Public, "MLflow does not serve it there");
    assert_eq!(routes.class(Method::Get, "/team/mlflows/health"), Class::Unknown);
    for (path, audience) in [
        ("/team/mlflow/gateway/proxy/x/y", Audience::ModelProvider),
        ("/gateway", Audience::ModelProvider),
        // Perhaps MLflow has another prefix than the gate knows.
        ("/team/gateway/x", Audience::Unclear),
        ("/api/gateway/x", Audience::Application),
        ("/team/mlflow/api/3.0/mlflow/gateway/endpoints/list", Audience::Application),
    ] {
        assert_eq!(routes.audience(path), audience, "{path}");
    }
}
