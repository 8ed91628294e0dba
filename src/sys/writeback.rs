//! Asking the kernel to begin writing early, so that a later wait for the disk is short.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// Begins to write a range of a file to the disk, without waiting. Only a hint: it makes nothing durable, and a kernel or
/// filesystem that cannot do it changes nothing but the time that a later sync takes.
pub fn start(fd: impl AsFd, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: the call takes only numbers, and the descriptor is borrowed for its duration.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    if result != 0 {
        log::trace!("sync_file_range: {}", std::io::Error::last_os_error());
    }
}

/// Whether writing back the data of a file failed since it was opened. Waits for what is being written at the moment; begins
/// nothing and makes nothing durable.
///
/// # Errors
/// The kernel's: `EIO`, `ENOSPC` or `EDQUOT` when data was lost.
pub fn failures(fd: impl AsFd) -> Result<()> {
    gate::pass("sync_file_range", || fd.as_fd().as_raw_fd().to_string())?;
    // SAFETY: the call takes only numbers, and the descriptor is borrowed for its duration.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
    if result == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        // A filesystem that cannot tell.
        Errno::NOSYS | Errno::INVAL | Errno::SPIPE => Ok(()),
        errno => Err(Error::bare("sync_file_range", errno)),
    }
}
