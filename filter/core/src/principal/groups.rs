//! Reads the groups of a person or client from the claims. A group is one string that is compared as a whole. It is
//! split only if the operator's `groups.format` says so.

use serde_json::{Map, Value};

use crate::config::{self, GroupsFormat};
use crate::json::{self, ClaimError, ClaimProblem, MAX_LIST_ENTRIES};

/// Distributed and aggregated claims (OIDC Core 5.6.2): names the claims that another source has.
const CLAIM_NAMES: &str = "_claim_names";

/// The groups according to the claims.
#[derive(Debug, PartialEq, Eq)]
pub enum Groups {
    /// A list of groups, which may be empty.
    Listed(Vec<String>),
    /// The principal has groups, but the token contains no list. Some providers leave it out if there are too many.
    Elsewhere,
}

/// Reads the groups from `claims`.
///
/// # Errors
/// The claim, or an object around it, does not have the form that `groups.format` says; there are too many groups, or
/// one is too long.
pub fn read(claims: &Map<String, Value>, source: &config::Groups) -> Result<Groups, ClaimError> {
    let name = source.claim.join(".");
    let Some(value) = json::at(claims, &source.claim).map_err(|problem| problem.of(name.clone()))? else {
        return Ok(if is_elsewhere(claims, &source.claim) {
            Groups::Elsewhere
        } else {
            Groups::Listed(Vec::new())
        });
    };
    // Serialisers write "no groups" in several ways.
    let groups = if json::is_empty(value) { Vec::new() } else { parse(value, source.format, &name)? };
    Ok(Groups::Listed(groups.into_iter().map(str::to_owned).collect()))
}

fn parse<'a>(value: &'a Value, format: GroupsFormat, name: &str) -> Result<Vec<&'a str>, ClaimError> {
    match (format, value) {
        // Some providers send a single group as a string. It counts as one group, whatever it contains.
        (GroupsFormat::List, Value::String(one)) => Ok(vec![json::bounded(one, name)?]),
        (GroupsFormat::List, value) => json::list(value, name),
        (GroupsFormat::SpaceSeparated, Value::String(text)) => {
            limited(text.split(' ').filter(|group| !group.is_empty()), name)
        }
        (GroupsFormat::ObjectKeys, Value::Object(members)) => {
            // A role whose value is null or false is switched off.
            let held = members.iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
            limited(held.map(|(key, _)| key.as_str()), name)
        }
        _ => Err(ClaimProblem::WrongType.of(name.to_owned())),
    }
}

fn limited<'a>(groups: impl Iterator<Item = &'a str>, name: &str) -> Result<Vec<&'a str>, ClaimError> {
    let groups: Vec<&str> = groups
        .take(MAX_LIST_ENTRIES.saturating_add(1))
        .map(|group| json::bounded(group, name))
        .collect::<Result<_, _>>()?;
    if groups.len() > MAX_LIST_ENTRIES { Err(ClaimProblem::TooMany.of(name.to_owned())) } else { Ok(groups) }
}

fn is_elsewhere(claims: &Map<String, Value>, path: &[String]) -> bool {
    let names = json::member(claims, CLAIM_NAMES).and_then(Value::as_object);
    path.first().zip(names).is_some_and(|(claim, names)| json::is_there(names, claim))
}

#[cfg(test)]
mod tests {
    use crate::testing::test;
    use serde_json::json;

    use super::*;
    use crate::json::MAX_LIST_ENTRY_LEN;
    use ClaimProblem::{TooLong, TooMany, WrongType};
    use GroupsFormat::{List, ObjectKeys, SpaceSeparated};

    fn groups(claims: Value, path: &[&str], format: GroupsFormat) -> Result<Groups, ClaimError> {
        let claim = path.iter().map(|name| (*name).to_owned()).collect();
        read(claims.as_object().unwrap(), &config::Groups { claim, format })
    }

    fn of(value: &Value, format: GroupsFormat) -> Result<Vec<String>, ClaimProblem> {
        match groups(json!({"groups": value}), &["groups"], format) {
            Ok(Groups::Listed(listed)) => Ok(listed),
            Ok(Groups::Elsewhere) => panic!("{value}"),
            Err(error) => {
                assert_eq!(error.claim, "groups");
                Err(error.problem)
            }
        }
    }

    #[test]
    fn f101_one_text_is_one_group_and_never_split() {
        for one in ["mlflow_users", "a b", "a,b", "/dept/team", " padded ", "[\"a\"]"] {
            assert_eq!(of(&json!(one), List), Ok(vec![one.to_owned()]));
        }
        assert_eq!(of(&json!("x".repeat(MAX_LIST_ENTRY_LEN + 1)), List), Err(TooLong));
    }

    #[test]
    fn f102_nothing_in_any_way_of_writing_it_is_no_groups() {
        for nothing in [json!(null), json!(""), json!([]), json!({})] {
            for format in [List, SpaceSeparated, ObjectKeys] {
                assert_eq!(of(&nothing, format), Ok(vec![]), "{nothing} {format:?}");
            }
        }
    }

    #[test]
    fn f105_each_form_is_read_where_the_setting_names_it_and_refused_elsewhere() {
        let (list, text) = (json!(["/a b", "c"]), json!(" a  b c "));
        let object = json!({"a": {"org": "x"}, "b": true, "c d": "", "off": false, "null": null});
        let read = |groups: &[&str]| Ok(groups.iter().map(|group| (*group).to_owned()).collect());
        for (value, format, expected) in [
            (&list, List, read(&["/a b", "c"])),
            (&text, List, read(&[" a  b c "])),
            (&object, List, Err(WrongType)),
            (&list, SpaceSeparated, Err(WrongType)),
            (&text, SpaceSeparated, read(&["a", "b", "c"])),
            (&object, SpaceSeparated, Err(WrongType)),
            (&list, ObjectKeys, Err(WrongType)),
            (&text, ObjectKeys, Err(WrongType)),
            (&object, ObjectKeys, read(&["a", "b", "c d"])),
            // Only the space separates. Other white space is part of a name.
            (&json!("a\tb\u{a0}c"), SpaceSeparated, read(&["a\tb\u{a0}c"])),
        ] {
            assert_eq!(of(value, format), expected, "{value} {format:?}");
        }
        for format in [List, SpaceSeparated, ObjectKeys] {
            for wrong in [json!(1), json!(true), json!(["a", 1]), json!([null]), json!([["a"]])] {
                assert_eq!(of(&wrong, format), Err(WrongType), "{wrong} {format:?}");
            }
        }
    }

    #[test]
    fn groups_are_found_behind_a_path_of_members() {
        let claims = json!({
            "realm_access": {"roles": ["r"], "none": null},
            "resource_access": {"my.app": {"roles": ["s"]}},
            "realm_access.roles": ["a name with a dot is another name"],
            "text": "admins", "nothing": null,
        });
        let listed =
            |names: &[&str]| Ok(Groups::Listed(names.iter().map(|name| (*name).to_owned()).collect()));
        for (path, expected) in [
            (&["realm_access", "roles"][..], listed(&["r"])),
            (&["resource_access", "my.app", "roles"], listed(&["s"])),
            (&["realm_access.roles"], listed(&["a name with a dot is another name"])),
            (&["absent"], listed(&[])),
            (&["absent", "roles"], listed(&[])),
            (&["realm_access", "absent"], listed(&[])),
            (&["realm_access", "none"], listed(&[])),
            (&["nothing"], listed(&[])),
            (&["nothing", "roles"], listed(&[])),
            (&["realm_access"], Err(WrongType.of("realm_access"))),
            (&["text", "roles"], Err(WrongType.of("text.roles"))),
            (&[], listed(&[])),
        ] {
            assert_eq!(groups(claims.clone(), path, List), expected, "{path:?}");
        }
    }

    #[test]
    fn bt16_lists_are_bounded_in_number_and_length_in_every_format() {
        let names: Vec<String> = (0..=MAX_LIST_ENTRIES).map(|number| format!("g{number}")).collect();
        let object = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Value>();
        let (most, over) = (&names[1..], &names[..]);
        for (format, most, over) in [
            (List, json!(most), json!(over)),
            (SpaceSeparated, json!(most.join(" ")), json!(over.join(" "))),
            (ObjectKeys, object(most), object(over)),
        ] {
            assert_eq!(of(&most, format).map(|groups| groups.len()), Ok(MAX_LIST_ENTRIES));
            assert_eq!(of(&over, format), Err(TooMany), "{format:?}");
        }
        let long = "x".repeat(MAX_LIST_ENTRY_LEN + 1);
        assert_eq!(of(&json!([long]), List), Err(TooLong));
        assert_eq!(of(&json!(format!("a {long}")), SpaceSeparated), Err(TooLong));
        assert_eq!(of(&object(&[long]), ObjectKeys), Err(TooLong));
    }

    #[test]
    fn f409_groups_that_the_provider_keeps_elsewhere_are_no_empty_list() {
        let elsewhere =
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "x"}}});
        assert_eq!(groups(elsewhere, &["groups"], List), Ok(Groups::Elsewhere));
        let nested = json!({"_claim_names": {"realm_access": "src1"}});
        assert_eq!(groups(nested, &["realm_access", "roles"], List), Ok(Groups::Elsewhere));
        let listed = |claims| groups(claims, &["groups"], List) == Ok(Groups::Listed(vec![]));
        assert!(listed(json!({"_claim_names": {"address": "src1"}})), "another claim");
        assert!(listed(json!({"_claim_names": {"groups": null}})), "nothing");
        assert!(listed(json!({"_claim_names": "groups"})), "of another form");
        assert!(listed(json!({"_claim_names": {"groups": "src1"}, "groups": []})), "a list is there as well");
        assert!(listed(json!({"_claim_names": {}})) && listed(json!({})));
    }
}
