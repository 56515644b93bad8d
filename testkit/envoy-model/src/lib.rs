//! The data that the workers of one Envoy share, with its compare-and-swap, for the hosts of tests and of the
//! simulator.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Another worker wrote first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch;

/// The shared data of one Envoy.
#[derive(Debug, Default)]
pub struct SharedData {
    values: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    last: Cell<u32>,
}

impl SharedData {
    /// A value with its compare-and-swap number.
    pub fn get(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.values.borrow().get(key).cloned()
    }

    /// Writes a value. As in proxy-wasm, number 0 overwrites any version, and any number writes a key that does not
    /// exist.
    ///
    /// # Errors
    /// The value has another number.
    pub fn set(&self, key: &str, value: &[u8], cas: Option<u32>) -> Result<(), Mismatch> {
        let mut values = self.values.borrow_mut();
        if let (Some(cas @ 1..), Some((_, current))) = (cas, values.get(key))
            && cas != *current
        {
            return Err(Mismatch);
        }
        // Skip 0 after an overflow.
        let next = self.last.get().checked_add(1).unwrap_or(1);
        self.last.set(next);
        values.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    /// Removes everything, as a restart does.
    pub fn clear(&self) {
        self.values.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_and_swap_is_that_of_proxy_wasm() {
        let shared = SharedData::default();
        assert_eq!(shared.set("k", b"1", Some(77)), Ok(()), "a key that is not there takes any number");
        let (_, cas) = shared.get("k").unwrap();
        assert_ne!(cas, 0, "the number of a version is never 0");
        assert_eq!(shared.set("k", b"2", Some(cas + 1)), Err(Mismatch));
        assert_eq!(shared.set("k", b"2", Some(cas)), Ok(()));
        assert_eq!(shared.set("k", b"3", Some(cas)), Err(Mismatch), "every write makes a new number");
        assert_eq!(shared.set("k", b"4", Some(0)), Ok(()), "0 asks for nothing");
        assert_eq!(shared.set("k", b"5", None), Ok(()));
        shared.clear();
        assert_eq!(shared.get("k"), None);
    }
}
