//! The calls of Keycloak's Admin API that end sessions, for the light stack. They need no password: the provider
//! listens on loopback and has only development users.

use std::sync::Mutex;

use http::Method;
use http::request::Parts;
use oidc_gate_provider_model::{Content, Realm, Reply};
use serde_json::{Value, json};

use super::admin::Change;
use super::environment::Kit;
use super::serving::make_calls;
use super::state::State;

const PREFIX: &str = "/admin/realms/mlflow";

/// Answers a call to the Admin API. All other requests get 404.
pub(super) async fn answer(state: &Mutex<State>, head: &Parts) -> Reply {
    let not_found = || Reply::json(404, json!({"error": "not found"}));
    let Some(path) = head.uri.path().strip_prefix(PREFIX) else { return not_found() };
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let change = match (&head.method, segments.as_slice()) {
        (&Method::GET, ["users"]) => {
            return Reply::json(200, users(&State::lock(state).realm, head.uri.query()));
        }
        (&Method::GET, ["users", id, "sessions"]) => {
            return Reply::json(200, sessions(&State::lock(state).realm, id));
        }
        (&Method::POST, ["users", id, "logout"]) => {
            username_of(&State::lock(state).realm, id).map(Change::LogOutUser)
        }
        (&Method::DELETE, ["sessions", sid]) => Some(Change::DeleteSession((*sid).to_owned())),
        (&Method::POST, ["logout-all"]) => Some(Change::LogOutAll),
        (&Method::POST, ["push-revocation"]) => Some(Change::PushNotBefore),
        _ => None,
    };
    let Some(change) = change else { return not_found() };
    let calls = change.apply(&mut State::lock(state));
    make_calls(state, calls).await;
    Reply::new(204, Content::Empty)
}

fn username_of(realm: &Realm<Kit>, id: &str) -> Option<String> {
    realm.users.iter().find(|user| user.subject == id).map(|user| user.username.clone())
}

fn users(realm: &Realm<Kit>, query: Option<&str>) -> Value {
    let wanted = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "username")
        .map(|(_, value)| value.into_owned());
    let fits = |username: &str| wanted.as_ref().is_none_or(|wanted| wanted == username);
    realm
        .users
        .iter()
        .filter(|user| fits(&user.username))
        .map(|user| json!({"id": user.subject, "username": user.username, "enabled": user.enabled}))
        .collect()
}

fn sessions(realm: &Realm<Kit>, id: &str) -> Value {
    let live = realm.sessions.keys().filter_map(|sid| Some((sid, realm.live_session(sid)?)));
    live.filter(|(_, session)| session.subject == id)
        .map(|(sid, session)| {
            json!({
                "id": sid, "username": session.username, "userId": session.subject,
                "start": session.started.secs() * 1000, "lastAccess": session.last_refresh.secs() * 1000,
            })
        })
        .collect()
}
