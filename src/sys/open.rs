//! Opening: directories as `O_PATH`, files by one name below an open directory.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::attr::proc_path;
use super::gate;
use crate::path::Name;

/// How a file is opened for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading, and writing at the end only: all that an append-only file allows.
    Append,
}

fn access_flags(access: Access) -> OFlags {
    match access {
        // A FIFO or a device in hostile input must not block or act on open; on regular files NONBLOCK means nothing.
        Access::Read => OFlags::RDONLY | OFlags::NONBLOCK,
        Access::ReadWrite => OFlags::RDWR | OFlags::NONBLOCK,
        Access::Append => OFlags::RDWR | OFlags::APPEND | OFlags::NONBLOCK,
    }
}

/// Opens a directory that the *user* named, as `O_PATH`; symlinks in the path are followed, as for any command argument.
///
/// # Errors
/// The kernel's; `ENOTDIR` when it is no directory.
pub fn dir_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", format!("{}, O_PATH|O_DIRECTORY", path.display()), e))
}

/// Opens what the *user* named, whatever it is, as `O_PATH`; symlinks in the path are followed, as for any command argument.
///
/// # Errors
/// The kernel's.
pub fn any_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", format!("{}, O_PATH", path.display()), e))
}

/// Opens `name` in `dir` as an `O_PATH` directory, not following a symlink.
///
/// # Errors
/// The kernel's; `ENOTDIR` also for a symlink.
pub fn dir_at(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    gate::look("openat")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty())
        .map_err(|e| Error::new("openat", format!("{name}, O_PATH|O_DIRECTORY"), e))
}

/// Opens `name` in `dir` as `O_PATH`, whatever it is, not following a symlink: for attributes and xattrs.
///
/// # Errors
/// The kernel's.
pub fn path_at(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    gate::look("openat")?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty())
        .map_err(|e| Error::new("openat", format!("{name}, O_PATH"), e))
}

/// Opens an `O_PATH` directory for listing, which leaves its access time alone where the caller may say so.
///
/// # Errors
/// The kernel's.
pub fn list_dir(dir: impl AsFd) -> Result<OwnedFd> {
    gate::look("openat")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    quietly(|quiet| rustix::fs::openat(&dir, c".", flags | quiet, Mode::empty())).map_err(|e| Error::bare("openat", e))
}

/// `O_NOATIME` is for the owner of a file and for `CAP_FOWNER`; who may not say it reads like anybody else.
fn quietly(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        other => other,
    }
}

/// Opens the regular file `name` in `dir` for data, not following a symlink.
///
/// # Errors
/// The kernel's; `ELOOP` for a symlink.
pub fn file_at(dir: impl AsFd, name: Name<'_>, access: Access) -> Result<OwnedFd> {
    gate::look("openat")?;
    let flags = access_flags(access) | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty())
        .map_err(|e| Error::new("openat", format!("{name}, {access:?}"), e))
}

/// The same for reading only, which leaves the access time alone where the caller may say so: a write to the disk less for each file that
/// is read for the first time.
///
/// # Errors
/// As [`file_at`].
pub fn quiet_file_at(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    gate::look("openat")?;
    let flags = access_flags(Access::Read) | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    quietly(|quiet| rustix::fs::openat(&dir, name.as_bytes(), flags | quiet, Mode::empty()))
        .map_err(|e| Error::new("openat", format!("{name}, to be read"), e))
}

/// Opens again, for data, a file that is held as `O_PATH`; works also when its last name is gone.
///
/// # Errors
/// The kernel's.
pub fn reopen(fd: impl AsFd, access: Access) -> Result<OwnedFd> {
    gate::look("open")?;
    let path = proc_path(&fd);
    rustix::fs::open(&*path, access_flags(access) | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
        .map_err(|e| Error::new("open", format!("{path}, {access:?}"), e))
}

/// Makes the new regular file `name` in `dir` and opens it for reading and writing (`O_EXCL`, never an existing one).
///
/// # Errors
/// The kernel's; `EEXIST` when the name is taken.
pub fn create_at(dir: impl AsFd, name: Name<'_>, mode: u32) -> Result<OwnedFd> {
    let args = || format!("{}, {name}, O_CREAT|O_EXCL, {mode:o}", dir.as_fd().as_raw_fd());
    gate::pass("openat", args)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&dir, name.as_bytes(), flags, Mode::from_raw_mode(mode))
        .map_err(|e| Error::new("openat", args(), e))
}

/// Makes a regular file without a name in the filesystem of `dir`; `None` where the kernel or the filesystem cannot
/// (Linux 3.10 without it answers `EISDIR`).
///
/// # Errors
/// The kernel's, but for the errors that mean "not supported".
pub fn tmpfile(dir: impl AsFd, mode: u32) -> Result<Option<OwnedFd>> {
    let args = || format!("{}, O_TMPFILE, {mode:o}", dir.as_fd().as_raw_fd());
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let open = || {
        rustix::fs::openat(&dir, c".", flags, Mode::from_raw_mode(mode)).map_err(|e| Error::new("openat", args(), e))
    };
    match gate::pass("openat", args).and_then(|()| open()) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Errno::ISDIR | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the filesystem of `dir` has files without a name whose content, once synced, is on the disk also when they get their first
/// name: ext2 to ext4, XFS, tmpfs. Btrfs leaves them out of its log.
///
/// # Errors
/// When it cannot be opened.
pub fn syncs_nameless(dir: impl AsFd) -> Result<bool> {
    const KNOWN: [u32; 3] = [0xEF53, 0x5846_5342, 0x0102_1994];
    // Linux 3.10 tells nothing through a descriptor that is open as `O_PATH`.
    let Ok(fs) = rustix::fs::fstatfs(list_dir(dir)?) else { return Ok(false) };
    Ok(u32::try_from(fs.f_type & 0xffff_ffff).is_ok_and(|kind| KNOWN.contains(&kind)))
}

/// An empty file in memory, without a name (`memfd_create`, Linux 3.17); what tests build on, no mount needs it.
///
/// # Errors
/// The kernel's.
pub fn anonymous() -> Result<OwnedFd> {
    rustix::fs::memfd_create(c"mica", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| Error::bare("memfd_create", e))
}

/// A second descriptor of the same open file.
///
/// # Errors
/// The kernel's; `EMFILE` at the limit.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    gate::look("fcntl")?;
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| Error::bare("fcntl", e))
}

/// Where the file behind an open descriptor is now, as the kernel names it; for people and records, never to be opened
/// without the user's word. A removed file has ` (deleted)` behind its former path.
///
/// # Errors
/// When `/proc` is not there.
pub fn path_of(fd: impl AsFd) -> Result<PathBuf> {
    let link = proc_path(&fd);
    std::fs::read_link(&link).map_err(|e| Error::new("readlink", link, Errno::from_io_error(&e).unwrap_or(Errno::IO)))
}
