//! The two locks of a store. Both are `flock`s: they end with the process, however it ends.

use std::os::fd::OwnedFd;

use super::INDEX_LOCK;
use super::LOCK;
use super::Result;
use super::fixed;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::lock::Held;
use crate::sys::lock::LockKind;
use crate::sys::open::Access;

/// The lock `lock`, held: shared by a process that adds, exclusive by one that collects.
#[derive(Debug)]
pub struct Guard {
    _held: Held,
}

impl Guard {
    pub(super) fn shared(root: &OwnedFd) -> Result<Self> {
        let fd = lock_file(root, fixed(LOCK)?)?;
        Ok(Self { _held: Held::take(fd, LockKind::Shared)? })
    }

    pub(super) fn try_exclusive(root: &OwnedFd) -> Result<Option<Self>> {
        let fd = lock_file(root, fixed(LOCK)?)?;
        Ok(Held::try_take(fd, LockKind::Exclusive)?.map(|held| Self { _held: held }))
    }
}

/// The lock `index.lock`, held exclusively: for a moment, never over anything slow.
#[derive(Debug)]
pub struct IndexGuard {
    _held: Held,
}

impl IndexGuard {
    pub(super) fn take(root: &OwnedFd) -> Result<Self> {
        let fd = lock_file(root, fixed(INDEX_LOCK)?)?;
        Ok(Self { _held: Held::take(fd, LockKind::Exclusive)? })
    }
}

/// Opens the lock file, and makes it if need be. It is never removed: a lock on a removed file would exclude nobody.
fn lock_file(root: &OwnedFd, name: Name<'_>) -> sys::Result<OwnedFd> {
    match sys::open::file_at(root, name, Access::ReadWrite) {
        Err(e) if e.errno() == Errno::NOENT => {}
        other => return other,
    }
    match sys::open::create_at(root, name, 0o600) {
        Err(e) if e.errno() == Errno::EXIST => sys::open::file_at(root, name, Access::ReadWrite),
        other => other,
    }
}
