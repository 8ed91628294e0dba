//! The readers of directories: how far each of them goes.
//!
//! A new name gets a cookie behind all others. A reader that renames, or replaces, each file that it reads would meet its own new
//! names for ever; so it sees nothing that was made after it started, or went back to the start (POSIX leaves that open; the
//! kernel's btrfs and tmpfs had the same trap).

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use fuser::FileHandle;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::union::readdir::ListEntry;
use crate::union::readdir::Listing;

/// Open directories, each with the cookie at which it ends.
#[derive(Debug, Default)]
pub(super) struct Readers {
    next: AtomicU64,
    ends: Mutex<FxHashMap<u64, u64>>,
}

impl Readers {
    /// A handle for a new reader. Nothing is kept for it until it reads.
    pub(super) fn open(&self) -> FileHandle {
        FileHandle(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Forgets a reader.
    pub(super) fn close(&self, reader: FileHandle) {
        self.ends.lock().remove(&reader.0);
    }

    /// The entries of `listing` behind `offset` that this reader is to see; from the start, all of them.
    pub(super) fn rest<'a>(&self, reader: FileHandle, listing: &'a Listing, offset: u64) -> &'a [ListEntry] {
        let end = {
            let mut ends = self.ends.lock();
            let end = ends.entry(reader.0).or_insert(listing.end());
            if offset == 0 {
                *end = listing.end();
            }
            *end
        };
        let rest = listing.after(offset);
        rest.get(..rest.partition_point(|entry| entry.cookie < end)).unwrap_or_default()
    }
}
