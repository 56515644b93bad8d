//! The gate as a client of one provider: what one worker knows of it, and requests that carry the client's secret.

use std::rc::Rc;

use crate::config::{ClientAuthentication, Config};
use crate::encoding::base64;
use crate::host::{Callout, Host};
use crate::oidc::fetch;
use crate::oidc::metadata::{Called, Needs};
use crate::oidc::provider::ProviderCache;

/// The gate as one client of one provider, in one worker. Browser login and bearer tokens both need it.
pub struct ProviderClient {
    /// The host environment.
    pub host: Rc<dyn Host>,
    /// The whole configuration.
    pub config: Rc<Config>,
    /// The cached metadata and keys.
    pub provider: Rc<ProviderCache>,
}

impl ProviderClient {
    /// The provider stays unknown until [`ProviderCache::run`] runs.
    pub fn new(config: Rc<Config>, host: Rc<dyn Host>) -> Self {
        let algorithms = config.algorithms().collect();
        let needs = Needs::of(&config);
        let provider = Rc::new(ProviderCache::new(host.clone(), config.issuer.clone(), algorithms, needs));
        Self { host, config, provider }
    }

    /// The origin of the provider's `end_session_endpoint`, to which the sign-out form redirects.
    pub fn form_origin(&self) -> Option<String> {
        let provider = self.provider.now()?;
        provider.metadata.end_session_endpoint.as_ref().ok().map(|url| url.origin().ascii_serialization())
    }

    /// A form POST to one of the provider's endpoints, with client authentication (RFC 6749 2.3.1).
    pub fn post(&self, endpoint: &Called, parameters: &[(&str, &str)]) -> Callout {
        let client = &self.config.client;
        let secret = client.secret.as_ref().and_then(|secret| secret.expose_str()).unwrap_or_default();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        let authorization = match client.authentication {
            ClientAuthentication::ClientSecretPost => {
                form.append_pair("client_id", &client.id).append_pair("client_secret", secret);
                None
            }
            ClientAuthentication::ClientSecretBasic => {
                // RFC 6749 2.3.1: id and secret are form-encoded before they are joined.
                let encoded =
                    |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                Some(base64(format!("{}:{}", encoded(&client.id), encoded(secret)).as_bytes()))
            }
        };
        let mut callout = fetch::callout(&self.config.issuer, "POST", endpoint, form.finish().into_bytes());
        callout.headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        let basic =
            authorization.map(|credentials| ("authorization".to_owned(), format!("Basic {credentials}")));
        callout.headers.extend(basic);
        callout
    }
}
