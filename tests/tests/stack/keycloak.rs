//! The real Keycloak of the stack: its tokens, and its Admin API for sessions and groups.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oidc_gate_testkit::browser::{Client, Response};
use serde_json::{Value, json};

use crate::stack::{PASSWORD, Stack, variable};

/// The gate's `client_id` at the provider.
const CLIENT_ID: &str = "mlflow";

/// A change at Keycloak. Dropping this takes it back, even if the test fails, because the next test depends on it.
#[derive(Debug)]
#[must_use]
pub struct Change<'a> {
    stack: &'a Stack,
    method: &'static str,
    path: String,
    body: Value,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.stack.admin_json(self.method, &self.path, &self.body);
    }
}

impl Stack {
    /// An access token of a user, from the password grant.
    pub fn token(&self, user: &str) -> String {
        member(&self.tokens(user), "access_token")
    }

    /// The response of the password grant: access, refresh and ID token.
    pub fn tokens(&self, user: &str) -> Value {
        self.grant(&[
            ("grant_type", "password"),
            ("username", user),
            ("password", PASSWORD),
            ("scope", "openid"),
        ])
    }

    /// An access token of the client itself.
    pub fn client_credentials_token(&self) -> String {
        member(&self.grant(&[("grant_type", "client_credentials")]), "access_token")
    }

    /// An access token of Keycloak's administrator, from another realm of the same Keycloak.
    pub fn admin_token(&self) -> String {
        let password = variable("OIDC_GATE_KEYCLOAK_ADMIN_PASSWORD");
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", password.as_str()),
        ];
        member(&granted(self.ask_keycloak("master", "token", &form)), "access_token")
    }

    /// A user's sessions at Keycloak.
    pub fn keycloak_sessions(&self, user: &str) -> Vec<Value> {
        let user = self.user_id(user);
        let sessions = self.admin("GET", &format!("/users/{user}/sessions"));
        sessions.json().as_array().expect("Keycloak lists sessions").clone()
    }

    /// Ends all sessions of a user at Keycloak, so that the next login asks for the password and counts start from
    /// zero.
    pub fn end_keycloak_sessions(&self, user: &str) {
        let user = self.user_id(user);
        self.admin("POST", &format!("/users/{user}/logout"));
    }

    /// Adds the client's service account to a group until the guard is dropped.
    pub fn service_account_joins(&self, group: &str) -> Change<'_> {
        let clients = self.admin("GET", &format!("/clients?clientId={CLIENT_ID}"));
        let client = member(&clients.json()[0], "id");
        let account =
            member(&self.admin("GET", &format!("/clients/{client}/service-account-user")).json(), "id");
        let path = format!("/users/{account}/groups/{}", self.group_id(group));
        self.admin("PUT", &path);
        Change { stack: self, method: "DELETE", path, body: Value::Null }
    }

    /// Ends one session at Keycloak.
    pub fn delete_keycloak_session(&self, sid: &str) {
        self.admin("DELETE", &format!("/sessions/{sid}"));
    }

    /// Changes the realm until the guard is dropped.
    pub fn with_realm(&self, change: &Value, back: &Value) -> Change<'_> {
        self.admin_json("PUT", "", change);
        Change { stack: self, method: "PUT", path: String::new(), body: back.clone() }
    }

    /// Sets the lifetime of access tokens in seconds until the guard is dropped.
    pub fn with_short_access_tokens(&self, seconds: u64) -> Change<'_> {
        self.with_realm(&json!({"accessTokenLifespan": seconds}), &json!({"accessTokenLifespan": 300}))
    }

    /// Lets Keycloak record what it grants, from now on and until the guard is dropped.
    pub fn with_events(&self) -> Change<'_> {
        self.admin("DELETE", "/events");
        let types = json!(["REFRESH_TOKEN", "REFRESH_TOKEN_ERROR", "CLIENT_LOGIN", "CLIENT_LOGIN_ERROR"]);
        self.with_realm(
            &json!({"eventsEnabled": true, "enabledEventTypes": types}),
            &json!({"eventsEnabled": false}),
        )
    }

    /// How many events of this type Keycloak has recorded for a user.
    pub fn events(&self, kind: &str, user: &str) -> usize {
        let path = format!("/events?max=1000&type={kind}&user={}", self.user_id(user));
        self.admin("GET", &path).json().as_array().expect("Keycloak lists events").len()
    }

    /// Changes a user.
    pub fn set_user(&self, user: &str, change: &Value) {
        self.admin_json("PUT", &format!("/users/{}", self.user_id(user)), change);
    }

    /// Resets a user's password, as an administrator does. The new password is the same.
    pub fn reset_password(&self, user: &str) {
        let credential = json!({"type": "password", "value": PASSWORD, "temporary": false});
        self.admin_json("PUT", &format!("/users/{}/reset-password", self.user_id(user)), &credential);
    }

    /// Uses a refresh token.
    pub fn refresh(&self, refresh_token: &str) -> Response {
        self.at_endpoint("token", &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)])
    }

    /// Revokes an access token or a refresh token (RFC 7009).
    pub fn revoke(&self, token: &str) {
        let response = self.at_endpoint("revoke", &[("token", token)]);
        assert_eq!(response.status, 200, "{response}");
    }

    /// Sends a request of the client to one of the provider's endpoints.
    fn at_endpoint(&self, endpoint: &str, form: &[(&str, &str)]) -> Response {
        let secret = variable("OIDC_GATE_CLIENT_SECRET");
        let client = [("client_id", CLIENT_ID), ("client_secret", secret.as_str())];
        self.ask_keycloak("mlflow", endpoint, &[&client, form].concat())
    }

    fn ask_keycloak(&self, realm: &str, endpoint: &str, form: &[(&str, &str)]) -> Response {
        let url = format!("{}/realms/{realm}/protocol/openid-connect/{endpoint}", self.keycloak());
        Client::new().request("POST", &url).form(form).send().unwrap()
    }

    /// Adds a user to a group until the guard is dropped.
    pub fn joins_group(&self, user: &str, group: &str) -> Change<'_> {
        let path = format!("/users/{}/groups/{}", self.user_id(user), self.group_id(group));
        self.admin("PUT", &path);
        Change { stack: self, method: "DELETE", path, body: Value::Null }
    }

    /// Removes a user from a group until the guard is dropped.
    pub fn leaves_group(&self, user: &str, group: &str) -> Change<'_> {
        let path = format!("/users/{}/groups/{}", self.user_id(user), self.group_id(group));
        self.admin("DELETE", &path);
        Change { stack: self, method: "PUT", path, body: Value::Null }
    }

    /// Waits for the next whole second and returns it.
    pub fn next_second(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let before = now();
        self.eventually("the next second", || now() > before);
        now()
    }

    pub fn user_id(&self, user: &str) -> String {
        let users = self.admin("GET", &format!("/users?exact=true&username={user}"));
        member(&users.json()[0], "id")
    }

    fn group_id(&self, group: &str) -> String {
        let groups = self.admin("GET", &format!("/groups?exact=true&search={group}"));
        member(&groups.json()[0], "id")
    }

    fn grant(&self, form: &[(&str, &str)]) -> Value {
        granted(self.at_endpoint("token", form))
    }

    /// Calls Keycloak's Admin API for the realm.
    pub fn admin(&self, method: &str, path: &str) -> Response {
        self.admin_json(method, path, &Value::Null)
    }

    fn admin_json(&self, method: &str, path: &str, body: &Value) -> Response {
        let url = format!("{}/admin/realms/mlflow{path}", self.keycloak());
        let request = Client::new().request(method, &url).bearer(&self.admin_token());
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().unwrap();
        assert!((200..300).contains(&response.status), "{method} {path}: {response}");
        response
    }
}

/// When a token expires, in seconds since 1970.
pub fn expiry_of(token: &str) -> u64 {
    claims(token)["exp"].as_u64().expect("an expiry")
}

/// The name of the user of a token.
pub fn user_of(token: &str) -> String {
    member(&claims(token), "preferred_username")
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap_or_else(|| panic!("no token: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn granted(response: Response) -> Value {
    assert_eq!(response.status, 200, "Keycloak gives no token: {response}");
    response.json()
}

fn member(document: &Value, name: &str) -> String {
    document[name].as_str().unwrap_or_else(|| panic!("no {name} in {document}")).to_owned()
}
