//! Names of request headers that no client may set. They control Envoy, or an application could read from them an
//! identity, an address, or another target than the one that policy has checked. docs/headers.md has the same list for
//! operators.
//!
//! Names are compared as CGI-style servers read them: case is ignored, and every character other than a letter or digit
//! counts as `-`. To such a server `X+Forwarded.User` and `x-forwarded-user` are the same.

/// Complete names.
const NAMES: &[&str] = &[
    // Credentials for the gate or a proxy.
    "authorization",
    "proxy-authorization",
    // Envoy's own headers, see `OF_ENVOY`.
    "x-client-trace-id",
    "x-request-id",
    // The client's address.
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-originating-ip",
    "x-real-ip",
    // The target of the request.
    "path-info",
    "script-name",
    "x-host",
    "x-method-override",
    "x-rewrite-url",
    "x-script-name",
    // The identity, in names that no prefix covers.
    "auth-password",
    "auth-type",
    "auth-user",
    "cas-user",
    "client-cert",
    "client-cert-chain",
    "ct-remote-user",
    "es-client-authentication",
    "es-secondary-authorization",
    "es-security-runas-user",
    "logon-user",
    "proxy-remote-user",
    "smuser",
    "thanos-tenant",
    "unmapped-remote-user",
    "x-access-token",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-arr-clientcert",
    "x-current-user",
    "x-email",
    "x-end-user",
    "x-endpoint-api-userinfo",
    "x-grafana-id",
    "x-grafana-user",
    "x-group",
    "x-groups",
    "x-hasura-role",
    "x-hasura-user-id",
    "x-id-token",
    "x-identity",
    "x-login",
    "x-mlflow-authorization",
    "x-mlflow-workspace",
    "x-organizr-user",
    "x-presto-user",
    "x-principal",
    "x-proxiedentitieschain",
    "x-real-user",
    "x-refresh-token",
    "x-role",
    "x-roles",
    "x-rut-user",
    "x-scope-orgid",
    "x-serverless-authorization",
    "x-spiffe-id",
    "x-subject",
    "x-trino-original-user",
    "x-trino-user",
    "x-user",
    "x-userid",
    "x-userinfo",
    "x-username",
    // Attributes of Shibboleth.
    "affiliation",
    "cn",
    "displayname",
    "entitlement",
    "eppn",
    "givenname",
    "ismemberof",
    "mail",
    "memberof",
    "persistent-id",
    "sn",
    "targeted-id",
    "uid",
    "unscoped-affiliation",
];

/// The prefixes of header families. None of them is a prefix of another.
const PREFIXES: &[&str] = &[
    // Control of Envoy and service meshes.
    "l5d-",
    "x-envoy-",
    "x-istio-",
    // Address, identity and target.
    "cf-connecting-",
    "x-appengine-",
    "x-azure-",
    "x-forwarded-",
    "x-http-",
    "x-original-",
    // The identity. `-ws` stands for the `$WS…` of WebSphere.
    "-ws",
    "authenticate-",
    "cf-access-",
    "impersonate-",
    "iv-",
    "kubeflow-",
    "oam-",
    "oidc-",
    "osso-",
    "remote-",
    "saml-",
    "shib-",
    "sm-",
    "ssl-client-",
    "tailscale-",
    "teleport-",
    "wl-proxy-",
    "x-alfresco-remote-",
    "x-amzn-ava-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-auth-",
    "x-authelia-",
    "x-authenticated-",
    "x-authentik-",
    "x-cas-",
    "x-claim-",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-consumer-",
    "x-cosmos-",
    "x-credential-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-jwt-",
    "x-ldap-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-oidc-",
    "x-okta-",
    "x-pomerium-",
    "x-proxy-",
    "x-remote-",
    "x-rstudio-",
    "x-saml-",
    "x-ssl-",
    "x-sso-",
    "x-tls-",
    "x-token-",
    "x-user-",
    "x-vouch-",
    "x-webauth-",
    "x-webobjects-",
];

/// Headers that Envoy's connection manager overwrites with its own values. Under any other spelling the value is the
/// client's.
const OF_ENVOY: &[&str] = &["x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-request-id"];

/// Headers of Envoy that inform but control nothing. An operator may let them through.
const HARMLESS_OF_ENVOY: &[&str] = &[
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
];

/// Headers that the gate itself sets, and headers that carry credentials for it.
const OF_THE_GATE: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-host",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-mlflow-authorization",
];

/// Whether an operator may forward a header unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It may be forwarded.
    Possible,
    /// It is not removed anyway.
    Needless,
    /// Never. The field is the reason.
    Never(&'static str),
}

/// Whether an operator may forward the header of this name (in lower case) unchanged.
pub fn trust(name: &str) -> Trust {
    if OF_THE_GATE.contains(&name) || name.starts_with("x-oidc-gate-") {
        Trust::Never("is reserved for the gate: the application could not tell who set it")
    } else if name.starts_with("x-envoy-") && !HARMLESS_OF_ENVOY.contains(&name) {
        Trust::Never("controls Envoy: a client could make it retry, wait or count without limit")
    } else if Reserved::new(Vec::new()).covers(name) {
        Trust::Possible
    } else {
        Trust::Needless
    }
}

/// The headers that are removed from every request.
#[derive(Clone, Debug)]
pub struct Reserved {
    names: Vec<&'static str>,
    prefixes: Vec<&'static str>,
    trusted: Vec<String>,
    /// The header of the assertion.
    assertion: Option<String>,
}

impl Reserved {
    /// `trusted` are the names (in lower case) that the operator lets through, in exactly this spelling.
    pub fn new(trusted: Vec<String>) -> Self {
        let [mut names, mut prefixes] = [NAMES.to_vec(), PREFIXES.to_vec()];
        names.sort_unstable();
        prefixes.sort_unstable();
        Self { names, prefixes, trusted, assertion: None }
    }

    /// And this header (in lower case), which the gate sets.
    #[must_use]
    pub fn with_assertion(self, header: Option<String>) -> Self {
        Self { assertion: header, ..self }
    }

    /// Whether a header of this name (in lower case) is removed. This takes two searches and no allocation.
    pub fn covers(&self, name: &str) -> bool {
        let is_assertion = || self.assertion.as_deref().is_some_and(|header| folded(header).eq(folded(name)));
        (self.has_name(name) || self.has_prefix(name) || is_assertion())
            && !OF_ENVOY.contains(&name)
            && !self.trusted.iter().any(|trusted| trusted == name)
    }

    fn has_name(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.bytes().cmp(folded(name))).is_ok()
    }

    fn has_prefix(&self, name: &str) -> bool {
        // Binary search: no prefix begins with another, so only the last prefix that sorts before the name can match.
        let after = self.prefixes.partition_point(|prefix| prefix.bytes().le(folded(name)));
        let candidate = after.checked_sub(1).and_then(|at| self.prefixes.get(at));
        candidate.is_some_and(|prefix| {
            prefix.len() <= name.len() && prefix.bytes().eq(folded(name).take(prefix.len()))
        })
    }
}

/// A name as CGI-style servers read it.
fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn reserved() -> Reserved {
        Reserved::new(Vec::new())
    }

    #[test]
    fn the_header_of_the_assertion_is_reserved_in_every_spelling() {
        let reserved = reserved().with_assertion(Some("x-app-identity".to_owned()));
        for name in ["x-app-identity", "x_app_identity", "x.app-identity"] {
            assert!(reserved.covers(name) && !Reserved::new(Vec::new()).covers(name), "{name}");
        }
        assert!(!reserved.covers("x-app-identity-2"));
    }

    #[test]
    fn no_prefix_begins_with_another_and_no_name_is_there_twice() {
        let reserved = reserved();
        for pair in reserved.prefixes.windows(2) {
            assert!(!pair[1].starts_with(pair[0]), "{pair:?}");
        }
        for pair in reserved.names.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        for name in &reserved.names {
            assert!(OF_ENVOY.contains(name) || !reserved.has_prefix(name), "{name} is in a family");
            assert!(folded(name).eq(name.bytes()), "{name}");
        }
    }

    #[test]
    fn f803_names_that_applications_take_for_an_identity_are_known_in_every_spelling() {
        let reserved = reserved();
        for name in [
            "authorization",
            "proxy-authorization",
            "x-forwarded-user",
            "x-forwarded-groups",
            "x-forwarded-login",
            "x-forwarded-displayname",
            "x-forwarded-client-cert",
            "x-auth-request-email",
            "x-oidc-gate-assertion",
            "x-original-url",
            "x-http-method-override",
            "x-webauth-groups",
            "x-webauth-email",
            "remote-user",
            "remote-groups",
            "remote-email",
            "remote-name",
            "x-remote-groups",
            "x-remote-extra-scopes",
            "tailscale-user-login",
            "cf-access-authenticated-user-email",
            "x-goog-authenticated-user-email",
            "x-amzn-oidc-identity",
            "x-ms-client-principal",
            "x-ms-client-principal-name",
            "x-authentik-username",
            "ssl-client-s-dn",
            "x-ssl-client-verify",
            "x-envoy-retry-on",
            "x-envoy-upstream-alt-stat-name",
            "$wsru",
            "kubeflow-userid",
            "impersonate-user",
        ] {
            assert!(reserved.covers(name), "{name}");
            // All characters of a header name besides letters and digits (RFC 9110 5.6.2).
            for byte in "!#$%&'*+-.^_`|~".chars() {
                let spelled = name.replace(['-', '$'], &byte.to_string());
                assert!(reserved.covers(&spelled), "{spelled}");
                assert!(reserved.covers(&name.replacen('-', &byte.to_string(), 1)), "{name} with one {byte}");
            }
        }
    }

    #[test]
    fn f803_what_envoy_says_passes_in_its_own_spelling_only() {
        let reserved = reserved();
        for name in OF_ENVOY {
            assert!(!reserved.covers(name), "{name}");
            for other in [name.replace('-', "_"), name.replace('-', "+"), name.replacen('-', ".", 1)] {
                assert!(reserved.covers(&other), "{other}");
            }
        }
    }

    #[test]
    fn ordinary_headers_pass() {
        let reserved = reserved();
        for name in [
            ":path",
            ":authority",
            "accept",
            "accept-encoding",
            "content-type",
            "cookie",
            "user-agent",
            "x-requested-with",
            "traceparent",
            "tracestate",
            "x-b3-traceid",
            "grpc-timeout",
            "sec-fetch-mode",
            "origin",
            "referer",
            "x-csrf-token",
            "x-api-key",
            "x-envoy",
            "x-users",
            "x-author",
            "smart",
            "ivory",
            "x-",
            "",
            "-",
        ] {
            assert!(!reserved.covers(name), "{name}");
        }
    }

    #[test]
    fn a_trusted_name_passes_as_it_is_written_and_in_no_other_spelling() {
        let reserved = Reserved::new(vec!["x-envoy-peer-metadata".to_owned()]);
        assert!(!reserved.covers("x-envoy-peer-metadata"));
        for name in ["x-envoy-peer-metadata-id", "x_envoy_peer_metadata", "x-envoy-retry-on"] {
            assert!(reserved.covers(name), "{name}");
        }
    }

    #[test]
    fn f801_what_controls_envoy_and_what_the_gate_says_can_not_be_trusted() {
        for name in ["x-envoy-retry-on", "x-envoy-upstream-alt-stat-name", "x-envoy-original-dst-host"] {
            assert!(matches!(trust(name), Trust::Never(_)), "{name}");
        }
        for name in OF_THE_GATE.iter().copied().chain(["x-oidc-gate-assertion"]) {
            assert!(matches!(trust(name), Trust::Never(_)), "{name}");
        }
        for name in HARMLESS_OF_ENVOY.iter().copied().chain(["x-forwarded-client-cert", "x-scope-orgid"]) {
            assert_eq!(trust(name), Trust::Possible, "{name}");
        }
        for name in OF_ENVOY.iter().copied().chain(["accept", "traceparent"]) {
            assert_eq!(trust(name), Trust::Needless, "{name}");
        }
    }

    /// The documentation lists the same names. (Under Wasm there is no file to read, so the text is compiled in.)
    #[test]
    fn the_page_about_headers_lists_exactly_these_names() {
        let page = include_str!("../../../docs/headers.md");
        let table = page.split("## What is removed").nth(1).unwrap().split("\n## ").next().unwrap();
        let mut listed: Vec<String> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
            .map(|name| match name.strip_suffix('*') {
                Some(prefix) => folded(prefix).map(char::from).chain(['*']).collect(),
                None => name.to_owned(),
            })
            .collect();
        let mut known: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        known.extend(PREFIXES.iter().map(|prefix| format!("{prefix}*")));
        listed.sort();
        known.sort();
        assert_eq!(listed, known);
    }
}
