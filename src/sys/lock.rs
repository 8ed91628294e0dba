//! Whole-file locks (`flock`): they end with the descriptor, so a killed process leaves none behind.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::FlockOperation;

use super::Errno;
use super::Error;
use super::Result;

/// The two kinds of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Many holders at once.
    Shared,
    /// One holder.
    Exclusive,
}

/// A lock that is held. It is given back when this is dropped, not when the last copy of its descriptor is closed: a process that was
/// forked at that moment and has not yet called `exec` has one.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    /// Takes the lock, waiting for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(fd: OwnedFd, kind: LockKind) -> Result<Self> {
        lock(&fd, kind)?;
        Ok(Self(fd))
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_take(fd: OwnedFd, kind: LockKind) -> Result<Option<Self>> {
        Ok(try_lock(&fd, kind)?.then(|| Self(fd)))
    }

    /// A lock that was taken on `fd`.
    pub fn taken(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(e) = unlock(&self.0) {
            log::warn!("a lock was not given back: {e}");
        }
    }
}

/// Takes the lock, waiting for it.
///
/// # Errors
/// The kernel's.
pub fn lock(fd: impl AsFd, kind: LockKind) -> Result<()> {
    let op = match kind {
        LockKind::Shared => FlockOperation::LockShared,
        LockKind::Exclusive => FlockOperation::LockExclusive,
    };
    loop {
        match rustix::fs::flock(&fd, op) {
            Err(Errno::INTR) => {}
            other => return other.map_err(|e| Error::new("flock", format!("{kind:?}"), e)),
        }
    }
}

/// Takes the lock if it is free; `false` when another holds it.
///
/// # Errors
/// The kernel's, but for `EWOULDBLOCK`.
pub fn try_lock(fd: impl AsFd, kind: LockKind) -> Result<bool> {
    let op = match kind {
        LockKind::Shared => FlockOperation::NonBlockingLockShared,
        LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(&fd, op) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::new("flock", format!("{kind:?}, non-blocking"), e)),
    }
}

/// Gives the lock back, also when a process forked meanwhile holds a copy of the descriptor.
///
/// # Errors
/// The kernel's.
pub fn unlock(fd: impl AsFd) -> Result<()> {
    rustix::fs::flock(&fd, FlockOperation::Unlock).map_err(|e| Error::new("flock", "LOCK_UN", e))
}
