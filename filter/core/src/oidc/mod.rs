//! OpenID Connect: discovery, authorization request, callback, token endpoint, ID token, UserInfo, logout.

pub mod attempts;
pub mod authorization;
pub mod callback;
pub mod id_token;
pub mod logout;
pub mod metadata;
pub mod provider;
pub mod relying_party;
pub mod token_endpoint;
pub mod userinfo;
pub mod verify;
