//! Looking at a mount through a copy of it that shows nowhere: what is found there comes into the kernel's caches, and the mount
//! itself is not in use, so it can be unmounted meanwhile.
//!
//! The one place where paths of several names are walked by the kernel: it takes no symlink and no way out (`openat2`, Linux 5.6; a copy
//! that can be limited needs 5.12), the copy has no mounts in it, and through it nothing can be changed, no device opened.

use std::cell::Cell;
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Advice;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::ResolveFlags;
use rustix::fs::StatxFlags;

use super::Errno;
use super::Result;
use super::private_tree;
use crate::path::Name;

/// How much of a listing is asked for at once, in bytes: small enough that the first names are there while the next are listed.
const PART: usize = 32 * 1024;

/// A copy of a mount, and the table of mounts, which tells when one was taken away.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    table: OwnedFd,
    changed: Cell<bool>,
}

impl Tree {
    /// The mount at `target`; `None` where there is another one than that of the device `dev`, or copies are not to be had.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(target: &Path, dev: (u32, u32)) -> Result<Option<Self>> {
        // Before the copy is made, so that no change after that is missed.
        let Ok(table) = rustix::fs::open(c"/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return Ok(None);
        };
        let Some(root) = private_tree::open_to_look(target)? else { return Ok(None) };
        let is_it = stat_as_known(&root, "").is_ok_and(|stat| (stat.stx_dev_major, stat.stx_dev_minor) == dev);
        Ok(is_it.then_some(Self { root, table, changed: Cell::new(false) }))
    }

    /// Whether some mount was made or taken away since this copy was made: it may have been this one, which lives on with the copy.
    pub fn may_be_gone(&self) -> bool {
        self.wait(None, Duration::ZERO);
        self.changed.get()
    }

    /// Waits for a message; `false` when none came within `patience`, or the mount may be gone.
    pub fn until(&self, channel: impl AsFd, patience: Duration) -> bool {
        let came = self.wait(Some(PollFd::new(&channel, PollFlags::IN)), patience);
        came && !self.changed.get()
    }

    /// Whether a message came. The kernel tells of a change once.
    fn wait(&self, message: Option<PollFd<'_>>, patience: Duration) -> bool {
        let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&self.table, PollFlags::PRI)];
        fds.extend(message);
        // An error of the call itself is as good as a change.
        let polled = rustix::event::poll(&mut fds, Some(&patience)).is_ok();
        let told = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        if !polled || told(fds.first()) {
            self.changed.set(true);
        }
        told(fds.get(1))
    }

    /// Asks the server something that the kernel never answers by itself.
    ///
    /// # Errors
    /// The server's.
    pub fn knock(&self) -> std::result::Result<(), Errno> {
        rustix::fs::fstatfs(&self.root).map(drop)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let path = path.strip_prefix(b"/").filter(|path| !path.is_empty()).unwrap_or(b".");
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), inside())
    }

    /// Lists the directory `path` (from the root of the mount), with attributes, until at least `most` names came or `goes_on` says no; how
    /// many it were.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self, path: &[u8], most: usize, goes_on: impl Fn() -> bool) -> std::result::Result<usize, Errno> {
        let dir = self.open(path, OFlags::RDONLY)?;
        let mut buffer = Vec::<u8>::with_capacity(PART);
        let mut lines = RawDir::new(&dir, buffer.spare_capacity_mut());
        let mut names = 0;
        while let Some(line) = lines.next() {
            let name = line?.file_name().to_owned();
            names += 1;
            if lines.is_buffer_empty() {
                if names >= most || !goes_on() {
                    break;
                }
                // The kernel asks for attributes with the next part, too, if somebody looked at what came with this one
                // (`fuse_advise_use_readdirplus`).
                let _ = stat_as_known(&dir, &*name);
            }
        }
        Ok(names)
    }

    /// The directory `path`, to name files in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &[u8]) -> std::result::Result<Dir, Errno> {
        self.open(path, OFlags::PATH).map(Dir)
    }
}

/// A directory of a [`Tree`].
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens a regular file of at least one and at most `most` bytes; `None` for all else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(&self, name: Name<'_>, most: u64) -> std::result::Result<Option<Small>, Errno> {
        let name = OsStr::from_bytes(name.as_bytes());
        let stat = stat_as_known(&self.0, name)?;
        let is_file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        let Some(len) = NonZeroU64::new(stat.stx_size).filter(|len| is_file && len.get() <= most) else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.0, name, flags, Mode::empty(), inside())?;
        Ok(Some(Small { fd, len }))
    }
}

/// A small open file.
#[derive(Debug)]
pub struct Small {
    fd: OwnedFd,
    len: NonZeroU64,
}

impl Small {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.len.get()
    }

    /// Whether its first page is in the kernel's cache already; `false` also where the kernel (before 6.5) does not tell.
    pub fn is_known(&self) -> bool {
        /// `struct cachestat_range`, `struct cachestat`.
        #[repr(C)]
        struct Range {
            at: u64,
            len: u64,
        }
        const CACHESTAT: libc::c_long = 451;
        let range = Range { at: 0, len: 4096 };
        let mut pages = [0_u64; 5];
        // SAFETY: both live until the call returns and have the layout that it takes; the descriptor is open.
        #[allow(unsafe_code)]
        let told = unsafe { libc::syscall(CACHESTAT, self.fd.as_raw_fd(), &raw const range, &raw mut pages, 0) };
        told == 0 && matches!(pages, [cached, ..] if cached > 0)
    }

    /// Has its content read into the kernel's cache; does not wait for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fetch(&self) -> std::result::Result<(), Errno> {
        rustix::fs::fadvise(&self.fd, 0, Some(self.len), Advice::WillNeed)
    }

    /// Waits for the content, after which the kernel knows no attributes any more (`fuse_invalidate_atime`), and asks for these.
    ///
    /// # Errors
    /// The kernel's.
    pub fn settle(&self) -> std::result::Result<(), Errno> {
        rustix::io::pread(&self.fd, &mut [0_u8; 1][..], 0)?;
        rustix::fs::fstat(&self.fd).map(drop)
    }
}

fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// What the kernel knows already.
fn stat_as_known(fd: impl AsFd, name: impl rustix::path::Arg) -> std::result::Result<rustix::fs::Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(fd, name, flags, StatxFlags::TYPE | StatxFlags::SIZE)
}
