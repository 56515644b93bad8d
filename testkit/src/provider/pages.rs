//! The provider's HTML pages.

use maud::{DOCTYPE, html};

use super::Recorded;
use super::realm::Realm;

/// The sign-in form.
pub(super) fn sign_in(realm: &Realm, request: &Recorded, error: Option<&str>) -> String {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let path = url::Url::parse(&realm.issuer).map(|url| url.path().to_owned()).unwrap_or_default();
    let action = format!("{path}/login-actions/authenticate?{query}");
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Sign in to mlflow" } }
            body {
                h1 { "Sign in" }
                @if let Some(error) = error { p role="alert" { (error) } }
                form id="kc-form-login" method="post" action=(action) {
                    p { label { "Username " input id="username" name="username" autofocus; } }
                    p { label { "Password " input id="password" name="password" type="password"; } }
                    p { button id="kc-login" { "Sign In" } }
                }
                p { "A development provider. Its users, all with the same password:" }
                ul { @for user in &realm.users { li { code { (user.username) } " " (user.groups.join(" ")) } } }
            }
        }
    }
    .into_string()
}

/// A page with one sentence.
pub(super) fn error(text: &str) -> String {
    html! {
        (DOCTYPE)
        html lang="en" { head { meta charset="utf-8"; title { "mlflow" } } body { p id="kc-error-message" { (text) } } }
    }
    .into_string()
}
