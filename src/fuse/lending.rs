//! Files that are lent to the kernel, which then reads, writes and maps them itself (passthrough, Linux 6.9).
//!
//! Of one node (of the protocol's) the kernel takes one backing file, the same for all handles that are open, and either that or
//! requests through its cache, never both. So the first opening decides, and what it decided stands until the last handle is closed:
//! - the upper file is lent, and of layers whole files from [`WORTHWHILE`] on; smaller ones, and those inside packs, are cached;
//! - a node that was opened through the cache stays so: all its handles see what is written;
//! - where a layer's file is lent and the node was copied up since, the opening must go to another node ([`Grant::Elsewhere`]):
//!   the kernel would refuse the new file (`EIO`), and who reads the old one goes on reading it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::device::Device;
use crate::sys::Errno;
use crate::union::Lendable;
use crate::union::SMALL;

/// From this size on, in bytes, a layer's file is lent. What is smaller comes with one request and stays in the kernel's cache, which
/// is cheaper than lending at each opening, and keeps what is open together when the file is copied up.
pub(super) const WORTHWHILE: u64 = SMALL;

const SHARDS: usize = 16;

/// What is lent.
#[derive(Debug)]
pub(super) struct Lending {
    device: Arc<Device>,
    /// By the protocol's node number.
    loans: [Mutex<FxHashMap<u64, Loan>>; SHARDS],
}

/// How one node is open.
#[derive(Debug)]
struct Loan {
    handles: u32,
    /// Somebody may write, or may have.
    written: bool,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Cached,
    /// The kernel's number of the file that it has, and whether that is the upper one.
    Lent {
        backing: i32,
        upper: bool,
    },
}

/// What an opening is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// The file of this number. `first_writer`: what the kernel knows of the node's attributes will not be kept up to date by it.
    Lent { backing: i32, first_writer: bool },
    /// Through the cache. `keep`: what the kernel has cached is the file's content.
    Cached { keep: bool },
    /// The node has another file lent.
    Elsewhere,
}

impl Lending {
    /// Lends over `device`; `None` when the kernel refuses.
    pub(super) fn start(device: &Arc<Device>) -> Option<Self> {
        // A file that cannot be lent, as no device can: but who may not lend at all is told that first.
        match device.lend_self() {
            Err(Errno::PERM) => return None,
            Ok(id) => drop(device.take_back(id)),
            Err(_) => {}
        }
        Some(Self { device: device.clone(), loans: Default::default() })
    }

    #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn shard(&self, nodeid: u64) -> &Mutex<FxHashMap<u64, Loan>> {
        &self.loans[(nodeid % SHARDS as u64) as usize]
    }

    /// Counts one more handle of `nodeid`, unless it must go elsewhere. `file` is the one that the node has now; it is asked for while no
    /// other opening of this node decides.
    pub(super) fn open(
        &self,
        nodeid: u64,
        write: bool,
        file: impl FnOnce() -> crate::union::Result<Lendable>,
    ) -> crate::union::Result<Grant> {
        let mut loans = self.shard(nodeid).lock();
        if let Some(Loan { way: Way::Cached, handles, written }) = loans.get_mut(&nodeid) {
            *handles += 1;
            *written |= write;
            // All changes since the first opening came through the cache.
            return Ok(Grant::Cached { keep: true });
        }
        let file = file()?;
        if let Some(Loan { way: Way::Lent { backing, upper }, handles, written }) = loans.get_mut(&nodeid) {
            if *upper != file.in_upper() {
                return Ok(Grant::Elsewhere);
            }
            *handles += 1;
            let first_writer = write && !std::mem::replace(written, *written || write);
            return Ok(Grant::Lent { backing: *backing, first_writer });
        }
        let way = self.way(&file, write);
        loans.insert(nodeid, Loan { handles: 1, written: write, way });
        Ok(match way {
            Way::Lent { backing, .. } => Grant::Lent { backing, first_writer: write },
            // A layer's content never changes, and before a copy-up nobody wrote past the cache.
            Way::Cached => Grant::Cached { keep: !file.in_upper() },
        })
    }

    /// How the first handle of a node is opened.
    fn way(&self, file: &Lendable, write: bool) -> Way {
        let (fd, upper) = match file {
            Lendable::Upper(fd) => (fd, true),
            // A layer's file is never lent to somebody who writes.
            Lendable::Layer(fd, len) if *len >= WORTHWHILE && !write => (fd, false),
            _ => return Way::Cached,
        };
        match self.lend(fd) {
            Ok(backing) => Way::Lent { backing, upper },
            // On a filesystem that is stacked too high, for one.
            Err(e) => {
                log::debug!("a file is not lent to the kernel: {e}");
                Way::Cached
            }
        }
    }

    fn lend(&self, fd: &OwnedFd) -> Result<i32, Errno> {
        self.device.lend(fd)
    }

    /// One handle less; with the last one the file is taken back.
    pub(super) fn close(&self, nodeid: u64) {
        let mut loans = self.shard(nodeid).lock();
        let Some(loan) = loans.get_mut(&nodeid) else { return };
        loan.handles -= 1;
        if loan.handles > 0 {
            return;
        }
        let way = loan.way;
        loans.remove(&nodeid);
        drop(loans);
        if let Way::Lent { backing, .. } = way
            && let Err(e) = self.device.take_back(backing)
        {
            log::warn!("file {backing}, which was lent to the kernel, could not be taken back: {e}");
        }
    }

    /// Whether the kernel may change size and times of a node without telling.
    pub(super) fn is_written(&self, nodeid: u64) -> bool {
        let loans = self.shard(nodeid).lock();
        loans.get(&nodeid).is_some_and(|loan| loan.written && matches!(loan.way, Way::Lent { .. }))
    }
}
