//! The gate from outside. Each test starts its own gate and checks what users, scripts and the application see. If a
//! test covers a row of docs/threats.md, its name begins with the row's id.

mod account;
mod admin_callbacks;
mod assertion;
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
