//! A directory as it is without what is, or will be, mounted below it.

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// A copy, for this process alone, of the mount that the directory `path` lies on, open at that directory: nothing mounted below it
/// shows, neither now nor later. `None` where the kernel (before 5.12) or the process's privileges do not allow that.
///
/// # Errors
/// The kernel's, but for those that mean "not supported" or "not allowed".
pub fn open(path: &Path) -> Result<Option<OwnedFd>> {
    copy(path, 0)
}

/// The same, through which nothing can be changed, and neither a device opened nor a program started.
///
/// # Errors
/// As [`open`].
pub fn open_to_look(path: &Path) -> Result<Option<OwnedFd>> {
    copy(path, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)
}

fn copy(path: &Path, limits: u64) -> Result<Option<OwnedFd>> {
    let args = || format!("{}, OPEN_TREE_CLONE", path.display());
    gate::pass("open_tree", args)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = match rustix::mount::open_tree(CWD, path, flags) {
        Ok(tree) => tree,
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => return Ok(None),
        Err(e) => return Err(Error::new("open_tree", args(), e)),
    };
    // The copy of a shared mount is told of new mounts, too, until it is cut off.
    match make_private(&tree, limits) {
        Ok(()) => Ok(Some(tree)),
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(None),
        Err(e) => Err(Error::new("mount_setattr", "MS_PRIVATE", e)),
    }
}

fn make_private(tree: &OwnedFd, limits: u64) -> std::result::Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: limits, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the empty path and `attr` live until the call returns, and the size is that of `attr`; the descriptor is open.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
