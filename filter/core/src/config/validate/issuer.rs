//! `issuer`: the OpenID provider and how to reach it.

use super::entries::every;
use super::timing::limits;
use super::url::{self, Transport};
use super::{access_token, text};
use crate::config::error::{Place, Reported};
use crate::config::model::{Issuer, ServedOrigin};
use crate::config::raw;
use crate::config::scalar::List;

pub(super) fn issuer(raw: raw::Issuer, place: &Place<'_>, transport: Transport) -> Result<Issuer, Reported> {
    let at = place.field("url");
    let url = raw
        .url
        .required(&at)
        .and_then(|written| url::issuer(&written.0, &at, transport).map(|parsed| (written.0, parsed)));
    let at = place.field("cluster");
    let cluster = raw.cluster.required(&at).and_then(|written| text::name(written.0, &at));
    let at = place.field("origins");
    let origins = raw
        .origins
        .or_else(|| Ok(Vec::new()))
        .and_then(|written| every(written, &at, |raw, at| served_origin(raw, at, transport)));
    let at = place.field("allowed_origins");
    let allowed_origins = raw
        .allowed_origins
        .or_else(|| Ok(List(Vec::new())))
        .and_then(|list| text::list(list, &at, |written, at| url::allowed_origin(written, at, transport)));
    let timeout = limits::ISSUER_TIMEOUT.read(raw.timeout, &place.field("timeout"));
    let startup_wait = limits::STARTUP_WAIT.read(raw.startup_wait, &place.field("startup_wait"));
    let refresh_interval =
        limits::REFRESH_INTERVAL.read(raw.refresh_interval, &place.field("refresh_interval"));
    let max_stale = limits::MAX_STALE.read(raw.max_stale, &place.field("max_stale"));

    let access_token_marks = access_token::marks(raw.access_token_marks, &place.field("access_token_marks"));

    if let (Ok(refresh_interval), Ok(max_stale)) = (refresh_interval, max_stale)
        && max_stale < refresh_interval
    {
        return Err(place.field("max_stale").refuse(format!(
            "must not be shorter than refresh_interval ({}): keys would expire between two fetches",
            humantime::format_duration(refresh_interval)
        )));
    }
    let (url, parsed) = url?;
    let origins = origins?;
    for (index, ServedOrigin { origin, .. }) in origins.iter().enumerate() {
        let at = place.field("origins").index(index).field("origin");
        if *origin == parsed.origin().ascii_serialization() {
            return Err(at.refuse("is the issuer's own origin, which uses issuer.cluster"));
        }
        if origins.iter().take(index).any(|before| before.origin == *origin) {
            return Err(at.refuse("is listed twice: an origin has one cluster"));
        }
    }
    Ok(Issuer {
        url,
        parsed,
        cluster: cluster?,
        origins,
        allowed_origins: allowed_origins?,
        timeout: timeout?,
        startup_wait: startup_wait?,
        refresh_interval: refresh_interval?,
        max_stale: max_stale?,
        access_token_marks: access_token_marks?,
    })
}

fn served_origin(
    raw: raw::ServedOrigin,
    place: &Place<'_>,
    transport: Transport,
) -> Result<ServedOrigin, Reported> {
    let at = place.field("origin");
    let origin = raw.origin.required(&at).and_then(|written| url::allowed_origin(written.0, &at, transport));
    let at = place.field("cluster");
    let cluster = raw.cluster.required(&at).and_then(|written| text::name(written.0, &at));
    Ok(ServedOrigin { origin: origin?, cluster: cluster? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::error::checked;
    use crate::config::scalar::{Span, Text};
    use crate::config::setting::Setting;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn raw(url: &str) -> raw::Issuer {
        raw::Issuer {
            url: Setting::Given(Text(url.to_owned())),
            cluster: Setting::Given(Text("keycloak".to_owned())),
            origins: Setting::Absent,
            allowed_origins: Setting::Absent,
            timeout: Setting::Absent,
            startup_wait: Setting::Absent,
            refresh_interval: Setting::Absent,
            max_stale: Setting::Absent,
            access_token_marks: Setting::Absent,
        }
    }

    fn read(raw: raw::Issuer) -> Result<Issuer, String> {
        checked(|place| issuer(raw, place, Transport { allow_insecure: false }))
    }

    #[test]
    fn the_identifier_is_kept_to_the_letter() {
        // OIDC Discovery 4.3 compares the text as written. The parsed form is normalised and used only for calls.
        for url in ["https://IDP.example:443/realms/x", "https://idp.example", "https://idp.example/"] {
            let issuer = read(raw(url)).unwrap();
            assert_eq!(issuer.url, url);
            assert_eq!(issuer.parsed.host_str(), Some("idp.example"));
        }
    }

    #[test]
    fn keys_outlive_the_interval_between_two_fetches() {
        let stale = |seconds| raw::Issuer {
            max_stale: Setting::Given(Span(Duration::from_secs(seconds))),
            ..raw("https://idp.example")
        };
        assert!(read(stale(300)).is_ok());
        assert!(
            read(stale(299))
                .unwrap_err()
                .starts_with("here.max_stale: must not be shorter than refresh_interval")
        );
    }
}
