//! `client`: the gate's registration at the provider.

use super::text;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{Client, ClientAuthentication};
use crate::config::raw;
use crate::secret;

/// Whether the client secret is required.
#[derive(Clone, Copy)]
pub(super) enum Secret {
    /// Required for login.
    Required,
    /// A bearer-only gate requests no tokens.
    Optional,
}

pub(super) fn client(raw: raw::Client, need: Secret, place: &Place<'_>) -> Result<Client, Reported> {
    let id = field!(raw.id, place).text().required(identifier);
    let secret = field!(raw.secret, place);
    let secret = match (secret.setting.is_absent(), need) {
        (true, Secret::Required) => {
            Err(secret.place.refuse("is missing; login and bearer.check_interval need it"))
        }
        _ => secret.optional(|written, at| client_secret(written.0, at)),
    };
    let authentication = raw.authentication.or_else(|| Ok(ClientAuthentication::ClientSecretBasic));
    Ok(Client { id: id?, secret: secret?, authentication: authentication? })
}

/// RFC 6749 A.1: printable ASCII.
fn identifier(written: String, place: &Place<'_>) -> Result<String, Reported> {
    let id = text::name(written, place)?;
    if id.bytes().all(is_vschar) {
        Ok(id)
    } else {
        Err(place.refuse("must be printable ASCII (RFC 6749 A.1)"))
    }
}

/// RFC 6749 A.2: printable ASCII. The most common error is a line break at the end of a file.
fn client_secret(written: secret::Secret, place: &Place<'_>) -> Result<secret::Secret, Reported> {
    if written.expose().trim_ascii().is_empty() {
        Err(place.refuse("is empty"))
    } else if written.expose().iter().copied().all(is_vschar) {
        Ok(written)
    } else {
        Err(place.refuse("must be printable ASCII (RFC 6749 A.2); is there a line break at its end?"))
    }
}

fn is_vschar(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::config::scalar::{SecretText, Text};
    use crate::config::setting::Setting;
    use crate::testing::test;

    fn read(secret: Setting<SecretText>, need: Secret) -> Result<Client, String> {
        let raw = raw::Client {
            id: Setting::Given(Text("mlflow".into())),
            secret,
            authentication: Setting::Absent,
        };
        checked(|place| client(raw, need, place))
    }

    fn given(secret: &str) -> Setting<SecretText> {
        Setting::Given(SecretText(secret::Secret::new(secret)))
    }

    #[test]
    fn a_secret_is_needed_for_login_only() {
        assert!(read(given("s3cret"), Secret::Required).is_ok());
        assert!(read(Setting::Absent, Secret::Optional).unwrap().secret.is_none());
        let error = read(Setting::Absent, Secret::Required).unwrap_err();
        assert_eq!(error, "here.secret: is missing; login and bearer.check_interval need it");
    }

    #[test]
    fn a_secret_that_is_given_is_a_good_one_even_where_none_is_needed() {
        for wrong in ["", "  ", "hunter2\n", "hunter2\r\n", "hunter\u{e9}", "hunter\u{0}2"] {
            for need in [Secret::Required, Secret::Optional] {
                let error = read(given(wrong), need).unwrap_err();
                assert!(error.starts_with("here.secret: ") && !error.contains("hunter"), "{error}");
            }
        }
    }

    #[test]
    fn client_ids_are_printable_ascii() {
        assert!(checked(|place| identifier("https://rp.example/a b".into(), place)).is_ok());
        for wrong in ["", "ml\u{e9}", "a\tb"] {
            assert!(checked(|place| identifier(wrong.into(), place)).is_err(), "{wrong}");
        }
    }
}
