//! Asking the kernel to begin writing early, so that a later wait for the disk is short.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// How a large copy gets to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBack {
    /// While it is made, so that never more than a few megabytes wait: a sync at the end is short, and a journal that must write
    /// data before names (ext4's) holds up nobody else for longer than these take.
    Behind,
    /// When the kernel likes.
    Later,
}

/// How much a copy that is written back while it is made copies at once, in bytes.
const STEP: u64 = 1 << 20;
/// How many bytes of it may wait to be written.
const WINDOW: u64 = 8 * STEP;

impl WriteBack {
    /// How many bytes to copy at once.
    pub fn step(self) -> u64 {
        match self {
            Self::Behind => STEP,
            Self::Later => 8 * STEP,
        }
    }

    /// `len` bytes at `at` were copied, at most a step: begins to write them, and waits for those a window before.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC` or `EDQUOT` when data was lost. The kernel tells this only once, so a later sync would not.
    pub fn copied(self, fd: impl AsFd, at: u64, len: u64) -> Result<()> {
        if self == Self::Later || len < STEP {
            return Ok(());
        }
        start(&fd, at, len);
        match at.checked_sub(WINDOW) {
            Some(before) => wait(&fd, before, len, Wait::Written),
            None => Ok(()),
        }
    }
}

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
    wait(fd, 0, 0, Wait::Begun)
}

/// What to wait for.
#[derive(Clone, Copy)]
enum Wait {
    /// What is being written.
    Begun,
    /// All of the range: what nobody has begun to write yet is begun.
    Written,
}

/// Waits for a range of a file; a length of 0 is all of it.
fn wait(fd: impl AsFd, offset: u64, len: u64, what: Wait) -> Result<()> {
    let args = || format!("{}, {offset}, {len}", fd.as_fd().as_raw_fd());
    gate::pass("sync_file_range", args)?;
    let (Ok(at), Ok(bytes)) = (i64::try_from(offset), i64::try_from(len)) else { return Ok(()) };
    let flags = match what {
        Wait::Begun => libc::SYNC_FILE_RANGE_WAIT_BEFORE,
        Wait::Written => {
            libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER
        }
    };
    // SAFETY: the call takes only numbers, and the descriptor is borrowed for its duration.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), at, bytes, flags) };
    if result == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        // A filesystem that cannot tell.
        Errno::NOSYS | Errno::INVAL | Errno::SPIPE => Ok(()),
        errno => Err(Error::new("sync_file_range", args(), errno)),
    }
}
