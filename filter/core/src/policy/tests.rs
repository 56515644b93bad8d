//! The whole policy: who gets a permit for which request.

use super::*;
use crate::assertion::{Memo, Signer};
use crate::config::{PathMatch, Preset, PublicUrl, Rule, RuleName};
use crate::http::cookies::GateCookies;
use crate::http::request::tests::request;
use crate::methods::Method;
use crate::principal::{Kind, Principal};
use crate::reserved::Reserved;
use crate::secret::Secret;
use crate::testing::test;
use crate::time::Timestamp;

fn policy(config: config::Policy) -> Policy {
    policy_with(config, assertion())
}

fn policy_with(config: config::Policy, assertion: Option<identity::AssertionHeader>) -> Policy {
    let url = PublicUrl {
        origin: "http://localhost:5000".into(),
        authority: "localhost:5000".into(),
        secure_cookies: false,
    };
    let reserved = Reserved::new(Vec::new());
    let cookies = GateCookies::new("oidc-gate", &url);
    Policy::new(&config, identity::Headers::new(cookies, url.authority, vec![], reserved, assertion))
}

fn config(preset: Option<Preset>) -> config::Policy {
    config::Policy {
        preset,
        static_prefix: String::new(),
        admins: vec!["mlflow_admins".into()],
        users: vec!["mlflow_users".into()],
        viewers: vec!["mlflow_viewers".into()],
        rules: vec![],
    }
}

fn mlflow() -> Policy {
    policy(config(Some(Preset::Mlflow)))
}

fn with_rules(rules: Vec<(PathMatch, Access)>) -> Policy {
    let rules = rules
        .into_iter()
        .map(|(path, access)| Rule { name: RuleName::Own("test".into()), path, methods: vec![], access })
        .collect();
    let none = Vec::new;
    policy(config::Policy { admins: none(), users: none(), viewers: none(), rules, ..config(None) })
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

fn assertion() -> Option<identity::AssertionHeader> {
    let signer = Signer::new(&config::Assertion {
        keys: vec1::vec1![Secret::new("an assertion key of the unit tests, 44 bytes")],
        audience: "mlflow".into(),
        issuer: "oidc-gate".into(),
        header: "x-mlflow-authorization".into(),
    });
    Some(identity::AssertionHeader { name: "x-mlflow-authorization".into(), signer: signer? })
}

fn permit(policy: &Policy, request: &Request, principal: &Principal) -> Result<Permit, Rejection> {
    policy.permit(request, User { principal, memo: &Memo::default(), now: Timestamp::from_secs(1_000) })
}

fn allowed(policy: &Policy, method: &str, target: &str, groups: &[&str]) -> bool {
    permit(policy, &request(method, target, &[]).unwrap(), &member(groups)).is_ok()
}

/// The value that the permit sets for a header.
fn set(permit: &Permit, wanted: &str) -> Option<String> {
    permit.changes().iter().find_map(|change| match change {
        HeaderChange::Set(name, value) if name == wanted => Some(String::from_utf8(value.clone()).unwrap()),
        _ => None,
    })
}

/// Whether the permit removes a header of the client.
fn removes(permit: &Permit, name: &str) -> bool {
    permit.changes().contains(&HeaderChange::Remove(name.to_owned()))
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
    let error = permit(&mlflow(), &request("POST", "/v1/traces", &[]).unwrap(), &member(&[])).unwrap_err();
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
            permit(&policy, &request("GET", target, &[]).unwrap(), &member(&["/mlflow_admins"])).unwrap_err();
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
            ("x-mlflow-authorization", "Bearer forged"),
        ],
    )
    .unwrap();
    let permit = permit(&mlflow(), &request, &member(&["/mlflow_users"])).unwrap();
    for name in ["x-forwarded-user", "x_forwarded_groups", "authorization", "x-mlflow-authorization"] {
        assert!(removes(&permit, name), "{name}");
    }
    assert!(removes(&permit, "x-forwarded-email"), "HD09: an absent claim leaves no header of the client's");
    for (name, value) in
        [("x-forwarded-user", "s-1"), ("x-forwarded-groups", "/mlflow_users"), ("cookie", "a=1")]
    {
        assert_eq!(set(&permit, name).as_deref(), Some(value));
    }
    assert!(set(&permit, "x-mlflow-authorization").unwrap().starts_with("Bearer eyJ"));
}

#[test]
fn viewers_read_and_nothing_else() {
    let viewer = &["/mlflow_viewers"];
    for (preset, reads, writes) in [
        (
            Some(Preset::Mlflow),
            ("POST", "/api/2.0/mlflow/runs/search"),
            ("POST", "/api/2.0/mlflow/runs/create"),
        ),
        (Some(Preset::Mlflow), ("GET", "/"), ("GET", "/metrics")),
        (Some(Preset::Mlflow), ("HEAD", "/api/2.0/mlflow/runs/get"), ("GET", "/unknown")),
        (None, ("GET", "/any"), ("POST", "/any")),
        (None, ("HEAD", "/any"), ("DELETE", "/any")),
    ] {
        let policy = policy(config(preset));
        assert!(allowed(&policy, reads.0, reads.1, viewer), "{reads:?}");
        assert!(!allowed(&policy, writes.0, writes.1, viewer), "{writes:?}");
        assert!(allowed(&policy, writes.0, writes.1, &["/mlflow_admins"]), "{writes:?}");
    }
    let upgrade = request("GET", "/any", &[("connection", "upgrade"), ("upgrade", "websocket")]).unwrap();
    assert!(permit(&policy(config(None)), &upgrade, &member(viewer)).is_err(), "an upgrade can write");
    assert!(permit(&policy(config(None)), &upgrade, &member(&["/mlflow_users"])).is_ok());
}

#[test]
fn a_rule_for_viewers_decides_whatever_the_request_asks_for() {
    let rule = |path: &str, methods: &[Method], access| Rule {
        name: RuleName::Own("test".into()),
        path: PathMatch::Prefix(path.into()),
        methods: methods.to_vec(),
        access,
    };
    let policy = policy(config::Policy {
        rules: vec![
            rule("/reports", &[Method::Get], Access::Viewers),
            rule("/search", &[Method::Post], Access::Viewers),
            rule("/", &[], Access::SignedIn),
        ],
        ..config(None)
    });
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (method, target, headers) in
        [("GET", "/reports/q1", &[][..]), ("GET", "/reports/q1", &upgrade), ("POST", "/search", &[])]
    {
        let ask = |groups: &[&str]| {
            permit(&policy, &request(method, target, headers).unwrap(), &member(groups)).is_ok()
        };
        assert!(ask(&["/mlflow_viewers"]) && !ask(&["/other"]), "{method} {target} {headers:?}");
    }
    assert!(allowed(&policy, "POST", "/reports/q1", &["/other"]), "no rule for viewers has this method");
}

#[test]
fn a_model_provider_is_told_nothing_about_the_user() {
    let policy = mlflow();
    let target = "/gateway/openai/v1/chat/completions";
    let headers = [
        ("authorization", "Bearer key-of-the-provider"),
        ("cookie", "a=1; oidc-gate=t"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-envoy-external-address", "10.0.0.1"),
    ];
    let with_credential = [&headers[..], &[("x-mlflow-authorization", "Bearer t")]].concat();
    for (headers, keeps) in [(&headers[..], false), (&with_credential, true)] {
        let request = request("POST", target, headers).unwrap();
        let permit = permit(&policy, &request, &member(&["/mlflow_users"])).unwrap();
        for name in ["cookie", "x-forwarded-user", "x-forwarded-for", "x-envoy-external-address"] {
            assert!(removes(&permit, name), "{name}");
        }
        assert!(!removes(&permit, "x-forwarded-proto"), "Envoy finds no route without it");
        let sets: Vec<_> =
            permit.changes().iter().filter(|change| matches!(change, HeaderChange::Set(..))).collect();
        assert_eq!(format!("{sets:?}"), "[Set(x-mlflow-authorization)]");
        assert_eq!(removes(&permit, "authorization"), !keeps);
        assert_eq!(policy.credential_header(&request) == "authorization", !keeps);
    }
}

#[test]
fn a_user_chooses_the_workspace_only_of_an_mlflow_that_knows_the_user() {
    let ask = |policy: &Policy, target: &str, headers: &[(&str, &str)]| {
        let request = request("GET", target, headers).unwrap();
        removes(&permit(policy, &request, &member(&["/mlflow_users"])).unwrap(), "x-mlflow-workspace")
    };
    let one = [("x-mlflow-workspace", "a")];
    let two = [("x-mlflow-workspace", "a"), ("x-mlflow-workspace", "b")];
    let without = policy_with(config(Some(Preset::Mlflow)), None);
    assert!(!ask(&mlflow(), "/", &one));
    assert!(ask(&mlflow(), "/", &two), "MLflow could check one and use the other");
    assert!(ask(&without, "/", &one), "MLflow does not know the user");
    let request = request("GET", "/health", &one).unwrap();
    assert!(removes(&mlflow().public(&request).unwrap(), "x-mlflow-workspace"), "nobody is known");
    let other_spelling = [("x_mlflow_workspace", "a")];
    let request = crate::http::request::tests::request("GET", "/", &other_spelling).unwrap();
    let permit = permit(&mlflow(), &request, &member(&["/mlflow_users"])).unwrap();
    assert!(removes(&permit, "x_mlflow_workspace"));
}

#[test]
fn where_readings_of_a_path_differ_nobody_is_told_and_no_credential_is_left() {
    let policy = mlflow();
    for target in ["/gateway/..;/x", "/x%2F..%2Fgateway/y", "/gateway%2Fproxy/a/b", "/gateway;/proxy/a/b"] {
        let headers =
            [("authorization", "Bearer k"), ("x-mlflow-authorization", "Bearer t"), ("cookie", "a=1")];
        let Ok(request) = request("POST", target, &headers) else { continue };
        let Ok(permit) = permit(&policy, &request, &member(&["/mlflow_admins"])) else { continue };
        let unclear = policy.audience(&request) == Audience::Unclear;
        assert!(!unclear || removes(&permit, "authorization") && removes(&permit, "cookie"), "{target}");
        assert!(!unclear || set(&permit, "x-forwarded-user").is_none(), "{target}");
        assert!(removes(&permit, "x-mlflow-authorization"), "{target}");
    }
    let elsewhere = [("authorization", "Bearer k"), ("x-mlflow-authorization", "Bearer t")];
    let request = request("GET", "/", &elsewhere).unwrap();
    assert_eq!(policy.credential_header(&request), "authorization");
    assert!(removes(&permit(&policy, &request, &member(&["/mlflow_users"])).unwrap(), "authorization"));
}

#[test]
fn bt18_a_client_does_not_pass_for_a_person() {
    let client = Principal {
        kind: Kind::Client,
        email: Some("mona@example.com".into()),
        ..member(&["/mlflow_users"])
    };
    let permit = permit(&mlflow(), &request("GET", "/", &[]).unwrap(), &client).unwrap();
    assert_eq!(set(&permit, "x-forwarded-preferred-username").or(set(&permit, "x-forwarded-email")), None);
}
