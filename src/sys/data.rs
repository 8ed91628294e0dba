//! File contents: reading, writing, holes, copying, durability.

use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::fs::FallocateFlags;
use rustix::fs::SeekFrom;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;
use super::writeback::WriteBack;

/// Reads at `offset` into `buf`, going on after short reads; less than `buf` only at the end of the file.
///
/// # Errors
/// The kernel's.
pub fn read_at(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize> {
    gate::look("pread")?;
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(&fd, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::new("pread", format!("{offset}"), e)),
        }
    }
    Ok(done)
}

/// Writes all of `buf` at `offset`.
///
/// # Errors
/// The kernel's. When some bytes were written before the error, their count is returned instead, as `write` does.
pub fn write_at(fd: impl AsFd, buf: &[u8], offset: u64) -> Result<usize> {
    let args = || format!("{}, {} bytes, {offset}", fd.as_fd().as_raw_fd(), buf.len());
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
        let result = gate::pass("pwrite", args).and_then(|()| {
            rustix::io::pwrite(&fd, rest, offset + done as u64).map_err(|e| Error::new("pwrite", args(), e))
        });
        match result {
            Ok(n) => done += n,
            Err(e) if e.errno() == Errno::INTR => {}
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `buf` at `offset`, or fails.
///
/// # Errors
/// The kernel's; `ENOSPC` also for a write that stayed short.
pub fn write_all_at(fd: impl AsFd, buf: &[u8], offset: u64) -> Result<()> {
    let n = write_at(&fd, buf, offset)?;
    if n == buf.len() {
        return Ok(());
    }
    // The rest again: the second try reports why.
    let rest = buf.get(n..).unwrap_or_default();
    match write_at(&fd, rest, offset + n as u64)? {
        m if m == rest.len() => Ok(()),
        _ => Err(Error::new("pwrite", "short write", Errno::NOSPC)),
    }
}

/// Writes a file from its beginning on, each write through the gate; `std`'s would pass it by.
#[derive(Debug)]
pub struct Appender<F> {
    fd: F,
    at: u64,
}

impl<F: AsFd> Appender<F> {
    /// Writes to the new, empty file `fd`.
    pub fn new(fd: F) -> Self {
        Self { fd, at: 0 }
    }

    /// How many bytes were written.
    pub fn len(&self) -> u64 {
        self.at
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// The file.
    pub fn into_inner(self) -> F {
        self.fd
    }
}

impl<F: AsFd> std::io::Write for Appender<F> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = write_at(&self.fd, buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sets the size of a file; a longer one gets a hole.
///
/// # Errors
/// The kernel's.
pub fn set_len(fd: impl AsFd, len: u64) -> Result<()> {
    let args = || format!("{}, {len}", fd.as_fd().as_raw_fd());
    gate::pass("ftruncate", args)?;
    rustix::fs::ftruncate(&fd, len).map_err(|e| Error::new("ftruncate", args(), e))
}

/// `fallocate` with the kernel's mode bits.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where the filesystem cannot.
pub fn fallocate(fd: impl AsFd, mode: u32, offset: u64, len: u64) -> Result<()> {
    let args = || format!("{}, {mode:x}, {offset}, {len}", fd.as_fd().as_raw_fd());
    gate::pass("fallocate", args)?;
    let flags = FallocateFlags::from_bits(mode).ok_or_else(|| Error::new("fallocate", args(), Errno::OPNOTSUPP))?;
    rustix::fs::fallocate(&fd, flags, offset, len).map_err(|e| Error::new("fallocate", args(), e))
}

/// The next byte of data at or after `offset`; `None` behind the last.
///
/// # Errors
/// The kernel's, but for `ENXIO`.
pub fn seek_data(fd: impl AsFd, offset: u64) -> Result<Option<u64>> {
    seek(fd, SeekFrom::Data(offset))
}

/// The next hole at or after `offset`; the end of the file counts as one. `None` when `offset` lies behind the end.
///
/// # Errors
/// The kernel's, but for `ENXIO`.
pub fn seek_hole(fd: impl AsFd, offset: u64) -> Result<Option<u64>> {
    seek(fd, SeekFrom::Hole(offset))
}

fn seek(fd: impl AsFd, to: SeekFrom) -> Result<Option<u64>> {
    gate::look("lseek")?;
    match rustix::fs::seek(fd, to) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(Error::new("lseek", format!("{to:?}"), e)),
    }
}

/// Shares the blocks of all of `from` with `to` (reflink); `false` where the filesystems cannot.
///
/// # Errors
/// The kernel's, but for those that mean "cannot".
pub fn clone_file(from: impl AsFd, to: impl AsFd) -> Result<bool> {
    gate::pass("ioctl", || format!("{}, FICLONE, {}", to.as_fd().as_raw_fd(), from.as_fd().as_raw_fd()))?;
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(e) if super::is_unsupported(e) || matches!(e, Errno::PERM | Errno::BADF | Errno::TXTBSY | Errno::FAULT) => {
            Ok(false)
        }
        Err(e) => Err(Error::bare("ioctl", e)),
    }
}

/// Copies up to `len` bytes between two files, inside the kernel where it can; how many it copied, 0 only at the end of
/// `from`.
///
/// # Errors
/// The kernel's.
pub fn copy_range(from: impl AsFd, from_at: u64, to: impl AsFd, to_at: u64, len: usize) -> Result<usize> {
    gate::pass("copy_file_range", || format!("{from_at}, {to_at}, {len}"))?;
    let (mut a, mut b) = (from_at, to_at);
    match rustix::fs::copy_file_range(&from, Some(&mut a), &to, Some(&mut b), len) {
        Ok(n) if n > 0 => return Ok(n),
        // Zero is the end of the file, but also what some kernels answer for files of /proc and of old overlays: let read
        // decide.
        Ok(_) => {}
        Err(e) if super::is_unsupported(e) || matches!(e, Errno::PERM | Errno::BADF | Errno::IO) => {}
        Err(e) => return Err(Error::bare("copy_file_range", e)),
    }
    let mut buf = vec![0u8; len.min(256 * 1024)];
    let n = read_at(&from, &mut buf, from_at)?;
    write_all_at(&to, buf.get(..n).unwrap_or_default(), to_at)?;
    Ok(n)
}

/// Copies a range of `from` to the same place in `to`, leaving holes as holes: where `from` has one, `to` must have one.
/// The size of `to` is not set beyond the last data.
///
/// # Errors
/// The kernel's.
pub fn copy_sparse(from: impl AsFd, to: impl AsFd, range: Range<u64>, back: WriteBack) -> Result<()> {
    let Range { start: mut at, end } = range;
    while at < end {
        // A filesystem that cannot tell holes says EINVAL: then all is data.
        let data = match seek_data(&from, at) {
            Ok(Some(data)) => data.min(end),
            Ok(None) => break,
            Err(e) if e.errno() == Errno::INVAL => at,
            Err(e) => return Err(e),
        };
        let hole = match seek_hole(&from, data) {
            Ok(hole) => hole.unwrap_or(end).min(end),
            Err(e) if e.errno() == Errno::INVAL => end,
            Err(e) => return Err(e),
        };
        let mut pos = data;
        while pos < hole {
            let want = usize::try_from((hole - pos).min(back.step())).unwrap_or(1 << 20);
            let n = copy_range(&from, pos, &to, pos, want)?;
            if n == 0 {
                return Err(Error::new(
                    "copy_file_range",
                    format!("the file ends at {pos} instead of {end}"),
                    Errno::IO,
                ));
            }
            back.copied(&to, pos, n as u64)?;
            pos += n as u64;
        }
        at = hole;
    }
    Ok(())
}

/// Makes data, and with `all` also every attribute, durable.
///
/// # Errors
/// The kernel's: `EIO` means that data was lost.
pub fn sync(fd: impl AsFd, all: bool) -> Result<()> {
    let name = if all { "fsync" } else { "fdatasync" };
    let args = || fd.as_fd().as_raw_fd().to_string();
    gate::pass(name, args)?;
    if all { rustix::fs::fsync(&fd) } else { rustix::fs::fdatasync(&fd) }.map_err(|e| Error::new(name, args(), e))
}

/// Makes the names in a directory durable; an `O_PATH` descriptor is opened for it.
///
/// # Errors
/// The kernel's.
pub fn sync_dir(dir: impl AsFd) -> Result<()> {
    sync(super::open::list_dir(dir)?, true)
}

/// Makes everything on the filesystem of `dir` durable.
///
/// # Errors
/// The kernel's.
pub fn sync_fs(dir: impl AsFd) -> Result<()> {
    gate::pass("syncfs", || dir.as_fd().as_raw_fd().to_string())?;
    let fd = super::open::list_dir(&dir)?;
    rustix::fs::syncfs(fd).map_err(|e| Error::bare("syncfs", e))
}
