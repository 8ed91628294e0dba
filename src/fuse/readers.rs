//! The readers of directories: how far each of them goes, and which of them uses the kernel's cache.
//!
//! A new name gets a cookie behind all others. A reader that renames, or replaces, each file that it reads would meet its own new
//! names for ever; so it sees nothing that was made after it started, or went back to the start (POSIX leaves that open; the
//! kernel's btrfs and tmpfs had the same trap).
//!
//! The kernel keeps one listing of a directory for all readers: a second reader that makes it anew puts new names before the
//! first one, too. So only a reader that is alone when it opens the directory may use that cache.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::union::readdir::ListEntry;
use crate::union::readdir::Listing;

/// All open directories.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    /// By handle: the directory's number, and the cookie at which the reader ends once it has started.
    readers: FxHashMap<u64, (u64, Option<u64>)>,
    /// How many readers a directory has.
    counts: FxHashMap<u64, u32>,
}

impl Readers {
    /// A handle for a new reader of the directory `ino`, and whether it is the only one.
    pub(super) fn open(&self, ino: u64) -> (u64, bool) {
        let mut open = self.0.lock();
        open.last += 1;
        let handle = open.last;
        open.readers.insert(handle, (ino, None));
        let count = open.counts.entry(ino).or_insert(0);
        *count += 1;
        let alone = *count == 1;
        (handle, alone)
    }

    /// Forgets a reader.
    pub(super) fn close(&self, reader: u64) {
        let mut open = self.0.lock();
        let Some((ino, _)) = open.readers.remove(&reader) else { return };
        if let Some(count) = open.counts.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(&ino);
            }
        }
    }

    /// The entries of `listing` behind `offset` that this reader is to see; from the start, all of them.
    pub(super) fn rest<'a>(&self, reader: u64, listing: &'a Listing, offset: u64) -> &'a [ListEntry] {
        let end = match self.0.lock().readers.get_mut(&reader) {
            Some((_, Some(end))) if offset > 0 => *end,
            Some((_, end)) => *end.insert(listing.end()),
            None => listing.end(),
        };
        let rest = listing.after(offset);
        rest.get(..rest.partition_point(|entry| entry.cookie < end)).unwrap_or_default()
    }
}
