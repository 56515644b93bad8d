//! The account page: who is signed in, when the session began and ends, and the user's other sessions. It needs no
//! scripts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maud::{Markup, html};

use crate::http::endpoint::Endpoint;
use crate::http::pages::{self, document, printable};
use crate::principal::Principal;
use crate::record_name::RecordName;
use crate::time::Timestamp;

/// How many groups the page shows.
const MAX_GROUPS: usize = 50;

/// The values on the page.
pub struct AccountPage<'a> {
    /// The user who is signed in.
    pub principal: &'a Principal,
    /// When this session began.
    pub created: Timestamp,
    /// When this session ends at the latest (absolute timeout).
    pub ends: Timestamp,
    /// When this session ends if it stays unused (idle timeout).
    pub ends_unused: Timestamp,
    /// The user's other sessions, newest first.
    pub others: &'a [(RecordName, Timestamp)],
    /// How many other sessions exist beyond those in `others`.
    pub not_shown: usize,
    /// The request id, which the user can quote to an administrator.
    pub request_id: &'a str,
}

/// The whole HTML document.
pub fn render(page: &AccountPage<'_>) -> String {
    let principal = page.principal;
    let body = html! {
        main {
            h1 { "Your account" }
            dl {
                dt { "Signed in as" }
                dd { strong { (printable(principal.display_name())) } }
                @if let Some(full_name) = &principal.name { dt { "Name" } dd { (printable(full_name)) } }
                @if let Some(email) = &principal.email { dt { "Email" } dd { (printable(email)) } }
                dt { "Groups" }
                dd { (pages::groups(principal, MAX_GROUPS)) }
                dt { "Since" }
                dd { (moment(page.created)) }
                dt { "Until" }
                dd {
                    (moment(page.ends))
                    @if page.ends_unused < page.ends { ", or " (moment(page.ends_unused)) " if unused" }
                }
            }
            div.actions {
                form method="post" action=(Endpoint::Logout.path()) { button type="submit" { "Sign out" } }
            }
            h2 { "Other sessions" }
            @if page.others.is_empty() {
                p { "You have no other sessions." }
            } @else {
                ul.sessions {
                    @for (name, created) in page.others {
                        li {
                            span { "Signed in " (moment(*created)) }
                            form method="post" action={ (Endpoint::AccountSignOut.path()) "?session=" (name.as_str()) } {
                                button.quiet type="submit" aria-label={ "Sign out the session of " (text(*created)) } {
                                    "Sign out"
                                }
                            }
                        }
                    }
                }
                @if page.not_shown > 0 {
                    p { "And " (page.not_shown) " more (older). “Sign out everywhere” ends them, too." }
                }
            }
            div.actions {
                form method="post" action={ (Endpoint::AccountSignOut.path()) "?everywhere=true" } {
                    button.quiet type="submit" { "Sign out everywhere" }
                }
            }
            @if !page.others.is_empty() {
                p {
                    "A browser that is still signed in at the provider can sign in here again without a password. "
                    "If you have lost a device, change your password and ask an administrator to sign you out."
                }
            }
            footer { "Request id " code { (page.request_id) } }
        }
    };
    document("Your account", &body)
}

fn text(moment: Timestamp) -> String {
    let moment =
        UNIX_EPOCH.checked_add(Duration::from_secs(moment.as_secs())).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// In UTC, because without a script the page cannot learn the reader's time zone.
fn moment(moment: Timestamp) -> Markup {
    let text = text(moment);
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let minutes = time.get(..5).unwrap_or_default();
    html! { time datetime=(text) { (date) " " (minutes) " UTC" } }
}
