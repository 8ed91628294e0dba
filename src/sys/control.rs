//! The one request of mica's own that its mounts answer.

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use super::Errno;
use super::Error;
use super::Result;

/// The ioctl by which a directory of a mount is refreshed, with all below it: `_IO('m', 0x66)`. It carries nothing, so it works on a
/// mount that is read-only, and on every kernel with FUSE ioctls on directories (3.3).
pub const REFRESH: u32 = 0x6d66;

/// Asks the server of the mount that holds the open directory `dir` to look at its layers again.
///
/// # Errors
/// The server's: `ENOTTY` when it is none of mica's, `EPERM` for others than the superuser and the one who mounted it.
pub fn refresh(dir: impl AsFd) -> Result<()> {
    // SAFETY: the request carries no memory, and the descriptor is borrowed for the duration of the call.
    let result = unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), REFRESH as _, 0) };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Err(Error::new("ioctl", "MICA_REFRESH", errno))
}
