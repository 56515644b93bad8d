//! `bearer`: access tokens of scripts and services.

use vec1::{Vec1, vec1};

use super::algorithm::algorithm;
use super::text;
use super::timing::limits;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::Bearer;
use crate::config::raw;
use crate::config::scalar::Flag;
use crate::jose::algorithm::Algorithm;

/// RFC 9068 4 requires RS256. Recent Keycloak realms may sign with ES256.
pub(in crate::config) fn default_algorithms() -> Vec1<Algorithm> {
    vec1![Algorithm::Rs256, Algorithm::Es256]
}

pub(super) fn bearer(raw: raw::Bearer, place: &Place<'_>) -> Result<Bearer, Reported> {
    // RFC 9068 4: a token for another audience must be refused.
    let audiences = text::filled_list(
        field!(raw.audiences, place),
        "no token could be accepted; name the audience that your tokens carry",
        text::without_wildcard,
    );
    let algorithms =
        text::optional_filled_list(field!(raw.algorithms, place), "no token could be accepted", algorithm);
    let max_lifetime = limits::MAX_LIFETIME.read_optional(field!(raw.max_lifetime, place));
    let check_interval = limits::CHECK_INTERVAL.read_optional(field!(raw.check_interval, place));
    let basic = raw.basic.or_else(|| Ok(Flag(false)));
    Ok(Bearer {
        audiences: audiences?,
        algorithms: algorithms?.unwrap_or_else(default_algorithms),
        max_lifetime: max_lifetime?,
        check_interval: check_interval?,
        basic: basic?.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::config::scalar::{List, Text};
    use crate::config::setting::Setting;
    use crate::testing::test;

    fn list(items: &[&str]) -> Setting<List<Text>> {
        Setting::Given(List(
            items.iter().map(|item| Setting::Given(Text((*item).to_owned()))).enumerate().collect(),
        ))
    }

    fn read(audiences: Setting<List<Text>>, algorithms: Setting<List<Text>>) -> Result<Bearer, String> {
        checked(|place| {
            bearer(
                raw::Bearer {
                    audiences,
                    algorithms,
                    max_lifetime: Setting::Absent,
                    check_interval: Setting::Absent,
                    basic: Setting::Absent,
                },
                place,
            )
        })
    }

    #[test]
    fn an_audience_is_always_named_and_compared_whole() {
        assert_eq!(read(list(&["mlflow", "api"]), Setting::Absent).unwrap().audiences, ["mlflow", "api"]);
        for wrong in [&[][..], &["*"], &["mlflow*"], &["mlflow", "*"], &["a\nb"]] {
            assert!(
                read(list(wrong), Setting::Absent).unwrap_err().starts_with("here.audiences"),
                "{wrong:?}"
            );
        }
        assert_eq!(read(Setting::Absent, Setting::Absent).unwrap_err(), "here.audiences: is missing");
    }

    #[test]
    fn algorithms_have_a_default_but_no_empty_list() {
        assert_eq!(read(list(&["mlflow"]), Setting::Absent).unwrap().algorithms, default_algorithms());
        let error = read(list(&["mlflow"]), list(&[])).unwrap_err();
        assert_eq!(error, "here.algorithms: is empty: no token could be accepted");
    }
}
