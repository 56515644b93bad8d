//! The way of a request, end to end in memory.

mod account;
mod back_channel;
mod bearer;
mod callback;
mod claims;
mod login;
mod refresh;
mod sessions;
mod strangers;

use super::Decision;
use crate::policy::Permit;

/// What a script sends.
const API: &[(&str, &str)] = &[("accept", "*/*")];

fn forwarded(decision: Decision) -> Permit {
    match decision {
        Decision::Forward { permit, .. } => permit,
        Decision::Reply { reply, reason } => panic!("{reason}: {reply:?}"),
    }
}
