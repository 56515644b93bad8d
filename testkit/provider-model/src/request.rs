//! A request to the provider, and the endpoint that it is for.

use std::collections::HashSet;

/// A request as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// Header lines. Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded form in the body. Empty if there is none.
    pub form: Vec<(String, String)>,
}

impl Request {
    /// A request. `None` if the realm has no such endpoint.
    pub fn new(method: &str, target: &str, headers: Vec<(String, String)>, body: &[u8]) -> Option<Self> {
        let path = target.split('?').next().unwrap_or_default();
        let endpoint = path.strip_prefix(crate::REALM).and_then(Endpoint::at)?;
        let form = form_urlencoded::parse(body).into_owned().collect();
        Some(Self { endpoint, method: method.to_owned(), target: target.to_owned(), headers, form })
    }

    /// The grant that a request to the token endpoint asks for.
    pub fn grant(&self) -> Option<Grant> {
        let at_token = self.endpoint == Endpoint::Token;
        self.form_field("grant_type").filter(|_| at_token).and_then(Grant::named)
    }

    /// The first header with this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// A query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// A field of the form.
    pub fn form_field(&self, name: &str) -> Option<&str> {
        first(&self.form, name)
    }

    /// RFC 6749 3.1: a parameter must not occur more than once.
    pub(crate) fn repeated_parameter(&self) -> Option<String> {
        repeated(self.parameters().map(|(name, _)| name))
    }

    /// RFC 6749 3.2: the same for the token endpoint.
    pub(crate) fn repeated_form_field(&self) -> Option<String> {
        repeated(self.form.iter().map(|(name, _)| name.clone()))
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let headers = self.headers.iter().filter(|(candidate, _)| candidate == "cookie");
        let mut pairs =
            headers.flat_map(|(_, value)| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    fn parameters(&self) -> impl Iterator<Item = (String, String)> + '_ {
        form_urlencoded::parse(self.query().as_bytes()).into_owned()
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

fn repeated(mut names: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(name.clone()))
}

/// The provider's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// The JWK set.
    Jwks,
    /// The authorization endpoint, for browsers.
    Authorization,
    /// The target of the sign-in form.
    SignIn,
    /// The token endpoint.
    Token,
    /// UserInfo.
    UserInfo,
    /// RP-initiated logout, for browsers.
    EndSession,
    /// RFC 7009.
    Revocation,
    /// RFC 7662.
    Introspection,
}

impl Endpoint {
    /// The endpoint of a path below the issuer.
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/protocol/openid-connect/certs" => Self::Jwks,
            "/protocol/openid-connect/auth" => Self::Authorization,
            "/login-actions/authenticate" => Self::SignIn,
            "/protocol/openid-connect/token" => Self::Token,
            "/protocol/openid-connect/userinfo" => Self::UserInfo,
            "/protocol/openid-connect/logout" => Self::EndSession,
            "/protocol/openid-connect/revoke" => Self::Revocation,
            "/protocol/openid-connect/token/introspect" => Self::Introspection,
            _ => return None,
        })
    }
}

/// What a client requests from the token endpoint: `grant_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The code exchange of a login.
    AuthorizationCode,
    /// A refresh.
    RefreshToken,
    /// A service's own grant.
    ClientCredentials,
    /// A person's password, for tests.
    Password,
}

impl Grant {
    /// The grant of a `grant_type`.
    fn named(grant_type: &str) -> Option<Self> {
        Some(match grant_type {
            "authorization_code" => Self::AuthorizationCode,
            "refresh_token" => Self::RefreshToken,
            "client_credentials" => Self::ClientCredentials,
            "password" => Self::Password,
            _ => return None,
        })
    }
}
