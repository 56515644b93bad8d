//! Rules that mark access tokens.

use serde_json::{Value, json};

use super::{errors, load_text, with};
use crate::testing::test;

/// If ID tokens match a rule too, each of them becomes a credential.
#[test]
fn f302_a_rule_that_tells_no_access_token_from_an_id_token_is_refused() {
    let rule =
        |present: Value| with(&[("/issuer/access_token_marks", json!([{"claims": {"present": present}}]))]);
    let expected = "issuer.access_token_marks[0].claims.present: names only claims that ID tokens have as well; name one \
                    that only access tokens have, such as scp or scope";
    for present in [
        json!([{"claim": "sub"}]),
        json!([{"claim": "aud", "values": ["mlflow"]}, {"claim": "azp"}]),
        json!([{"claim": "groups"}]),
        json!([{"claim": "realm_access.roles"}]),
        json!([{"claim": ["roles"], "values": ["admin"]}]),
        json!([{"claim": "client_id"}]),
    ] {
        assert_eq!(errors(&rule(present.clone())), [expected], "{present}");
    }
    // Claims that some providers add to ID tokens, also to those of a refresh.
    for claim in
        ["uti", "rh", "aio", "hd", "wids", "idp", "event_id", "origin_jti", "org_id", "cognito:groups", "ver"]
    {
        assert_eq!(errors(&rule(json!([{"claim": [claim]}]))), [expected], "{claim}");
    }
    let mut own = rule(json!([{"claim": "teams"}]));
    assert!(load_text(&own.to_string()).is_ok());
    own["groups"] = json!({"claim": "teams"});
    assert_eq!(errors(&own), [expected], "the claim with the groups is in both kinds");
    assert!(load_text(&rule(json!([{"claim": "sub"}, {"claim": "scp"}])).to_string()).is_ok());
}
