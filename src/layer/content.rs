//! The content of a regular file in a layer: byte ranges of open files, with holes between them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Error;
use super::Parts;
use super::Result;
use super::parts::Patched;
use crate::sys;
use crate::sys::Errno;
use crate::sys::writeback::WriteBack;

/// Content up to this size, in bytes, is copied through memory: asking the kernel to share blocks, and for holes, takes longer.
const SMALL: u64 = 16 * 1024;

/// A run of bytes of the content that lies in one place of the backing file. What no extent covers is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the run starts in the content.
    pub at: u64,
    /// Where it starts in the backing file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The content of a regular file, ready to be read. Cloning shares the descriptor.
#[derive(Debug, Clone)]
pub struct Content {
    fd: Arc<OwnedFd>,
    map: Map,
    len: u64,
}

#[derive(Debug, Clone)]
enum Map {
    /// The backing file from its first byte to its last: holes are the file's own, and the kernel may serve it alone.
    Whole,
    /// One run of a larger file.
    Slice(u64),
    /// Sorted, not overlapping.
    Extents(Arc<[Extent]>),
    /// These blocks of the backing file, in their places, over another content.
    Patched(Arc<(Parts, Content)>),
}

impl Content {
    /// All of a file of `len` bytes.
    pub fn whole(fd: Arc<OwnedFd>, len: u64) -> Self {
        Self { fd, map: Map::Whole, len }
    }

    /// `len` bytes of a larger file, from `offset` on.
    pub fn slice(fd: Arc<OwnedFd>, offset: u64, len: u64) -> Self {
        Self { fd, map: Map::Slice(offset), len }
    }

    /// A sparse file of `len` bytes: `extents` must be sorted by `at`, not overlap, and end within `len`.
    pub fn sparse(fd: Arc<OwnedFd>, extents: Arc<[Extent]>, len: u64) -> Self {
        Self { fd, map: Map::Extents(extents), len }
    }

    /// The blocks `parts` of `own`, in their places, over `below`; as long as `own`.
    pub fn patched(own: &Self, parts: Parts, below: Self) -> Self {
        Self { fd: own.fd.clone(), map: Map::Patched(Arc::new((parts, below))), len: own.len }
    }

    fn patch<'a>(&'a self, (parts, below): &'a (Parts, Self)) -> Patched<'a, Arc<OwnedFd>> {
        Patched { parts, own: &self.fd, below, base: below.len.min(self.len) }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The backing file, when it is the content from its first byte to its last.
    pub fn whole_file(&self) -> Option<&Arc<OwnedFd>> {
        matches!(self.map, Map::Whole).then_some(&self.fd)
    }

    /// Reads at `at` into `buf`; fewer bytes than asked for only at the end of the content.
    ///
    /// # Errors
    /// The kernel's. A backing file that ends too early is `EIO`: the layer is damaged.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        if let Map::Whole = self.map {
            // The file itself knows its end: it may have grown since (a layer changed from outside).
            return Ok(sys::data::read_at(&self.fd, buf, at)?);
        }
        let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..want).unwrap_or_default();
        match &self.map {
            Map::Whole => {}
            Map::Slice(offset) => self.read_exact(buf, offset + at)?,
            Map::Patched(patch) => return self.patch(patch).read_at(buf, at),
            Map::Extents(extents) => {
                buf.fill(0);
                let end = at + want as u64;
                let first = extents.partition_point(|e| e.at + e.len <= at);
                for e in extents.get(first..).unwrap_or_default().iter().take_while(|e| e.at < end) {
                    let (from, to) = (e.at.max(at), (e.at + e.len).min(end));
                    let range = usize::try_from(from - at).unwrap_or(0)..usize::try_from(to - at).unwrap_or(0);
                    self.read_exact(buf.get_mut(range).unwrap_or_default(), e.offset + (from - e.at))?;
                }
            }
        }
        Ok(want)
    }

    fn read_exact(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match sys::data::read_at(&self.fd, buf, offset)? {
            n if n == buf.len() => Ok(()),
            n => Err(Error::Sys(sys::Error::new(
                "pread",
                format!("offset {offset}: {n} of {} bytes, the file is cut short", buf.len()),
                Errno::IO,
            ))),
        }
    }

    /// Copies the first `len` bytes into the empty file `to`, by reflink or inside the kernel where that works, keeping
    /// holes. Sets the size of `to` to `len`; `back` tells whether a sync will follow.
    ///
    /// # Errors
    /// The kernel's, of either side.
    pub fn copy_to(&self, to: &OwnedFd, len: u64, back: WriteBack) -> Result<()> {
        let len = len.min(self.len);
        if len <= SMALL {
            return self.copy_small(to, len);
        }
        let clone = matches!(self.map, Map::Whole) && len == self.len;
        if !(clone && sys::data::clone_file(&self.fd, to)?) {
            self.copy_part(to, 0, len, back)?;
        }
        Ok(sys::data::set_len(to, len)?)
    }

    /// Copies `len` bytes at `at` to the same place in `to`, inside the kernel where that works, and leaves out holes: where the content has
    /// one, `to` must have one. The size of `to` is not set beyond the last data.
    ///
    /// # Errors
    /// The kernel's, of either side.
    pub fn copy_part(&self, to: &OwnedFd, at: u64, len: u64, back: WriteBack) -> Result<()> {
        let end = at.saturating_add(len).min(self.len);
        match &self.map {
            Map::Whole => sys::data::copy_sparse(&self.fd, to, at..end, back)?,
            Map::Slice(offset) => self.copy_run(to, [offset + at, at, end.saturating_sub(at)], back)?,
            Map::Extents(extents) => {
                for e in extents.iter().skip_while(|e| e.at + e.len <= at).take_while(|e| e.at < end) {
                    let (from, to_at) = (e.at.max(at), (e.at + e.len).min(end));
                    self.copy_run(to, [e.offset + (from - e.at), from, to_at - from], back)?;
                }
            }
            Map::Patched(patch) => {
                for (here, start, end) in self.patch(patch).runs(at, end.saturating_sub(at)) {
                    match here {
                        true => sys::data::copy_sparse(&self.fd, to, start..end, back)?,
                        false => patch.1.copy_part(to, start, end - start, back)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_small(&self, to: &OwnedFd, len: u64) -> Result<()> {
        let mut buf = vec![0; usize::try_from(len).unwrap_or(0)];
        let n = self.read_at(&mut buf, 0)?;
        sys::data::write_all_at(to, buf.get(..n).unwrap_or_default(), 0)?;
        // A file of that size with nothing behind: else (cut short from outside, or not empty before) its size is set.
        if n as u64 == len && n > 0 { Ok(()) } else { Ok(sys::data::set_len(to, n as u64)?) }
    }

    fn copy_run(&self, to: &OwnedFd, [mut from, mut at, mut len]: [u64; 3], back: WriteBack) -> Result<()> {
        while len > 0 {
            let want = usize::try_from(len.min(back.step())).unwrap_or(1 << 20);
            let n = sys::data::copy_range(&self.fd, from, to, at, want)? as u64;
            if n == 0 {
                return Err(Error::Sys(sys::Error::new("copy_file_range", "the file is cut short", Errno::IO)));
            }
            back.copied(to, at, n)?;
            (from, at, len) = (from + n, at + n, len - n);
        }
        Ok(())
    }

    /// `lseek(SEEK_DATA)`: the next byte of data at or after `at`; `None` at or behind the end, or with only a hole left.
    ///
    /// # Errors
    /// The kernel's.
    pub fn seek_data(&self, at: u64) -> Result<Option<u64>> {
        match &self.map {
            Map::Whole => Ok(sys::data::seek_data(&self.fd, at)?),
            _ if at >= self.len => Ok(None),
            Map::Patched(patch) => self.patch(patch).seek_data(at, self.len),
            Map::Slice(_) => Ok(Some(at)),
            Map::Extents(extents) => {
                let next = extents.partition_point(|e| e.at + e.len <= at);
                Ok(extents.get(next).map(|e| e.at.max(at)))
            }
        }
    }

    /// `lseek(SEEK_HOLE)`: the next hole at or after `at`, the end counting as one; `None` at or behind the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn seek_hole(&self, at: u64) -> Result<Option<u64>> {
        match &self.map {
            Map::Whole => Ok(sys::data::seek_hole(&self.fd, at)?),
            _ if at >= self.len => Ok(None),
            Map::Patched(patch) => self.patch(patch).seek_hole(at, self.len),
            Map::Slice(_) => Ok(Some(self.len)),
            Map::Extents(extents) => {
                let mut hole = at;
                for e in extents.iter().filter(|e| e.at + e.len > at) {
                    if e.at > hole {
                        break;
                    }
                    hole = e.at + e.len;
                }
                Ok(Some(hole.min(self.len)))
            }
        }
    }
}
