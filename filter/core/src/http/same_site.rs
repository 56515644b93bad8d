//! Who makes a browser send a request: a cookie comes along by itself, so it has to be asked.

use crate::error::Rejection;
use crate::http::request::Request;

/// Types that a form's body has without any script.
const FORM_TYPES: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Refuses an unsafe method from another site's page (RFC 10017). Clients that are no browsers send neither header.
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

/// Who asks for something that a person has to want, such as to sign out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// The person, by a button of a form on a page of this origin, or by the address bar.
    Person,
    /// A page that the browser goes to, perhaps by itself: a link, a refresh. The person can be asked.
    Navigation,
    /// Something that the person does not see: an image, a frame, a ping, another site's form.
    Page,
}

/// Who asks. What people write into the application's pages counts as little as what stands on other sites: markup can
/// send the reader somewhere (`<meta http-equiv=refresh>`), load something, or send a POST (`<a ping>`), but it can't
/// press a button. `Sec-Fetch-User` does not tell a clicked link from a refresh: browsers send it with whatever follows
/// a click or a key anywhere on the page within a few seconds. What is typed has no page that began it.
pub fn asked_by(request: &Request, origin: &str) -> AskedBy {
    let posted = request.method() == "POST";
    let has_metadata = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"]
        .iter()
        .any(|name| request.has_header(name));
    if !has_metadata {
        // Browsers of before 2023, and all of them over plain http. A click can't be told from a refresh here.
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

/// Whether it can be a form. A ping has a type and headers of its own (HTML: hyperlink auditing).
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
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ORIGIN: &str = "https://mlflow.example";

    #[test]
    fn f1201_only_a_form_of_ours_or_a_typed_address_is_a_persons_own_action() {
        use AskedBy::{Navigation, Page, Person};
        /// Site, mode, destination, user.
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
