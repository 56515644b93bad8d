//! What an endpoint of the provider answers when it is not what it was asked for: which endpoint, with which status, in
//! whose words. An operator has nothing else to go by, so it goes into the log: bounded, and without the secrets of the
//! call, which a provider may repeat.

use std::fmt::Display;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::encoding::{base64, base64url, from_base64};
use crate::error::Trouble;
use crate::host::{Callout, CalloutError, CalloutReply, Host};
use crate::json::{self, JsonError};

/// Most of a body that is quoted in the log, and the longest body that is parsed for `error`; in bytes.
const MAX_TEXT_LEN: usize = 2 * 1024;
const MAX_BODY_LEN: usize = 256 * 1024;
/// Longest `error`, and longest `error_description` or other text, that is logged; in characters.
const MAX_ERROR_CHARS: usize = 100;
const MAX_TEXT_CHARS: usize = 300;
/// Shorter values are not treated as secrets: they would match by chance.
const MIN_SECRET_LEN: usize = 4;
/// A word that contains a part of a secret of this length is redacted, too.
const PART_LEN: usize = 8;
const REDACTED: &str = "[redacted]";
/// Form parameters that are not secret. Every other value is treated as a secret.
const PUBLIC_PARAMETERS: [&str; 5] = ["grant_type", "client_id", "redirect_uri", "token_type_hint", "scope"];
/// Envoy adds this header to replies from an upstream, and not to replies that it generates.
const UPSTREAM_HEADER: &str = "x-envoy-upstream-service-time";

/// The endpoint that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderEndpoint {
    /// The metadata.
    Discovery,
    /// `jwks_uri`
    Jwks,
    /// `token_endpoint`
    Token,
    /// `userinfo_endpoint`
    UserInfo,
    /// `introspection_endpoint`
    Introspection,
    /// `revocation_endpoint`
    Revocation,
}

impl ProviderEndpoint {
    /// Its name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Jwks => "JWKS",
            Self::Token => "token endpoint",
            Self::UserInfo => "UserInfo endpoint",
            Self::Introspection => "introspection endpoint",
            Self::Revocation => "revocation endpoint",
        }
    }

    /// A problem with a reply, worded for the log.
    pub fn says(self, what: impl Display) -> Rc<str> {
        format!("{}: {what}", self.name()).into()
    }
}

/// Why a call to an endpoint failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status, if there was a reply.
    pub status: Option<u16>,
    /// `error` (RFC 6749 5.2), if the reply had one.
    pub error: Option<String>,
    /// The text for the log, and whether the problem may pass.
    pub trouble: Trouble,
}

/// Sends a request to an endpoint. Redirects are not followed: they could lead to any host (JW06), and requests carry
/// secrets.
///
/// # Errors
/// Everything but an answer with status 200.
pub async fn ask(
    host: &dyn Host,
    endpoint: ProviderEndpoint,
    callout: Callout,
) -> Result<CalloutReply, Refusal> {
    let secrets = Secrets::of(&callout);
    let cluster = callout.cluster.clone();
    match host.call(callout).await {
        Ok(reply) if reply.status == 200 => Ok(reply),
        Ok(reply) => Err(refusal(endpoint, &reply, &secrets)),
        Err(error) => {
            Err(Refusal { status: None, error: None, trouble: no_answer(endpoint, error, &cluster) })
        }
    }
}

fn no_answer(endpoint: ProviderEndpoint, error: CalloutError, cluster: &str) -> Trouble {
    match error {
        CalloutError::UnknownCluster => {
            Trouble::lasting(endpoint.says(format!("Envoy has no cluster {cluster}: unknown cluster")))
        }
        CalloutError::NotSent => Trouble::passing(
            endpoint.says(format!("not sent: no healthy host in cluster {cluster}, or too many requests")),
        ),
        CalloutError::Reset => Trouble::passing(endpoint.says("the connection was lost before an answer")),
    }
}

fn refusal(endpoint: ProviderEndpoint, reply: &CalloutReply, secrets: &Secrets) -> Refusal {
    let status = reply.status;
    let body = reply.body.get(..MAX_TEXT_LEN).unwrap_or(&reply.body);
    let text = secrets.redact(&String::from_utf8_lossy(body));
    if let Some(words) = envoys_own(reply, &text) {
        let detail = endpoint.says(format!("status {status} from Envoy: {words}"));
        // Waiting does not make a certificate valid.
        let trouble = if words.contains("CERTIFICATE_VERIFY_FAILED") {
            Trouble::lasting(detail)
        } else {
            Trouble::passing(detail)
        };
        return Refusal { status: Some(status), error: None, trouble };
    }
    let members = json::parse_object(&reply.body, MAX_BODY_LEN).unwrap_or_default();
    let member = |name: &str, most: usize| {
        let text = members.get(name)?.as_str()?;
        Some(cut(&secrets.redact(text), most))
    };
    let error = member("error", MAX_ERROR_CHARS);
    let words = match (&error, member("error_description", MAX_TEXT_CHARS)) {
        (Some(error), Some(description)) => Some(format!("{error}: {description}")),
        (Some(error), None) => Some(error.clone()),
        (None, _) => other_words(reply, &text, secrets),
    };
    let words = words.map(|words| format!(", {words}")).unwrap_or_default();
    let detail = endpoint.says(format!("status {status}{words}"));
    // RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4: these statuses invite a retry.
    let passes = matches!(status, 408 | 425 | 429 | 500..);
    let trouble = if passes { Trouble::passing(detail) } else { Trouble::lasting(detail) };
    Refusal { status: Some(status), error, trouble }
}

/// The text of a reply that Envoy generated itself because it reached no upstream.
fn envoys_own(reply: &CalloutReply, text: &str) -> Option<String> {
    let is_own = matches!(reply.status, 502..=504)
        && reply.header(UPSTREAM_HEADER).is_none()
        && reply.header("content-type").is_none_or(|value| value == "text/plain");
    is_own.then(|| cut(text, MAX_TEXT_CHARS))
}

/// The text of a reply without `error`: its challenge (RFC 6750 3), or the beginning of a page.
fn other_words(reply: &CalloutReply, text: &str, secrets: &Secrets) -> Option<String> {
    if let Some(challenge) = reply.header("www-authenticate") {
        return Some(cut(&secrets.redact(challenge), MAX_TEXT_CHARS));
    }
    let media_type = reply.header("content-type")?.split(';').next()?.trim().to_ascii_lowercase();
    // JSON and successful replies may hold tokens or personal data, so they are not quoted.
    if reply.status >= 400 && matches!(media_type.as_str(), "text/html" | "text/plain") {
        Some(format!("{media_type}: {}", cut(text, MAX_TEXT_CHARS)))
    } else {
        Some(format!("content type {}", cut(&media_type, MAX_ERROR_CHARS)))
    }
}

/// Why a reply with status 200 is not a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoObject {
    /// The content type is another one, or missing.
    #[error("content type is not JSON: {0}")]
    ContentType(String),
    /// The body is not an object that [`json::parse_object`] accepts.
    #[error("not a JSON object ({0})")]
    Json(JsonError),
}

/// The JSON object of a reply.
///
/// # Errors
/// See [`NoObject`].
pub fn object(reply: &CalloutReply, most: usize) -> Result<Map<String, Value>, NoObject> {
    let media_type = reply.header("content-type").unwrap_or("missing");
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(NoObject::ContentType(cut(media_type, MAX_ERROR_CHARS)));
    }
    json::parse_object(&reply.body, most).map_err(NoObject::Json)
}

/// Puts the text on one line and cuts it.
fn cut(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().take(most).collect();
    words.join(" ").chars().take(most).collect()
}

/// The secret values of one call, in all their encodings.
struct Secrets(Vec<String>);

impl Secrets {
    fn of(callout: &Callout) -> Self {
        let mut plain = Vec::new();
        for (_, value) in callout.headers.iter().filter(|(name, _)| name == "authorization") {
            let credential = value.split_once(' ').map_or(value.as_str(), |(_, credential)| credential);
            plain.push(credential.to_owned());
            // RFC 7617 2: the secret follows the first colon. RFC 6749 2.3.1: it is form-encoded.
            let decoded = from_base64(credential).and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some((_, secret)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
                plain
                    .extend(form_urlencoded::parse(secret.as_bytes()).map(|(secret, _)| secret.into_owned()));
            }
        }
        for (name, value) in form_urlencoded::parse(&callout.body) {
            if !PUBLIC_PARAMETERS.contains(&&*name) {
                plain.push(value.into_owned());
            }
        }
        let forms = plain.iter().filter(|secret| secret.len() >= MIN_SECRET_LEN).flat_map(|secret| {
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            [
                secret.clone(),
                lower_case_escapes(&encoded),
                encoded,
                base64(secret.as_bytes()),
                base64url(secret.as_bytes()),
            ]
        });
        Self(forms.collect())
    }

    /// The beginning of `text`. Secrets, words that share a part with a secret, and words that look like a token are
    /// redacted.
    fn redact(&self, text: &str) -> String {
        let end = text.floor_char_boundary(MAX_TEXT_LEN);
        let mut clean = text.get(..end).unwrap_or_default().to_owned();
        for secret in &self.0 {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        let shared = self.parts_in(&clean);
        clean
            .split_inclusive(|c: char| !is_of_a_secret(c))
            .map(|piece| {
                // A piece is a word with at most one delimiter at its end.
                let word = piece.trim_end_matches(|c: char| !is_of_a_secret(c));
                let is_secret = parts(word).any(|part| shared.binary_search(&part).is_ok());
                if is_secret || word.contains("eyJ") {
                    piece.replacen(word, REDACTED, 1)
                } else {
                    piece.to_owned()
                }
            })
            .collect()
    }

    /// The parts of secrets that occur in `text`, sorted.
    fn parts_in(&self, text: &str) -> Vec<u64> {
        let mut wanted: Vec<u64> = parts(text).collect();
        wanted.sort_unstable();
        let found = self.0.iter().flat_map(|secret| parts(secret));
        let mut found: Vec<u64> = found.filter(|part| wanted.binary_search(part).is_ok()).collect();
        found.sort_unstable();
        found
    }
}

/// Each run of [`PART_LEN`] bytes.
fn parts(text: &str) -> impl Iterator<Item = u64> {
    text.as_bytes().windows(PART_LEN).filter_map(|part| part.try_into().ok().map(u64::from_be_bytes))
}

/// The same text with lower-case percent escapes, which some providers use.
fn lower_case_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |mut text, piece| {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        text.push('%');
        text.push_str(&digits.to_ascii_lowercase());
        text.push_str(rest);
        text
    })
}

/// The characters of codes, tokens and secrets, in any of the encodings.
fn is_of_a_secret(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=' | '%')
}

#[cfg(test)]
mod tests;
