use serde_json::{Value, json};

use super::*;
use crate::error::Outlook;
use crate::testing::TestHost;
use crate::testing::test;

const CODE: &str = "c0de+with/odd=characters";
const SECRET: &str = "client-s3cret+%";

fn token_request() -> Callout {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "authorization_code")
        .append_pair("code", CODE)
        .append_pair("code_verifier", "verifier-0123456789-0123456789-0123456789")
        .finish();
    let secret: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let basic = base64(format!("mlflow:{secret}"));
    Callout {
        cluster: "keycloak".into(),
        headers: vec![("authorization".into(), format!("Basic {basic}"))],
        body: form.into_bytes(),
        timeout: std::time::Duration::from_secs(5),
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> CalloutReply {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    CalloutReply { status, headers: headers.collect(), body: body.into() }
}

fn json_reply(status: u16, body: &Value) -> CalloutReply {
    let headers = [("content-type", "application/json"), (UPSTREAM_HEADER, "3")];
    reply(status, &headers, body.to_string())
}

fn asked(answer: Result<CalloutReply, CalloutError>) -> Refusal {
    let host = TestHost::new();
    host.on("keycloak", move |_| answer.clone());
    host.run(ask(&*host, ProviderEndpoint::Token, token_request())).unwrap_err()
}

#[test]
fn f402_endpoint_status_error_and_description_are_told() {
    let refusal = asked(Ok(json_reply(
        401,
        &json!({"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"}),
    )));
    assert_eq!(
        &*refusal.trouble.detail,
        "token endpoint: status 401, unauthorized_client: Invalid client or Invalid client credentials"
    );
    assert_eq!(refusal.error.as_deref(), Some("unauthorized_client"));
    assert_eq!(refusal.status, Some(401));
    let html = [("content-type", "text/html; charset=utf-8"), (UPSTREAM_HEADER, "1")];
    for (answer, expected) in [
        (reply(403, &html, "<title>403\n Forbidden</title>"), "403, text/html: <title>403 Forbidden</title>"),
        (
            reply(401, &[("www-authenticate", "Bearer error=\"invalid_token\""), (UPSTREAM_HEADER, "1")], ""),
            "401, Bearer error=\"invalid_token\"",
        ),
        (json_reply(400, &json!({"error": 7})), "400, content type application/json"),
        (reply(204, &[], ""), "204"),
    ] {
        assert_eq!(*asked(Ok(answer)).trouble.detail, format!("token endpoint: status {expected}"));
    }
}

#[test]
fn f402_only_what_says_so_passes_by_itself() {
    let html = [("content-type", "text/html"), (UPSTREAM_HEADER, "1")];
    for status in [400, 401, 403, 404, 405, 410, 421, 302, 307, 204] {
        assert_eq!(asked(Ok(reply(status, &html, ""))).trouble.outlook, Outlook::Lasting, "{status}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        assert_eq!(asked(Ok(reply(status, &html, ""))).trouble.outlook, Outlook::Passing, "{status}");
    }
    for (error, outlook) in [
        (CalloutError::UnknownCluster, Outlook::Lasting),
        (CalloutError::NotSent, Outlook::Passing),
        (CalloutError::Reset, Outlook::Passing),
    ] {
        assert_eq!(asked(Err(error)).trouble.outlook, outlook, "{error}");
    }
}

#[test]
fn f403_envoys_words_are_told_from_the_providers() {
    let refused = "upstream connect error or disconnect/reset before headers. reset reason: remote connection \
                   failure, transport failure reason: delayed connect error: Connection refused";
    let envoys = |status, body: &str| reply(status, &[("content-type", "text/plain")], body);
    let refusal = asked(Ok(envoys(503, refused)));
    assert_eq!(*refusal.trouble.detail, format!("token endpoint: status 503 from Envoy: {refused}"));
    assert_eq!(refusal.trouble.outlook, Outlook::Passing);
    assert!(asked(Ok(envoys(504, "upstream request timeout"))).trouble.detail.contains("from Envoy"));
    let certificate = "upstream connect error …: TLS_error:|268435581:SSL routines:OPENSSL_internal:\
                       CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list:TLS_error_end";
    let refusal = asked(Ok(envoys(503, certificate)));
    assert!(refusal.trouble.detail.contains("verify SAN list"), "{refusal:?}");
    assert_eq!(refusal.trouble.outlook, Outlook::Lasting, "a certificate does not change by itself");
    // A 503 of the provider itself, with the text that Envoy would use.
    let own = reply(503, &[("content-type", "text/plain"), (UPSTREAM_HEADER, "7")], refused);
    let detail = asked(Ok(own)).trouble.detail;
    assert!(detail.starts_with("token endpoint: status 503, text/plain: upstream connect"), "{detail}");
}

#[test]
fn f402_whatever_a_provider_repeats_of_the_call_is_not_told() {
    let encoded: String = form_urlencoded::byte_serialize(CODE.as_bytes()).collect();
    let basic =
        base64(format!("mlflow:{}", form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>()));
    for echoed in [
        CODE.to_owned(),
        format!("code '{CODE}' not found"),
        format!("code={encoded}&"),
        format!("prefix{CODE}suffix"),
        CODE[..12].to_owned(),
        CODE[4..16].to_owned(),
        base64(CODE),
        base64url(CODE),
        SECRET.to_owned(),
        format!("secret {SECRET}!"),
        format!("Basic {basic}"),
        "verifier-0123456789-0123456789-0123456789".to_owned(),
        "verifier-01234567".to_owned(),
        // A part of the code, joined to other text.
        format!("bad code {}...", &CODE[..12]),
        format!("code={}", &CODE[..12]),
        format!("prefix{}", &CODE[4..16]),
        format!("code={}&", super::lower_case_escapes(&encoded)),
        "token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".to_owned(),
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".to_owned(),
    ] {
        let html = [("content-type", "text/html"), (UPSTREAM_HEADER, "1")];
        for answer in [
            json_reply(400, &json!({"error": "invalid_grant", "error_description": echoed})),
            json_reply(400, &json!({"error": echoed})),
            reply(403, &html, format!("<p>{echoed}</p>")),
            reply(503, &[("content-type", "text/plain")], echoed.clone()),
            reply(401, &[("www-authenticate", echoed.as_str())], ""),
        ] {
            let refusal = asked(Ok(answer.clone()));
            let told = format!("{} {:?}", refusal.trouble.detail, refusal.error);
            for secret in ["c0de", "odd=", "odd%3D", "s3cret", "verifier", "eyJ", &basic[10..20]] {
                assert!(!told.contains(secret), "{told} shows {secret} of {answer:?}");
            }
            assert!(told.contains(REDACTED), "{told}");
        }
    }
    // Public words stay readable.
    let told = asked(Ok(json_reply(
        400,
        &json!({"error": "invalid_grant", "error_description": "authorization_code: Code not valid"}),
    )));
    assert!(told.trouble.detail.ends_with("invalid_grant: authorization_code: Code not valid"), "{told:?}");
}

#[test]
fn f402_long_and_many_lined_answers_are_cut_and_stay_on_one_line() {
    let long = "x ".repeat(100_000);
    for answer in [
        json_reply(400, &json!({"error": long, "error_description": long})),
        json_reply(400, &json!({"error": "a\nb", "error_description": "c\r\n\td"})),
        reply(403, &[("content-type", "text/html")], long.clone()),
        reply(503, &[("content-type", "text/plain")], vec![0xff; 100_000]),
        reply(401, &[("www-authenticate", long.as_str())], ""),
    ] {
        let detail = asked(Ok(answer)).trouble.detail;
        assert!(detail.chars().count() < 500 && !detail.contains(['\n', '\r', '\t']), "{detail}");
    }
}
