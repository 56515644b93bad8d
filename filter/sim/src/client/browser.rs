//! A browser: one cookie jar, several tabs, and a user who clicks, waits, closes tabs and signs out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::exchange::{Ask, Seen, exchange};
use super::jar::Jar;
use crate::executor::Moment;
use crate::ledger::{Rule, SESSION_COOKIE};
use crate::plan::FaultProfile;
use crate::provider::{Authorized, ISSUER, ORIGIN, announce};
use crate::sync::within;
use crate::world::{Act, World};

/// Most redirects that a browser follows.
const MAX_HOPS: usize = 12;
/// Pages of the application.
const PAGES: [&str; 5] = ["/", "/#/experiments", "/experiments/1?page=2", "/models", "/deep/link?x=1&y=%2F"];

/// One browser.
pub struct Browser {
    world: Rc<World>,
    number: usize,
    user: usize,
    jar: Jar,
    /// The provider's session cookie.
    sso: RefCell<Option<String>>,
    envoy: Option<usize>,
    /// When the latest logins were completed.
    logins: RefCell<Vec<Moment>>,
    shown: Cell<bool>,
}

/// The end of a navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landing {
    /// The application served the page.
    Application,
    /// The gate served a page with this status.
    Page(u16),
    /// The provider refused the user.
    Provider,
    /// There was no reply.
    Nowhere,
    /// There were too many redirects.
    Loop,
}

/// Opens a browser with its tabs.
pub fn open(world: &Rc<World>, number: usize) {
    let browser = Rc::new(Browser {
        world: world.clone(),
        number,
        user: number % world.plan.people.users,
        jar: Jar::default(),
        sso: RefCell::default(),
        envoy: world.plan.people.sticky.then(|| number % world.plan.envoys),
        logins: RefCell::default(),
        shown: Cell::new(false),
    });
    for _ in 0..world.plan.people.tabs {
        world.spawn_outside("tab", browser.clone().tab());
    }
    if world.plan.people.herd > 0 {
        world.spawn_outside("herd", browser.herd());
    }
}

/// Whether a reply sets a session cookie.
fn signs_in(seen: &Seen) -> bool {
    seen.status() == 303 && seen.headers("set-cookie").any(|cookie| cookie.starts_with(SESSION_COOKIE))
}

impl Browser {
    async fn tab(self: Rc<Self>) {
        loop {
            self.think().await;
            match self.world.act() {
                Act::Use => self.use_it().await,
                Act::Wait => {}
                Act::Show if !self.shown.replace(true) => return self.show().await,
                Act::Show | Act::Leave => return,
            }
        }
    }

    /// Sends many requests at once around the expiry of the session's access token.
    async fn herd(self: Rc<Self>) {
        let world = self.world.clone();
        while world.act() == Act::Use {
            let now = world.executor.now();
            let ends = self.jar.get(SESSION_COOKIE).and_then(|value| world.ledger.token_end(&value));
            // From well before the expiry, when a refresh ahead of time is possible, until shortly after.
            let early = Duration::from_millis(world.rng.below(3_000));
            let pause = ends.map_or(Duration::ZERO, |ends| ends.duration_since(now).saturating_sub(early));
            world.executor.sleep(pause.max(Duration::from_millis(300))).await;
            if world.act() == Act::Use && self.jar.get(SESSION_COOKIE).is_some() {
                for _ in 0..world.plan.people.herd {
                    world.spawn_outside("fetch", self.clone().fetch());
                }
            }
            world.executor.sleep(Duration::from_millis(world.rng.between(200, 4_000))).await;
        }
    }

    async fn think(&self) {
        self.world.pause_about(self.world.plan.people.think).await;
    }

    async fn use_it(self: &Rc<Self>) {
        let people = &self.world.plan.people;
        let started = self.world.executor.now();
        if self.world.rng.permille(people.sign_out) {
            return self.sign_out().await;
        }
        if self.world.rng.permille(people.account) {
            return self.account().await;
        }
        let page = *self.world.rng.pick(&PAGES);
        let page = page.split('#').next().unwrap_or("/");
        if self.world.rng.permille(people.abort) {
            // The tab is closed before the reply arrives. What it started may or may not continue.
            let patience = Duration::from_micros(self.world.rng.between(100, 60_000));
            within(&self.world.executor, patience, self.navigate(page)).await;
            return;
        }
        let landing = self.navigate(page).await;
        self.check(landing, started);
        if landing == Landing::Application {
            let fetches = (1..people.burst)
                .map(|_| self.clone().fetch())
                .map(|fetch| self.world.spawn_outside("fetch", fetch));
            fetches.for_each(drop);
        }
    }

    /// A script of the page sends a request.
    async fn fetch(self: Rc<Self>) {
        let world = &self.world;
        let pause = Duration::from_micros(world.rng.between(0, 3_000));
        world.executor.sleep(pause).await;
        let (method, target) = *world.rng.pick(&[
            ("GET", "/ajax-api/2.0/mlflow/runs/get?run_id=1"),
            ("POST", "/ajax-api/2.0/mlflow/runs/search"),
        ]);
        let ask = Ask::new(world, method, target).fetch_metadata("same-origin", "cors", "empty");
        if world.rng.permille(world.plan.people.abort) {
            let patience = Duration::from_micros(world.rng.between(100, 20_000));
            within(&world.executor, patience, self.send(ask)).await;
        } else {
            self.send(ask).await;
        }
    }

    async fn send(&self, mut ask: Ask) -> Option<Seen> {
        let world = &self.world;
        let own = format!("app={}", ask.number);
        let cookies =
            self.jar.header(world.executor.now()).map_or(own.clone(), |jar| format!("{jar}; {own}"));
        ask = ask.header("cookie", cookies).from_address(format!("10.0.{}.1:40000", self.number));
        if world.rng.permille(50) {
            ask = ask.header("x-forwarded-user", "somebody-else").header("x_forwarded_user", "somebody-else");
        }
        let seen = exchange(world, world.any_worker(self.envoy), ask).await?;
        let now = world.executor.now();
        seen.headers("set-cookie").for_each(|cookie| self.jar.take(cookie, now));
        Some(seen)
    }

    fn navigation(&self, target: &str, site: &str) -> Ask {
        Ask::new(&self.world, "GET", target)
            .fetch_metadata(site, "navigate", "document")
            .header("accept", "text/html")
    }

    /// Opens a page and follows all redirects.
    async fn navigate(&self, page: &str) -> Landing {
        let mut target = page.to_owned();
        let mut site = "none";
        for _ in 0..MAX_HOPS {
            let callback = target.starts_with("/oauth2/callback");
            if callback && self.world.rng.permille(150) {
                // The callback is sent twice: by a double click, or by a browser that got no reply. Only the first one
                // counts.
                let again = self.send(self.navigation(&target, site));
                let both = futures_util::future::join(self.send(self.navigation(&target, site)), again);
                let (one, other) = both.await;
                if [&one, &other].into_iter().flatten().any(signs_in) {
                    self.logins.borrow_mut().push(self.world.executor.now());
                    target = "/".to_owned();
                    continue;
                }
            }
            let Some(seen) = self.send(self.navigation(&target, site)).await else { return Landing::Nowhere };
            let location = match (&seen, seen.header("location")) {
                (Seen::Served, _) => return Landing::Application,
                (_, Some(location)) => location.to_owned(),
                (_, None) => return Landing::Page(seen.status()),
            };
            if callback && signs_in(&seen) {
                self.logins.borrow_mut().push(self.world.executor.now());
            }
            target = match location.strip_prefix(&format!("{ISSUER}/protocol/openid-connect/auth?")) {
                None => location,
                Some(query) => {
                    site = "cross-site";
                    match self.authorize(query).await {
                        Ok(location) => location,
                        Err(landing) => return landing,
                    }
                }
            };
            target = target.strip_prefix(ORIGIN).unwrap_or(&target).to_owned();
        }
        Landing::Loop
    }

    /// At the provider: signs in, or uses the existing session.
    async fn authorize(&self, query: &str) -> Result<String, Landing> {
        let world = &self.world;
        let pause = |least, most| world.executor.sleep(Duration::from_millis(world.rng.between(least, most)));
        let mut password = None;
        loop {
            pause(2, 40).await;
            if world.faults.provider_is_away(world.executor.now()) {
                return Err(Landing::Nowhere);
            }
            let sso = self.sso.borrow().clone();
            match world.provider.authorize(query, sso.as_deref(), password, world.executor.now()) {
                Authorized::Back { location, sid } => {
                    *self.sso.borrow_mut() = Some(sid);
                    return Ok(location);
                }
                Authorized::AskPassword => {
                    // The user types the password.
                    pause(200, 1_500).await;
                    password = Some(self.user);
                }
                Authorized::Error => return Err(Landing::Provider),
            }
        }
    }

    /// Signs out here and at the provider.
    async fn sign_out(&self) {
        let click = self.navigation("/oauth2/logout", "same-origin").header("sec-fetch-user", "?1");
        if let Some(seen) = self.send(click).await {
            self.follow_to_end_session(&seen).await;
        }
    }

    /// If the gate ended its session, ends the provider's session as well.
    async fn follow_to_end_session(&self, seen: &Seen) {
        let world = &self.world;
        let Some(location) = seen.header("location") else { return };
        let Some(query) = location.strip_prefix(&format!("{ISSUER}/protocol/openid-connect/logout?")) else {
            return;
        };
        world.executor.sleep(Duration::from_millis(world.rng.between(2, 40))).await;
        let sso = self.sso.borrow().clone();
        let (ended, location) =
            world.provider.end_session_request(query, sso.as_deref(), world.executor.now());
        // The provider redirects the browser only after it has notified the gate.
        if let Some(ended) = ended {
            announce(world, &ended).await;
        }
        *self.sso.borrow_mut() = None;
        if let Some(location) = location {
            let target = location.strip_prefix(ORIGIN).unwrap_or(&location).to_owned();
            self.send(self.navigation(&target, "cross-site")).await;
        }
    }

    /// Opens the account page and ends another session, or all of them.
    async fn account(&self) {
        let Some(Seen::Answered(page)) = self.send(self.navigation("/oauth2/account", "none")).await else {
            return;
        };
        let others: Vec<&str> =
            page.body.split("sign-out?session=").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        if page.status != 200 {
            return;
        }
        let target = if others.is_empty() || self.world.rng.permille(400) {
            "/oauth2/account/sign-out?everywhere=true".to_owned()
        } else {
            format!("/oauth2/account/sign-out?session={}", self.world.rng.pick(&others))
        };
        let ask = Ask::new(&self.world, "POST", &target).header("origin", ORIGIN).fetch_metadata(
            "same-origin",
            "navigate",
            "document",
        );
        if let Some(seen) = self.send(ask).await {
            self.follow_to_end_session(&seen).await;
        }
    }

    /// With the fault profile `Calm`, and if no user's rights change, every navigation ends at the application.
    fn check(&self, landing: Landing, started: Moment) {
        let world = &self.world;
        if landing == Landing::Application
            || world.plan.fault_profile != FaultProfile::Calm
            || world.act() != Act::Use
        {
            return;
        }
        let now = world.executor.now();
        // Five logins within a minute look like a redirect loop and end with an error page.
        let logins = self
            .logins
            .borrow()
            .iter()
            .filter(|at| now.duration_since(**at) < Duration::from_secs(62))
            .count();
        let before = Duration::from_secs(1);
        let disturbed = world.ledger.is_disturbed_since(
            Moment::ZERO.saturating_add(started.duration_since(Moment::ZERO).saturating_sub(before)),
        );
        if disturbed
            || (landing == Landing::Page(400) && logins >= 5)
            || world.ledger.user_is_disturbed(self.user)
            || world.ledger.keys_are_new(now)
        {
            return;
        }
        let what = format!("browser {} went to a page and landed at {landing:?}", self.number);
        world.ledger.violate(Rule::NobodyThrownOut, now, what);
    }

    /// After all faults have ended: every worker serves a user with a session, or asks the user to sign in and then
    /// serves.
    async fn show(self: Rc<Self>) {
        let world = &self.world;
        let now = || world.executor.now();
        for _ in 0..world.plan.worker_count() * 2 {
            let ask = Ask::new(world, "GET", "/ajax-api/2.0/mlflow/runs/get")
                .header("sec-fetch-site", "same-origin")
                .header("sec-fetch-dest", "empty");
            let status = self.send(ask).await.map_or(0, |seen| seen.status());
            if !matches!(status, 200 | 401 | 403) {
                let what = format!("browser {}: {status} after everything was repaired", self.number);
                return world.ledger.violate(Rule::Settles, now(), what);
            }
        }
        // A session at the provider may expire during a try, so one success in three tries is enough.
        let mut landing = Landing::Nowhere;
        for _ in 0..3 {
            // The page of the login loop has a link to sign in. Clearing the cookies stands for the minute after which
            // its cookie expires.
            self.jar.clear();
            landing = self.navigate("/").await;
            if landing == Landing::Application {
                break;
            }
        }
        if landing != Landing::Application {
            let what = format!("browser {}: {landing:?} after everything was repaired", self.number);
            world.ledger.violate(Rule::Settles, now(), what);
        }
    }
}
