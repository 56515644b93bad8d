//! `policy`: groups and rules. Somebody must be able to get access.

use std::collections::BTreeMap;

use vec1::Vec1;

use super::entries::each;
use super::{path, text};
use crate::config::error::{Place, Reported, quote};
use crate::config::field::{Field, field};
use crate::config::model::{Access, Policy, Preset, Rule};
use crate::config::raw;
use crate::config::rule_name::{MAX_RULE_REASONS, RuleName};
use crate::config::setting::Setting;
use crate::methods::Method;

const MAX_RULE_NAME_LEN: usize = 64;

pub(super) fn policy(raw: raw::Policy, place: &Place<'_>) -> Result<Policy, Reported> {
    // A list of groups may be empty, as long as the other list is not.
    let admins = text::list(field!(raw.admins, place), group);
    let users = text::list(field!(raw.users, place), group);
    let viewers = text::list(field!(raw.viewers, place), group);
    let named = Named::new([&admins, &users, &viewers]);
    let has_preset = !raw.preset.is_absent();
    let preset = raw.preset.optional();
    let static_prefix = field!(raw.static_prefix, place).text().optional(|prefix, at| match has_preset {
        true => path::static_prefix(prefix, at),
        false => Err(at.refuse("has no effect without policy.preset")),
    });
    let preset_serves = preset_serves_somebody(&preset, &named, place);
    // Report missing groups once: if the preset's check reports them, the rules' check does not.
    let named = if preset_serves.is_err() { Named::ALL } else { named };
    let rules = field!(raw.rules, place);
    let rules_place = rules.place.clone();
    let mut labels = Labels::default();
    let rules = rules.or(Vec::new(), |written, at| {
        let numbered = written.into_iter().enumerate();
        each(numbered, at, |index, raw, at| rule(raw, index, &named, &mut labels, at))
    });
    let policy = Policy {
        preset: preset?,
        static_prefix: static_prefix?.unwrap_or_default(),
        admins: admins?,
        users: users?,
        viewers: viewers?,
        rules: rules?,
    };
    preset_serves?;
    if policy.rule_reasons().len() > MAX_RULE_REASONS {
        rules_place.warn(&format!(
            "the metric has at most {MAX_RULE_REASONS} reasons of named rules; refusals by the other rules \
             count as not_allowed or not_found"
        ));
    }
    rules_serve_somebody(&policy, place)?;
    Ok(policy)
}

/// `mlflow_admins` and `/mlflow_admins` are the same top-level group. A single slash is not a group.
fn group(name: String, place: &Place<'_>) -> Result<String, Reported> {
    let name = text::without_wildcard(name, place)?;
    if name.strip_prefix('/').unwrap_or(&name).trim().is_empty() {
        return Err(place.refuse("names no group"));
    }
    Ok(name)
}

/// Which lists contain a group. A refused list counts as filled, so that it causes no second error.
struct Named {
    admins: bool,
    users: bool,
    viewers: bool,
}

impl Named {
    const ALL: Self = Self { admins: true, users: true, viewers: true };

    /// Of the lists of admins, users and viewers.
    fn new(lists: [&Result<Vec<String>, Reported>; 3]) -> Self {
        let [admins, users, viewers] =
            lists.map(|list| list.as_ref().map_or(true, |groups| !groups.is_empty()));
        Self { admins, users, viewers }
    }
}

/// For each label, the rule name that it was derived from.
type Labels = BTreeMap<String, String>;

fn rule(
    raw: raw::Rule,
    index: usize,
    named: &Named,
    labels: &mut Labels,
    place: &Place<'_>,
) -> Result<Rule, Reported> {
    let name = field!(raw.name, place).text().optional(|name, at| rule_name(name, labels, at));
    let path = field!(raw.path, place);
    let path_place = path.place.clone();
    let path = path.required(path::path);
    // An empty list must not mean "all", especially if it comes from an empty default.
    let methods = text::optional_filled_list(
        field!(raw.methods, place),
        "the rule would match no method; remove it to match all",
        method,
    );
    let access = field!(raw.access, place).required(|raw, at| access(raw, named, at));
    if let (Ok(path), Ok(access)) = (&path, &access) {
        path::refuse_public_reserved(path, access, &path_place)?;
    }
    let name = name?.unwrap_or_else(|| RuleName::Own(format!("rules[{index}]")));
    Ok(Rule { name, path: path?, methods: methods?.map_or_else(Vec::new, Vec1::into_vec), access: access? })
}

/// Rules may share a name, and then share a label. Two names with the same label are refused, because the metric could
/// not tell them apart.
fn rule_name(name: String, labels: &mut Labels, place: &Place<'_>) -> Result<RuleName, Reported> {
    let name = text::name(name, place)?;
    if name.len() > MAX_RULE_NAME_LEN {
        return Err(place.refuse(format!("is longer than {MAX_RULE_NAME_LEN} bytes")));
    }
    let Some(name) = RuleName::given(name) else {
        return Err(place.refuse("needs a letter a-z or a digit: the metric's reason consists of these"));
    };
    if let RuleName::Given { name, label } = &name {
        let other = labels.entry(label.clone()).or_insert_with(|| name.clone());
        if other != name {
            return Err(place.refuse(format!(
                "becomes {label} in the metric's reason, as does {}: use the same name, or names that differ in a-z \
                 and 0-9",
                quote(other)
            )));
        }
    }
    Ok(name)
}

/// A method that the gate lets through. A rule for any other method would never match.
fn method(name: String, place: &Place<'_>) -> Result<Method, Reported> {
    let name = text::without_wildcard(name, place)?;
    if let Some(method) = Method::parse(name.as_bytes()) {
        return Ok(method);
    }
    let upper = name.to_ascii_uppercase();
    if Method::parse(upper.as_bytes()).is_some() {
        return Err(place.refuse(format!("is not a method: names are case-sensitive, write {upper}")));
    }
    Err(place.refuse(format!(
        "is {}, which the gate refuses with 400 before any rule applies; it allows {}",
        quote(&name),
        Method::ALL.iter().map(|method| method.label()).collect::<Vec<_>>().join(", ")
    )))
}

fn access(raw: raw::Access, named: &Named, place: &Place<'_>) -> Result<Access, Reported> {
    match raw {
        raw::Access::Public => Ok(Access::Public),
        raw::Access::SignedIn => Ok(Access::SignedIn),
        raw::Access::Deny => Ok(Access::Deny),
        raw::Access::NotFound => Ok(Access::NotFound),
        raw::Access::Admins if !named.admins => {
            Err(place.refuse("is admins, but policy.admins names no group: nobody would have access"))
        }
        raw::Access::Users if !named.users && !named.admins => Err(place
            .refuse("is users, but policy.users and policy.admins name no group: nobody would have access")),
        raw::Access::Viewers if !named.viewers && !named.users && !named.admins => Err(place.refuse(
            "is viewers, but policy.viewers, policy.users and policy.admins name no group: nobody would have access",
        )),
        raw::Access::Admins => Ok(Access::Admins),
        raw::Access::Users => Ok(Access::Users),
        raw::Access::Viewers => Ok(Access::Viewers),
        raw::Access::Groups(groups) => {
            let groups = Field { setting: Setting::Given(groups), place: place.field("groups") };
            let nobody = "nobody would have access; write deny if that is intended";
            text::filled_list(groups, nobody, group).map(Vec1::into_vec).map(Access::Groups)
        }
    }
}

fn preset_serves_somebody(
    preset: &Result<Option<Preset>, Reported>,
    named: &Named,
    place: &Place<'_>,
) -> Result<(), Reported> {
    match preset {
        Ok(Some(Preset::Mlflow)) if !named.admins && !named.users && !named.viewers => Err(place.refuse(
            "names no group in admins, users or viewers: with preset mlflow nobody would have access",
        )),
        _ => Ok(()),
    }
}

fn rules_serve_somebody(policy: &Policy, place: &Place<'_>) -> Result<(), Reported> {
    let named = [&policy.admins, &policy.users, &policy.viewers].iter().any(|groups| !groups.is_empty());
    if policy.preset.is_some() || named {
        return Ok(());
    }
    if policy.rules.is_empty() {
        return Err(place.refuse(
            "has no preset, no admins, no users, no viewers and no rules: nobody would have access",
        ));
    }
    if policy.rules.iter().all(|rule| matches!(rule.access, Access::Deny | Access::NotFound)) {
        place.warn("has rules that refuse access, but none that grants it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::checked;
    use crate::testing::test;

    #[test]
    fn groups_have_a_name_and_no_wildcard() {
        for good in ["mlflow_admins", "/mlflow_admins", "/dept/admins", "a.b", "two words", "\u{e9}quipe"] {
            assert_eq!(checked(|place| group(good.to_owned(), place)).as_deref(), Ok(good));
        }
        for wrong in ["", "/", "/ ", "*", "/mlflow_*", "a\u{0}", "a\nb"] {
            assert!(checked(|place| group(wrong.to_owned(), place)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn f204_methods_are_those_that_the_gate_lets_through() {
        for good in Method::ALL {
            assert_eq!(checked(|place| method(good.label().to_owned(), place)), Ok(*good));
        }
        for wrong in ["", "*", "GET\r\n", " GET"] {
            assert!(checked(|place| method(wrong.to_owned(), place)).is_err(), "{wrong:?}");
        }
        for lower in ["get", "Patch"] {
            let error = checked(|place| method(lower.to_owned(), place)).unwrap_err();
            let upper = lower.to_ascii_uppercase();
            assert_eq!(error, format!("here: is not a method: names are case-sensitive, write {upper}"));
        }
        for unknown in ["PROPFIND", "CONNECT", "TRACE", "QUERY", "GET POST", "G\u{c9}T", &"M".repeat(255)] {
            let error = checked(|place| method(unknown.to_owned(), place)).unwrap_err();
            let accepted = "it allows GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            assert!(error.ends_with(accepted) && error.len() < 250, "{error}");
        }
    }

    #[test]
    fn a_rule_for_nobody_is_a_mistake_unless_the_list_itself_is_refused() {
        let named = |admins, users| Named::new([&admins, &users, &Ok(vec![])]);
        let group = || Ok(vec!["g".to_owned()]);
        let read = |raw, named: &Named| checked(|place| access(raw, named, place));
        assert!(read(raw::Access::Admins, &named(group(), Ok(vec![]))).is_ok());
        assert!(read(raw::Access::Users, &named(group(), Ok(vec![]))).is_ok());
        assert!(read(raw::Access::Admins, &named(Ok(vec![]), group())).is_err());
        assert!(read(raw::Access::Users, &named(Ok(vec![]), Ok(vec![]))).is_err());
        assert!(read(raw::Access::Admins, &named(Err(Reported), Ok(vec![]))).is_ok());
    }
}
