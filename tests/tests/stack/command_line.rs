//! `python -m oidc_gate_mlflow login`, with the client that the realm has for it.

use std::path::Path;
use std::process::Command;

use oidc_gate_testkit::browser::Client;
use oidc_gate_testkit::process::{Process, wait_until};
use serde_json::Value;

use crate::browser::Browser;
use crate::python;
use crate::stack::{BOUND, PASSWORD, Stack};

#[test]
fn a_person_signs_in_with_the_browser_of_this_machine() {
    let stack = Stack::running();
    let login = Login::start(&stack, "--browser");
    let address = login.address();
    let client = Client::new();
    let form = client.visit(&address).unwrap();
    let action = form.end().form_action().unwrap_or_else(|| panic!("no login form: {}", form.end()));
    let back = client.submit(&action, &[("username", "mlflow_user"), ("password", PASSWORD)]).unwrap();
    let end = client.follow(back).unwrap();
    assert_eq!(end.end().status, 200, "{}", end.end());
    assert_eq!(login.user(), "mlflow_user");
}

#[test]
fn a_person_signs_in_with_a_code_in_any_browser() {
    let stack = Stack::running();
    stack.end_keycloak_sessions("mlflow_user");
    let login = Login::start(&stack, "--device");
    let browser = Browser::start(&stack);
    browser.open(&login.address());
    browser.wait_for_login_form(&stack);
    browser.submit_login("mlflow_user");
    // Keycloak asks whether this device may act for the person.
    browser.wait_for("the question", || browser.has("[name=accept]"));
    browser.click("[name=accept]");
    assert_eq!(login.user(), "mlflow_user");
}

/// A login that waits for a browser.
struct Login<'a> {
    stack: &'a Stack,
    folder: tempfile::TempDir,
    process: Process,
}

impl<'a> Login<'a> {
    fn start(stack: &'a Stack, how: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = format!("{}/realms/mlflow", stack.keycloak());
        let mut command = Command::new(stack.python());
        command
            .args(["-m", "oidc_gate_mlflow", "login", how, "--server", &stack.url(""), "--issuer", &issuer])
            .env("HOME", folder.path())
            .env("OIDC_GATE_CACHE_DIR", folder.path().join("tokens"))
            // No browser opens, so the address is printed.
            .env("BROWSER", "false");
        let process = Process::start("the login", &mut command, &folder.path().join("output")).unwrap();
        Self { stack, folder, process }
    }

    fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(BOUND, condition), "not within {BOUND:?}: {what}: {}", self.output());
    }

    fn output(&self) -> String {
        read(&self.folder.path().join("output"))
    }

    /// The address that a browser has to open.
    fn address(&self) -> String {
        let found = || {
            let text = self.output();
            let address = text.split_whitespace().find(|word| word.starts_with(self.stack.keycloak()));
            address.filter(|_| text.ends_with('\n')).map(str::to_owned)
        };
        self.wait_for("an address", || found().is_some());
        found().unwrap()
    }

    /// The user of a script that runs after the login.
    fn user(self) -> Value {
        self.wait_for("the end of the login", || self.output().contains("signed in to"));
        drop(self.process);
        let tokens = self.folder.path().join("tokens").display().to_string();
        python::run_with(
            self.stack,
            &[("MLFLOW_TRACKING_AUTH", "oidc-gate"), ("OIDC_GATE_CACHE_DIR", &tokens)],
            r#"
mlflow.set_experiment("from-a-command-line-" + os.urandom(6).hex())
with mlflow.start_run() as run:
    pass
answer(mlflow.get_run(run.info.run_id).data.tags["mlflow.user"])
"#,
        )
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
