//! The gate's own HTML pages. They have no scripts, except the one of `fragment_page`, and load nothing from other
//! origins. The template engine escapes every value.

use std::borrow::Cow;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::error::LoginError;
use crate::http::endpoint::Endpoint;
use crate::principal::Principal;
use crate::redis::MAX_VALUE_LEN;

/// Shown for an error that only an administrator can correct.
pub const ADMINISTRATOR: &str = "An administrator has to act; trying again does not help until then.";

/// Shown when the provider left out the groups because there are too many for a token.
pub const GROUPS_ELSEWHERE: &str = "the identity provider sent no list of groups, probably because it is too long for a token. \
     Administrators: configure the provider to send fewer groups, or application roles.";
/// How many groups the page of a refusal shows.
const MAX_GROUPS: usize = 20;

/// One page. Values are escaped; the fixed texts are not.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    status: u16,
    request_id: &'a str,
    title: &'a str,
    text: Cow<'a, str>,
    principal: Option<(&'a Principal, &'a [String])>,
    details: Vec<(&'static str, &'a str)>,
    hint: Option<&'static str>,
    actions: Vec<Action<'a>>,
}

#[derive(Clone, Debug)]
enum Action<'a> {
    Link { label: &'static str, path: &'a str },
    SignIn { path: &'a str },
    SignOut,
}

impl<'a> Page<'a> {
    /// A page that quotes the request id.
    pub fn new(status: u16, request_id: &'a str) -> Self {
        Self {
            status,
            request_id,
            title: "",
            text: Cow::Borrowed(""),
            principal: None,
            details: Vec::new(),
            hint: None,
            actions: Vec::new(),
        }
    }

    /// The heading.
    #[must_use]
    pub fn title(mut self, title: &'a str) -> Self {
        self.title = title;
        self
    }

    /// One sentence that describes what happened.
    #[must_use]
    pub fn text(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.text = text.into();
        self
    }

    /// The user who is signed in, and the groups that would grant access.
    #[must_use]
    pub fn principal(mut self, principal: &'a Principal, needed: &'a [String]) -> Self {
        self.principal = Some((principal, needed));
        self
    }

    /// A labelled value, such as the provider's error code.
    #[must_use]
    pub fn detail(mut self, label: &'static str, value: &'a str) -> Self {
        self.details.push((label, value));
        self
    }

    /// What the user or an administrator can do next.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// A "try again" link to the same path.
    #[must_use]
    pub fn retry(mut self, path: &'a str) -> Self {
        self.actions.push(Action::Link { label: "Try again", path });
        self
    }

    /// A link to the application's start page.
    #[must_use]
    pub fn start_page(mut self) -> Self {
        self.actions.push(Action::Link { label: "Go to the start page", path: "/" });
        self
    }

    /// A link to the page that the user asked for.
    #[must_use]
    pub fn go_on(mut self, path: &'a str) -> Self {
        self.actions.push(Action::Link { label: "Continue", path });
        self
    }

    /// A link that starts a new login and then leads to `path`.
    #[must_use]
    pub fn sign_in(mut self, path: &'a str) -> Self {
        self.actions.push(Action::SignIn { path });
        self
    }

    /// A sign-out button, if there is a session to end.
    #[must_use]
    pub fn sign_out(mut self, shown: bool) -> Self {
        if shown {
            self.actions.push(Action::SignOut);
        }
        self
    }
}

/// Never allows scripts. Forms may lead to the gate, and from there to the provider's end-session endpoint.
pub fn content_security_policy(form_origin: Option<&str>) -> String {
    let form = match form_origin {
        Some(origin) => format!("'self' {origin}"),
        None => "'self'".to_owned(),
    };
    format!(
        "default-src 'none'; style-src 'sha256-{STYLE_SHA256}'; form-action {form}; frame-ancestors 'none'; base-uri 'none'"
    )
}

/// The page for a callback that failed. Its button starts a new login that leads to `return_path`.
pub fn login_error<'a>(page: Page<'a>, error: &'a LoginError, return_path: &'a str) -> Page<'a> {
    const NOT_COMPLETED: &str = "Sign-in could not be completed";
    let page = match error {
        LoginError::MissingState => page
            .title(NOT_COMPLETED)
            .text("Missing OAuth state: this browser has no sign-in in progress that matches this response.")
            .hint(
                "The sign-in took too long, or it began at another address or in another browser. Or more than five \
                 sign-ins began in this browser, one in each tab, and the oldest was dropped. Cookies must be \
                 allowed for this site.",
            ),
        LoginError::Provider { error, description } => provider_error(page, error, description.as_deref()),
        LoginError::WrongIssuer => page
            .title("Sign-in refused")
            .text("The response did not come from the expected identity provider."),
        LoginError::CodeUsed => page
            .title("This sign-in was already used")
            .text("Each sign-in works once. Reloading or going back does not repeat it."),
        LoginError::CodeRefused(_) => page
            .title(NOT_COMPLETED)
            .text("The identity provider no longer accepts this sign-in; it may have taken too long."),
        LoginError::ClientRefused(_) => page
            .title(NOT_COMPLETED)
            .text(format!("The identity provider does not accept this gate. {ADMINISTRATOR}"))
            .hint(
                "Administrators: client.id and client.secret in the gate's configuration must match the client at \
                 the provider. The log has the provider's message under the request id below.",
            ),
        LoginError::IdToken(error) if error.is_forgery() => page
            .title("Sign-in refused")
            .text(
                "The response was not issued by the identity provider, or not for this sign-in. Nobody was signed in.",
            )
            .hint(
                "Administrators: the log has the reason under the request id below. Somebody may be tampering with \
                 sign-ins.",
            ),
        LoginError::TokenResponse(_)
        | LoginError::IdToken(_)
        | LoginError::UserInfo(_)
        | LoginError::UserInfoOfAnother => page
            .title(NOT_COMPLETED)
            .text(format!("The identity provider's response can't be used. {ADMINISTRATOR}"))
            .hint("Administrators: the log has the reason under the request id below."),
        LoginError::TooLarge(size) => page
            .title(NOT_COMPLETED)
            .text(format!(
                "The identity provider sends more data about your account than a session can hold: {size} bytes, and \
                 the limit is {MAX_VALUE_LEN}."
            ))
            .hint("Administrators: configure the provider to send fewer groups."),
        LoginError::Loop => page
            .title("Sign-in keeps coming back")
            .text("You were signed in several times within a minute, but no session was found afterwards.")
            .hint(
                "Allow cookies for this site. Administrators: check that clocks agree, that every Envoy has the same \
                 session.keys, and that Redis does not lose data.",
            ),
    };
    page.sign_in(return_path)
}

fn provider_error<'a>(page: Page<'a>, error: &'a str, description: Option<&'a str>) -> Page<'a> {
    let page = page
        .title("The identity provider refused the sign-in")
        .text("It gave this reason:")
        .detail("Error", error);
    let page = match description {
        Some(description) => page.detail("Description", description),
        None => page,
    };
    match error {
        "invalid_scope" => page.hint(
            "Invalid scopes: this gate requests a scope that its client at the provider does not have. \
             Administrators: compare login.scope in the gate's configuration with the scopes of the client.",
        ),
        "access_denied" => page.hint("You, or the provider on your behalf, declined the sign-in."),
        "login_required" | "interaction_required" => page.hint("Sign in again."),
        "server_error" | "temporarily_unavailable" => page.hint("Wait a moment and sign in again."),
        _ => page.hint("Administrators: look up the request id below in the log."),
    }
}

/// The whole HTML document.
pub fn render(page: &Page<'_>) -> String {
    let body = html! {
        main {
            // Users report errors by their status; 200 tells nothing.
            @if page.status != 200 { p.status { (page.status) } }
            h1 { (page.title) }
            p { (page.text) }
            @if !page.details.is_empty() {
                dl { @for (label, value) in &page.details { dt { (label) } dd { (printable(value)) } } }
            }
            @if let Some((principal, needed)) = page.principal { (account(principal, needed)) }
            @if let Some(hint) = page.hint { p.hint { (hint) } }
            @if !page.actions.is_empty() { div.actions { @for action in &page.actions { (button(action)) } } }
            footer { "Request id " code { (page.request_id) } }
        }
    };
    document(page.title, &body)
}

/// A whole HTML document with this body.
pub fn document(title: &str, body: &Markup) -> String {
    document_with_head(title, &html! {}, body)
}

/// A whole HTML document with this body, and more in its head.
pub fn document_with_head(title: &str, head: &Markup, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
                (head)
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

fn account(principal: &Principal, needed: &[String]) -> Markup {
    html! {
        dl {
            dt { "Signed in as" }
            dd { strong { (printable(principal.display_name())) } }
            dt { "Your groups" }
            dd { (groups(principal, MAX_GROUPS)) }
            @if !needed.is_empty() {
                dt { "One of these is needed" }
                dd { @for group in needed { code { (printable(group)) } " " } }
            }
        }
    }
}

/// The first `most` of the principal's groups.
pub fn groups(principal: &Principal, most: usize) -> Markup {
    html! {
        @if principal.groups_elsewhere { "unknown: " (GROUPS_ELSEWHERE) }
        @else if principal.groups.is_empty() { "none" }
        @for group in principal.groups.iter().take(most) { code { (printable(group)) } " " }
        @if principal.groups.len() > most { "…" }
    }
}

fn button(action: &Action<'_>) -> Markup {
    html! {
        @match action {
            Action::Link { label, path } => a.button href=(path) { (label) },
            Action::SignIn { path } => a.button href=(login_address(path)) { "Sign in" },
            Action::SignOut => form method="post" action=(Endpoint::Logout.path()) {
                button type="submit" { "Sign out" }
            },
        }
    }
}

/// The address that begins a login and then leads to `path`.
pub fn login_address(path: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("rd", path).finish();
    format!("{}?{query}", Endpoint::Login.path())
}

/// A value from outside, fit to show: without control characters and direction overrides, and cut to a limit.
pub fn printable(value: &str) -> String {
    value
        .chars()
        .filter(|c| {
            !c.is_control()
                && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
        .take(300)
        .collect()
}

const STYLE: &str = include_str!("page.css");
/// The SHA-256 hash of `page.css` in base64. The content security policy allows only this style. A test compares it
/// with the file.
const STYLE_SHA256: &str = "qSpQzztyouJU2ahZ1vYVMu5tX6rHJo/a5lIYMsx4CWw=";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use base64::Engine as _;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_policy_names_the_very_style_of_the_page() {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        assert_eq!(STYLE_SHA256, hash);
    }

    #[test]
    fn az13_every_reflected_value_is_escaped() {
        let error = LoginError::Provider {
            error: "<script>alert(1)</script>".into(),
            description: Some("\"><img src=x onerror=alert(1)>\u{202e}".into()),
        };
        let page = render(&login_error(Page::new(400, "id"), &error, "/"));
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn cf09_no_page_may_run_scripts_or_be_framed() {
        let policy = content_security_policy(Some("https://idp.example"));
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"));
        assert!(policy.contains("form-action 'self' https://idp.example;") && !policy.contains("unsafe"));
        assert!(!render(&Page::new(404, "id").title("x").retry("/a\"b")).contains("<script"));
    }
}
