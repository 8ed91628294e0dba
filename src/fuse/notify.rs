//! Notices to the kernel: what it keeps is no longer so.

use std::sync::Arc;

use super::abi;
use super::bytes::Fixed;
use super::device::Device;
use crate::path::Name;
use crate::sys::Errno;

/// Sends notices; copies share the connection.
#[derive(Debug, Clone)]
pub(super) struct Notifier(Arc<Device>);

impl Notifier {
    pub(super) fn new(device: Arc<Device>) -> Self {
        Self(device)
    }

    /// The attributes of a node changed; nothing of its data, so no lock of the file is taken.
    pub(super) fn inval_attributes(&self, nodeid: u64) -> Result<(), Errno> {
        self.inval(nodeid, -1, 0)
    }

    /// Attributes and data of a node changed.
    pub(super) fn inval_inode(&self, nodeid: u64) -> Result<(), Errno> {
        self.inval(nodeid, 0, 0)
    }

    fn inval(&self, nodeid: u64, offset: i64, len: i64) -> Result<(), Errno> {
        let body = Fixed::<24>::new().u64(nodeid).i64(offset).i64(len);
        known(self.0.send(0, abi::NOTIFY_INVAL_INODE, [body.as_bytes(), b""]))
    }

    /// A name in a directory is another object's, or nobody's. Waits for the lock of the directory, so nobody who answers requests
    /// may call it.
    pub(super) fn inval_entry(&self, parent: u64, name: Name<'_>) -> Result<(), Errno> {
        let len = u32::try_from(name.as_bytes().len()).unwrap_or(0);
        let body = Fixed::<16>::new().u64(parent).u32(len).zeros(4);
        // The name ends with a NUL that its length does not count.
        let mut ended = name.as_bytes().to_vec();
        ended.push(0);
        known(self.0.send(0, abi::NOTIFY_INVAL_ENTRY, [body.as_bytes(), &ended]))
    }
}

/// What the kernel does not know it need not forget.
fn known(sent: Result<(), Errno>) -> Result<(), Errno> {
    if sent == Err(Errno::NOENT) { Ok(()) } else { sent }
}
