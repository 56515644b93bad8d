//! Which headers the application receives, and which not.

use std::net::IpAddr;
use std::time::Duration;

use oidc_gate_testkit::browser::{Client, raw};
use oidc_gate_testkit::provider::{Behaviour, Endpoint, Times, User};
use oidc_gate_tests::forge::{claim, without_claim};
use oidc_gate_tests::{BOUND, Gate, assert_allowed, assert_refused};
use serde_json::json;

/// Names that an application could read an identity from.
const FORGED: [&str; 14] = [
    "X-Forwarded-User",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Remote-User",
    "Remote-User",
    "X-Oidc-Gate-Assertion",
    "X-Oidc-Gate-Anything",
    "X.Forwarded.User",
    "x-forwarded.groups",
    "X-WebAuth-User",
];

#[test]
fn hd01_identity_headers_are_what_the_gate_knows_and_nothing_that_the_client_sent() {
    let gate = Gate::start();
    let subject = gate.provider.user("mlflow_user").subject;
    let browser = gate.signed_in("mlflow_user");
    let token = gate.provider.access_token("mlflow_user");
    for (how, request) in [
        ("session", browser.fetching("GET", &gate.url("/x"))),
        ("bearer", gate.with_token("/x", &token)),
        ("session over HTTP/2", browser.fetching("GET", &gate.url("/x")).http2()),
    ] {
        let request = FORGED.iter().fold(request, |request, name| {
            request.header(&name.to_lowercase(), "admin").header(&name.to_lowercase(), "/mlflow_admins")
        });
        let received = assert_allowed(&gate, || request.send());
        assert_eq!(received.header("x-forwarded-user"), Some(subject.as_str()), "{how}");
        assert_eq!(received.header("x-forwarded-preferred-username"), Some("mlflow_user"), "{how}");
        assert_eq!(received.header("x-forwarded-email"), Some("mlflow_user@example.com"), "{how}");
        assert_eq!(received.header("x-forwarded-groups"), Some("/mlflow_users"), "{how}");
        let forged: Vec<_> =
            received.headers.iter().filter(|(_, v)| v == "admin" || v == "/mlflow_admins").collect();
        assert_eq!(forged, Vec::<&(String, String)>::new(), "{how}");
    }
}

/// One header of each family in docs/headers.md, which no client may set, and spellings that CGI-style servers treat as
/// the same.
const IDENTITIES: [&str; 32] = [
    "proxy-authorization",
    "x-webauth-groups",
    "x-webauth-email",
    "remote-groups",
    "remote-email",
    "remote-name",
    "x-remote-groups",
    "x-remote-extra-scopes",
    "x+forwarded+user",
    "x~forwarded~user",
    "x!forwarded!user",
    "x'forwarded'user",
    "x^forwarded-user",
    "x-forwarded`groups",
    "x$forwarded&user",
    "x*forwarded|user",
    "x#forwarded%user",
    "x-forwarded-client-cert",
    "x-forwarded-login",
    "x.request.id",
    "x+forwarded+for",
    "tailscale-user-login",
    "cf-access-authenticated-user-email",
    "x-goog-authenticated-user-email",
    "x-amzn-oidc-identity",
    "x-ms-client-principal-name",
    "x-authentik-username",
    "x-authelia-user",
    "ssl-client-s-dn",
    "x-scope-orgid",
    "kubeflow-userid",
    "$wsru",
];

#[test]
fn f803_no_name_that_an_application_takes_for_an_identity_reaches_it() {
    let (gate, browser) = Gate::with_browser();
    let token = gate.provider.access_token("mlflow_user");
    for (how, request) in [
        ("session", browser.fetching("GET", &gate.url("/x"))),
        ("session over HTTP/2", browser.fetching("GET", &gate.url("/x")).http2()),
        ("bearer", gate.with_token("/x", &token)),
        ("public", Client::new().request("GET", &gate.url("/health"))),
    ] {
        let request = IDENTITIES.iter().fold(request, |request, name| request.header(name, "forged"));
        let received = assert_allowed(&gate, || request.send());
        let forged: Vec<_> = received.headers.iter().filter(|(_, value)| value.contains("forged")).collect();
        assert_eq!(forged, Vec::<&(String, String)>::new(), "{how}");
    }
}

#[test]
fn f803_a_header_that_the_operator_trusts_passes_in_its_own_spelling() {
    let gate = Gate::builder().set("identity", json!({"trusted_headers": ["X-Scope-OrgID"]})).start();
    let received = assert_allowed(&gate, || {
        let request = Client::new().request("GET", &gate.url("/health"));
        request.header("x-scope-orgid", "tenant").header("x.scope.orgid", "forged").send()
    });
    assert_eq!(received.header("x-scope-orgid"), Some("tenant"));
    assert_eq!(received.values("x.scope.orgid"), Vec::<&str>::new());
}

#[test]
fn f1101_a_group_is_one_item_of_the_list_whatever_is_in_its_name() {
    let gate = Gate::start();
    for (group, item) in [
        ("\"mlflow_admins\"", "%22mlflow_admins%22"),
        ("x;mlflow_admins", "x%3Bmlflow_admins"),
        ("x mlflow_admins", "x%20mlflow_admins"),
        ("x,mlflow_admins", "x%2Cmlflow_admins"),
        ("x\\\"mlflow_admins", "x%5C%22mlflow_admins"),
    ] {
        let token = gate
            .provider
            .forged_access_token("mlflow_user", &claim("groups", json!([group, "/mlflow_users"])));
        let received = assert_allowed(&gate, || gate.with_token("/x", &token).send());
        let expected = format!("{item},/mlflow_users");
        assert_eq!(received.header("x-forwarded-groups"), Some(expected.as_str()), "{group}");
    }
}

#[test]
fn f1102_an_address_that_the_provider_has_not_verified_is_not_passed_on() {
    for (setting, absent_counts) in [("optional", true), ("required", false)] {
        let gate = Gate::builder().set("identity", json!({"email_verified": setting})).start();
        for (verified, counts) in [
            (Some(json!(true)), true),
            (Some(json!(false)), false),
            (Some(json!("false")), false),
            (None, absent_counts),
        ] {
            let shown = format!("{setting}: {verified:?}");
            let forgery = match verified {
                Some(verified) => claim("email_verified", verified),
                None => without_claim("email_verified"),
            };
            let token = gate.provider.forged_access_token("mlflow_user", &forgery);
            let received = assert_allowed(&gate, || gate.with_token("/x", &token).send());
            assert_eq!(received.header("x-forwarded-email").is_some(), counts, "{shown}");
        }
    }
}

#[test]
fn f1103_our_cookie_never_reaches_the_application_however_it_is_sent() {
    let (gate, browser) = Gate::with_browser();
    let ticket = gate.session_cookie(&browser).unwrap();
    let ours = format!("{}={ticket}", gate.session_cookie_name());
    let token = gate.provider.access_token("mlflow_user");
    let many = "a=b; ".repeat(5000);
    for (what, sent) in [
        ("behind 5,000 others", format!("{many}{ours}").into_bytes()),
        ("beside a byte that is no text", [b"a=\xff; ", ours.as_bytes()].concat()),
        ("with such a byte in it", [ours.as_bytes(), b"\xff"].concat()),
        ("without a name", format!("={ours}; a=1").into_bytes()),
        ("with blanks", format!("a=1;\t {} = {ticket}", gate.session_cookie_name()).into_bytes()),
    ] {
        for (how, request) in [
            ("bearer", gate.with_token("/x", &token)),
            ("public", Client::new().request("GET", &gate.url("/health"))),
        ] {
            let received = assert_allowed(&gate, || request.header("cookie", &sent).send());
            let shown = received.headers.iter().find(|(_, value)| value.contains(&ticket));
            assert_eq!(shown, None, "{what}, {how}");
        }
    }
}

#[test]
fn f1103_the_application_sets_no_cookie_that_browsers_would_send_as_ours() {
    let (gate, browser) = Gate::with_browser();
    let before = gate.session_cookie(&browser);
    for path in ["/x", "/health"] {
        let query = "?set-header=set-cookie:%3Doidc-gate%3Devil&set-header=set-cookie:%3D%20%3Doidc-gate%3Devil\
                     &set-header=set-cookie:oidc-gate&set-header=set-cookie:%20oidc-gate%20%3Devil\
                     &set-header=set-cookie:theirs%3Doidc-gate%3Dno";
        let response = browser.fetch(&gate.url(&format!("{path}{query}"))).unwrap();
        assert_eq!(response.header_lines("set-cookie"), ["theirs=oidc-gate=no"], "{response}");
    }
    assert_eq!(gate.session_cookie(&browser), before);
}

#[test]
fn f1203_a_segment_that_some_server_could_climb_by_is_refused() {
    let gate = Gate::builder()
        .plugin(|plugin| {
            plugin["policy"]["rules"] =
                json!([{"name": "pub", "path": {"prefix": "/pub"}, "access": "public"}]);
        })
        .start();
    assert_allowed(&gate, || Client::new().request("GET", &gate.url("/pub/..hidden/a%20b")).send());
    for path in [
        "/pub/..%20/admin",
        "/pub/%20../admin",
        "/pub/..%ef%bc%8fadmin",
        "/pub/..%e2%81%84admin",
        "/pub/%ef%bc%8e%ef%bc%8e/admin",
        "/pub/%25252e%25252e/admin",
        "/pub/..%252fadmin",
        "/pub/..%23/admin",
        "/pub/..%e2%80%8b/admin",
        "/pub/.../admin",
        "/pub/%252e%252e%255cadmin",
    ] {
        assert_refused(&gate, 400, || Client::new().request("GET", &gate.url(path)).send());
    }
    // Envoy resolves a plain `..` itself. The application sees the result.
    let received =
        assert_allowed(&gate, || Client::new().request("GET", &gate.url("/pub/%25252e%25252e/..")).send());
    assert_eq!(received.target, "/pub/");
    // A path that becomes another one if the application decodes once more is not public.
    for path in ["/pub%252f..hidden", "/%2570ub/x", "/pub%ef%bc%8fx"] {
        assert_refused(&gate, 401, || Client::new().request("GET", &gate.url(path)).send());
    }
}

#[test]
fn hd03_hop_by_hop_tricks_do_not_take_an_identity_header_away() {
    let (gate, browser) = Gate::with_browser();
    let received = assert_allowed(&gate, || {
        let request = browser.request("GET", &gate.url("/x"));
        request.header("connection", "close, x-forwarded-user, x-forwarded-groups").send()
    });
    assert!(received.header("x-forwarded-user").is_some() && received.header("x-forwarded-groups").is_some());
}

#[test]
fn hd05_claims_that_are_no_header_values_arrive_encoded() {
    let gate = Gate::start();
    for (name, expected) in [
        ("a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1"),
        ("tab\there", "tab%09here"),
        ("nul\0", "nul%00"),
        ("é", "%C3%A9"),
        (" admin ", "%20admin%20"),
        ("100%", "100%25"),
    ] {
        let token = gate.provider.forged_access_token("mlflow_user", &claim("preferred_username", name));
        let received = assert_allowed(&gate, || gate.with_token("/x", &token).send());
        assert_eq!(received.header("x-forwarded-preferred-username"), Some(expected), "{name:?}");
        assert_eq!(received.header("x-admin"), None);
    }
}

#[test]
fn hd09_a_claim_that_is_not_there_leaves_no_header() {
    let gate = Gate::start();
    let token = gate.provider.forged_access_token("mlflow_user", &without_claim("email"));
    let received =
        assert_allowed(&gate, || gate.with_token("/x", &token).header("x-forwarded-email", "a@b.c").send());
    assert_eq!(received.values("x-forwarded-email"), Vec::<&str>::new());
}

#[test]
fn a_person_with_five_hundred_groups_signs_in_and_uses_the_application() {
    let gate = Gate::start();
    let names: Vec<String> = (0..500).map(|number| format!("/group-{number}")).collect();
    let mut groups: Vec<&str> = names.iter().map(String::as_str).collect();
    groups.push("/mlflow_users");
    gate.provider.add_user(User::new("busy", &groups));
    let browser = gate.signed_in("busy");
    let received = assert_allowed(&gate, || browser.fetch(&gate.url("/x")));
    let groups = received.header("x-forwarded-groups").unwrap();
    assert!(
        groups.split(',').any(|group| group == "/mlflow_users") && groups.len() <= 8192,
        "{}",
        groups.len()
    );
}

#[test]
fn hd11_credentials_stay_at_the_gate_and_other_cookies_pass_unchanged() {
    let (gate, browser) = Gate::with_browser();
    let ours = gate.cookie_header(&browser);
    for (sent, arrives) in [
        (format!("a=1; {ours}; b=\"2 3\""), Some("a=1; b=\"2 3\"")),
        (ours.clone(), None),
        (format!("{ours}; oidc-gate-login-abcdefgh=x"), None),
    ] {
        let received = assert_allowed(&gate, || {
            Client::new().fetching("GET", &gate.url("/x")).header("cookie", &sent).send()
        });
        assert_eq!(received.header("cookie"), arrives);
        assert_eq!(received.header("authorization"), None);
    }
}

#[test]
fn hd08_the_application_cannot_set_our_cookies_and_its_401_is_its_own() {
    let (gate, browser) = Gate::with_browser();
    let before = gate.session_cookie(&browser);
    let query = "/x?set-header=set-cookie:oidc-gate=evil;Path=/&set-header=set-cookie:oidc-gate-login-abcdefgh=evil\
                 &set-header=set-cookie:theirs=1&set-header=www-authenticate:Basic&status=401";
    let response = browser.navigate(&gate.url(query)).unwrap();
    assert_eq!(response.status, 401, "{response}");
    assert_eq!(response.header("www-authenticate"), Some("Basic"), "{response}");
    assert_eq!(response.header_lines("set-cookie"), ["theirs=1"], "{response}");
    assert_eq!(gate.session_cookie(&browser), before);
}

#[test]
fn az05_the_application_sees_the_real_client_and_the_public_host() {
    let (gate, browser) = Gate::with_browser();
    let received = assert_allowed(&gate, || {
        browser
            .fetching("GET", &gate.url("/x"))
            .header("x-forwarded-for", "127.0.0.9")
            .header("x-real-ip", "127.0.0.9")
            .header("forwarded", "for=127.0.0.9")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-prefix", "/evil")
            .header("x-original-url", "/evil")
            .header("x-http-method-override", "DELETE")
            .send()
    });
    let spoofed: Vec<_> =
        received.headers.iter().filter(|(_, v)| v.contains("evil") || v.contains("127.0.0.9")).collect();
    assert_eq!(spoofed, Vec::<&(String, String)>::new());
    // One address, Envoy's own: for a loopback peer Envoy uses an address of the machine.
    assert!(
        received.header("x-forwarded-for").is_some_and(|address| address.parse::<IpAddr>().is_ok()),
        "{received:?}"
    );
    assert_eq!(received.header("x-forwarded-host"), gate.origin().strip_prefix("http://"));
    assert_eq!(received.values("x-http-method-override"), Vec::<&str>::new());
}

#[test]
fn rx10_a_large_upload_passes_whole_and_a_refused_one_not_at_all() {
    let (gate, browser) = Gate::with_browser();
    let artifact = vec![b'x'; 64 << 20];
    let url = gate.url("/api/2.0/mlflow-artifacts/artifacts/1/model.bin");
    let received = assert_allowed(&gate, || browser.fetching("PUT", &url).body(artifact.clone()).send());
    assert_eq!(received.body_bytes, artifact.len() as u64);
    let before = gate.echo.count();
    // The response may come before the whole body is sent. Then the connection closes while the client is sending.
    let refused = Client::new().request("PUT", &url).body(artifact).send();
    if let Ok(response) = refused {
        assert_eq!(response.status, 401, "{response}");
    }
    assert_eq!(gate.echo.count(), before);
    oidc_gate_tests::assert_workers_alive(&gate);
}

#[test]
fn rx10_an_upload_that_comes_before_the_decision_is_held_back_and_then_passes_whole() {
    let wait = Duration::from_millis(1500);
    let gate = Gate::builder()
        .provider(move |provider| {
            provider.misbehave(Endpoint::Discovery, Times::Next(1), Behaviour::Delay(wait));
        })
        .start();
    let artifact = vec![b'x'; 16 << 20];
    let url = gate.url("/api/2.0/mlflow-artifacts/artifacts/1/model.bin");
    let token = gate.provider.access_token("mlflow_user");
    let received = assert_allowed(&gate, || {
        Client::new().request("PUT", &url).bearer(&token).body(artifact.clone()).send()
    });
    assert_eq!(received.body_bytes, artifact.len() as u64);
}

/// An event stream of a signed-in user.
fn open_events(gate: &Gate, wishes: &str) -> raw::Connection {
    let cookie = gate.session_cookie(&gate.signed_in("mlflow_user")).unwrap();
    let mut connection = raw::Connection::open(gate.port()).unwrap();
    connection
        .send(format!(
            "GET /sse?{wishes} HTTP/1.1\r\nHost: localhost:{}\r\nAccept: text/event-stream\r\n\
             Connection: close\r\nCookie: {}={cookie}\r\n\r\n",
            gate.port(),
            gate.session_cookie_name()
        ))
        .unwrap();
    connection
}

#[test]
fn events_arrive_one_by_one() {
    let gate = Gate::start();
    // A gate that waited for the next event, or for the end, would wait for an hour.
    for (wishes, event) in
        [("events=2&interval=3600000", "event 0"), ("events=36000&interval=100", "event 5")]
    {
        let mut connection = open_events(&gate, wishes);
        connection.read_until(BOUND, |read| String::from_utf8_lossy(read).contains(event)).unwrap();
    }
}

#[test]
fn rf08_a_stream_ends_at_its_longest_age_however_long_the_application_would_go_on() {
    let gate = Gate::builder()
        .envoy(|config| {
            config.manager(|manager| {
                let age = &mut manager["common_http_protocol_options"]["max_stream_duration"];
                assert_eq!(*age, "43200s", "as shipped: no longer than a session");
                *age = "6s".into();
            })
        })
        .start();
    let connection = open_events(&gate, "events=10000&interval=100");
    let text =
        String::from_utf8_lossy(&connection.read_to_end(Duration::from_secs(20)).unwrap()).into_owned();
    assert!(text.contains("event 5") && !text.contains("event 200"), "{text}");
}

#[test]
fn pm09_head_is_a_get_and_ranges_and_downloads_pass() {
    let (gate, browser) = Gate::with_browser();
    let response = browser.fetching("HEAD", &gate.url("/x")).send().unwrap();
    assert_eq!(response.status, 200, "{response}");
    let download = browser.fetch(&gate.url("/x?bytes=8000000")).unwrap();
    assert_eq!(download.body.len(), 8_000_000);
    let received = assert_allowed(&gate, || {
        browser.fetching("GET", &gate.url("/x")).header("range", "bytes=0-9").send()
    });
    assert_eq!(received.header("range"), Some("bytes=0-9"));
}
