//! OpenID Connect: discovery, authorization request, callback, token endpoint, ID token, UserInfo, refresh, logout from
//! here and from the provider, the account page.

pub mod account;
pub mod admin_callback;
pub mod answer;
pub mod authorization;
pub mod backchannel;
pub mod browser_login;
pub mod callback;
pub mod exchanges;
pub mod fetch;
pub mod flow;
pub mod id_token;
pub mod introspection;
pub mod login_loop;
pub mod logout;
pub mod logout_notification;
pub mod metadata;
pub mod pace;
pub mod provider;
pub mod provider_client;
pub mod refresh;
pub(crate) mod removals;
pub mod token_endpoint;
pub mod token_revocation;
pub mod userinfo;
pub mod verify;
