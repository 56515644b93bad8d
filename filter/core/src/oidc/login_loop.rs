//! Ends redirect loops: counts how often a browser came back from a login within a minute and still has no session.

use std::time::Duration;

use crate::http::cookies::GateCookies;
use crate::http::request::Request;
use crate::time::Timestamp;

/// Completed logins within [`WINDOW`] after which the browser gets an error page instead of another login.
const MAX: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// The counter, kept in a cookie. It is not a secret and guards only the browser that holds it.
#[derive(Clone, Debug)]
pub struct LoginLoop {
    cookies: GateCookies,
}

impl LoginLoop {
    /// Stores the counter in this gate's cookies.
    pub fn new(cookies: GateCookies) -> Self {
        Self { cookies }
    }

    /// Whether the browser has reached the limit of logins.
    pub fn is_exhausted(&self, request: &Request, now: Timestamp) -> bool {
        self.read(request, now).is_some_and(|(count, _)| count >= MAX)
    }

    /// The `Set-Cookie` that counts a completed login.
    pub fn count(&self, request: &Request, now: Timestamp) -> String {
        let (count, since) = self.read(request, now).unwrap_or((0, now));
        let value = format!("{}.{}", count.saturating_add(1), since.as_secs());
        self.cookies.set(&self.cookies.login_loop(), &value, WINDOW)
    }

    /// The `Set-Cookie` that resets the counter, after the user has seen an error page.
    pub fn reset(&self) -> String {
        self.cookies.delete(&self.cookies.login_loop())
    }

    fn read(&self, request: &Request, now: Timestamp) -> Option<(u32, Timestamp)> {
        let name = self.cookies.login_loop();
        let (_, value) = self.cookies.ours(request).find(|(candidate, _)| *candidate == name)?;
        let (count, since) = value.split_once('.')?;
        let since = Timestamp::from_secs(since.parse().ok()?);
        (now >= since && now.duration_since(since) < WINDOW).then_some((count.parse().ok()?, since))
    }
}
