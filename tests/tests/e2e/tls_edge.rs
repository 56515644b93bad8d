//! TLS at the edge, with the listener that docs/production.md prints. curl is the browser, because it supports TLS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::redis::Authority;
use oidc_gate_tests::Gate;
use serde_json::Value;
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(20);

/// A block of the page, found by its first words. The test's folder replaces /etc/envoy.
fn printed(first: &str, folder: &Path) -> String {
    let page = include_str!("../../../docs/production.md");
    let (_, rest) = page.split_once(&format!("```yaml\n# {first}")).expect("the page prints it");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let (_, lines) = block.split_once('\n').expect("there is more than a comment");
    lines.replace("/etc/envoy", &folder.display().to_string())
}

/// Installs a certificate in the watched folder as the page describes: by moving files, the key first.
fn install(authority: &Authority, folder: &Path) {
    let issued = authority.issue(&["localhost"]).unwrap();
    for (from, name) in [(issued.key, "tls.key"), (issued.chain, "tls.crt")] {
        let beside = folder.join(name);
        std::fs::copy(from, &beside).unwrap();
        std::fs::rename(beside, folder.join("tls").join(name)).unwrap();
    }
}

fn curl(authority: &Authority, jar: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-L", "--max-time", "20", "-H", "accept: text/html", "--cacert"])
        .arg(authority.certificate());
    let output =
        curl.arg("-c").arg(jar).arg("-b").arg(jar).args(arguments).output().expect("there is a curl");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn the_printed_tls_listener_serves_a_login_with_host_cookies_and_takes_a_new_certificate() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    let authority = Authority::new().unwrap();
    install(&authority, folder.path());
    std::fs::write(
        folder.path().join("tls-secret.yaml"),
        printed("/etc/envoy/tls-secret.yaml", folder.path()),
    )
    .unwrap();
    let socket: Value = serde_saphyr::from_str(&printed("envoy/envoy.yaml", folder.path())).unwrap();
    let gate = Gate::builder()
        .public_https()
        .envoy(|config| {
            config.listener(move |listener| {
                for (name, value) in socket.as_object().expect("members of a filter chain") {
                    listener["filter_chains"][0][name] = value.clone();
                }
            })
        })
        .start();
    let url = format!("https://localhost:{}/page", gate.port());
    let jar = folder.path().join("jar");

    let form = curl(&authority, &jar, &[&url]).unwrap();
    let (_, action) = form.split_once("action=\"").unwrap_or_else(|| panic!("this is no login form: {form}"));
    let action = action.split('"').next().unwrap_or_default().replace("&amp;", "&");
    let action = format!("http://localhost:{}{action}", gate.provider.port());
    let credentials = ["-d", "username=mlflow_user", "-d", "password=password123"];
    let page = curl(&authority, &jar, &[credentials.as_slice(), &[&action]].concat()).unwrap();
    assert!(page.contains("\"x-forwarded-proto\",\"https\""), "the application was not reached: {page}");
    let cookies = std::fs::read_to_string(&jar).unwrap();
    let session = cookies.lines().find(|line| line.contains("\t__Host-oidc-gate\t"));
    let session: Vec<_> = session.unwrap_or_else(|| panic!("{cookies}")).split('\t').collect();
    assert_eq!(session.get(2..4), Some(["/", "TRUE"].as_slice()), "for the whole host, and by TLS only");

    // The next certificate comes from another authority. A client that trusts only that one can connect once Envoy has
    // loaded it.
    let next = Authority::new().unwrap();
    assert!(curl(&next, &jar, &[&url]).is_err());
    install(&next, folder.path());
    assert!(
        wait_until(BOUND, || curl(&next, &jar, &[&url]).is_ok()),
        "the new certificate is not taken: {}",
        gate.envoy().log()
    );
    assert!(curl(&next, &jar, &[&url]).unwrap().contains("x-forwarded-user"), "the session goes on");
}

#[test]
fn f604_plain_http_leads_to_the_public_address_before_a_login_begins() {
    let gate = Gate::builder().public_https().start();
    let browser = Client::new();
    let target = "/experiments/7?view=a%2Fb";
    let first = browser.navigate(&gate.url(target).replace("https://", "http://")).unwrap();
    let public = format!("https://localhost:{}{target}", gate.port());
    assert_eq!((first.status, first.header("location")), (302, Some(public.as_str())), "{first}");
    // A proxy terminates TLS and does not say so. The browser is redirected once, then the login begins.
    let second = browser.navigate(&gate.url(target).replace("https://", "http://")).unwrap();
    let redirect_uri = format!("https://localhost:{}/oauth2/callback", gate.port());
    assert_eq!(second.redirect_parameter("redirect_uri"), Some(redirect_uri), "{second}");
}
