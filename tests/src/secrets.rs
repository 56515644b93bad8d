//! Texts that must not appear anywhere, in any encoding in which they could leak.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Shorter texts could appear by chance.
const MIN_LENGTH: usize = 8;

/// A set of secrets.
#[derive(Debug)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub fn new(secrets: Vec<String>) -> Self {
        Self(secrets.into_iter().filter(|secret| secret.len() >= MIN_LENGTH).collect())
    }

    /// The first secret in `text`, with its encoding.
    pub fn find_in(&self, text: &str) -> Option<String> {
        self.0.iter().find_map(|secret| {
            forms(secret)
                .into_iter()
                .find(|(_, form)| text.contains(form.as_str()))
                .map(|(how, form)| format!("a secret {how}: {form}"))
        })
    }
}

fn forms(secret: &str) -> [(&'static str, String); 4] {
    [
        ("as it is", secret.to_owned()),
        ("URL-encoded", form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
        ("in base64", STANDARD.encode(secret)),
        ("in base64url", URL_SAFE_NO_PAD.encode(secret)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secrets = Secrets::new(vec!["s+/%=abcdef".to_owned()]);
        for (how, form) in forms("s+/%=abcdef") {
            let found = secrets.find_in(&format!("before {form} after"));
            assert!(found.is_some(), "{how}");
        }
        assert_eq!(secrets.find_in("nothing here"), None);
    }
}
