//! A browser's cookies.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cookie::Cookie;

use crate::executor::Moment;

/// The cookies of one browser, which its tabs share.
#[derive(Debug, Default)]
pub struct Jar(RefCell<BTreeMap<String, (String, Option<Moment>)>>);

impl Jar {
    /// The `Cookie` header; `None` if there are no cookies.
    pub fn header(&self, now: Moment) -> Option<String> {
        let mut cookies = self.0.borrow_mut();
        cookies.retain(|_, (_, until)| until.is_none_or(|until| until > now));
        let pairs: Vec<String> = cookies.iter().map(|(name, (value, _))| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Stores a cookie from a reply.
    pub fn take(&self, set_cookie: &str, now: Moment) {
        let Ok(cookie) = Cookie::parse(set_cookie) else { return };
        // RFC 6265bis 5.7 (21): a cookie with this prefix needs Secure, Path=/ and no Domain. Otherwise it is ignored.
        if cookie.name().starts_with("__Host-")
            && (cookie.secure() != Some(true) || cookie.path() != Some("/") || cookie.domain().is_some())
        {
            return;
        }
        let until = cookie.max_age().map(|age| now.saturating_add(age.try_into().unwrap_or_default()));
        let mut cookies = self.0.borrow_mut();
        if until.is_some_and(|until| until <= now) {
            cookies.remove(cookie.name());
        } else {
            cookies.insert(cookie.name().to_owned(), (cookie.value().to_owned(), until));
        }
    }

    /// The value of a cookie.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.borrow().get(name).map(|(value, _)| value.clone())
    }

    /// Removes all cookies.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn cookies_live_as_long_as_they_are_told_and_host_cookies_only_with_their_attributes() {
        let jar = Jar::default();
        let later = Moment::ZERO.saturating_add(Duration::from_secs(10));
        jar.take("a=1; Max-Age=10", Moment::ZERO);
        jar.take("__Host-b=2; Secure; Path=/; HttpOnly", Moment::ZERO);
        jar.take("__Host-c=3; Path=/", Moment::ZERO);
        assert_eq!(jar.header(Moment::ZERO).as_deref(), Some("__Host-b=2; a=1"));
        assert_eq!(jar.header(later).as_deref(), Some("__Host-b=2"));
        jar.take("__Host-b=; Secure; Path=/; Max-Age=0", later);
        assert_eq!(jar.header(later), None);
    }
}
