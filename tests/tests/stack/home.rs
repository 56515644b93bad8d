//! A person's home with the package's tokens, and the person who signs in: in the browser, or with a code.

use std::path::PathBuf;
use std::time::Duration;

use oidc_gate_testkit::browser::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::python::Script;
use crate::stack::{PASSWORD, Stack};

/// Signing in needs two starts of Python.
const BOUND: Duration = Duration::from_secs(120);

/// A home folder.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// One without tokens.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One of a user who has signed in with the browser of this machine.
    #[track_caller]
    pub fn signed_in(stack: &Stack, user: &str) -> Self {
        let home = Self::empty();
        home.sign_in(stack, &stack.url(""), user, "--browser");
        home
    }

    /// Signs in by `python -m oidc_gate_mlflow login`, with `--browser` or `--device`.
    #[track_caller]
    pub fn sign_in(&self, stack: &Stack, server: &str, user: &str, how: &str) {
        let issuer = issuer(stack);
        let words = ["login", how, "--server", server, "--issuer", &issuer];
        let path = self.path();
        // This browser opens nothing, so that the address is printed.
        let mut login = Script::of_package(stack, &[("HOME", path.as_str()), ("BROWSER", "true")], &words);
        let address = address_of(stack, &mut login);
        let browser = Client::new();
        let form = browser.visit(&address).unwrap();
        let action = form.end().form_action().unwrap_or_else(|| panic!("no login form: {}", form.end()));
        let fields = [("username", user), ("password", PASSWORD)];
        let answered = browser.follow(browser.submit(&action, &fields).unwrap()).unwrap();
        if how == "--device" {
            allow(&browser, answered.end());
        }
        let said = login.output(BOUND);
        assert!(said.contains(&format!("as {user}")), "{said}");
    }

    /// The variable `HOME`.
    pub fn path(&self) -> String {
        self.folder.path().to_str().expect("UTF-8").to_owned()
    }

    /// The variables of a script of this person, with more.
    pub fn variables<'a>(&self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, String)> {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        [("HOME", self.path()), ("MLFLOW_TRACKING_AUTH", "oidc-gate".to_owned())]
            .into_iter()
            .chain(more)
            .collect()
    }

    /// Runs a command of the package. Returns its output.
    #[track_caller]
    pub fn command(&self, stack: &Stack, words: &[&str]) -> String {
        Script::of_package(stack, &[("HOME", &self.path())], words).output(BOUND)
    }

    /// The files with tokens.
    pub fn token_files(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join(".cache/oidc-gate-mlflow");
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
    }

    /// Changes the only file with tokens, as if it had been written so.
    #[track_caller]
    pub fn edit_tokens(&self, edit: impl FnOnce(&mut Value)) {
        let files = self.token_files();
        let [file] = files.as_slice() else { panic!("one file: {files:?}") };
        let mut content: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        edit(&mut content);
        std::fs::write(file, content.to_string()).unwrap();
    }
}

/// The issuer of the stack.
pub fn issuer(stack: &Stack) -> String {
    format!("{}/realms/mlflow", stack.keycloak())
}

#[track_caller]
fn address_of(stack: &Stack, login: &mut Script) -> String {
    login.wait_for(&format!("{}/realms", stack.keycloak()));
    let mut address = None;
    stack.eventually("a whole line with the address", || {
        let said = login.said();
        let start = said.find(&format!("{}/realms", stack.keycloak())).unwrap_or_default();
        let line = said.get(start..).unwrap_or_default();
        address = line.split_once(char::is_whitespace).map(|(address, _)| address.to_owned());
        address.is_some()
    });
    address.expect("an address")
}

/// Keycloak asks whether the device may sign in.
#[track_caller]
fn allow(browser: &Client, question: &Response) {
    assert!(question.text().contains("name=\"accept\""), "no question: {question}");
    let action = question.form_action().unwrap_or_else(|| panic!("no form: {question}"));
    let code = question
        .text()
        .split_once("name=\"code\" value=\"")
        .and_then(|(_, rest)| rest.split_once('"').map(|(code, _)| code.to_owned()));
    let code = code.unwrap_or_default();
    let answer = browser.submit(&action, &[("code", &code), ("accept", "Yes")]).unwrap();
    let end = browser.follow(answer).unwrap();
    assert_eq!(end.end().status, 200, "{}", end.end());
}
