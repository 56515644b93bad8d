//! A request, parsed once. What two parsers could read differently is refused here.

use crate::caller::Caller;
use crate::error::Malformed;
use crate::http::path::CanonicalPath;
use crate::methods::Method;

/// Placeholder for the id of a request that has none.
pub const NO_REQUEST_ID: &str = "-";

/// The head of a request. Header names are in lower case, as Envoy delivers them.
#[derive(Clone, Debug)]
pub struct Request {
    headers: Vec<(String, Vec<u8>)>,
    method: Method,
    path: String,
    query: Option<String>,
    canonical: CanonicalPath,
    caller: Caller,
}

/// What kind of reply the client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A browser that navigates to a page: redirects and HTML.
    Navigation,
    /// gRPC: a `grpc-status`.
    Grpc,
    /// Scripts, `fetch`, API clients: status and JSON.
    Api,
}

/// A request that could not be parsed, with the parts that are still known.
#[derive(Clone, Debug)]
pub struct Unparsed {
    /// The part that parsers could read differently.
    pub malformed: Malformed,
    headers: Vec<(String, Vec<u8>)>,
}

impl Unparsed {
    /// As [`Request::id`].
    pub fn id(&self) -> &str {
        id(&self.headers)
    }

    /// As [`Request::reader`].
    pub fn reader(&self) -> Audience {
        reader(&self.headers, single(&self.headers, ":method").and_then(Method::parse))
    }

    /// The path as it was sent, for the log. The query is left out because it may contain an authorization code.
    pub fn path(&self) -> String {
        let target = single(&self.headers, ":path").unwrap_or_default();
        let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        String::from_utf8_lossy(path).into_owned()
    }
}

impl Request {
    /// Parses Envoy's header map, pseudo-headers included.
    ///
    /// # Errors
    /// The request is malformed.
    pub fn parse(headers: Vec<(String, Vec<u8>)>) -> Result<Self, Box<Unparsed>> {
        match Self::line(&headers) {
            Ok((method, path, query, canonical)) => {
                Ok(Self { headers, method, path, query, canonical, caller: Caller::default() })
            }
            Err(malformed) => Err(Box::new(Unparsed { malformed, headers })),
        }
    }

    /// The method, path, query and canonical path.
    fn line(
        headers: &[(String, Vec<u8>)],
    ) -> Result<(Method, String, Option<String>, CanonicalPath), Malformed> {
        let method = single(headers, ":method").ok_or(Malformed::Method)?;
        let method = Method::parse(method).ok_or(Malformed::Method)?;
        // Envoy joins two Host headers to "a,b".
        let authority = single(headers, ":authority").ok_or(Malformed::Authority)?;
        if authority.is_empty() || authority.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b',') {
            return Err(Malformed::Authority);
        }
        let target = single(headers, ":path").ok_or(Malformed::Target)?;
        let target = std::str::from_utf8(target).map_err(|_| Malformed::Path)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if query.is_some_and(|query| query.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'#'))
        {
            return Err(Malformed::Path);
        }
        let canonical = CanonicalPath::parse(path)?;
        // RFC 9700 4.3.2: no access token in the query, where every log on the way would record it.
        if pairs(query).any(|(name, _)| name == "access_token") {
            return Err(Malformed::TokenInQuery);
        }
        Ok((method, path.to_owned(), query.map(str::to_owned), canonical))
    }

    /// Adds the client's address.
    #[must_use]
    pub fn with_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// The client's address, as Envoy knows it.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The method, one of those that may reach an application.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The path exactly as it was sent, without the query. The gate's own endpoints match only this form.
    pub fn raw_path(&self) -> &str {
        &self.path
    }

    /// The path on which policy is evaluated.
    pub fn canonical_path(&self) -> &CanonicalPath {
        &self.canonical
    }

    /// Path and query as they were sent.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Decoded query parameters in order.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        pairs(self.query.as_deref())
    }

    /// All values of a header, in order.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_slice())
    }

    /// The value of a header that is sent once; `None` when it is absent, repeated or not ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Whether the header is present, with any value.
    pub fn has_header(&self, name: &str) -> bool {
        has(&self.headers, name)
    }

    /// All header names.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Envoy's request id if it is well-formed. A user can quote it.
    pub fn id(&self) -> &str {
        id(&self.headers)
    }

    /// Whether the method is safe (RFC 9110 9.2.1) and the request is not an upgrade to another protocol.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head | Method::Options) && !self.has_header("upgrade")
    }

    /// Whether a browser prefetches or prerenders the page and the user has not opened it yet. `Sec-Purpose` is the
    /// standard header; the others are older names for it.
    pub fn is_speculative(&self) -> bool {
        self.has_header("sec-purpose")
            || ["purpose", "x-purpose", "x-moz"].iter().flat_map(|name| self.header_values(name)).any(
                |value| {
                    let value = value.to_ascii_lowercase();
                    ["prefetch", "prerender", "preview", "instant"]
                        .iter()
                        .any(|purpose| value.windows(purpose.len()).any(|part| part == purpose.as_bytes()))
                },
            )
    }

    /// Who reads the reply. Like [`Request::audience`], but a form sent by a user counts as a navigation too: it gets a
    /// page, and never a redirect to the login.
    pub fn reader(&self) -> Audience {
        reader(&self.headers, Some(self.method))
    }

    /// What kind of reply the client can use. Only a top-level navigation is redirected to the login. To an upload, a
    /// login page would look like success.
    pub fn audience(&self) -> Audience {
        audience(&self.headers, Some(self.method))
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn text<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    single(headers, name)
        .filter(|value| value.iter().all(|byte| (0x20..=0x7e).contains(byte)))
        .and_then(|value| std::str::from_utf8(value).ok())
}

fn has(headers: &[(String, Vec<u8>)], name: &str) -> bool {
    headers.iter().any(|(candidate, _)| candidate == name)
}

/// The request id that Envoy put into these headers.
pub fn id(headers: &[(String, Vec<u8>)]) -> &str {
    text(headers, "x-request-id")
        .filter(|id| {
            !id.is_empty()
                && id.len() <= 64
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
        .unwrap_or(NO_REQUEST_ID)
}

fn reader(headers: &[(String, Vec<u8>)], method: Option<Method>) -> Audience {
    match (audience(headers, method), text(headers, "sec-fetch-dest"), text(headers, "sec-fetch-mode")) {
        (Audience::Api, Some("document"), None | Some("navigate"))
        | (Audience::Api, None, Some("navigate"))
            if !is_script(headers) =>
        {
            Audience::Navigation
        }
        (audience, _, _) => audience,
    }
}

fn audience(headers: &[(String, Vec<u8>)], method: Option<Method>) -> Audience {
    if text(headers, "content-type").is_some_and(|value| value.starts_with("application/grpc")) {
        return Audience::Grpc;
    }
    let navigates = matches!(method, Some(Method::Get | Method::Head))
        && !is_script(headers)
        && match (text(headers, "sec-fetch-dest"), text(headers, "sec-fetch-mode")) {
            (Some(dest), mode) => dest == "document" && mode.is_none_or(|mode| mode == "navigate"),
            (None, Some(mode)) => mode == "navigate",
            (None, None) => text(headers, "accept")
                .is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html")),
        };
    if navigates { Audience::Navigation } else { Audience::Api }
}

/// Whether the headers show a script, whatever else was sent.
fn is_script(headers: &[(String, Vec<u8>)]) -> bool {
    has(headers, "upgrade") || has(headers, "x-requested-with")
}

/// The value of a header that occurs once. `None` if it is absent or repeated.
fn single<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    let mut values = headers.iter().filter(|(candidate, _)| candidate == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::test;

    pub(crate) fn request(
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Request, Malformed> {
        let mut all = vec![(":method", method), (":path", target), (":authority", "localhost:5000")];
        all.extend_from_slice(headers);
        Request::parse(all.into_iter().map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())).collect())
            .map_err(|unparsed| unparsed.malformed)
    }

    #[test]
    fn path_and_query_are_kept_as_sent() {
        let request = request("GET", "/a%2Fb?c=d&e=%20f", &[]).unwrap();
        assert_eq!(request.raw_path(), "/a%2Fb");
        assert_eq!(request.target(), "/a%2Fb?c=d&e=%20f");
        assert_eq!(request.query_pairs().nth(1), Some(("e".into(), " f".into())));
    }

    #[test]
    fn pm05_requests_without_method_path_or_authority_are_malformed() {
        let headers = |names: &[(&str, &str)]| {
            names.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect::<Vec<_>>()
        };
        for (parts, expected) in [
            (headers(&[(":path", "/"), (":authority", "a")]), Malformed::Method),
            (headers(&[(":method", "GET"), (":authority", "a")]), Malformed::Target),
            (headers(&[(":method", "CONNECT"), (":authority", "a:443")]), Malformed::Method),
            (headers(&[(":method", "get"), (":path", "/"), (":authority", "a")]), Malformed::Method),
            (headers(&[(":method", "FOO"), (":path", "/"), (":authority", "a")]), Malformed::Method),
            (headers(&[(":method", "OPTIONS"), (":path", "*"), (":authority", "a")]), Malformed::Target),
            (headers(&[(":method", "GET"), (":path", "/")]), Malformed::Authority),
            (headers(&[(":method", "GET"), (":path", "/"), (":authority", "a,b")]), Malformed::Authority),
            (
                headers(&[(":method", "GET"), (":path", "/"), (":path", "/b"), (":authority", "a")]),
                Malformed::Target,
            ),
        ] {
            assert_eq!(
                Request::parse(parts.clone()).err().map(|unparsed| unparsed.malformed),
                Some(expected),
                "{parts:?}"
            );
        }
    }

    #[test]
    fn bt11_a_token_in_the_query_is_refused_however_it_is_spelled() {
        for target in ["/x?access_token=abc", "/x?a=b&access%5Ftoken=abc", "/x?access_token"] {
            assert_eq!(request("GET", target, &[]).err(), Some(Malformed::TokenInQuery), "{target}");
        }
    }

    #[test]
    fn az10_only_a_top_level_navigation_is_one() {
        const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");
        type Case = (&'static str, &'static [(&'static str, &'static str)], Audience);
        let table: &[Case] = &[
            ("GET", &[HTML], Audience::Navigation),
            ("HEAD", &[("accept", "Text/HTML")], Audience::Navigation),
            ("GET", &[("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")], Audience::Navigation),
            ("GET", &[HTML, ("sec-fetch-dest", "iframe"), ("sec-fetch-mode", "navigate")], Audience::Api),
            ("GET", &[HTML, ("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors")], Audience::Api),
            ("POST", &[HTML, ("sec-fetch-dest", "document")], Audience::Api),
            ("GET", &[HTML, ("x-requested-with", "XMLHttpRequest")], Audience::Api),
            ("GET", &[HTML, ("upgrade", "websocket")], Audience::Api),
            ("GET", &[("accept", "*/*")], Audience::Api),
            ("GET", &[("accept", "application/json")], Audience::Api),
            ("GET", &[], Audience::Api),
            ("POST", &[("content-type", "application/grpc+proto")], Audience::Grpc),
        ];
        for (method, headers, expected) in table {
            assert_eq!(request(method, "/", headers).unwrap().audience(), *expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn f502_a_person_reads_the_answer_to_a_form_and_to_an_address_nobody_understands() {
        const PERSON: [(&str, &str); 2] = [("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")];
        for method in ["POST", "GET", "HEAD"] {
            assert_eq!(request(method, "/", &PERSON).unwrap().reader(), Audience::Navigation, "{method}");
        }
        assert_eq!(request("POST", "/", &PERSON).unwrap().audience(), Audience::Api, "but is not redirected");
        type Headers = &'static [(&'static str, &'static str)];
        let scripts: [Headers; 5] = [
            &[("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors")],
            &[("sec-fetch-dest", "iframe"), ("sec-fetch-mode", "navigate")],
            &[("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate"), ("x-requested-with", "x")],
            &[("accept", "text/html")],
            &[],
        ];
        for headers in scripts {
            assert_eq!(request("POST", "/", headers).unwrap().reader(), Audience::Api, "{headers:?}");
        }
        let unparsed = |path: &str, headers: &[(&str, &str)]| {
            let mut all =
                vec![(":method", "GET"), (":path", path), (":authority", "a"), ("x-request-id", "r-1")];
            all.extend_from_slice(headers);
            Request::parse(all.into_iter().map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())).collect())
                .unwrap_err()
        };
        let typed = unparsed("/a%5cb?code=x", &PERSON);
        assert_eq!(
            (typed.reader(), typed.id(), typed.path().as_str()),
            (Audience::Navigation, "r-1", "/a%5cb")
        );
        assert_eq!(unparsed("/a%5cb", &[]).reader(), Audience::Api);
    }

    #[test]
    fn f501_what_a_browser_loads_ahead_of_time_is_told_by_its_purpose() {
        for header in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "prefetch;anonymous-client-ip"),
            ("sec-purpose", "\u{e9}"),
            ("purpose", "prefetch"),
            ("purpose", "Prefetch"),
            ("x-purpose", "preview"),
            ("x-purpose", ": preview"),
            ("x-moz", "prefetch"),
        ] {
            assert!(request("GET", "/", &[header]).unwrap().is_speculative(), "{header:?}");
            let twice = [("purpose", "x"), header, header];
            assert!(request("GET", "/", &twice).unwrap().is_speculative(), "{header:?}");
        }
        for headers in [&[][..], &[("purpose", "reading")], &[("x-moz", "")], &[("accept", "prefetch")]] {
            assert!(!request("GET", "/", headers).unwrap().is_speculative(), "{headers:?}");
        }
    }

    #[test]
    fn a_repeated_or_non_ascii_header_has_no_single_value() {
        let request = request("GET", "/", &[("a", "1"), ("a", "2"), ("b", "\u{e9}")]).unwrap();
        assert_eq!(request.header("a"), None);
        assert_eq!(request.header("b"), None);
        assert_eq!(request.header_values("a").count(), 2);
    }
}
