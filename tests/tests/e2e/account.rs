//! The account page: who is signed in, in which sessions, and how to end one or all of them.

use oidc_gate_testkit::browser::{Client, Response};
use oidc_gate_tests::{Gate, assert_everywhere, assert_refused, assert_soon_everywhere};

const PAGE: &str = "/oauth2/account";

fn gate() -> Gate {
    Gate::builder().envoys(2).set("session.cache_ttl", "1m").start()
}

fn page(gate: &Gate, browser: &Client) -> Response {
    let page = browser.navigate(&gate.url(PAGE)).unwrap();
    assert_eq!(page.status, 200, "{page}");
    page
}

/// The targets of the page's forms, as absolute URLs.
fn forms(page: &Response) -> Vec<String> {
    let text = page.text();
    let actions = text.split("action=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let base = url::Url::parse(&page.url).unwrap();
    actions.map(|(action, _)| base.join(&action.replace("&amp;", "&")).unwrap().to_string()).collect()
}

#[test]
fn it_shows_who_is_signed_in_and_where_else_and_no_secret() {
    let gate = gate();
    let here = gate.signed_in("mlflow_user");
    let alone = page(&gate, &here).text();
    assert!(alone.contains("mlflow_user") && alone.contains("/mlflow_users"), "{alone}");
    assert!(alone.contains("mlflow_user@example.com") && alone.contains("UTC"), "{alone}");
    let elsewhere = gate.signed_in("mlflow_user");
    gate.signed_in("mlflow_admin");
    let page = page(&gate, &here);
    let sessions = forms(&page).iter().filter(|form| form.contains("session=")).count();
    assert_eq!(sessions, 1, "the other session of this person, and nobody else's: {page}");
    assert_eq!(gate.find_secret_in(&page.text()), None);
    // CF09, and no scripts.
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{page}");
    assert!(!page.text().contains("<script"), "{page}");
    assert_eq!(page.header("cache-control"), Some("no-store"), "{page}");
    assert_everywhere(&gate, 200, PAGE, |url| elsewhere.navigation("GET", url));
}

#[test]
fn one_other_session_is_signed_out_by_its_button_everywhere() {
    let gate = gate();
    let (here, elsewhere) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_user"));
    let third = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| elsewhere.fetching("GET", url));
    let actions = forms(&page(&gate, &here));
    let others: Vec<_> = actions.iter().filter(|form| form.contains("session=")).collect();
    assert_eq!(others.len(), 2, "{actions:?}");
    // The newest session comes first.
    let back = here.submit(others[1], &[]).unwrap();
    assert_eq!(back.status, 303, "{back}");
    assert!(here.follow(back).unwrap().end().url.ends_with(PAGE));
    assert_soon_everywhere(&gate, 401, "/x", |url| elsewhere.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| here.fetching("GET", url));
    assert_everywhere(&gate, 200, "/x", |url| third.fetching("GET", url));
}

#[test]
fn sign_out_everywhere_ends_all_sessions_and_tokens_of_this_person_and_nobody_elses() {
    let gate = gate();
    let (here, elsewhere) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_user"));
    let token = gate.provider.access_token("mlflow_user");
    let other = gate.signed_in("mlflow_admin");
    // Revocations count in whole seconds, so the sign-out must come in a later second than the tokens.
    gate.wait_for_second_after(gate.provider.now());
    let actions = forms(&page(&gate, &here));
    let everywhere = actions.iter().find(|form| form.contains("everywhere")).unwrap();
    let response = here.submit(everywhere, &[]).unwrap();
    let journey = here.follow(response).unwrap();
    assert!(journey.end().url.starts_with(&gate.url("/oauth2/signed-out")), "{:?}", journey.urls());
    assert_eq!(gate.session_cookie(&here), None);
    assert_soon_everywhere(&gate, 401, "/x", |url| elsewhere.fetching("GET", url));
    assert_soon_everywhere(&gate, 401, "/x", |url| Client::new().request("GET", url).bearer(&token));
    assert_everywhere(&gate, 200, "/x", |url| other.fetching("GET", url));
    let again = gate.signed_in("mlflow_user");
    assert_everywhere(&gate, 200, "/x", |url| again.fetching("GET", url));
}

#[test]
fn nobody_signs_others_out() {
    let gate = gate();
    let (user, admin) = (gate.signed_in("mlflow_user"), gate.signed_in("mlflow_admin"));
    let twin = gate.signed_in("mlflow_admin");
    let of_admin = forms(&page(&gate, &admin)).into_iter().find(|form| form.contains("session=")).unwrap();
    assert_refused(&gate, 404, || user.submit(&of_admin, &[]));
    for query in ["", "?session=", "?session=x", "?session=*", "?everywhere=no", "?session=a&everywhere=true"]
    {
        let response = user.submit(&gate.url(&format!("{PAGE}/sign-out{query}")), &[]).unwrap();
        assert!([400, 404].contains(&response.status), "{query}: {response}");
    }
    let everywhere = gate.url(&format!("{PAGE}/sign-out?everywhere=true"));
    assert_refused(&gate, 403, || {
        let form = admin.navigation("POST", &everywhere).without("sec-fetch-site");
        form.header("sec-fetch-site", "cross-site").header("origin", "http://evil.example").form(&[]).send()
    });
    assert_refused(&gate, 405, || admin.navigate(&everywhere));
    assert_refused(&gate, 401, || Client::new().submit(&everywhere, &[]));
    for browser in [&user, &admin, &twin] {
        assert_everywhere(&gate, 200, "/x", |url| browser.fetching("GET", url));
    }
    let anonymous = Client::new().navigate(&gate.url(PAGE)).unwrap();
    assert_eq!(anonymous.status, 302, "{anonymous}");
}
