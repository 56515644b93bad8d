//! docs/production.md: TLS at both host names, and the replacement of secrets while users are signed in.

use std::path::Path;
use std::process::Command;

use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::redis::Authority;

use crate::stack::{BOUND, Stack, said};

/// curl as a browser with TLS. It trusts one authority, keeps cookies, and resolves both host names to this machine.
struct Curl<'a> {
    authority: &'a Authority,
    jar: &'a Path,
}

impl Curl<'_> {
    /// The response with its headers. With redirects, the last one.
    fn get(&self, arguments: &[&str]) -> Result<String, String> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "30", "-H", "accept: text/html", "--cacert"])
            .arg(self.authority.certificate())
            .arg("-c")
            .arg(self.jar)
            .arg("-b")
            .arg(self.jar);
        for name in ["mlflow.example.com", "login.example.com"] {
            curl.args(["--connect-to", &format!("{name}::127.0.0.1:")]);
        }
        let output = curl.args(arguments).output().expect("there is a curl");
        let text = said(&output);
        if output.status.success() { Ok(text) } else { Err(text) }
    }
}

/// Puts a certificate for both names at the place that the page names, and runs the page's commands.
fn install(stack: &Stack, authority: &Authority) {
    let issued = authority.issue(&["mlflow.example.com", "login.example.com"]).unwrap();
    std::fs::copy(issued.chain, stack.checkout().join("fullchain.pem")).unwrap();
    std::fs::copy(issued.key, stack.checkout().join("privkey.pem")).unwrap();
    stack.run("tls-certificate");
}

#[test]
#[ignore = "slow: Keycloak starts again"]
fn with_the_printed_settings_mlflow_and_keycloak_are_https_and_people_sign_in_and_out() {
    let stack = Stack::instead();
    let _settings = stack.edit_settings(&[]);
    let authority = Authority::new().unwrap();
    install(&stack, &authority);
    stack.run("tls-settings");
    stack.run("tls-start");
    stack.run("add-user");

    let mlflow = format!("https://mlflow.example.com:{}", std::env::var("MLFLOW_PORT").unwrap());
    let keycloak = format!("https://login.example.com:{}", std::env::var("KEYCLOAK_PORT").unwrap());
    let jar = tempfile::NamedTempFile::new().unwrap();
    let browser = Curl { authority: &authority, jar: jar.path() };
    stack.eventually("the gate has the metadata of the new realm", || {
        browser.get(&[&mlflow]).is_ok_and(|page| page.starts_with("HTTP/2 302"))
    });
    let sent = browser.get(&[&mlflow]).unwrap();
    assert!(
        sent.contains(&format!("location: {keycloak}/realms/mlflow/protocol/openid-connect/auth?")),
        "{sent}"
    );

    let form = browser.get(&["-L", &mlflow]).unwrap();
    let action = form.split_once("id=\"kc-form-login\"").and_then(|(_, rest)| rest.split_once("action=\""));
    let (_, action) = action.unwrap_or_else(|| panic!("this is no login form: {form}"));
    let action = action.split('"').next().unwrap_or_default().replace("&amp;", "&");
    assert!(action.starts_with(&keycloak), "{action}");
    let page = browser
        .get(&["-L", "-d", "username=ada", "--data-urlencode", "password=difference-engine", &action])
        .unwrap();
    assert!(page.contains("<title>MLflow</title>"), "{page}");
    let cookies = std::fs::read_to_string(jar.path()).unwrap();
    assert!(cookies.contains("\t__Host-oidc-gate\t"), "{cookies}");
    let api = format!("{mlflow}/ajax-api/2.0/mlflow/experiments/search?max_results=1");
    let signed_in = |authority| {
        let browser = Curl { authority, jar: jar.path() };
        browser.get(&[&api]).is_ok_and(|answer| answer.contains("experiments"))
    };
    assert!(signed_in(&authority));

    // Plain http is no longer served.
    for port in ["MLFLOW_PORT", "KEYCLOAK_PORT"] {
        let plain = format!("http://localhost:{}/", std::env::var(port).unwrap());
        assert!(!stack.output(&format!("curl -sf -o /dev/null {plain}")).status.success(), "{port}");
    }

    // A new certificate of another authority is loaded without a restart.
    let next = Authority::new().unwrap();
    assert!(!signed_in(&next));
    install(&stack, &next);
    stack.eventually("Envoy has the new certificate", || signed_in(&next));

    // The same with metrics.
    stack.run("monitoring-with-tls");
    stack.compose("up --wait --no-deps envoy");
    stack.shell("docker compose exec -T envoy bash -c 'exec 3<>/dev/tcp/127.0.0.1/9902'");
    stack.eventually("the session is good after Envoy's start", || signed_in(&next));

    // Keycloak's logout message arrives through the plain port of the internal network.
    stack.kcadm(
        "user=$(kcadm get users -r mlflow -q username=ada -q exact=true --fields id --format csv --noquotes)\n\
         kcadm create users/$user/logout -r mlflow -s realm=mlflow -s user=$user",
    );
    stack.eventually("ada is signed out", || !signed_in(&next));

    stack.shell("chmod 0600 tls/tls.key");
    let closed = stack.output("docker compose run --rm -T --no-deps envoy");
    assert!(
        !closed.status.success() && said(&closed).contains("tls/tls.key is missing or closed"),
        "{}",
        said(&closed)
    );
    stack.shell("rm -r tls fullchain.pem privkey.pem");
}

#[test]
fn the_printed_commands_exchange_the_secret_key_and_nobody_has_to_sign_in_again() {
    let mut stack = Stack::up();
    let settings = stack.with_settings(&[]);
    let before = stack.setting("SECRET_KEY");
    let client = stack.signed_in("mlflow_user");
    stack.run("new-secret-key");
    let both = stack.setting("SECRET_KEY");
    assert!(both.ends_with(&format!(",{before}")), "the old one opens what it sealed");
    stack.eventually("the session goes on", || stack.may_use_mlflow(&client));
    stack.wait_for_gate();
    let later = stack.signed_in("mlflow_user");
    stack.run("old-secret-key");
    assert_eq!(stack.setting("SECRET_KEY"), both.split(',').next().unwrap());
    stack.eventually("a session that began since goes on", || stack.may_use_mlflow(&later));
    assert_eq!(stack.ask_mlflow(&client).unwrap().status, 401, "the old key is gone");
    drop(settings);
    stack.bring_up();
}

#[test]
fn the_printed_commands_exchange_the_assertion_keys_and_mlflow_knows_its_users_all_the_time() {
    let mut stack = Stack::up();
    let settings = stack.with_settings(&[]);
    let before = stack.setting("ASSERTION_KEYS");
    let client = stack.signed_in("mlflow_user");
    stack.run("new-assertion-key");
    let both = stack.setting("ASSERTION_KEYS");
    assert!(both.ends_with(&format!(",{before}")), "MLflow still accepts the old one");
    stack.eventually("the new key is accepted", || stack.may_use_mlflow(&client));
    stack.run("old-assertion-key");
    assert_eq!(stack.setting("ASSERTION_KEYS"), both.split(',').next().unwrap());
    stack.eventually("without the old key", || stack.may_use_mlflow(&client));
    drop(settings);
    stack.bring_up();
}

#[test]
#[ignore = "slow: Keycloak starts again"]
fn the_printed_commands_give_the_database_roles_new_passwords() {
    let stack = Stack::up();
    let new = |name: &str| format!("{}-of-{}", "0f1e2d3c4b5a", name.to_ascii_lowercase());
    let names = ["POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "KEYCLOAK_DB_PASSWORD"];
    let values = names.map(|name| new(name.trim_end_matches("_PASSWORD")));
    let pairs: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
    let settings = stack.edit_settings(&pairs);
    stack.run("database-passwords");
    let works = wait_until(BOUND, || stack.api(&stack.token("mlflow_user")).status == 200);
    let connects = |user: &str, password: &str| {
        let script = format!(
            "docker compose exec -T -e PGPASSWORD={password} mlflow python -c 'import psycopg2; \
             psycopg2.connect(host=\"postgres\", user=\"{user}\", dbname=\"{user}\")'"
        );
        stack.output(&script).status.success()
    };
    let opened = connects("postgres", &values[0]) && connects("keycloak", &values[2]);
    drop(settings);
    let closed = !connects("mlflow", &stack.setting("MLFLOW_DB_PASSWORD"));
    stack.run("database-passwords");
    assert!(
        works && opened && closed,
        "MLflow works: {works}, new ones open: {opened}, the old one is closed: {closed}"
    );
    stack.eventually("MLflow works with its own password again", || {
        stack.api(&stack.token("mlflow_user")).status == 200
    });
}
