//! Decides which tickets Redis may be asked about. A ticket that the gate did not issue causes no call.
//!
//! Two kinds of tickets can't be checked: those from before tickets were signed, and those signed with a key that is no
//! longer in the key ring. Redis is asked about them within a limit that all unauthenticated clients share (`limit`). A
//! ticket that opens a session does not count against it. When the gate has run for `absolute_timeout`, no session with
//! such a ticket can be left, and these tickets are refused.

use std::rc::Rc;
use std::time::Duration;

use crate::caller::Caller;
use crate::error::SessionEnd;
use crate::host::Host;
use crate::limit::{FairLimit, Pass, Rate};
use crate::seal::KeyRing;
use crate::session::ticket::{Origin, Ticket, UntrustedTicket};
use crate::time::Timestamp;

/// Checks tickets for one worker.
pub struct Door {
    host: Rc<dyn Host>,
    keys: KeyRing,
    /// Until when tickets that this gate cannot verify are accepted. No such session lives longer: unsigned tickets are
    /// from before this version, and a removed key signs no new tickets.
    unknown_until: Timestamp,
    unknown: FairLimit,
}

impl Door {
    /// A door that opens now. `lifetime` is the longest life of a session.
    pub fn new(host: Rc<dyn Host>, keys: KeyRing, lifetime: Duration, unknown: Rate) -> Self {
        let unknown_until = host.now().saturating_add(lifetime);
        Self { host, keys, unknown_until, unknown: FairLimit::new(unknown) }
    }

    /// Parses and verifies the ticket in a cookie, without asking Redis.
    ///
    /// # Errors
    /// It does not have the form of a ticket, or we did not issue it.
    pub fn ticket(&self, cookie: &str, caller: Caller) -> Result<Ticket, SessionEnd> {
        let untrusted = UntrustedTicket::parse(cookie).ok_or(SessionEnd::MalformedTicket)?;
        let ticket = untrusted.verify(&self.keys, caller).ok_or(SessionEnd::Forged)?;
        match ticket.origin() {
            Origin::Unknown(_) if self.host.now() >= self.unknown_until => Err(SessionEnd::Forged),
            _ => Ok(ticket),
        }
    }

    /// Permission to look a ticket up in Redis. Always granted for a ticket that we issued. Lookups of tickets that
    /// only Redis can verify are limited per caller.
    pub fn admit(&self, ticket: &Ticket) -> Option<Admission> {
        match ticket.origin() {
            Origin::Ours => Some(Admission(None)),
            Origin::Unknown(caller) => {
                self.unknown.take(caller, self.host.now()).map(|pass| Admission(Some(pass)))
            }
        }
    }

    /// The ticket opened a session, so its sender is legitimate and gets its pass back.
    pub fn opened(&self, admission: Admission) {
        if let Admission(Some(pass)) = admission {
            self.unknown.recognise(pass);
        }
    }
}

/// Permission to look one ticket up in Redis.
#[must_use]
pub struct Admission(Option<Pass>);
