//! Sessions that were signed out and that Redis has not removed yet.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use crate::record_name::RecordName;

/// Most sessions whose removal is retried at the same time.
const MAX_REMOVALS: usize = 1024;

/// Sessions that Redis has not removed yet. One task retries each of them, however many requests ask for it.
#[derive(Clone, Default)]
pub struct Removals(Rc<RefCell<HashSet<RecordName>>>);

/// One removal in progress. Dropping it ends the entry.
pub struct Removal {
    removals: Removals,
    name: RecordName,
}

impl Removals {
    /// Registers a removal. `None` if one is in progress for this session, or there are too many.
    pub fn begin(&self, name: RecordName) -> Option<Removal> {
        let mut names = self.0.borrow_mut();
        let is_new = names.len() < MAX_REMOVALS && names.insert(name.clone());
        is_new.then(|| Removal { removals: self.clone(), name })
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.removals.0.borrow_mut().remove(&self.name);
    }
}
