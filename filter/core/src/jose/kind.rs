//! Kinds of token, told apart by `typ` in header and payload (RFC 8725 3.11, 3.12): what is one kind is no other.

/// One kind of token.
pub trait TokenKind: sealed::Sealed {
    /// Whether a token with these `typ` values, of its header and of its payload, is of this kind. The payload's is
    /// Keycloak's own mark.
    fn accepts(header_type: Option<&str>, payload_type: Option<&str>) -> bool;
}

/// OIDC Core 2: says who logged in, to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdToken {}

/// RFC 9068: lets its bearer use a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessToken {}

/// Keycloak's administrative messages: bare JWTs without a mark of their own. What tells them from ID tokens is what
/// claims they must and must not have; `oidc::admin_callback` looks at that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminAction {}

/// OIDC Back-Channel Logout 2.4: says that a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutToken {}

impl TokenKind for IdToken {
    /// Header `JWT` or none, payload `ID` or none.
    fn accepts(header_type: Option<&str>, payload_type: Option<&str>) -> bool {
        is_plain_jwt(header_type) && payload_type.is_none_or(|mark| mark == "ID")
    }
}

impl TokenKind for AccessToken {
    /// Header `at+jwt` (RFC 9068 4) and payload `Bearer` or none; or header `JWT` or none, and payload `Bearer`.
    fn accepts(header_type: Option<&str>, payload_type: Option<&str>) -> bool {
        if header_type.is_some_and(|header| is_media_type(header, "at+jwt")) {
            return payload_type.is_none_or(|mark| mark == "Bearer");
        }
        is_plain_jwt(header_type) && payload_type == Some("Bearer")
    }
}

impl TokenKind for AdminAction {
    /// Header `JWT` or none, no mark in the payload.
    fn accepts(header_type: Option<&str>, payload_type: Option<&str>) -> bool {
        is_plain_jwt(header_type) && payload_type.is_none()
    }
}

impl TokenKind for LogoutToken {
    /// Header `logout+jwt`, payload `Logout` or none.
    fn accepts(header_type: Option<&str>, payload_type: Option<&str>) -> bool {
        header_type.is_some_and(|header| is_media_type(header, "logout+jwt"))
            && payload_type.is_none_or(|mark| mark == "Logout")
    }
}

fn is_plain_jwt(header_type: Option<&str>) -> bool {
    header_type.is_none_or(|header| is_media_type(header, "JWT"))
}

/// RFC 7515 4.1.9: a media type, in any case, whose `application/` may be left out.
fn is_media_type(value: &str, subtype: &str) -> bool {
    const PREFIX: &str = "application/";
    let bare = match value.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => value,
    };
    bare.eq_ignore_ascii_case(subtype)
}

mod sealed {
    /// No kinds but ours.
    pub trait Sealed {}
    impl Sealed for super::IdToken {}
    impl Sealed for super::AdminAction {}
    impl Sealed for super::AccessToken {}
    impl Sealed for super::LogoutToken {}
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const HEADERS: [Option<&str>; 13] = [
        None,
        Some("JWT"),
        Some("jwt"),
        Some("application/JWT"),
        Some("at+jwt"),
        Some("AT+JWT"),
        Some("application/at+jwt"),
        Some("Application/At+Jwt"),
        Some("logout+jwt"),
        Some("application/logout+jwt"),
        Some(""),
        Some("dpop+jwt"),
        Some("application/application/jwt"),
    ];
    const MARKS: [Option<&str>; 7] =
        [None, Some("ID"), Some("Bearer"), Some("Logout"), Some("Refresh"), Some("bearer"), Some("")];

    fn accepted<K: TokenKind>() -> Vec<(Option<&'static str>, Option<&'static str>)> {
        let all = HEADERS.into_iter().flat_map(|header| MARKS.into_iter().map(move |mark| (header, mark)));
        all.filter(|(header, mark)| K::accepts(*header, *mark)).collect()
    }

    fn pairs(
        headers: &[Option<&'static str>],
        marks: &[Option<&'static str>],
    ) -> Vec<(Option<&'static str>, Option<&'static str>)> {
        headers.iter().flat_map(|header| marks.iter().map(move |mark| (*header, *mark))).collect()
    }

    #[test]
    fn an_id_token_is_a_plain_jwt_that_is_not_marked_as_something_else() {
        assert_eq!(accepted::<IdToken>(), pairs(&HEADERS[0..4], &[None, Some("ID")]));
    }

    #[test]
    fn an_access_token_says_so_in_its_header_or_by_keycloaks_mark() {
        let by_mark = pairs(&HEADERS[0..4], &[Some("Bearer")]);
        let by_header = pairs(&HEADERS[4..8], &[None, Some("Bearer")]);
        assert_eq!(accepted::<AccessToken>(), [by_mark, by_header].concat());
    }

    #[test]
    fn a_logout_token_says_so_in_its_header() {
        assert_eq!(accepted::<LogoutToken>(), pairs(&HEADERS[8..10], &[None, Some("Logout")]));
    }

    #[test]
    fn an_administrative_message_has_no_mark_of_another_kind() {
        assert_eq!(accepted::<AdminAction>(), pairs(&HEADERS[0..4], &[None]));
    }

    /// Administrative messages are told from ID tokens by their claims: see `oidc::admin_callback`.
    #[test]
    fn no_token_is_of_two_kinds() {
        let all = [accepted::<IdToken>(), accepted::<AccessToken>(), accepted::<LogoutToken>()].concat();
        for (index, combination) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(combination), "{combination:?}");
        }
    }
}
