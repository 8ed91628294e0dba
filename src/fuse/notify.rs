//! Notices to the kernel: what it keeps is no longer so.

use std::sync::Arc;

use super::abi;
use super::bytes::Fixed;
use super::device::Device;
use super::nodeids::Nodeids;
use crate::path::Name;
use crate::sys::Errno;

/// Sends notices; copies share the connection.
#[derive(Debug, Clone)]
pub(super) struct Notifier {
    device: Arc<Device>,
    nodeids: Arc<Nodeids>,
}

impl Notifier {
    pub(super) fn new(device: Arc<Device>, nodeids: Arc<Nodeids>) -> Self {
        Self { device, nodeids }
    }

    /// The attributes of a node changed; nothing of its data, so no lock of the file is taken.
    pub(super) fn inval_attributes(&self, ino: u64) -> Result<(), Errno> {
        self.inval(ino, -1, 0)
    }

    /// Attributes and data of a node changed.
    pub(super) fn inval_inode(&self, ino: u64) -> Result<(), Errno> {
        self.inval(ino, 0, 0)
    }

    /// By all numbers under which the kernel knows the node.
    fn inval(&self, ino: u64, offset: i64, len: i64) -> Result<(), Errno> {
        if let Some(nodeid) = self.nodeids.other(ino) {
            self.inval_one(nodeid, offset, len)?;
        }
        self.inval_one(ino, offset, len)
    }

    fn inval_one(&self, nodeid: u64, offset: i64, len: i64) -> Result<(), Errno> {
        let body = Fixed::<24>::new().u64(nodeid).i64(offset).i64(len);
        known(self.device.send(0, abi::NOTIFY_INVAL_INODE, [body.as_bytes(), b""]))
    }

    /// A name in a directory is another object's, or nobody's. Waits for the lock of the directory, so nobody who answers requests
    /// may call it.
    pub(super) fn inval_entry(&self, parent: u64, name: Name<'_>) -> Result<(), Errno> {
        self.inval_name(parent, name.as_bytes())
    }

    /// Waits until the kernel has taken in all answers about the names of a directory that it asked for before: each is taken in under
    /// the directory's lock (`fuse_lookup`, `fuse_readdir`), which a notice about a name waits for, also one about a name that nothing
    /// has (so up to Linux 6.18: `fuse_reverse_inval_entry`).
    pub(super) fn arrived(&self, dir: u64) -> Result<(), Errno> {
        self.inval_name(dir, b".")
    }

    fn inval_name(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(name.len()).unwrap_or(0);
        let body = Fixed::<16>::new().u64(parent).u32(len).zeros(4);
        // The name ends with a NUL that its length does not count.
        let mut ended = name.to_vec();
        ended.push(0);
        known(self.device.send(0, abi::NOTIFY_INVAL_ENTRY, [body.as_bytes(), &ended]))
    }
}

/// What the kernel does not know it need not forget.
fn known(sent: Result<(), Errno>) -> Result<(), Errno> {
    if sent == Err(Errno::NOENT) { Ok(()) } else { sent }
}
