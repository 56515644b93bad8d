//! Searches all files, and all commits that led to them, for secrets, with gitleaks and its default rules.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Source, lay};
use crate::command::output;
use crate::download::hex;

/// A text that looks like a secret but is not one.
struct Known {
    /// The file that may contain it.
    file: &'static str,
    /// The first half of the SHA-256 of the text, so that another text in its place is reported.
    sha256: &'static str,
    why: &'static str,
}

const KNOWN: [Known; 15] = [
    known(
        "filter/core/src/config/tests/mod.rs",
        "25edeb9a337280826245153fb9368519",
        "the sealing key of a test",
    ),
    known(
        "filter/core/src/gate/tests/login.rs",
        "9f9f5111f7b27a781f1f1ddde5ebc2dd",
        "digits, in a list of a test",
    ),
    known(
        "filter/core/src/jose/hash.rs",
        "efb42650fb633dfcd6b45d809e92bd45",
        "the example of OpenID Connect Core, A.4",
    ),
    known(
        "filter/core/src/oidc/answer/tests.rs",
        "ec97fe60f7cc467657df7c97fe947081",
        "a made-up token of a test",
    ),
    known("filter/core/src/jose/testing/p256.pem", "1f90b04da82cc607b84b312216b174c2", TEST_KEY),
    known("filter/core/src/jose/testing/p256_other.pem", "86a1d4947bc6973089c8c465b8628fde", TEST_KEY),
    known("filter/core/src/jose/testing/p384.pem", "0608f1aea68ba54a38a0883cdde4a7d5", TEST_KEY),
    known("filter/core/src/jose/testing/p521.pem", "123bea52bbc40ae0bd88f2d5a2e4e20e", TEST_KEY),
    known("filter/core/src/jose/testing/rsa.pem", "9e03b92a9cd314b16b4d50492f15504f", TEST_KEY),
    known("filter/core/src/jose/testing/rsa_other.pem", "77939a6666c83214090f83d666f0efaa", TEST_KEY),
    known(
        "filter/core/src/seal.rs",
        "44ffa147914157cced96a631b26d82b7",
        "\"key ring: XChaCha20-Poly1305\" in a sentence",
    ),
    known("tests/tests/e2e/replies.rs", "15cef4b629cc2d07a4563df9516739d4", "the example of RFC 6455, 1.2"),
    known("mlflow/tests/support.py", "c7c72109abed33a351acea22fe24d772", "an assertion key of a test"),
    known("mlflow/tests/support.py", "d6d0aa4d1a2a4ef7280b77f4059b6ae5", "another assertion key of a test"),
    known(
        "mlflow/tests/test_examples.py",
        "a2d81b21385f0f29a93e2f421d112b65",
        "a key that the examples of a page must refuse",
    ),
];

const TEST_KEY: &str = "signs what unit tests verify, and nothing else knows it";

const fn known(file: &'static str, sha256: &'static str, why: &'static str) -> Known {
    Known { file, sha256, why }
}

/// A text that matches a rule of gitleaks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Finding {
    #[serde(rename = "RuleID")]
    rule: String,
    file: String,
    start_line: u64,
    secret: String,
    /// Empty if it was found in a file.
    commit: String,
}

impl Finding {
    fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.secret))
    }

    fn is(&self, known: &Known) -> bool {
        // A known text may be in the history under an earlier name of its file.
        (self.file == known.file || !self.commit.is_empty()) && self.sha256().starts_with(known.sha256)
    }

    /// Where it is, and its entry for the list above. Never the secret.
    fn describe(&self) -> String {
        let sha256 = self.sha256();
        let Self { rule, file, start_line, commit, .. } = self;
        format!("{file}:{start_line} {commit} {rule} (SHA-256 {})", sha256.get(..32).unwrap_or_default())
    }
}

/// # Errors
/// If a text looks like a secret and is not on the list, or if an entry of the list no longer exists.
pub fn check(gitleaks: &Path, root: &Path, sources: &[Source]) -> Result<()> {
    // gitleaks cannot be told to ignore this file.
    let exceptions = sources.iter().find(|source| source.file_name() == ".gitleaksignore");
    ensure!(exceptions.is_none(), "add exceptions to the list in {}, with a reason", file!());
    let folder = tempfile::tempdir()?;
    lay(folder.path(), sources.iter().map(|source| (source.name.as_str(), source.content.as_slice())))?;
    let mut found = in_files(gitleaks, folder.path())?;
    found.extend(in_commits(gitleaks, root)?);
    let secrets = unknown(&found);
    ensure!(secrets.is_empty(), "these look like secrets:\n{}", secrets.join("\n"));
    for known in &KNOWN {
        let gone = !found.iter().any(|finding| finding.is(known));
        ensure!(!gone, "{} ({}) is no longer found: remove it from the list", known.file, known.why);
    }
    Ok(())
}

/// A secret in the form of generated ones, the same in every run. A random one may have too little variety for gitleaks
/// to recognise.
fn secret(of: &str) -> String {
    hex(&Sha256::digest(of))
}

/// Checks that the search finds the most important case: a user's `.env`.
pub fn control_settings(gitleaks: &Path, root: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in [".env.example", "generate-env.sh"] {
        std::fs::copy(root.join(name), folder.path().join(name)).with_context(|| name.to_owned())?;
    }
    output(&mut Command::new(folder.path().join("generate-env.sh")))?;
    let file = folder.path().join(".env");
    let mut settings = std::fs::read_to_string(&file)?;
    let made: Vec<(String, String)> = settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .filter(|(_, value)| value.len() == 64)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in &made {
        settings = settings.replace(value, &secret(name));
    }
    std::fs::write(&file, settings)?;
    let found = in_files(gitleaks, folder.path())?;
    for (name, _) in &made {
        ensure!(found.iter().any(|finding| finding.secret == secret(name)), "{name} is not found");
    }
    let secrets = made.len();
    ensure!(secrets > 5, "{secrets} secrets only");
    Ok(())
}

/// Checks that the search finds secrets in places that are easily overlooked.
pub fn control_places(gitleaks: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Assembled here, so that this file contains none.
    let key =
        format!("-----BEGIN {0} KEY-----\n{1}\n{1}\n-----END {0} KEY-----\n", "PRIVATE", secret("a key"));
    let [hash, commented, removed] = ["a hash", "a commented one", "a removed one"].map(secret);
    let setting = |value: &str| format!("let api_key = \"{value}\";\n");
    let planted = [
        // A file that contains other, known texts.
        ("filter/core/src/jose/testing/rsa.pem", key.clone()),
        ("filter/core/src/jose/hash.rs", setting(&hash)),
        // With the words that would silence it.
        ("src/main.rs", format!("{} // gitleaks:allow\n", setting(&commented).trim_end())),
        (".gitleaks.toml", "title = \"no rules\"\n".to_owned()),
    ];
    lay(folder.path(), planted.iter().map(|(name, text)| (*name, text.as_bytes())))?;
    let found = in_files(gitleaks, folder.path())?;
    let unknown_of = |found: &[Finding]| unknown(found).len();
    for (what, secret) in
        [("another key", key.trim_end()), ("another hash", &hash), ("a commented one", &commented)]
    {
        ensure!(found.iter().any(|finding| finding.secret == secret), "{what} is not found");
    }
    ensure!(unknown_of(&found) == 3, "of {} findings {} are unknown", found.len(), unknown_of(&found));

    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(folder.path()).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
        output(git.args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"]).args(words))
    };
    git(&["init", "--quiet"])?;
    lay(folder.path(), [("removed.rs", setting(&removed).as_bytes())])?;
    git(&["add", "removed.rs"])?;
    git(&["commit", "--quiet", "--message", "Add"])?;
    git(&["rm", "--quiet", "removed.rs"])?;
    git(&["commit", "--quiet", "--message", "Remove"])?;
    let found = in_commits(gitleaks, folder.path())?;
    ensure!(found.iter().any(|finding| finding.secret == removed), "a removed one is not found: {found:?}");
    ensure!(unknown_of(&found) == 1);
    Ok(())
}

fn unknown(found: &[Finding]) -> Vec<String> {
    let known = |finding: &&Finding| !KNOWN.iter().any(|known| finding.is(known));
    found.iter().filter(known).map(Finding::describe).collect()
}

fn in_files(gitleaks: &Path, folder: &Path) -> Result<Vec<Finding>> {
    let mut found = search(Command::new(gitleaks).args(["dir", "."]).current_dir(folder))?;
    for finding in &mut found {
        finding.file = finding.file.trim_start_matches("./").to_owned();
    }
    Ok(found)
}

/// Searches all commits that led to the current one. Other branches do not matter here.
fn in_commits(gitleaks: &Path, repository: &Path) -> Result<Vec<Finding>> {
    search(
        Command::new(gitleaks).args(["git", "--log-opts=--full-history HEAD", "."]).current_dir(repository),
    )
}

fn search(command: &mut Command) -> Result<Vec<Finding>> {
    let settings = tempfile::tempdir()?;
    lay(settings.path(), [("gitleaks.toml", b"[extend]\nuseDefault = true\n".as_slice())])?;
    // Only the default rules: no exceptions from files or comments in the searched files.
    command.arg("--config").arg(settings.path().join("gitleaks.toml"));
    command.arg("--gitleaks-ignore-path").arg(settings.path()).arg("--ignore-gitleaks-allow");
    // Findings are not errors. Every other failure is.
    command.args(["--exit-code", "0", "--no-banner", "--no-color", "--log-level", "error"]);
    command.args(["--report-format", "json", "--report-path", "-"]);
    let answer = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&answer.stderr);
    ensure!(answer.status.success() && said.is_empty(), "gitleaks ended with {}: {said}", answer.status);
    serde_json::from_slice(&answer.stdout).context("gitleaks' report is not JSON")
}
