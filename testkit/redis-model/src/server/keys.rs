//! The keys of a Redis, with their types and expiry times.

use std::collections::BTreeMap;

use super::stream::Stream;
use crate::resp::Reply;

/// All keys of one server.
#[derive(Debug, Default)]
pub struct Keys {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The server's clock, in milliseconds since the epoch.
    pub now: u64,
    /// The error for scripts that write, if writes are refused.
    pub refuses: Option<&'static str>,
    /// Whether the script has written already. Redis does not stop a script for lack of memory after its first write.
    pub is_dirty: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    data: Data,
    /// When it expires, in milliseconds since the epoch.
    expires: Option<u64>,
}

/// The value of a key.
#[derive(Clone, Debug)]
pub enum Data {
    /// A string.
    Text(Vec<u8>),
    /// A hash.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// A sorted set: members and their scores.
    Sorted(BTreeMap<Vec<u8>, f64>),
    /// A stream.
    Stream(Stream),
}

/// A type that a key can hold.
pub trait Kind: Default {
    /// The value as this type.
    fn of(data: &Data) -> Option<&Self>;
    /// The value as this type, to change it.
    fn of_mut(data: &mut Data) -> Option<&mut Self>;
    /// Wraps it as a key's value.
    fn wrap(self) -> Data;
    /// Whether the key is removed when its value becomes like this.
    fn is_empty(&self) -> bool;
}

macro_rules! kind {
    ($type:ty, $variant:ident, $empty:expr) => {
        impl Kind for $type {
            fn of(data: &Data) -> Option<&Self> {
                if let Data::$variant(value) = data { Some(value) } else { None }
            }
            fn of_mut(data: &mut Data) -> Option<&mut Self> {
                if let Data::$variant(value) = data { Some(value) } else { None }
            }
            fn wrap(self) -> Data {
                Data::$variant(self)
            }
            fn is_empty(&self) -> bool {
                let empty: fn(&$type) -> bool = $empty;
                empty(self)
            }
        }
    };
}

kind!(Vec<u8>, Text, |_| false);
kind!(BTreeMap<Vec<u8>, Vec<u8>>, Hash, |hash| hash.len() == 0);
kind!(BTreeMap<Vec<u8>, f64>, Sorted, |set| set.len() == 0);
// A stream remains even if all entries were trimmed.
kind!(Stream, Stream, |_| false);

impl Keys {
    /// Removes expired keys. Called with a new `now` before each command.
    pub fn expire(&mut self) {
        let now = self.now;
        self.entries.retain(|_, entry| entry.expires.is_none_or(|expires| expires > now));
    }

    /// The key's value as `K`; `None` if the key does not exist.
    ///
    /// # Errors
    /// `WRONGTYPE`.
    pub fn get<K: Kind>(&self, key: &[u8]) -> Result<Option<&K>, Reply> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(entry) => K::of(&entry.data).map(Some).ok_or_else(Reply::wrong_type),
        }
    }

    /// Changes the key's value. Creates the key if it does not exist, and removes it if the value becomes empty.
    ///
    /// # Errors
    /// `WRONGTYPE`.
    pub fn change<K: Kind, T>(&mut self, key: &[u8], change: impl FnOnce(&mut K) -> T) -> Result<T, Reply> {
        let entry = self
            .entries
            .entry(key.to_vec())
            .or_insert_with(|| Entry { data: K::default().wrap(), expires: None });
        let value = K::of_mut(&mut entry.data).ok_or_else(Reply::wrong_type)?;
        let result = change(value);
        if value.is_empty() {
            self.entries.remove(key);
        }
        Ok(result)
    }

    /// Sets the key to a string. Any old value and expiry are removed.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.entries.insert(key.to_vec(), Entry { data: Data::Text(value.to_vec()), expires: None });
    }

    /// Whether the key exists.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    /// The key's value.
    pub fn data(&self, key: &[u8]) -> Option<&Data> {
        self.entries.get(key).map(|entry| &entry.data)
    }

    /// Removes the key. True if it existed.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.entries.remove(key).is_some()
    }

    /// When the key expires. The outer `None` means that the key does not exist.
    pub fn end(&self, key: &[u8]) -> Option<Option<u64>> {
        self.entries.get(key).map(|entry| entry.expires)
    }

    /// Sets or removes the key's expiry. A time in the past removes the key.
    pub fn set_end(&mut self, key: &[u8], expires: Option<u64>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.expires = expires;
        }
        self.expire();
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.entries.keys()
    }
}
