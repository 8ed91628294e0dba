//! Attaching filesystems in the caller's mount namespace, at descriptors instead of paths.
//!
//! Source and target of every call are `O_PATH` descriptors, named to the kernel as `/proc/self/fd/N`. So a mount lands
//! on the object that a careful walk found, and nobody can swap the path in between. A descriptor names what was
//! *below* a new mount; to reach the mount itself the caller opens the name again.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::attr::proc_path;
use super::gate;

/// Restrictions of one mount; everything is allowed by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id and set-group-id bits and file capabilities have no effect.
    pub no_suid: bool,
    /// Device files cannot be opened.
    pub no_dev: bool,
    /// Files cannot be executed.
    pub no_exec: bool,
}

impl Limits {
    /// No set-id programs, no devices, no execution: for filesystems that only carry data.
    pub const DATA: Self = Self { read_only: false, no_suid: true, no_dev: true, no_exec: true };

    /// The same limits, and read-only.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    fn flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, self.no_suid);
        flags.set(MountFlags::NODEV, self.no_dev);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags
    }
}

/// Cuts every mount of this namespace off from the one it was copied from: first no event goes out, then none comes in.
///
/// # Errors
/// The kernel's.
pub fn make_all_private() -> Result<()> {
    for (how, text) in [
        (MountPropagationFlags::DOWNSTREAM, "/, MS_REC|MS_SLAVE"),
        (MountPropagationFlags::PRIVATE, "/, MS_REC|MS_PRIVATE"),
    ] {
        gate::pass("mount", || text.to_owned())?;
        rustix::mount::mount_change(c"/", how | MountPropagationFlags::REC)
            .map_err(|e| Error::new("mount", text, e))?;
    }
    Ok(())
}

/// Mounts a new filesystem of type `kind` on `target`; `data` is the filesystem's own option string.
///
/// # Errors
/// The kernel's; `EPERM` where this user namespace may not, `ENODEV` for an unknown type.
pub fn filesystem(target: impl AsFd, kind: &CStr, limits: Limits, data: &CStr) -> Result<()> {
    let target = proc_path(&target);
    let args = || format!("{kind:?}, {target}, {limits:?}, {data:?}");
    gate::pass("mount", args)?;
    rustix::mount::mount(kind, &*target, kind, limits.flags(), data).map_err(|e| Error::new("mount", args(), e))
}

/// Makes the object `source` appear at `target` too; with `recursive` also what is mounted below it.
///
/// # Errors
/// The kernel's; `ENOTDIR` when one is a directory and the other is not.
pub fn bind(source: impl AsFd, target: impl AsFd, recursive: bool) -> Result<()> {
    let (source, target) = (proc_path(&source), proc_path(&target));
    let args = || format!("{source}, {target}, MS_BIND, recursive={recursive}");
    gate::pass("mount", args)?;
    let result = if recursive {
        rustix::mount::mount_bind_recursive(&*source, &*target)
    } else {
        rustix::mount::mount_bind(&*source, &*target)
    };
    result.map_err(|e| Error::new("mount", args(), e))
}

/// Adds `limits` to the mount whose root `top` is; limits that it has already stay (a user namespace may not drop
/// them).
///
/// # Errors
/// The kernel's; `EINVAL` when `top` is not the root of a mount.
pub fn restrict(top: impl AsFd, limits: Limits) -> Result<()> {
    let path = proc_path(&top);
    let args = || format!("{path}, MS_REMOUNT|MS_BIND, {limits:?}");
    gate::pass("mount", args)?;
    let has = rustix::fs::statvfs(&*path).map_err(|e| Error::new("statvfs", path.clone(), e))?.f_flag;
    let mut flags = limits.flags() | MountFlags::BIND;
    for (had, keep) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(keep, flags.contains(keep) || has.contains(had));
    }
    rustix::mount::mount_remount(&*path, flags, c"").map_err(|e| Error::new("mount", args(), e))
}

/// Adds `limits` to the mount whose root `top` is, and to all mounts below it; `false` where the kernel cannot (before Linux 5.12).
///
/// # Errors
/// The kernel's; `EINVAL` when `top` is not the root of a mount.
#[allow(unsafe_code)]
pub fn restrict_all(top: impl AsFd, limits: Limits) -> Result<bool> {
    /// `struct mount_attr` of <linux/mount.h>.
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let fd = top.as_fd().as_raw_fd();
    let args = || format!("{fd}, AT_RECURSIVE, {limits:?}");
    gate::pass("mount_setattr", args)?;
    // MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC.
    let set = [(limits.read_only, 1), (limits.no_suid, 2), (limits.no_dev, 4), (limits.no_exec, 8)];
    let set = set.into_iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
    let attr = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty string with its end; the structure is valid for the call and of the length that is said.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>())
    };
    if done == 0 {
        return Ok(true);
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        Errno::NOSYS => Ok(false),
        e => Err(Error::new("mount_setattr", args(), e)),
    }
}

/// Takes the mount whose root `top` is out of the namespace; descriptors that hold files of it keep them.
///
/// # Errors
/// The kernel's.
pub fn detach(top: impl AsFd) -> Result<()> {
    let path = proc_path(&top);
    gate::pass("umount2", || format!("{path}, MNT_DETACH"))?;
    rustix::mount::unmount(&*path, UnmountFlags::DETACH).map_err(|e| Error::new("umount2", path, e))
}

/// Whether the object lies on a `proc` filesystem.
///
/// # Errors
/// The kernel's.
pub fn is_on_proc(fd: impl AsFd) -> Result<bool> {
    let path = proc_path(&fd);
    let stat = rustix::fs::statfs(&*path).map_err(|e| Error::new("statfs", path, e))?;
    Ok(stat.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Makes `root`, the root of a mount, the root directory of this process, and detaches everything that was mounted
/// before.
///
/// # Errors
/// The kernel's; `EINVAL` when `root` is not the root of a mount or a mount is still shared with another namespace.
pub fn pivot_into(root: impl AsFd) -> Result<()> {
    gate::pass("pivot_root", || "., .".to_owned())?;
    rustix::process::fchdir(&root).map_err(|e| Error::new("fchdir", "the new root", e))?;
    // With both names the same the old root ends up stacked on the new one, so no directory for it is needed inside;
    // "." then still means the old one, which goes away as a whole.
    rustix::process::pivot_root(c".", c".").map_err(|e| Error::new("pivot_root", "., .", e))?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(|e| Error::new("umount2", "., MNT_DETACH", e))?;
    rustix::process::chdir(c"/").map_err(|e| Error::new("chdir", "/", e))
}
