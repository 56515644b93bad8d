//! `groups`: where groups are read from, and the form of the claim.

use super::entries::each;
use super::text;
use crate::config::error::{Place, Reported};
use crate::config::field::field;
use crate::config::model::{Groups, GroupsFormat};
use crate::config::raw;
use crate::config::scalar::{ClaimPath, Text};

/// The claim of Keycloak's group mapper.
pub(in crate::config) const DEFAULT_CLAIM: &str = "groups";

/// Most names in the path of a claim. A longer path is a mistake.
const MAX_DEPTH: usize = 8;

/// The values if nothing is configured.
pub(super) fn default() -> Groups {
    Groups { claim: vec![DEFAULT_CLAIM.to_owned()], format: GroupsFormat::default() }
}

pub(super) fn groups(raw: raw::Groups, place: &Place<'_>) -> Result<Groups, Reported> {
    let claim = field!(raw.claim, place).optional(claim_path);
    let format = raw.format.or_else(|| Ok(GroupsFormat::default()));
    Ok(Groups { claim: claim?.unwrap_or_else(|| default().claim), format: format? })
}

/// The member names that lead to a claim, outermost first.
pub(super) fn claim_path(written: ClaimPath, place: &Place<'_>) -> Result<Vec<String>, Reported> {
    let path: Vec<String> = match written {
        ClaimPath::Dotted(claim) => {
            let claim = text::name(claim, place)?;
            // In a URL such as "https://app.example/groups", the dots are part of the name.
            let path: Vec<String> = match claim.contains("://") {
                true => vec![claim],
                false => claim.split('.').map(str::to_owned).collect(),
            };
            if path.iter().any(String::is_empty) {
                return Err(place.refuse("has an empty name between its dots"));
            }
            path
        }
        ClaimPath::Whole(names) => each(names, place, |_, Text(name), at| text::name(name, at))?,
    };
    match path.len() {
        0 => Err(place.refuse("names no claim")),
        1..=MAX_DEPTH => Ok(path),
        _ => Err(place.refuse(format!("has more than {MAX_DEPTH} names"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::config::setting::Setting;
    use crate::testing::test;

    fn dotted(text: &str) -> Result<Vec<String>, String> {
        checked(|place| claim_path(ClaimPath::Dotted(text.to_owned()), place))
    }

    fn whole(names: &[&str]) -> Result<Vec<String>, String> {
        let names = names.iter().map(|name| Setting::Given(Text((*name).to_owned()))).enumerate().collect();
        checked(|place| claim_path(ClaimPath::Whole(names), place))
    }

    #[test]
    fn f105_a_path_is_written_with_dots_or_as_a_list_of_whole_names() {
        let path = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(dotted("groups"), path(&["groups"]));
        assert_eq!(dotted("realm_access.roles"), path(&["realm_access", "roles"]));
        assert_eq!(dotted("https://app.example/groups"), path(&["https://app.example/groups"]));
        assert_eq!(
            whole(&["resource_access", "my.app", "roles"]),
            path(&["resource_access", "my.app", "roles"])
        );
        assert_eq!(whole(&["app.example.groups"]), path(&["app.example.groups"]));
        for wrong in ["", " groups", "a..b", ".a", "a.", "a.b.c.d.e.f.g.h.i", "a\nb"] {
            assert!(dotted(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(whole(&[]), Err("here: names no claim".to_owned()));
        assert_eq!(
            whole(&["a", "", "b "]).unwrap_err(),
            "here[1]: is empty\nhere[2]: begins or ends with white space"
        );
        assert_eq!(whole(&["a"; MAX_DEPTH + 1]), Err("here: has more than 8 names".to_owned()));
    }
}
