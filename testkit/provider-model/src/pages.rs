//! The provider's HTML pages.

use maud::{DOCTYPE, html};

use crate::User;

/// The sign-in form, which is posted to `action`.
pub(crate) fn sign_in(action: &str, users: &[User], error: Option<&str>) -> String {
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
                ul { @for user in users { li { code { (user.username) } " " (user.groups.join(" ")) } } }
            }
        }
    }
    .into_string()
}

/// A page with one sentence.
pub(crate) fn sentence(text: &str) -> String {
    html! {
        (DOCTYPE)
        html lang="en" { head { meta charset="utf-8"; title { "mlflow" } } body { p id="kc-error-message" { (text) } } }
    }
    .into_string()
}
