//! Protection against cross-site request forgery. Browsers attach cookies to requests that other sites cause, so a
//! cookie does not prove that the user wanted the request.

use crate::error::Rejection;
use crate::http::request::Request;
use crate::methods::Method;

/// The body types that a form can send without a script.
const FORM_TYPES: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Refuses an unsafe method that another site's page caused. Clients other than browsers send neither
/// `Sec-Fetch-Site` nor `Origin`.
///
/// # Errors
/// [`Rejection::CrossSite`].
pub fn check(request: &Request, origin: &str) -> Result<(), Rejection> {
    if request.is_safe() || is_same(request, origin) { Ok(()) } else { Err(Rejection::CrossSite) }
}

fn is_same(request: &Request, origin: &str) -> bool {
    match request.header("sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        None if request.has_header("sec-fetch-site") => false,
        None => !request.has_header("origin") || request.header("origin") == Some(origin),
    }
}

/// Who caused a request that needs the user's intent, such as a sign-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// The user, by a form button on a page of this origin or by the address bar.
    Person,
    /// A navigation that may have started without the user: a link, a refresh. The gate can ask the user to confirm.
    Navigation,
    /// A request that the user does not see: an image, a frame, a ping, another site's form.
    Page,
}

/// Who caused the request. Content that users write into the application's pages is trusted no more than another site:
/// markup can navigate (`<meta http-equiv=refresh>`), load a resource or send a POST (`<a ping>`), but cannot press a
/// button. `Sec-Fetch-User` does not tell a clicked link from a refresh, because browsers send it for a few seconds
/// after any click or key press on the page. A typed address has `Sec-Fetch-Site: none`, because no page started it.
pub fn asked_by(request: &Request, origin: &str) -> AskedBy {
    let posted = request.method() == Method::Post;
    let has_metadata = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"]
        .iter()
        .any(|name| request.has_header(name));
    if !has_metadata {
        // Browsers released before 2023, and all browsers over plain http, send no Fetch Metadata. Without it a click
        // cannot be told from a refresh.
        return match posted {
            true if is_same(request, origin) && is_form(request) => AskedBy::Person,
            true => AskedBy::Page,
            false => AskedBy::Navigation,
        };
    }
    let is = |name: &str, value: &str| request.header(name) == Some(value);
    let navigates = is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    let from_us = is("sec-fetch-site", "same-origin") || is("sec-fetch-site", "none");
    match (navigates, posted) {
        (false, _) => AskedBy::Page,
        (true, true) if from_us => AskedBy::Person,
        (true, true) => AskedBy::Page,
        (true, false) if is("sec-fetch-site", "none") && is("sec-fetch-user", "?1") => AskedBy::Person,
        (true, false) => AskedBy::Navigation,
    }
}

/// Whether the request can come from a form. A ping has its own content type and headers (HTML: hyperlink auditing).
fn is_form(request: &Request) -> bool {
    let is_form_type = match request.header("content-type") {
        Some(value) => {
            let kind = value.split(';').next().unwrap_or_default().trim();
            FORM_TYPES.iter().any(|form| form.eq_ignore_ascii_case(kind))
        }
        None => !request.has_header("content-type"),
    };
    is_form_type && !request.has_header("ping-from") && !request.has_header("ping-to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::request;
    use crate::testing::test;

    const ORIGIN: &str = "https://mlflow.example";

    #[test]
    fn f1201_only_a_form_of_ours_or_a_typed_address_is_a_persons_own_action() {
        use AskedBy::{Navigation, Page, Person};
        /// The values for site, mode, destination and user.
        type Metadata = [&'static str; 4];
        let table: [(&str, Metadata, AskedBy); 18] = [
            ("GET", ["same-origin", "navigate", "document", "?1"], Navigation),
            ("GET", ["none", "navigate", "document", "?1"], Person),
            ("GET", ["same-origin", "navigate", "document", ""], Navigation),
            ("GET", ["none", "navigate", "document", ""], Navigation),
            ("GET", ["same-origin", "navigate", "document", "?0"], Navigation),
            ("GET", ["same-site", "navigate", "document", "?1"], Navigation),
            ("GET", ["cross-site", "navigate", "document", "?1"], Navigation),
            ("GET", ["same-origin", "navigate", "iframe", "?1"], Page),
            ("GET", ["same-origin", "no-cors", "image", ""], Page),
            ("GET", ["same-origin", "cors", "empty", ""], Page),
            ("GET", ["same-origin", "", "", ""], Page),
            ("GET", ["", "navigate", "document", "?1"], Navigation),
            ("POST", ["same-origin", "navigate", "document", ""], Person),
            ("POST", ["same-origin", "no-cors", "empty", ""], Page),
            ("POST", ["same-origin", "cors", "empty", ""], Page),
            ("POST", ["same-origin", "navigate", "iframe", "?1"], Page),
            ("POST", ["cross-site", "navigate", "document", "?1"], Page),
            ("POST", ["same-origin", "", "", ""], Page),
        ];
        for (method, metadata, expected) in table {
            let names = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"];
            let headers: Vec<_> =
                names.into_iter().zip(metadata).filter(|(_, value)| !value.is_empty()).collect();
            let request = request(method, "/oauth2/logout", &headers).unwrap();
            assert_eq!(asked_by(&request, ORIGIN), expected, "{method} {metadata:?}");
        }
        let twice = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(asked_by(&request("POST", "/", &twice).unwrap(), ORIGIN), Page);
    }

    #[test]
    fn f1201_without_fetch_metadata_a_get_asks_and_a_post_has_to_be_a_form_of_this_origin() {
        use AskedBy::{Navigation, Page, Person};
        const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
        const OURS: (&str, &str) = ("origin", ORIGIN);
        type Case = (&'static str, &'static [(&'static str, &'static str)], AskedBy);
        let table: &[Case] = &[
            ("GET", &[("accept", "text/html")], Navigation),
            ("POST", &[OURS, FORM], Person),
            ("POST", &[OURS], Person),
            ("POST", &[], Person),
            ("POST", &[OURS, ("content-type", "multipart/form-data; boundary=x")], Person),
            ("POST", &[("origin", "https://evil.example"), FORM], Page),
            ("POST", &[("origin", "null"), FORM], Page),
            ("POST", &[OURS, ("content-type", "text/ping")], Page),
            ("POST", &[OURS, ("content-type", "application/json")], Page),
            ("POST", &[OURS, ("ping-to", "https://mlflow.example/oauth2/logout")], Page),
            ("POST", &[OURS, FORM, ("ping-from", "https://mlflow.example/")], Page),
        ];
        for (method, headers, expected) in table {
            let request = request(method, "/oauth2/logout", headers).unwrap();
            assert_eq!(asked_by(&request, ORIGIN), *expected, "{method} {headers:?}");
        }
    }
}
