//! The provider: the test kit's model of Keycloak, in virtual time and with cheap signatures.

pub mod admin;
mod announce;
mod environment;
mod sign;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

pub use announce::{announce, tell_admin_url};
use oidc_gate_provider_model::{
    COOKIE, Client, Content, Grant, Holder, KeyRing, REALM, Realm, RealmSettings, Reply, Request, Session,
    Time, User,
};
pub use sign::{Key, verify};

use crate::executor::Moment;
use crate::ledger::Ledger;
use crate::plan::ProviderPlan;
use crate::rng::Rng;
use crate::world::{EPOCH_MILLIS, subject};
use environment::Simulated;

/// The issuer.
pub const ISSUER: &str = "https://idp.example/realms/mlflow";
/// The client's id.
pub const CLIENT: &str = "mlflow";
/// The client's secret.
pub const SECRET: &str = "client s3cret+%";
/// The group that grants access.
pub const GROUP: &str = "/mlflow_users";
/// The gate's origin.
pub const ORIGIN: &str = "https://mlflow.example";
/// The gate's host.
pub const AUTHORITY: &str = "mlflow.example";

/// The provider.
pub struct Provider {
    realm: RefCell<Realm<Simulated>>,
    ledger: Rc<Ledger>,
}

/// The response of the authorization endpoint to a browser.
pub enum Authorized {
    /// A redirect back with a code. `sid` is the browser's session at the provider from now on.
    Back {
        /// The redirect's target.
        location: String,
        /// The provider's session cookie.
        sid: String,
    },
    /// The user must enter a password first.
    AskPassword,
    /// An error page without a redirect.
    Error,
}

impl Provider {
    /// A provider with this many users.
    pub fn new(plan: &ProviderPlan, users: usize, rng: Rng, ledger: Rc<Ledger>) -> Self {
        let users = (0..users)
            .map(|number| User { subject: subject(number), ..User::new(&username(number), &[GROUP]) });
        let client = Client {
            id: CLIENT.to_owned(),
            secret: SECRET.to_owned(),
            redirect_uris: vec![format!("{ORIGIN}/*")],
        };
        let keys = KeyRing::new(vec![Key::new(0)], Vec::new());
        let environment = Simulated::new(rng, ledger.clone());
        let mut realm = Realm::new(ISSUER, client, users.collect(), keys, environment);
        let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        realm.settings = RealmSettings {
            revoke_refresh_token: plan.rotation,
            access_token_lifespan: secs(plan.access_lifetime),
            sso_session_idle_timeout: secs(plan.sso_idle),
            sso_session_max_lifespan: secs(plan.sso_max),
            use_refresh_tokens: plan.refresh_tokens,
            backchannel_logout_session_required: plan.announces_sid,
            shares_sessions: true,
            ..RealmSettings::default()
        };
        realm.lenient = true;
        Self { realm: RefCell::new(realm), ledger }
    }

    /// The realm at this time.
    fn realm(&self, now: Moment) -> RefMut<'_, Realm<Simulated>> {
        let mut realm = self.realm.borrow_mut();
        let micros = EPOCH_MILLIS * 1000 + now.micros();
        realm.now = Time::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
        realm.environment.now = now;
        realm
    }

    /// Handles a request of the gate.
    pub fn handle(&self, request: &Request, now: Moment) -> Reply {
        if request.grant() == Some(Grant::AuthorizationCode) {
            self.ledger.code_presented(request.form_field("code").unwrap_or_default(), now);
        }
        let reply = self.realm(now).respond(request);
        if request.grant() == Some(Grant::RefreshToken) {
            self.ledger.presented(request.form_field("refresh_token").unwrap_or_default(), now);
        }
        reply
    }

    /// Handles an authorization request of a browser. `sso` is its session cookie. Without a session, the result is
    /// [`Authorized::AskPassword`], and the browser repeats the request with `password`, the number of its user.
    pub fn authorize(
        &self,
        query: &str,
        sso: Option<&str>,
        password: Option<usize>,
        now: Moment,
    ) -> Authorized {
        let mut realm = self.realm(now);
        let is_signed_in = sso.is_some_and(|sid| realm.browser_session(sid).is_some());
        let page =
            if password.is_some() { "login-actions/authenticate" } else { "protocol/openid-connect/auth" };
        let form = password.map(|user| format!("username={}&password=password123", username(user)));
        let request = from_browser(page, query, sso, form);
        match request.map(|request| realm.respond(&request).content) {
            Some(Content::Redirect(to, parameters)) => {
                let sid = parameters.iter().find(|(name, _)| name == "session_state");
                let sid = sid.map(|(_, sid)| sid.clone());
                let location = Reply::new(302, Content::Redirect(to, parameters)).location();
                match (location, sid) {
                    (Some(location), Some(sid)) => Authorized::Back { location, sid },
                    _ => Authorized::Error,
                }
            }
            // A user whose account is disabled gets the form in spite of the session, and gives up.
            Some(Content::Html(_)) if password.is_none() && !is_signed_in => Authorized::AskPassword,
            _ => Authorized::Error,
        }
    }

    /// Handles a sign-out request of a browser (RP-Initiated Logout). If Keycloak asks for a confirmation, the user
    /// confirms. Returns the session for which logout tokens must be sent before the redirect, and the redirect's
    /// target.
    pub fn end_session_request(
        &self,
        query: &str,
        sso: Option<&str>,
        now: Moment,
    ) -> (Option<Session>, Option<String>) {
        let confirmation = sso.map(|_| "confirmLogout=yes".to_owned());
        let Some(request) = from_browser("protocol/openid-connect/logout", query, sso, confirmation) else {
            return (None, None);
        };
        let reply = self.realm(now).respond(&request);
        let location = reply.location();
        (reply.ended.filter(|session| session.attached), location)
    }

    /// Issues an access token to an API client, in a session for it alone (password grant).
    pub fn grant(&self, user: usize, now: Moment) -> Option<String> {
        let mut realm = self.realm(now);
        let user = realm.users.get(user).filter(|user| user.enabled).cloned()?;
        let sid = realm.begin_session(&user, None);
        let auth_time = Some(realm.now);
        let holder = Holder { auth_time, ..Holder::new(&user, Some(&sid), "openid profile email") };
        realm.token_response(&holder)["access_token"].as_str().map(str::to_owned)
    }
}

fn username(number: usize) -> String {
    format!("person{number}")
}

/// A request of a browser with this session cookie. With a form it is posted.
fn from_browser(page: &str, query: &str, sso: Option<&str>, form: Option<String>) -> Option<Request> {
    let method = if form.is_some() { "POST" } else { "GET" };
    let cookie = sso.map(|sid| ("cookie".to_owned(), format!("{COOKIE}={sid}")));
    let target = format!("{REALM}/{page}?{query}");
    Request::new(method, &target, cookie.into_iter().collect(), form.unwrap_or_default().as_bytes())
}
