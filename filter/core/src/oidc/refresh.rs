//! Refresh (OIDC Core 12): a session is renewed ahead of its access token's end, once for all workers of all Envoys.
//!
//! The work is a job of the root context: it outlives the request that began it, since a refresh token that was spent
//! without keeping what it bought ends the session. Requests that need the outcome wait for it, for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;
use serde_json::Value;

use crate::error::{Dependency, LoginError, Outlook, Rejection, SessionEnd, Trouble};
use crate::host::Level;
use crate::jose::claims::Claims;
use crate::jose::error::TokenError;
use crate::metrics::{self, Refresh};
use crate::oidc::answer::Endpoint;
use crate::oidc::relying_party::RelyingParty;
use crate::oidc::token_endpoint::{self, Failure, Tokens};
use crate::oidc::{id_token, userinfo};
use crate::principal::Principal;
use crate::quote::quote;
use crate::session::endings::{Ending, session_key};
use crate::session::entry::Entry;
use crate::session::record::{Freshness, Grant, Record};
use crate::session::renewal::{COMMIT_PAUSE, Fence, Owner, Turn};
use crate::session::ticket::Ticket;
use crate::sync::{Event, within};
use crate::time::Timestamp;

/// Pause after a refresh that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked whether another worker has finished.
const LOOK: Duration = Duration::from_millis(50);
/// Tries to write what a refresh token bought, and to check what it bought while keys can't be had.
const COMMIT_TRIES: u32 = 100;
const CHECK_TRIES: u32 = 12;
/// The access token's life where neither the answer nor an ID token tells.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Shorter lives are taken for this: a session is not renewed at every request.
const MIN_LIFETIME: Duration = Duration::from_secs(1);
/// How often a worker asks again for a lease that it has perhaps got.
const MAX_ASKS: u32 = 3;
/// Longest reason in a log line, in characters.
const MAX_LOGGED: usize = 600;
/// Sessions whose failed refresh, or whose question for the lease without an answer, a worker remembers.
const MAX_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The refreshes of one worker.
pub struct Refreshes {
    under_way: RefCell<HashMap<[u8; 16], Rc<Flight>>>,
    /// Until when, and why.
    postponed: RefCell<LruCache<[u8; 16], (Timestamp, Dependency)>>,
    /// As whom this worker asked for a lease that it has perhaps got, and how often.
    unanswered: RefCell<LruCache<[u8; 16], (Owner, u32)>>,
}

impl Default for Refreshes {
    fn default() -> Self {
        Self {
            under_way: RefCell::default(),
            postponed: RefCell::new(LruCache::new(MAX_REMEMBERED)),
            unanswered: RefCell::new(LruCache::new(MAX_REMEMBERED)),
        }
    }
}

#[derive(Default)]
struct Flight {
    outcome: RefCell<Option<Outcome>>,
    landed: Event,
}

#[derive(Clone)]
enum Outcome {
    Renewed(Rc<Entry>),
    Ended(SessionEnd),
    Failed(Dependency),
}

/// The session of a ticket, renewed first where it has to be.
///
/// # Errors
/// The session ended, or what it depends on is away: then nobody is let in and nobody is signed out.
pub async fn current(rp: &Rc<RelyingParty>, ticket: &Ticket) -> Result<Rc<Entry>, Rejection> {
    let browser = rp.browser()?;
    let entry = browser.sessions.load(ticket).await?;
    let freshness = entry.record.freshness(rp.host.now(), &browser.config);
    if freshness == Freshness::Fresh {
        return Ok(entry);
    }
    let flight = begin(rp, ticket, &entry);
    match (freshness, flight) {
        (Freshness::Due, _) | (Freshness::CheckDue, Err(_)) => Ok(entry),
        (_, Err(dependency)) => Err(dependency.into()),
        (freshness, Ok(flight)) => {
            let current = match wait(rp, &flight).await {
                Outcome::Renewed(renewed) => renewed,
                Outcome::Ended(end) => return Err(Rejection::SessionEnded(end)),
                Outcome::Failed(_) if freshness == Freshness::CheckDue => entry,
                Outcome::Failed(dependency) => return Err(dependency.into()),
            };
            // It may have been signed out while we waited.
            browser.sessions.confirm(&current)?;
            Ok(current)
        }
    }
}

/// Begins a refresh, unless one is under way.
///
/// # Errors
/// Why one has just failed.
fn begin(rp: &Rc<RelyingParty>, ticket: &Ticket, entry: &Rc<Entry>) -> Result<Rc<Flight>, Dependency> {
    let refreshes = &rp.browser().map_err(|_| Dependency::Host)?.refreshes;
    let key = session_key(&ticket.record_name());
    let now = rp.host.now();
    let postponed = refreshes.postponed.borrow().peek(&key).cloned();
    if let Some((until, dependency)) = postponed
        && now < until
        && until.since(now) <= MAX_PAUSE
    {
        return Err(dependency);
    }
    let mut under_way = refreshes.under_way.borrow_mut();
    if let Some(flight) = under_way.get(&key) {
        return Ok(flight.clone());
    }
    let flight = Rc::new(Flight::default());
    under_way.insert(key, flight.clone());
    let (job, ticket, entry, landing) = (rp.clone(), ticket.clone(), entry.clone(), flight.clone());
    rp.host.spawn(Box::pin(async move {
        let outcome = renew(&job, &ticket, entry).await;
        if let Ok(browser) = job.browser() {
            browser.refreshes.under_way.borrow_mut().remove(&key);
        }
        *landing.outcome.borrow_mut() = Some(outcome);
        landing.landed.notify();
    }));
    Ok(flight)
}

/// Waits for the outcome; long enough for a whole refresh, also somebody else's.
async fn wait(rp: &RelyingParty, flight: &Flight) -> Outcome {
    let landing = async {
        loop {
            let landed = flight.landed.next();
            if let Some(outcome) = flight.outcome.borrow().clone() {
                return outcome;
            }
            landed.await;
        }
    };
    within(&*rp.host, lease(rp), landing).await.unwrap_or_else(|| Outcome::Failed(no_news(rp)))
}

/// As long as a refresh can take: while a lease lives, its holder's call may still be under way.
fn lease(rp: &RelyingParty) -> Duration {
    let redis = rp.browser().map_or(Duration::ZERO, |browser| browser.config.redis.timeout);
    rp.config.issuer.timeout.saturating_add(redis.saturating_mul(2)).saturating_add(Duration::from_secs(1))
}

/// Renews the session here, or waits until another worker has done it.
async fn renew(rp: &RelyingParty, ticket: &Ticket, mut entry: Rc<Entry>) -> Outcome {
    let Ok(browser) = rp.browser() else { return Outcome::Failed(Dependency::Host) };
    // Without the provider there is no need for a lease.
    if rp.provider.now().is_none() {
        return Outcome::Failed(rp.provider.missing());
    }
    let lease = lease(rp);
    let key = session_key(&ticket.record_name());
    let asked_before = browser.refreshes.unanswered.borrow_mut().pop(&key);
    let (owner, asks) = match asked_before.map_or_else(|| Ok((Owner::generate(&*rp.host)?, 0)), Ok) {
        Ok(asking) => asking,
        Err(rejection) => return failed(rejection),
    };
    let looks = lease.as_millis().checked_div(LOOK.as_millis()).unwrap_or_default();
    for _ in 0..looks {
        let asked = rp.host.now();
        match browser.sessions.acquire(ticket, &entry, owner, lease).await {
            // A worker that stood still for so long would lose it to another one while the provider answers.
            Ok(Turn::Ours(_))
                if rp.host.now().since(asked) >= lease.saturating_sub(rp.config.issuer.timeout) => {}
            Ok(Turn::Ours(fence)) => return spend(rp, ticket, &entry, fence).await,
            Ok(Turn::Done(newer)) => match newer.record.freshness(rp.host.now(), &browser.config) {
                Freshness::Fresh => return Outcome::Renewed(newer),
                // Only its use was written down.
                _ => entry = newer,
            },
            Ok(Turn::Theirs(left)) => rp.host.sleep(left.min(LOOK)).await,
            Ok(Turn::Later(pause)) => {
                postpone(rp, ticket, pause, no_news(rp));
                return Outcome::Failed(no_news(rp));
            }
            Err(rejection) => {
                // Each time makes the lease longer: whoever gets no answers leaves it to others.
                if asks < MAX_ASKS {
                    browser.refreshes.unanswered.borrow_mut().put(key, (owner, asks.saturating_add(1)));
                }
                return failed(rejection);
            }
        }
    }
    Outcome::Failed(no_news(rp))
}

/// What a refresh by somebody else says, when it has brought nothing.
fn no_news(rp: &RelyingParty) -> Dependency {
    let known = rp.provider.recent_trouble();
    Dependency::Provider(
        known.unwrap_or_else(|| Trouble::passing("a refresh of this session brought nothing")),
    )
}

/// We have the lease: nobody else spends this refresh token.
async fn spend(rp: &RelyingParty, ticket: &Ticket, entry: &Entry, fence: Fence) -> Outcome {
    let refresh_token = entry.record.grant.refresh_token.as_deref().unwrap_or_default();
    let asked = rp.host.now();
    let who = entry.record.principal.for_log();
    let trouble = match token_endpoint::refresh(rp, refresh_token).await {
        Ok(tokens) => match bought(rp, entry, fence, &tokens, asked).await {
            Ok(record) => return keep(rp, ticket, entry, fence, record, Refresh::Renewed).await,
            // Not our fault, nor the person's: the new refresh token is kept, so that the spent one is not used again.
            Err(Rejection::Unavailable(dependency)) => {
                rp.host.log(
                    Level::Error,
                    &format!(
                        "session not renewed: its new tokens could not be checked ({}): {} {who}",
                        dependency.label(),
                        quote(dependency.detail().unwrap_or_default(), MAX_LOGGED)
                    ),
                );
                let record = unchecked(&entry.record, tokens, asked);
                let kept = keep(rp, ticket, entry, fence, record, Refresh::Failed).await;
                let pause = if passes_soon(&dependency) { FIRST_PAUSE } else { MAX_PAUSE };
                postpone(rp, ticket, pause, dependency.clone());
                return match kept {
                    Outcome::Renewed(_) => Outcome::Failed(dependency),
                    other => other,
                };
            }
            // RF03: what does not belong to this login ends it, and the new tokens are dropped.
            Err(rejection) => {
                let is_forged = matches!(&rejection, Rejection::Login(error) if error.is_forgery());
                let (counted, level) =
                    if is_forged { (Refresh::Forged, Level::Error) } else { (Refresh::Invalid, Level::Warn) };
                rp.host.count(metrics::refresh(counted));
                let detail = rejection.detail().unwrap_or_default();
                rp.host.log(
                    level,
                    &format!("session ended: bad refresh answer: {} {who}", quote(&detail, MAX_LOGGED)),
                );
                return end(rp, ticket, entry, fence, SessionEnd::RefreshInvalid).await;
            }
        },
        // RF04: the provider does not know this session any more, or would refuse the same request for ever.
        Err(Failure::GrantRefused(words) | Failure::RequestRefused(words)) => {
            rp.host.count(metrics::refresh(Refresh::Refused));
            rp.host.log(
                Level::Info,
                &format!(
                    "session ended: the provider refused to renew it: {} {who}",
                    quote(&words, MAX_LOGGED)
                ),
            );
            return end(rp, ticket, entry, fence, SessionEnd::RefreshRefused).await;
        }
        Err(Failure::ClientRefused(words)) => Trouble::lasting(words),
        Err(Failure::NoTokens(what)) => Trouble::lasting(Endpoint::Token.says(&what)),
        Err(Failure::Trouble(trouble)) => trouble,
    };
    // RF05: the session goes on while its access token lasts.
    rp.host.count(metrics::refresh(Refresh::Failed));
    rp.host.log(
        Level::Error,
        &format!("session not renewed: {}; tried again later {who}", quote(&trouble.detail, MAX_LOGGED)),
    );
    rp.provider.remember(&trouble);
    let pause = match rp.browser() {
        Ok(browser) => browser.sessions.put_off(entry, fence, FIRST_PAUSE, MAX_PAUSE).await,
        Err(rejection) => Err(rejection),
    };
    postpone(rp, ticket, pause.unwrap_or(FIRST_PAUSE), Dependency::Provider(trouble.clone()));
    Outcome::Failed(Dependency::Provider(trouble))
}

/// What the tokens say, as the session's next record.
async fn bought(
    rp: &RelyingParty,
    entry: &Entry,
    fence: Fence,
    tokens: &Tokens,
    asked: Timestamp,
) -> Result<Record, Rejection> {
    let _ = rp.browser()?.sessions.renew(entry, fence, lease(rp)).await;
    let mut outcome =
        checked(rp, &entry.record, tokens, asked).await.map_err(|rejection| undecided(rp, rejection, asked));
    for _ in 0..CHECK_TRIES {
        if !matches!(&outcome, Err(Rejection::Unavailable(dependency)) if passes_soon(dependency)) {
            break;
        }
        let _ = rp.browser()?.sessions.renew(entry, fence, lease(rp)).await;
        rp.host.sleep(FIRST_PAUSE).await;
        outcome = checked(rp, &entry.record, tokens, asked)
            .await
            .map_err(|rejection| undecided(rp, rejection, asked));
    }
    outcome
}

/// No clock is put right in a few seconds, and elsewhere it may be right.
fn passes_soon(dependency: &Dependency) -> bool {
    *dependency != Dependency::Clock && dependency.outlook() == Outlook::Passing
}

/// What says nothing about the tokens: a key that is not known yet, while the keys are older than the answer, a clock
/// that is wrong, and a UserInfo endpoint that gives no answer.
fn undecided(rp: &RelyingParty, rejection: Rejection, asked: Timestamp) -> Rejection {
    let keys_are_older = rp.provider.now().is_none_or(|known| known.fetched <= asked);
    match rejection {
        Rejection::Login(LoginError::IdToken(TokenError::UnknownKey)) if keys_are_older => {
            rp.provider.missing().into()
        }
        Rejection::Login(LoginError::IdToken(TokenError::ClocksDisagree)) => Dependency::Clock.into(),
        Rejection::Login(LoginError::UserInfo(what)) => Dependency::Provider(Trouble::lasting(what)).into(),
        other => other,
    }
}

/// The session as it was, with a refresh token that is still good, and asked about again before its next use. Our clock
/// may be wrong: by every other one it is no younger than it was, and ends no earlier.
fn unchecked(record: &Record, tokens: Tokens, asked: Timestamp) -> Record {
    let refresh_until = tokens.refresh_expires_in.map(|left| asked.plus(left));
    let obtained = asked.min(record.grant.obtained);
    let grant = Grant {
        refresh_until: record.grant.refresh_until.map(|known| refresh_until.unwrap_or(known).max(known)),
        refresh_token: tokens.refresh_token.or_else(|| record.grant.refresh_token.clone()),
        access_until: obtained,
        obtained,
        ..record.grant.clone()
    };
    Record { grant, ..record.clone() }
}

async fn checked(
    rp: &RelyingParty,
    record: &Record,
    tokens: &Tokens,
    asked: Timestamp,
) -> Result<Record, Rejection> {
    let validated = match &tokens.id_token {
        Some(id_token) => Some(id_token::validate_refreshed(rp, id_token, tokens, record).await?),
        None => None,
    };
    let issued = validated.as_ref().map(|validated| validated.issued);
    let expires = validated.as_ref().map(|validated| validated.expires);
    let asks_userinfo = rp.browser()?.login.userinfo;
    let claims = match (validated, asks_userinfo) {
        (Some(validated), false) => Some(validated.claims),
        (Some(validated), true) => Some(userinfo::merge(rp, tokens, validated.claims).await?),
        (None, true) => Some(userinfo::merge(rp, tokens, known_claims(&record.principal)).await?),
        // Nothing tells of groups: they stay as they are.
        (None, false) => None,
    };
    let mut principal = match claims {
        Some(claims) => Principal::from_claims(&rp.config, &claims).map_err(LoginError::IdToken)?,
        None => record.principal.clone(),
    };
    if principal.sid.is_none() {
        principal.sid.clone_from(&record.principal.sid);
    }
    let grant = Grant {
        id_token: tokens.id_token.as_deref().map_or_else(|| record.grant.id_token.clone(), Grant::hint),
        issued: issued.unwrap_or(record.grant.issued),
        // RF06: without a new one the old one goes on; with one, it is never used again.
        refresh_token: tokens.refresh_token.clone().or_else(|| record.grant.refresh_token.clone()),
        refresh_until: match (&tokens.refresh_token, tokens.refresh_expires_in) {
            (None, None) => record.grant.refresh_until,
            (_, left) => left.map(|left| asked.plus(left)),
        },
        access_until: access_until(tokens, expires, asked),
        obtained: asked,
        ..record.grant.clone()
    };
    Ok(Record { principal, grant, last_used: rp.host.now(), ..record.clone() })
}

/// When an access token ends, by our clock.
pub fn access_until(tokens: &Tokens, id_token_expires: Option<Timestamp>, asked: Timestamp) -> Timestamp {
    let told = tokens.expires_in.or_else(|| id_token_expires.map(|expires| expires.since(asked)));
    asked.plus(told.unwrap_or(DEFAULT_LIFETIME).max(MIN_LIFETIME))
}

/// What is known of a person without a new ID token: UserInfo tells the rest.
fn known_claims(principal: &Principal) -> Claims {
    let sid = principal.sid.iter().map(|sid| ("sid".to_owned(), Value::from(sid.as_str())));
    let subject = ("sub".to_owned(), Value::from(principal.subject.as_str()));
    Claims::new(sid.chain([subject]).collect())
}

/// Writes what was bought, and counts it. Redis may be away for a while; what is in here exists nowhere else.
async fn keep(
    rp: &RelyingParty,
    ticket: &Ticket,
    entry: &Entry,
    fence: Fence,
    record: Record,
    counted: Refresh,
) -> Outcome {
    let Ok(browser) = rp.browser() else { return Outcome::Failed(Dependency::Host) };
    let sessions = &browser.sessions;
    let mut why = Dependency::Redis("not written");
    for attempt in 0..COMMIT_TRIES {
        match sessions.commit(ticket, entry, fence, &record).await {
            Ok(Some(renewed)) => {
                rp.host.count(metrics::refresh(counted));
                if renewed.record.principal != entry.record.principal {
                    // What it allows has changed: every worker reads it anew.
                    let _ = sessions.log.append(vec![Ending::changed(&ticket.record_name())]).await;
                }
                return Outcome::Renewed(renewed);
            }
            // Signed out meanwhile, or written by a call whose answer was lost, or somebody else was faster.
            Ok(None) => return reread(rp, ticket).await,
            Err(rejection @ Rejection::Login(_)) => {
                let (label, detail) = (rejection.label(), rejection.detail().unwrap_or_default());
                rp.host
                    .log(Level::Error, &format!("session ended: what the refresh gave: {label}: {detail}"));
                return end(rp, ticket, entry, fence, SessionEnd::RefreshInvalid).await;
            }
            Err(rejection) => {
                if let Rejection::Unavailable(dependency) = rejection {
                    why = dependency;
                }
                rp.host
                    .sleep(Duration::from_millis(50).saturating_mul(1 << attempt.min(5)).min(COMMIT_PAUSE))
                    .await;
            }
        }
    }
    rp.host.count(metrics::refresh(Refresh::Lost));
    let (detail, user) = (why.detail().unwrap_or_default(), entry.record.principal.for_log());
    rp.host.log(
        Level::Error,
        &format!("a renewed session could not be written to Redis and is lost: detail={detail:?} {user}"),
    );
    Outcome::Failed(why)
}

async fn end(rp: &RelyingParty, ticket: &Ticket, entry: &Entry, fence: Fence, reason: SessionEnd) -> Outcome {
    let Ok(browser) = rp.browser() else { return Outcome::Failed(Dependency::Host) };
    let sessions = &browser.sessions;
    match sessions.end_refused(entry, fence).await {
        // Somebody else has refreshed it: what they wrote counts.
        Ok(false) => reread(rp, ticket).await,
        // If Redis did not hear of it, the list of endings still does.
        Ok(true) | Err(_) => {
            let name = ticket.record_name();
            let _ = sessions.log.append(vec![Ending::session(&name)]).await;
            let _ = sessions.index.remove(&entry.record, &name).await;
            Outcome::Ended(reason)
        }
    }
}

async fn reread(rp: &RelyingParty, ticket: &Ticket) -> Outcome {
    let Ok(browser) = rp.browser() else { return Outcome::Failed(Dependency::Host) };
    match browser.sessions.reload(ticket).await {
        Ok(entry) if entry.record.freshness(rp.host.now(), &browser.config) == Freshness::Stale => {
            Outcome::Failed(no_news(rp))
        }
        Ok(entry) => Outcome::Renewed(entry),
        Err(rejection) => failed(rejection),
    }
}

fn failed(rejection: Rejection) -> Outcome {
    match rejection {
        Rejection::SessionEnded(end) => Outcome::Ended(end),
        Rejection::Unavailable(dependency) => Outcome::Failed(dependency),
        _ => Outcome::Failed(Dependency::Host),
    }
}

fn postpone(rp: &RelyingParty, ticket: &Ticket, pause: Duration, why: Dependency) {
    if let Ok(browser) = rp.browser() {
        let until = rp.host.now().plus(pause.min(MAX_PAUSE));
        browser.refreshes.postponed.borrow_mut().put(session_key(&ticket.record_name()), (until, why));
    }
}
