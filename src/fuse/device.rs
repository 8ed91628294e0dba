//! The connection to the kernel: requests come out of it, replies and notices go into it.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use super::abi;
use super::bytes::Fixed;
use crate::sys;
use crate::sys::Errno;

/// The open `/dev/fuse` of one mount.
#[derive(Debug)]
pub(super) struct Device(OwnedFd);

/// Why no more requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The mount is gone, or its connection was aborted (`umount -f`, or through /sys/fs/fuse), which is as good.
    Unmounted,
    /// Reading failed.
    Failed(Errno),
}

impl Device {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits for a request.
    pub(super) fn read(&self, buf: &mut [u8]) -> Result<usize, End> {
        loop {
            match sys::device::read(&self.0, buf) {
                // A socket, as in tests, ends like this.
                Ok(0) | Err(Errno::NODEV | Errno::CONNABORTED) => return Err(End::Unmounted),
                Ok(n) => return Ok(n),
                // ENOENT: the request was taken back while it was handed over.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(e) => return Err(End::Failed(e)),
            }
        }
    }

    /// Sends a message in one piece. `unique` is 0, and `code` the kind, in a notice; else `code` is 0 or a negative error number.
    pub(super) fn send(&self, unique: u64, code: i32, parts: [&[u8]; 2]) -> Result<(), Errno> {
        let [a, b] = parts;
        let len = u32::try_from(abi::OUT_HEADER + a.len() + b.len()).map_err(|_| Errno::TOOBIG)?;
        let header = Fixed::<{ abi::OUT_HEADER }>::new().u32(len).i32(code).u64(unique);
        let all = [IoSlice::new(header.as_bytes()), IoSlice::new(a), IoSlice::new(b)];
        let used = match (a.is_empty(), b.is_empty()) {
            (true, true) => 1,
            (false, true) => 2,
            _ => 3,
        };
        sys::device::write(&self.0, all.get(..used).unwrap_or(&all))
    }

    /// Hands memory of a ring over: for a request, or with the answer to one ([`super::ring`]).
    pub(super) fn submit(&self, ring: &mut sys::ring::Ring, op: u32, command: &[u8; 24]) -> Result<(), Errno> {
        ring.submit(0, &self.0, op, command)
    }

    /// Lends the kernel a file that it may read and write itself; the number goes into [`super::reply::Opened`].
    pub(super) fn lend(&self, file: &OwnedFd) -> Result<i32, Errno> {
        sys::device::backing_open(&self.0, file)
    }

    /// Tries to lend the device itself, to learn whether this process may lend at all: without the right it is `EPERM`.
    pub(super) fn lend_self(&self) -> Result<i32, Errno> {
        self.lend(&self.0)
    }

    /// Takes back what [`Device::lend`] lent.
    pub(super) fn take_back(&self, backing: i32) -> Result<(), Errno> {
        sys::device::backing_close(&self.0, backing)
    }
}
