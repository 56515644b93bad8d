//! All base64 of the gate: strict base64url for tokens and keys, standard base64 for `Basic` credentials. And fields
//! with their length in front, for hashes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The text is not base64url as RFC 7515 2 defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64url")]
pub struct NotBase64Url;

/// base64url without padding (RFC 7515 2).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url in its only valid form.
///
/// # Errors
/// [`NotBase64Url`] for padding, white space, the other alphabet (`+`, `/`), an impossible length, and bits after the
/// last whole octet that are not zero. With such bits several texts would decode to the same bytes, so a token could be
/// changed without changing what was signed.
pub fn from_base64url(text: impl AsRef<[u8]>) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url)
}

/// Standard base64 with padding (RFC 4648 4), as `Authorization: Basic` requires it (RFC 7617 2).
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Decodes standard base64 with padding; `None` for anything else.
pub fn from_base64(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The parts, each with its length in front, so two different lists never have the same bytes (CVE-2023-35941).
pub fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let len = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes();
    parts.iter().flat_map(|part| len(part).into_iter().chain(part.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::test;

    use super::*;

    #[test]
    fn base64url_uses_its_own_alphabet_and_no_padding() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (&[0xfb, 0xff, 0xfe], "-__-"),
            // RFC 7515 Appendix C.
            (&[3, 236, 255, 224, 193], "A-z_4ME"),
        ] {
            assert_eq!(base64url(bytes), text);
            assert_eq!(from_base64url(text).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn only_the_one_legal_form_is_decoded() {
        for (text, why) in [
            ("Zg==", "padding"),
            ("Zg=", "half of the padding"),
            ("-_+-", "a character of standard base64"),
            ("-_/-", "a character of standard base64"),
            ("Zh", "set bits after the last octet"),
            ("Zm9", "set bits after the last octet"),
            ("Z", "an impossible length"),
            ("Zm9vZ", "an impossible length"),
            ("Zm9v\n", "a line feed"),
            ("Zm 9v", "a blank"),
            ("Zm9v.", "a dot"),
            ("Zm%39", "a URL escape"),
            ("Zm9ｖ", "a full-width letter"),
            ("Zm9v\0", "a NUL"),
        ] {
            assert_eq!(from_base64url(text), Err(NotBase64Url), "{why}: {text:?}");
        }
    }

    #[test]
    fn basic_credentials_use_standard_base64_with_padding() {
        // RFC 7617 2.
        assert_eq!(base64("Aladdin:open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(base64([0xfb, 0xff, 0xfe]), "+//+");
    }
}
