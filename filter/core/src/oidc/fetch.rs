//! Requests to the provider, and the fetch of its metadata and keys.

use url::{Position, Url};

use crate::config::Issuer;
use crate::error::{Outlook, Trouble};
use crate::host::{Callout, Host};
use crate::jose::jwk_set::{JwkSet, JwkSetError};
use crate::oidc::answer::{self, ProviderEndpoint};
use crate::oidc::metadata::{Called, Metadata, MetadataError};

/// Our `User-Agent` (RFC 9110 10.1.5): some firewalls refuse requests without one.
const USER_AGENT: &str = concat!("oidc-gate/", env!("CARGO_PKG_VERSION"));

/// Why metadata or keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No usable answer.
    #[error("{} ({url})", trouble.detail)]
    NoAnswer {
        /// The endpoint and its answer.
        trouble: Trouble,
        /// The URL that was called.
        url: Url,
    },
    /// The document is not UTF-8.
    #[error("{}: not UTF-8", .0.name())]
    NotUtf8(ProviderEndpoint),
    /// The metadata can't be used.
    #[error("{name}: {0}", name = ProviderEndpoint::Discovery.name())]
    Metadata(MetadataError),
    /// The JWK set can't be used.
    #[error("{name}: {0}", name = ProviderEndpoint::Jwks.name())]
    Keys(JwkSetError),
    /// The JWK set has no usable key, with the reasons.
    #[error("{name}: no key can verify signatures: {0}", name = ProviderEndpoint::Jwks.name())]
    NoKey(String),
}

impl FetchError {
    fn outlook(&self) -> Outlook {
        match self {
            Self::NoAnswer { trouble, .. } => trouble.outlook,
            // The document may be an error page of a proxy in front of the provider.
            Self::NotUtf8(_) | Self::Metadata(MetadataError::Json(_)) | Self::Keys(_) => Outlook::Passing,
            Self::Metadata(_) | Self::NoKey(_) => Outlook::Lasting,
        }
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self { outlook: error.outlook(), detail: error.to_string().into() }
    }
}

/// Fetches the metadata. Returns the document, too.
///
/// # Errors
/// See [`FetchError`].
pub async fn metadata(host: &dyn Host, issuer: &Issuer) -> Result<(String, Metadata), FetchError> {
    let mut url = issuer.parsed.clone();
    let path = format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let well_known = Called { url, cluster: issuer.cluster.clone() };
    let document = get(host, issuer, &well_known, ProviderEndpoint::Discovery).await?;
    let metadata = Metadata::parse(document.as_bytes(), issuer).map_err(FetchError::Metadata)?;
    Ok((document, metadata))
}

/// Fetches the keys. Returns the document, too.
///
/// # Errors
/// See [`FetchError`].
pub async fn keys(
    host: &dyn Host,
    issuer: &Issuer,
    metadata: &Metadata,
) -> Result<(String, JwkSet), FetchError> {
    let document = get(host, issuer, &metadata.jwks_uri, ProviderEndpoint::Jwks).await?;
    let keys = JwkSet::parse(document.as_bytes()).map_err(FetchError::Keys)?;
    if keys.is_empty() { Err(FetchError::NoKey(keys.reasons())) } else { Ok((document, keys)) }
}

async fn get(
    host: &dyn Host,
    issuer: &Issuer,
    called: &Called,
    endpoint: ProviderEndpoint,
) -> Result<String, FetchError> {
    let callout = callout(issuer, "GET", called, Vec::new());
    let reply = answer::ask(host, endpoint, callout)
        .await
        .map_err(|refusal| FetchError::NoAnswer { trouble: refusal.trouble, url: called.url.clone() })?;
    String::from_utf8(reply.body).map_err(|_| FetchError::NotUtf8(endpoint))
}

/// A request to the provider, through the cluster of its origin. `:authority` is the URL's, because a provider may
/// derive its issuer from it.
pub fn callout(issuer: &Issuer, method: &str, Called { url, cluster }: &Called, body: Vec<u8>) -> Callout {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    Callout {
        cluster: cluster.clone(),
        headers: [
            (":method", method),
            (":path", target),
            (":authority", authority),
            (":scheme", url.scheme()),
            ("accept", "application/json"),
            ("user-agent", USER_AGENT),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        body,
        timeout: issuer.timeout,
    }
}
