//! The page that a browser gets instead of the redirect to the provider, with `login.keep_fragment`. A browser never
//! sends the fragment of an address (`#…`), so only a script can put it into the path where the login leads. A fragment
//! that would make this path too long is left out. Without scripts, the page leads to the login without the fragment.

use maud::{PreEscaped, html};

use crate::http::endpoint::Endpoint;
use crate::http::pages::{self, document_with_head, login_address};
use crate::http::request::Request;
use crate::http::return_path::ReturnPath;
use crate::methods::Method;

/// Whether a navigation without a session gets this page. A request that does not say by Fetch Metadata that it is a
/// navigation gets the redirect: it may be no browser. So does a path that can't be kept anyway, and the gate's own
/// pages, which have no fragments.
pub fn fits(request: &Request, return_path: &ReturnPath) -> bool {
    request.method() == Method::Get
        && request.header("sec-fetch-mode") == Some("navigate")
        && request.header("sec-fetch-dest") == Some("document")
        && return_path.as_str() == request.target()
        && Endpoint::at(request.raw_path()).is_none()
}

/// The whole HTML document.
pub fn render(return_path: &ReturnPath) -> String {
    let login = login_address(return_path.as_str());
    let head = html! {
        script { (PreEscaped(SCRIPT)) }
        noscript { meta http-equiv="refresh" content={ "0; url=" (login) }; }
    };
    let body = html! {
        main {
            h1 { "Sign-in needed" }
            p { "You are being taken to the sign-in page." }
            div.actions { a.button href=(login) { "Sign in" } }
        }
    };
    document_with_head("Sign-in needed", &head, &body)
}

/// The policy of all pages, which also allows the one script.
pub fn content_security_policy() -> String {
    format!("{}; script-src 'sha256-{SCRIPT_SHA256}'", pages::content_security_policy(None))
}

const SCRIPT: &str = include_str!("fragment_page.js");
/// The SHA-256 hash of `fragment_page.js` in base64. A test compares it with the file.
const SCRIPT_SHA256: &str = "ERauEgbyPEvDmgExl/kE2dSDcTYJmgXPEo41V/NE9E4=";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::http::return_path::MAX_RETURN_PATH_LEN;
    use crate::testing::test;

    #[test]
    fn the_policy_names_the_very_script_of_the_page() {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
        assert_eq!(SCRIPT_SHA256, hash);
        assert!(!SCRIPT.contains("</"), "it stands in HTML as it is");
        let page = render(&ReturnPath::root());
        assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn the_script_leads_to_the_login_and_knows_the_limit_of_its_path() {
        assert!(SCRIPT.contains(&format!("'{}?rd='", Endpoint::Login.path())));
        assert!(SCRIPT.contains(&format!("<= {MAX_RETURN_PATH_LEN}")));
    }

    #[test]
    fn az13_the_path_is_escaped_where_no_script_runs() {
        let page = render(&ReturnPath::or_root("/a\"><script>alert(1)</script>?b='&c=<img>"));
        let login =
            "/oauth2/login?rd=%2Fa%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%3Fb%3D%27%26c%3D%3Cimg%3E";
        assert!(page.contains(&format!(
            "<noscript><meta http-equiv=\"refresh\" content=\"0; url={login}\"></noscript>"
        )));
        assert!(page.contains(&format!("href=\"{login}\"")), "{page}");
    }
}
