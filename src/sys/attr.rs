//! Attributes of files: reading them, and changing owner, mode and times.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;
use crate::path::Name;

/// The bits of a mode that tell the type of a file.
pub const S_IFMT: u32 = 0o170_000;
/// The bits of a mode that `chmod` changes: permissions, set-id and sticky.
pub const PERM_MASK: u32 = 0o7777;
/// Set-user-id.
pub const S_ISUID: u32 = 0o4000;
/// Set-group-id.
pub const S_ISGID: u32 = 0o2000;

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

impl Kind {
    /// The kind in the type bits of `mode`; `None` when they name no type.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & S_IFMT {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Symlink,
            0o020_000 => Kind::Char,
            0o060_000 => Kind::Block,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            _ => return None,
        })
    }

    /// The type bits of a mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Dir => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Char => 0o020_000,
            Kind::Block => 0o060_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
        }
    }
}

/// A time: seconds since 1970 (negative before it) and nanoseconds below one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds, 0 to 999 999 999, counted forward also before 1970.
    pub nanos: u32,
}

/// What `stat` tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stat {
    /// Device of the filesystem that holds it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file, as the kernel's `makedev` composes it.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred size of one transfer, in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the data.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
}

impl Stat {
    /// The type of the file; unknown type bits count as a regular file.
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode).unwrap_or(Kind::File)
    }

    /// The kernel's overlay whiteout: a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == Kind::Char && self.rdev == 0
    }
}

/// Composes a device number of major and minor.
pub fn makedev(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// The major and minor of a device number.
pub fn dev_parts(dev: u64) -> (u32, u32) {
    (rustix::fs::major(dev), rustix::fs::minor(dev))
}

#[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast, clippy::cast_sign_loss)]
fn convert(s: &rustix::fs::Stat) -> Stat {
    let time = |secs: i64, nanos: u64| Time { secs, nanos: nanos as u32 };
    Stat {
        dev: s.st_dev,
        ino: s.st_ino,
        mode: s.st_mode,
        nlink: s.st_nlink as u32,
        uid: s.st_uid,
        gid: s.st_gid,
        rdev: s.st_rdev,
        size: s.st_size as u64,
        blocks: s.st_blocks as u64,
        blksize: s.st_blksize as u32,
        atime: time(s.st_atime as i64, s.st_atime_nsec as u64),
        mtime: time(s.st_mtime as i64, s.st_mtime_nsec as u64),
        ctime: time(s.st_ctime as i64, s.st_ctime_nsec as u64),
    }
}

/// The attributes of an open file; works on `O_PATH` descriptors (Linux 3.6 and later).
///
/// # Errors
/// The kernel's.
pub fn fstat(fd: impl AsFd) -> Result<Stat> {
    gate::look("fstat")?;
    rustix::fs::fstat(fd).map(|s| convert(&s)).map_err(|e| Error::bare("fstat", e))
}

/// The attributes of `name` in `dir`, not following a symlink; `None` when there is no such name.
///
/// # Errors
/// The kernel's, but for `ENOENT`.
pub fn stat_at(dir: impl AsFd, name: Name<'_>) -> Result<Option<Stat>> {
    gate::look("fstatat")?;
    match rustix::fs::statat(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(s) => Ok(Some(convert(&s))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::new("fstatat", name.to_string(), e)),
    }
}

/// The path that names an open file by its descriptor, for the calls that take no `O_PATH` descriptor.
pub(super) fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

fn owner(id: Option<u32>) -> Option<u32> {
    id.filter(|&id| id != u32::MAX)
}

/// Changes owner and group of an open file, also of an `O_PATH` one; `None` leaves one as it is. Clears set-id bits.
///
/// # Errors
/// The kernel's.
pub fn chown(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let args = || format!("{}, {uid:?}, {gid:?}", fd.as_fd().as_raw_fd());
    gate::pass("fchownat", args)?;
    let (u, g) = (owner(uid).map(Uid::from_raw), owner(gid).map(Gid::from_raw));
    rustix::fs::chownat(fd.as_fd(), c"", u, g, AtFlags::EMPTY_PATH).map_err(|e| Error::new("fchownat", args(), e))
}

/// Changes the permission bits of an open file, also of an `O_PATH` one; not of a symlink, which has none.
///
/// # Errors
/// The kernel's.
pub fn chmod(fd: impl AsFd, mode: u32) -> Result<()> {
    let args = || format!("{}, {mode:o}", fd.as_fd().as_raw_fd());
    gate::pass("fchmod", args)?;
    let bits = Mode::from_raw_mode(mode & PERM_MASK);
    match rustix::fs::fchmod(fd.as_fd(), bits) {
        // An O_PATH descriptor: through its name in /proc.
        Err(Errno::BADF) => rustix::fs::chmod(proc_path(&fd), bits),
        other => other,
    }
    .map_err(|e| Error::new("fchmod", args(), e))
}

/// A change of one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Keep,
    /// The kernel's time now.
    Now,
    /// This time.
    At(Time),
}

fn timespec(t: SetTime) -> Timespec {
    match t {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        SetTime::At(t) => Timespec { tv_sec: t.secs, tv_nsec: i64::from(t.nanos) },
    }
}

/// Sets access and modification time of an open file, also of an `O_PATH` one, to the nanosecond.
///
/// # Errors
/// The kernel's.
pub fn set_times(fd: impl AsFd, atime: SetTime, mtime: SetTime) -> Result<()> {
    let args = || format!("{}, {atime:?}, {mtime:?}", fd.as_fd().as_raw_fd());
    gate::pass("utimensat", args)?;
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    match rustix::fs::futimens(fd.as_fd(), &times) {
        // An O_PATH descriptor: through its name in /proc; that also reaches a symlink itself.
        Err(Errno::BADF) => rustix::fs::utimensat(rustix::fs::CWD, proc_path(&fd), &times, AtFlags::empty()),
        other => other,
    }
    .map_err(|e| Error::new("utimensat", args(), e))
}

/// Space and inodes of a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStat {
    /// Size of a block, in bytes.
    pub bsize: u64,
    /// Unit of `blocks`, `bfree` and `bavail`, in bytes.
    pub frsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for everyone.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name, in bytes.
    pub namelen: u64,
    /// It may stand on another filesystem: overlayfs, ecryptfs, FUSE.
    pub stacked: bool,
}

/// `OVERLAYFS_SUPER_MAGIC`, `ECRYPTFS_SUPER_MAGIC`, `FUSE_SUPER_MAGIC` of `linux/magic.h`.
const STACKED: [u32; 3] = [0x794c_7630, 0xf15f, 0x6573_5546];

/// Space and inodes of the filesystem that holds an open file.
///
/// # Errors
/// The kernel's.
pub fn fs_stat(fd: impl AsFd) -> Result<FsStat> {
    let s = rustix::fs::fstatvfs(&fd).map_err(|e| Error::bare("fstatvfs", e))?;
    let kind = rustix::fs::fstatfs(fd).map_err(|e| Error::bare("fstatfs", e))?.f_type;
    Ok(FsStat {
        bsize: s.f_bsize,
        frsize: s.f_frsize,
        blocks: s.f_blocks,
        bfree: s.f_bfree,
        bavail: s.f_bavail,
        files: s.f_files,
        ffree: s.f_ffree,
        namelen: s.f_namemax,
        stacked: STACKED.iter().any(|known| i128::from(kind) == i128::from(*known)),
    })
}
