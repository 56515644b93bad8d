//! Sessions that were signed out and that Redis has not removed yet.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use crate::record_name::RecordName;

/// Sessions whose removal is tried again at the same time.
const MAX_REMOVALS: usize = 1024;

/// Sessions that Redis has not removed yet: each is tried again by one job, however often somebody asks for it.
#[derive(Clone, Default)]
pub struct Removals(Rc<RefCell<HashSet<RecordName>>>);

/// One that is being tried again.
pub struct Removal {
    removals: Removals,
    name: RecordName,
}

impl Removals {
    /// Takes it on, unless somebody else has.
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
