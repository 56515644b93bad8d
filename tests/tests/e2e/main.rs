//! The gate from outside: each test starts a gate of its own and looks at what people, scripts and the application see.
//! Names begin with the id of the line of the threat list that they cover, where there is one.

mod account;
mod admin_callbacks;
mod back_channel;
mod bearer;
mod by_hand;
mod callback;
mod chromium;
mod configuration;
mod control_headers;
mod cookies;
mod edge;
mod endpoints;
mod id_token;
mod login;
mod many_groups;
mod outages;
mod propagation;
mod readiness;
mod redis_deployments;
mod redis_failures;
mod redis_load;
mod refresh;
mod refresh_failures;
mod replies;
mod return_to;
mod revocation;
mod revocation_log;
mod sessions;
mod sign_out;
mod strangers;
mod tls_edge;
mod unwritten;
