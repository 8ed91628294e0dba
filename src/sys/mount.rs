//! Mounting and unmounting: `mount(2)`, `umount2(2)`, the FUSE device, and entering another mount namespace.

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// The flags of a mount; `false` everywhere is the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities are without effect.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Programs cannot be started.
    pub no_exec: bool,
    /// Access times are not kept.
    pub no_atime: bool,
    /// Access times of directories are not kept.
    pub no_dir_atime: bool,
    /// All writes are synchronous.
    pub sync: bool,
    /// Changes of directories are synchronous.
    pub dir_sync: bool,
}

impl Flags {
    fn table(self) -> [(bool, MountFlags, &'static str); 8] {
        [
            (self.read_only, MountFlags::RDONLY, "ro"),
            (self.no_suid, MountFlags::NOSUID, "nosuid"),
            (self.no_dev, MountFlags::NODEV, "nodev"),
            (self.no_exec, MountFlags::NOEXEC, "noexec"),
            (self.no_atime, MountFlags::NOATIME, "noatime"),
            (self.no_dir_atime, MountFlags::NODIRATIME, "nodiratime"),
            (self.sync, MountFlags::SYNCHRONOUS, "sync"),
            (self.dir_sync, MountFlags::DIRSYNC, "dirsync"),
        ]
    }

    fn bits(self) -> MountFlags {
        self.table().into_iter().filter(|(set, ..)| *set).fold(MountFlags::empty(), |all, (_, bit, _)| all | bit)
    }
}

impl fmt::Display for Flags {
    /// The flags as `/proc/self/mountinfo` prints them: `rw` or `ro` first, then those that are set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read_only { "ro" } else { "rw" })?;
        self.table().into_iter().skip(1).filter(|(set, ..)| *set).try_for_each(|(.., name)| write!(f, ",{name}"))
    }
}

/// Opens the FUSE device: one open file is one connection, unmounted as yet.
///
/// # Errors
/// The kernel's: `ENOENT` or `ENODEV` without the module or the node, `EACCES` or `EPERM` without the right.
pub fn open_fuse() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", "/dev/fuse", e))
}

/// How much the kernel reads ahead on the filesystem with this device number, in KiB.
///
/// # Errors
/// The kernel's: `EACCES` for all but root of the system, `ENOENT` where `/sys` does not show it.
pub fn set_read_ahead((major, minor): (u32, u32), kib: u32) -> std::io::Result<()> {
    std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string())
}

/// Mounts a filesystem of type `kind` on `target`.
///
/// # Errors
/// The kernel's; `EINVAL` when `source` or `data` holds a NUL byte.
pub fn attach(source: &[u8], target: &Path, kind: &str, flags: Flags, data: &str) -> Result<()> {
    let args = || format!("{}, {}, {kind}, {flags}, {data}", source.escape_ascii(), target.display());
    gate::pass("mount", args)?;
    let data = CString::new(data).map_err(|_| Error::new("mount", args(), Errno::INVAL))?;
    rustix::mount::mount(source, target, kind, flags.bits(), data.as_c_str())
        .map_err(|e| Error::new("mount", args(), e))
}

/// Replaces the flags of the mount at `target`.
///
/// # Errors
/// The kernel's; `EINVAL` when `target` is no mount point.
pub fn remount(target: &Path, flags: Flags) -> Result<()> {
    let args = || format!("{}, remount,{flags}", target.display());
    gate::pass("mount", args)?;
    rustix::mount::mount_remount(target, flags.bits(), c"").map_err(|e| Error::new("mount", args(), e))
}

/// How a mount is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Only when nothing uses it (`EBUSY` otherwise).
    IfIdle,
    /// At once from the tree (`MNT_DETACH`); its users keep what they have open.
    Lazy,
}

/// Takes away the topmost mount at `target`, which is not followed when it is a symlink.
///
/// # Errors
/// The kernel's; `EBUSY` with [`Detach::IfIdle`], `EINVAL` when nothing is mounted there, `EPERM` without the right.
pub fn detach(target: &Path, how: Detach) -> Result<()> {
    let args = || format!("{}, {how:?}", target.display());
    gate::pass("umount2", args)?;
    let flags = match how {
        Detach::IfIdle => UnmountFlags::NOFOLLOW,
        Detach::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    rustix::mount::unmount(target, flags).map_err(|e| Error::new("umount2", args(), e))
}

/// Whether the connection behind an open FUSE device still has its mount: `false` once it was unmounted or aborted.
///
/// This asks the connection, not a path or a mount number: both may belong to a new mount by now. A descriptor that is no
/// FUSE connection counts as disconnected.
pub fn is_connected(fuse: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fuse, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match rustix::event::poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return !fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL | PollFlags::HUP),
        }
    }
}

/// Moves this (single-threaded) process into the mount namespace that `path` names, as in `/proc/PID/ns/mnt`.
///
/// # Errors
/// The kernel's.
pub fn enter_namespace(path: &Path) -> Result<()> {
    let args = || path.display().to_string();
    gate::pass("setns", args)?;
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", args(), e))?;
    rustix::thread::move_into_link_name_space(fd.as_fd(), Some(rustix::thread::LinkNameSpaceType::Mount))
        .map_err(|e| Error::new("setns", args(), e))
}
