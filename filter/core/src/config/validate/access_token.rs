//! `issuer.access_token_marks`: what marks an access token. A rule that ID tokens match too is refused, because it
//! would turn every ID token into a credential.

use vec1::Vec1;

use super::entries::every;
use super::groups::claim_path;
use super::text;
use crate::config::error::{Place, Reported, quote};
use crate::config::field::{Field, field};
use crate::config::raw;
use crate::config::setting::Setting;
use crate::jose::mark::{AccessTokenMark, ClaimRule, KIND_CLAIMS, RequiredClaim};

/// The claims of ID tokens (RFC 7519 4.1, OIDC Core 2 and 5.1, the session's `sid`, and those that providers add to
/// both kinds).
const ID_TOKEN_CLAIMS: [&str; 64] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "azp",
    "sid",
    "auth_time",
    "acr",
    "amr",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "sub_jwk",
    "client_id",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "email",
    "email_verified",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
    "groups",
    "roles",
    "entitlements",
    "realm_access",
    "resource_access",
    "session_state",
    "ver",
    "tid",
    "oid",
    "upn",
    "unique_name",
    "idp",
    "uti",
    "rh",
    "hd",
    "event_id",
    "cognito:groups",
    "cognito:roles",
    "cognito:username",
    "cognito:preferred_role",
    "aio",
    "origin_jti",
    "org_id",
    "org_name",
    "hasgroups",
    "wids",
    "ds_hash",
];

/// Values that mark another kind of token.
const OTHER_KINDS: [&str; 7] =
    ["id", "id_token", "refresh", "refresh_token", "offline", "logout", "logout+jwt"];

pub(super) fn marks(
    field: Field<'_, Vec<Setting<raw::AccessTokenMark>>>,
) -> Result<Vec1<AccessTokenMark>, Reported> {
    let marks = field.optional(|written, place| {
        let marks = every(written, place, |mark, at| match mark {
            raw::AccessTokenMark::Rfc9068 => Ok(AccessTokenMark::Rfc9068),
            raw::AccessTokenMark::Keycloak => Ok(AccessTokenMark::Keycloak),
            raw::AccessTokenMark::Claims(raw) => rule(raw, &at.field("claims")).map(AccessTokenMark::Claims),
        });
        Vec1::try_from_vec(marks?)
            .map_err(|_| place.refuse("is empty: no token could be accepted; remove it to use the default"))
    });
    Ok(marks?.unwrap_or_else(AccessTokenMark::defaults))
}

fn rule(raw: raw::ClaimRule, place: &Place<'_>) -> Result<ClaimRule, Reported> {
    let present = field!(raw.present, place).required(|written, at| {
        let present = every(written, at, required_claim)?;
        Vec1::try_from_vec(present).map_err(|_| at.refuse("is empty: every token would be an access token"))
    });
    let absent = field!(raw.absent, place).or(Vec::new(), |written, at| every(written, at, claim_path));
    Ok(ClaimRule { present: present?, absent: absent? })
}

fn required_claim(raw: raw::RequiredClaim, place: &Place<'_>) -> Result<RequiredClaim, Reported> {
    let claim = field!(raw.claim, place).required(claim_path);
    let values = field!(raw.values, place);
    let values_place = values.place.clone();
    let values = text::optional_filled_list(
        values,
        "no token has such a claim; remove it to allow any value",
        text::name,
    );
    let (claim, values) = (claim?, values?.map_or_else(Vec::new, Vec1::into_vec));
    let tells_the_kind = |name: &String| KIND_CLAIMS.iter().any(|(known, _)| known == name);
    if let ([name], Some(value)) = (claim.as_slice(), values.iter().find(|value| is_other_kind(value)))
        && tells_the_kind(name)
    {
        return Err(values_place.refuse(format!("has {}, which marks another kind of token", quote(value))));
    }
    Ok(RequiredClaim { claim, values })
}

fn is_other_kind(value: &str) -> bool {
    OTHER_KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(value))
}

/// Each rule must have a claim that ID tokens lack. `groups` is the claim with the groups, which both kinds have.
pub(super) fn require_that_marks_tell(
    marks: &[AccessTokenMark],
    groups: &[String],
    place: &Place<'_>,
) -> Result<(), Reported> {
    let tells = |required: &RequiredClaim| {
        let name = required.claim.first().map_or("", String::as_str);
        !ID_TOKEN_CLAIMS.contains(&name) && groups.first().is_none_or(|groups| groups != name)
    };
    let mut checked = Ok(());
    for (index, mark) in marks.iter().enumerate() {
        if let AccessTokenMark::Claims(rule) = mark
            && !rule.present.iter().any(tells)
        {
            checked = Err(place.index(index).field("claims").field("present").refuse(
                "names only claims that ID tokens have as well; name one that only access tokens have, such as scp or scope",
            ));
        }
    }
    checked
}
