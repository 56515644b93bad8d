//! The `.env` file with the secrets of a stack. It is created at the first start.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// How many random bytes a generated secret has.
const SECRET_BYTES: usize = 32;

/// The variables that a stack requires.
const REQUIRED: [&str; 5] =
    [SECRET_KEY, OIDC_CLIENT_SECRET, REDIS_PASSWORD, KEYCLOAK_ADMIN_PASSWORD, ASSERTION_KEYS];
/// The key that encrypts sessions.
pub const SECRET_KEY: &str = "SECRET_KEY";
/// The client secret at the provider.
pub const OIDC_CLIENT_SECRET: &str = "OIDC_CLIENT_SECRET";
/// Redis' password.
pub const REDIS_PASSWORD: &str = "REDIS_PASSWORD";
/// The keys with which the gate tells MLflow who a user is.
pub const ASSERTION_KEYS: &str = "ASSERTION_KEYS";
/// The password of Keycloak's user `admin`.
pub const KEYCLOAK_ADMIN_PASSWORD: &str = "KEYCLOAK_ADMIN_PASSWORD";

/// The variables of a `.env` file.
#[derive(Clone)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Reads the file, after adding a random value for each required variable that is missing or empty. Everything else
    /// in it is left unchanged. Only the owner can read the file.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let mut text = if path.exists() { read(path)? } else { String::new() };
        let found = parse(&text).with_context(|| path.display().to_string())?;
        let missing: Vec<_> =
            REQUIRED.into_iter().filter(|name| found.get(*name).is_none_or(String::is_empty)).collect();
        if !missing.is_empty() {
            text = with_values(&text, &missing)?;
            write_private(path, &text)?;
        }
        Ok(Self(parse(&text)?))
    }

    /// Reads a file that must be complete.
    pub fn load(path: &Path) -> Result<Self> {
        let found = parse(&read(path)?).with_context(|| path.display().to_string())?;
        if let Some(name) = REQUIRED.iter().find(|name| found.get(**name).is_none_or(String::is_empty)) {
            bail!("{} lacks {name}", path.display());
        }
        Ok(Self(found))
    }

    /// The value of a required variable.
    pub fn required(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The value of an optional variable.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Writes a file atomically, readable only by its owner.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_added_extension("new");
    // An interrupted run may have left the file, perhaps with other permissions.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path).with_context(|| format!("writing {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Parses `NAME=value` lines like Docker Compose, without `${…}`.
fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let (name, value) = assignment.with_context(|| format!("line {number} is not NAME=value"))?;
        variables.insert(name.trim().to_owned(), unquote(value.trim()).to_owned());
    }
    Ok(variables)
}

fn unquote(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    // A comment starts with a blank and `#`. A `#` inside a value belongs to it.
    inside('"')
        .or_else(|| inside('\''))
        .unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end())
}

fn with_values(text: &str, missing: &[&str]) -> Result<String> {
    let assigns = |line: &str, name: &str| {
        let line = line.trim().trim_start_matches("export ");
        line.split_once('=').is_some_and(|(found, _)| found.trim() == name)
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        lines.push("# Secrets of this machine's stack. Never commit this file.".to_owned());
    }
    lines.retain(|line| !missing.iter().any(|name| assigns(line, name)));
    for name in missing {
        lines.push(format!("{name}={}", random_secret()?));
    }
    Ok(lines.join("\n") + "\n")
}

fn random_secret() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    // Hexadecimal digits need no quoting in a shell, a URL, a Redis command or a form.
    Ok(crate::download::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file_with(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        if !text.is_empty() {
            fs::write(&path, text).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn the_first_start_makes_every_secret_and_the_next_one_keeps_them() {
        let (_folder, path) = file_with("");
        let first = Secrets::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Secrets::load_or_create(&path).unwrap();
        for name in REQUIRED {
            assert_eq!(first.required(name).len(), 2 * SECRET_BYTES, "{name}");
            assert_eq!(first.required(name), second.required(name), "{name}");
        }
        assert_ne!(first.required(SECRET_KEY), first.required(REDIS_PASSWORD));
    }

    #[test]
    fn values_of_the_user_stay_and_empty_ones_are_filled() {
        let (_folder, path) =
            file_with("# mine\nSECRET_KEY=chosen by hand\nREDIS_PASSWORD=\nOIDC_SCOPE=openid\n");
        let secrets = Secrets::load_or_create(&path).unwrap();
        assert_eq!(secrets.required(SECRET_KEY), "chosen by hand");
        assert_eq!(secrets.optional("OIDC_SCOPE"), Some("openid"));
        assert_eq!(secrets.required(REDIS_PASSWORD).len(), 2 * SECRET_BYTES);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\nSECRET_KEY=chosen by hand\nOIDC_SCOPE=openid\n"), "{text}");
        assert_eq!(text.matches("REDIS_PASSWORD=").count(), 1, "{text}");
    }

    #[test]
    fn values_read_as_docker_compose_reads_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("A = b", "b"),
            ("A=\"b c\"", "b c"),
            ("A='b # c'", "b # c"),
            ("A=b # a comment", "b"),
            ("A=b#c", "b#c"),
            ("A=b=c", "b=c"),
            ("A=", ""),
        ] {
            assert_eq!(parse(line).unwrap().get("A").map(String::as_str), Some(value), "{line}");
        }
    }

    #[test]
    fn a_line_that_assigns_nothing_is_named() {
        let error = parse("A=b\nnonsense\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
