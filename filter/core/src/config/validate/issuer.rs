//! `issuer`: the OpenID provider and how to reach it.

use super::entries::every;
use super::timing::limits;
use super::url::{self, Transport};
use super::{access_token, text};
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{Issuer, ServedOrigin};
use crate::config::raw;

pub(super) fn issuer(raw: raw::Issuer, place: &Place<'_>, transport: Transport) -> Result<Issuer, Reported> {
    let url = field!(raw.url, place)
        .text()
        .required(|url, at| url::issuer(&url, at, transport).map(|parsed| (url, parsed)));
    let cluster = field!(raw.cluster, place).text().required(text::name);
    let origins = field!(raw.origins, place);
    let origins_place = origins.place.clone();
    let origins =
        origins.or(Vec::new(), |written, at| every(written, at, |raw, at| served_origin(raw, at, transport)));
    let allowed_origins = text::list(field!(raw.allowed_origins, place), |written, at| {
        url::allowed_origin(written, at, transport)
    });
    let timeout = limits::ISSUER_TIMEOUT.read(field!(raw.timeout, place));
    let startup_wait = limits::STARTUP_WAIT.read(field!(raw.startup_wait, place));
    let refresh_interval = limits::REFRESH_INTERVAL.read(field!(raw.refresh_interval, place));
    let stale = field!(raw.max_stale, place);
    let stale_place = stale.place.clone();
    let max_stale = limits::MAX_STALE.read(stale);
    let access_token_marks = access_token::marks(field!(raw.access_token_marks, place));

    if let (Ok(refresh_interval), Ok(max_stale)) = (refresh_interval, max_stale)
        && max_stale < refresh_interval
    {
        return Err(stale_place.refuse(format!(
            "must not be shorter than refresh_interval ({}): keys would expire between two fetches",
            humantime::format_duration(refresh_interval)
        )));
    }
    let (url, parsed) = url?;
    let origins = origins?;
    for (index, ServedOrigin { origin, .. }) in origins.iter().enumerate() {
        let at = origins_place.index(index).field("origin");
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
    let origin =
        field!(raw.origin, place).text().required(|written, at| url::allowed_origin(written, at, transport));
    let cluster = field!(raw.cluster, place).text().required(text::name);
    Ok(ServedOrigin { origin: origin?, cluster: cluster? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::error::checked;
    use crate::config::scalar::{Span, Text};
    use crate::config::setting::Setting;
    use crate::testing::test;

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
