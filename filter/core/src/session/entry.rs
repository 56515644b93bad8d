//! A session as one worker knows it.

use crate::assertion::Memo;
use crate::record_name::RecordName;
use crate::revocation::memory::RevocationKeys;
use crate::session::cache::Weigh;
use crate::session::record::Record;

/// A session as it was read or written, with its version.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The decrypted record.
    pub record: Record,
    /// The number of the write that produced this record.
    pub version: u64,
    /// The last assertion about the user.
    pub memo: Memo,
    pub(super) name: RecordName,
    pub(super) fingerprint: [u8; 32],
    pub(super) revocation_keys: RevocationKeys,
    pub(super) weight: usize,
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.weight
    }
}
