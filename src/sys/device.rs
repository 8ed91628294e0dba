//! The open `/dev/fuse`: one read takes one request, one write answers one, and two ioctls lend the kernel a file for passthrough.
//!
//! Nothing here changes a file, so nothing passes the gate.

#![allow(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use super::Errno;

/// Waits for one request and reads it into `buf`; its length. A buffer that is too small loses the request.
///
/// # Errors
/// The kernel's. `ENODEV`: unmounted; `ECONNABORTED`: the connection was aborted; `ENOENT`, `EINTR`, `EAGAIN`: read again.
pub fn read(device: impl AsFd, buf: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(device, buf)
}

/// Writes one message made of several parts; messages are taken whole or not at all.
///
/// # Errors
/// The kernel's. `ENOENT`: nobody waits for it any more, or the kernel does not know the inode; `ENODEV`: unmounted.
pub fn write(device: impl AsFd, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
    loop {
        match rustix::io::writev(&device, parts) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

/// The size of a page of memory in bytes, in which the kernel counts what a request can carry.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// The kernel's `struct fuse_backing_map` (protocol 7.40).
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// `_IOW(229, 1, struct fuse_backing_map)`.
const BACKING_OPEN: u32 = 0x4010_e501;
/// `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: u32 = 0x4004_e502;

/// Lends `file` to the kernel, which reads and writes it itself when a reply to OPEN names the number returned here (Linux 6.9).
///
/// # Errors
/// The kernel's: `ENOTTY` or `EINVAL` before 6.9, `EPERM` without `CAP_SYS_ADMIN` or where passthrough was not agreed on.
pub fn backing_open(device: impl AsFd, file: impl AsFd) -> Result<i32, Errno> {
    let map = BackingMap { fd: file.as_fd().as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads one struct of this layout at the address, which lives over the call; both descriptors are borrowed.
    let id = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_OPEN as _, &raw const map) };
    if id > 0 { Ok(id) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}

/// Takes back a file that was lent; handles that are open keep it.
///
/// # Errors
/// The kernel's: `ENOENT` for a number that was not given out.
pub fn backing_close(device: impl AsFd, id: i32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one 32-bit number at the address, which lives over the call; the descriptor is borrowed.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_CLOSE as _, &raw const id) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
