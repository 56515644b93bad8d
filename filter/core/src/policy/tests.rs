//! The whole policy: who gets a permit for which request.

use super::*;
use crate::config::{PathMatch, Preset, PublicUrl, Rule, RuleName};
use crate::http::cookies::GateCookies;
use crate::http::request::tests::request;
use crate::principal::Kind;
use crate::reserved::Reserved;
use crate::testing::test;

fn policy(config: config::Policy) -> Policy {
    let url = PublicUrl {
        origin: "http://localhost:5000".into(),
        authority: "localhost:5000".into(),
        secure_cookies: false,
    };
    let reserved = Reserved::new(Vec::new());
    let cookies = GateCookies::new("oidc-gate", &url);
    Policy::new(&config, identity::Headers::new(cookies, url.authority, vec![], reserved))
}

fn mlflow() -> Policy {
    policy(config::Policy {
        preset: Some(Preset::Mlflow),
        admins: vec!["mlflow_admins".into()],
        users: vec!["mlflow_users".into()],
        rules: vec![],
    })
}

fn with_rules(rules: Vec<(PathMatch, Access)>) -> Policy {
    let rules = rules
        .into_iter()
        .map(|(path, access)| Rule { name: RuleName::Own("test".into()), path, methods: vec![], access })
        .collect();
    policy(config::Policy { preset: None, admins: vec![], users: vec![], rules })
}

fn member(groups: &[&str]) -> Principal {
    Principal {
        issuer: "https://idp.example".into(),
        subject: "s-1".into(),
        kind: Kind::Person,
        preferred_username: Some("mona".into()),
        name: None,
        email: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        groups_elsewhere: false,
        sid: None,
    }
}

fn allowed(policy: &Policy, method: &str, target: &str, groups: &[&str]) -> bool {
    policy.permit(&request(method, target, &[]).unwrap(), &member(groups)).is_ok()
}

#[test]
fn members_of_either_group_may_use_mlflow_and_nobody_else() {
    let policy = mlflow();
    for groups in [&["/mlflow_users"][..], &["mlflow_admins"], &["/other", "/mlflow_users"]] {
        assert!(allowed(&policy, "GET", "/", groups), "{groups:?}");
        assert!(allowed(&policy, "POST", "/api/2.0/mlflow/runs/search", groups));
    }
    for groups in
        [&[][..], &["/dept/mlflow_users"], &["/mlflow_users2"], &["/MLFLOW_USERS"], &["/mlflow_users/sub"]]
    {
        assert!(!allowed(&policy, "GET", "/", groups), "{groups:?}");
    }
}

#[test]
fn a_refusal_names_the_groups_that_would_help() {
    let error = mlflow().permit(&request("GET", "/", &[]).unwrap(), &member(&[])).unwrap_err();
    let Rejection::NotAllowed(refused) = error else { panic!("{error:?}") };
    assert_eq!(refused.needed, ["mlflow_users", "mlflow_admins"]);
}

#[test]
fn health_and_version_are_public_and_only_for_reading() {
    let policy = mlflow();
    let public = |method, target| policy.public(&request(method, target, &[]).unwrap()).is_some();
    assert!(public("GET", "/health") && public("HEAD", "/version") && public("GET", "/health?x=/api"));
    for (method, target) in [
        ("POST", "/health"),
        ("GET", "/health/x"),
        ("GET", "/healthz"),
        ("GET", "/health;x"),
        ("GET", "/HEALTH"),
        ("GET", "/"),
        ("GET", "/health%2Fx"),
        ("GET", "/api/health"),
    ] {
        assert!(!public(method, target), "{method} {target}");
    }
}

#[test]
fn presigned_downloads_and_the_assistant_are_closed_in_every_spelling() {
    let policy = mlflow();
    for target in [
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/mlflow/server-info",
        "/api/2.0/mlflow-artifacts/presigned/a/b",
        "/ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/3.0/mlflow/assistant%2Fconfig",
        "//ajax-api/3.0//mlflow/assistant",
        "/ajax-api/3.0/mlflow/%61ssistant/config",
        "/ajax-api/3.0/mlflow;x/assistant",
        "/api/2.0/mlflow/artifacts/presigned-upload-url",
        "/api/2.0/mlflow-artifacts/mpu/create/a",
    ] {
        for method in ["GET", "POST", "PUT"] {
            assert!(!allowed(&policy, method, target, &["/mlflow_admins"]), "{method} {target}");
        }
    }
}

#[test]
fn pm05_without_a_matching_rule_the_answer_is_no() {
    let policy = with_rules(vec![(PathMatch::Prefix("/api".into()), Access::SignedIn)]);
    assert!(allowed(&policy, "GET", "/api", &[]) && allowed(&policy, "GET", "/api/x", &[]));
    assert!(!allowed(&policy, "GET", "/apix", &[]) && !allowed(&policy, "GET", "/", &["a"]));
}

#[test]
fn pm02_query_and_fragment_are_no_part_of_the_match() {
    let policy = with_rules(vec![(
        PathMatch::Regex(regex_lite::Regex::new(r"\A(?:/api/.*/status)\z").unwrap()),
        Access::SignedIn,
    )]);
    assert!(allowed(&policy, "GET", "/api/x/status", &[]));
    assert!(!allowed(&policy, "GET", "/api/secret?path=/status", &[]));
    assert!(!allowed(&policy, "GET", "/api/x/status/more", &[]), "anchored at the end");
    assert!(!allowed(&policy, "GET", "/v1/api/x/status", &[]), "anchored at the start");
}

#[test]
fn pm03_the_strictest_reading_decides() {
    let policy = with_rules(vec![
        (PathMatch::Prefix("/admin".into()), Access::Groups(vec!["admins".into()])),
        (PathMatch::Prefix("/".into()), Access::SignedIn),
    ]);
    for target in ["/admin/users", "/admin;x=y/users", "/admin%2Fusers", "//admin/users", "/%61dmin"] {
        assert!(!allowed(&policy, "GET", target, &["users"]), "{target}");
        assert!(allowed(&policy, "GET", target, &["/admins"]), "{target}");
    }
    assert!(allowed(&policy, "GET", "/administrators", &[]));
}

#[test]
fn cb15_what_lies_under_our_own_prefix_is_never_forwarded() {
    let policy = mlflow();
    for target in
        ["/oauth2/callback/", "/oauth2/callback;x=y", "/oauth2/callback%2f", "//oauth2/callback", "/oauth2"]
    {
        let error =
            policy.permit(&request("GET", target, &[]).unwrap(), &member(&["/mlflow_admins"])).unwrap_err();
        assert!(matches!(error, Rejection::NotFound(_)), "{target}");
    }
}

#[test]
fn a_permit_replaces_what_the_client_claims_to_be() {
    let request = request(
        "GET",
        "/",
        &[
            ("x-forwarded-user", "root"),
            ("x_forwarded_groups", "/mlflow_admins"),
            ("authorization", "Bearer x"),
            ("cookie", "a=1; oidc-gate=t"),
            ("x-forwarded-email", "root@example.com"),
        ],
    )
    .unwrap();
    let permit = mlflow().permit(&request, &member(&["/mlflow_users"])).unwrap();
    let removed = |name: &str| permit.changes().contains(&HeaderChange::Remove(name.to_owned()));
    assert!(removed("x-forwarded-user") && removed("x_forwarded_groups") && removed("authorization"));
    assert!(removed("x-forwarded-email"), "HD09: a claim that is absent leaves no header of the client's");
    let set =
        |name, value: &str| permit.changes().contains(&HeaderChange::Set(name, value.as_bytes().to_vec()));
    assert!(
        set("x-forwarded-user", "s-1") && set("x-forwarded-groups", "/mlflow_users") && set("cookie", "a=1")
    );
}

#[test]
fn bt18_a_client_does_not_pass_for_a_person() {
    let client = Principal {
        kind: Kind::Client,
        email: Some("mona@example.com".into()),
        ..member(&["/mlflow_users"])
    };
    let permit = mlflow().permit(&request("GET", "/", &[]).unwrap(), &client).unwrap();
    assert!(!permit.changes().iter().any(|change| matches!(
        change,
        HeaderChange::Set("x-forwarded-preferred-username" | "x-forwarded-email", _)
    )));
}
