//! Block-wise copy-up: a large file that is changed in a few places is copied in these places only.
//!
//! The copy in upper begins as one of the attributes alone. Before a write, the blocks that it touches are copied, synced, and then noted in
//! an xattr of the copy ([`parts`]); only then the write itself is done, in place. So the list is never ahead of the data, at no instant of
//! the process and of the disk: a block that is not noted shows what lies below, which is what it was. A file of which more than
//! [`parts::MOST`] blocks are changed is copied as a whole, and so is one that is cut, linked, renamed or committed.
//!
//! Noting in upper's holes instead what was copied was looked at and left: filesystems fill small holes and punch zeros (the kernel's
//! own cachefiles gave that up), and a backup that makes files sparse would lose what was written.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::copy_up::METACOPY;
use super::error::Error;
use super::error::refused;
use super::lookup::Lower;
use super::node::Io;
use super::node::Node;
use super::node::OpenFor;
use super::node::Rare;
use super::node::Real;
use super::work::Upper;
use crate::layer::Content;
use crate::layer::Parts;
use crate::layer::dir;
use crate::layer::marks::Family;
use crate::layer::parts;
use crate::layer::parts::BLOCK;
use crate::layer::parts::Patched;
use crate::sys;
use crate::sys::Errno;
use crate::sys::xattr::SetMode;

/// From this size on, in bytes, a file is copied up block by block; a smaller one is copied in the time of a few syncs.
pub(super) const MIN: u64 = 4 << 20;

/// What lies in upper of a file that is copied up in parts; one for each node, as long as it is known.
#[derive(Debug)]
pub(super) struct Here {
    /// How far the content below counts, in bytes. The file never gets shorter than that without being copied as a whole.
    base: u64,
    /// The family of the marks on the file: another union may have made it.
    family: Family,
    parts: RwLock<Parts>,
    /// Somebody wrote to the file since the copying of the rest began.
    written: AtomicBool,
}

/// An open file that is copied up in parts.
#[derive(Debug)]
pub(super) struct Partly {
    pub own: Arc<OwnedFd>,
    pub how: OpenFor,
    below: Content,
    pub here: Arc<Here>,
}

impl Here {
    /// Notes that somebody writes: before and after he does.
    pub(super) fn is_written(&self) {
        self.written.store(true, Ordering::Release);
    }

    /// From now on it is noted whether somebody writes.
    pub(super) fn watch_writes(&self) {
        self.written.store(false, Ordering::Release);
    }

    /// Whether somebody wrote since.
    pub(super) fn was_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    fn missing(&self, at: u64, len: u64) -> Vec<u32> {
        self.parts.read().missing(at, len, self.base)
    }
}

impl Partly {
    /// Runs `ask` with what the file consists of at this moment.
    fn now<T>(&self, ask: impl FnOnce(Patched<'_, Arc<OwnedFd>>) -> T) -> T {
        let parts = self.here.parts.read().clone();
        ask(Patched { parts: &parts, own: &self.own, below: &self.below, base: self.here.base })
    }

    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        Ok(self.now(|file| file.read_at(buf, at))?)
    }

    fn len(&self) -> Result<u64> {
        Ok(sys::attr::fstat(&self.own)?.size)
    }

    pub(super) fn seek_data(&self, at: u64) -> Result<Option<u64>> {
        let len = self.len()?;
        Ok(self.now(|file| file.seek_data(at, len))?)
    }

    pub(super) fn seek_hole(&self, at: u64) -> Result<Option<u64>> {
        let len = self.len()?;
        Ok(self.now(|file| file.seek_hole(at, len))?)
    }
}

impl Union {
    /// Whether the content of a file of this size may be copied up in parts.
    pub(super) fn goes_in_parts(&self, size: u64) -> bool {
        let options = self.options();
        options.metacopy && options.blocks && size >= MIN && size / BLOCK < u64::from(u32::MAX)
    }

    /// Whether the content of a file in upper, of which not all was copied up, may stay below while it is written.
    pub(super) fn stays_in_parts(&self, node: &Node) -> Result<bool> {
        let in_upper = matches!(node.body.read().real, Real::Upper { .. });
        let Some(lower) = self.content_left(node).filter(|_| in_upper) else { return Ok(false) };
        let len = lower.obj.stat()?.size;
        // One that was cut when the process died is shorter; what is written behind its end must not show what lies below.
        Ok(self.goes_in_parts(len) && sys::attr::fstat(&*self.hold(node)?)?.size >= len)
    }

    /// A file in upper that was opened for `how`, with what lies below as long as not all was copied up. One of which nothing was copied
    /// and that is only read is its lower file.
    pub(super) fn opened_upper(&self, node: &Node, own: Arc<OwnedFd>, how: OpenFor) -> Result<Io> {
        let Some(lower) = self.content_left(node) else { return Ok(Io::Upper(own, how)) };
        let below = lower.obj.open()?;
        let known = node.body.read().rare().here.clone();
        let here = match known {
            Some(here) => here,
            None => {
                let Some((family, parts)) = dir::blocks_of(&own)? else {
                    // It became whole after it was looked up, and before there was a node that could be told.
                    let closed = node.body.write().change(Rare::all_copied);
                    drop(closed);
                    return Ok(Io::Upper(own, how));
                };
                let size = sys::attr::fstat(&own)?.size;
                if parts.is_empty() && !how.writing() && size == below.len() {
                    return Ok(Io::Lower(below));
                }
                let (base, parts) = (below.len().min(size), RwLock::new(parts));
                let here = Arc::new(Here { base, family, parts, written: AtomicBool::new(false) });
                match node.body.write().change(|rare| rare.share_here(here)) {
                    Some(here) => here,
                    // Copied as a whole meanwhile.
                    None => return Ok(Io::Upper(own, how)),
                }
            }
        };
        Ok(Io::Partly(Arc::new(Partly { own, how, below, here })))
    }

    /// Where the content of a file in upper lies that was not copied up.
    fn content_left(&self, node: &Node) -> Option<Lower> {
        node.body.read().rare().data.clone()
    }

    /// Copies up what lies below of `len` bytes at `at`, so that they can be written in place.
    ///
    /// # Errors
    /// Those of the layer and of upper; the file shows what it showed.
    ///
    /// # Durability
    /// The blocks are on disk before they are noted, unless the mount is volatile.
    pub(super) fn bring(&self, node: &Arc<Node>, file: &Partly, at: u64, len: u64) -> Result<()> {
        if file.here.missing(at, len).is_empty() {
            return Ok(());
        }
        // It would write at the end of the file, wherever it was told to.
        if file.how == OpenFor::Appending {
            return refused(Errno::PERM);
        }
        let copying = node.copy.lock();
        let Some(lower) = self.content_left(node) else { return Ok(()) };
        let missing = file.here.missing(at, len);
        if missing.is_empty() {
            return Ok(());
        }
        let (upper, before) = (self.upper()?, file.here.parts.read().clone());
        if before.has_room_for(&missing) {
            self.copies.counted(node, Some(lower.layer), || copy_blocks(file, &missing, upper))?;
            let noted = before.with(&missing);
            match note(&file.own, &noted, (file.here.family, before.is_empty())) {
                // No room for the list beside the file's other attributes: then all of it.
                Err(e) if matches!(e.errno(), Errno::TOOBIG | Errno::RANGE | Errno::NOSPC) => {}
                other => {
                    other?;
                    *file.here.parts.write() = noted;
                    return Ok(());
                }
            }
        }
        drop(copying);
        self.copy_up(node, Copy::All)
    }

    /// Copies what of a file's content is not in upper yet, its first `most` bytes at most, into the file `(own, size)` of upper; the size
    /// becomes `most` where it is larger. With the node's copy lock held. Returns how many bytes the runs had that were copied.
    ///
    /// # Errors
    /// Those of the layer and of upper.
    pub(super) fn copy_rest(&self, node: &Node, lower: &Lower, (own, size): (&OwnedFd, u64), most: u64) -> Result<u64> {
        let back = self.upper()?.write_back();
        let below = lower.obj.open()?;
        let known = node.body.read().rare().here.as_ref().map(|here| here.parts.read().clone());
        let parts = match known {
            Some(parts) => parts,
            None => match dir::blocks_of(own)? {
                Some((_, parts)) => parts,
                None => return Ok(0),
            },
        };
        let (len, base) = (size.min(most), size.min(below.len()));
        // What a crash cut off may have left data where nothing is noted: then holes are written, too.
        let is_clean = |at: u64, end: u64| match sys::data::seek_data(own, at) {
            Ok(data) => Ok(data.is_none_or(|data| data >= end)),
            // A filesystem that cannot tell.
            Err(e) if e.errno() == Errno::INVAL => Ok(false),
            Err(e) => Err(Error::from(e)),
        };
        let mut copied = 0;
        if parts.is_empty() && size <= below.len() && is_clean(0, size)? {
            // Blocks can be shared as a whole.
            below.copy_to(own, len, back)?;
            copied = len;
        } else {
            let patched = Patched { parts: &parts, own, below: &below, base };
            for (_, start, end) in patched.runs(0, len.min(base)).filter(|(here, ..)| !here) {
                match is_clean(start, end)? {
                    true => below.copy_part(own, start, end - start, back)?,
                    false => copy_with_holes(&below, own, start, end)?,
                }
                copied += end - start;
            }
        }
        if len < size {
            sys::data::set_len(own, len)?;
        }
        Ok(copied)
    }
}

/// Copies a range to the same place, holes as zeros.
fn copy_with_holes(below: &Content, own: &OwnedFd, start: u64, end: u64) -> Result<()> {
    let mut buf = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
    let mut at = start;
    while at < end {
        let want = usize::try_from(BLOCK.min(end - at)).unwrap_or(0);
        let part = buf.get_mut(..want).unwrap_or_default();
        let n = below.read_at(part, at)?;
        if n == 0 {
            return refused(Errno::IO);
        }
        sys::data::write_all_at(own, part.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
    }
    Ok(())
}

/// Copies these blocks, so that they can be noted. Returns how many bytes that were.
fn copy_blocks(file: &Partly, blocks: &[u32], upper: &Upper) -> Result<u64> {
    let mut copied = 0;
    for block in blocks {
        let start = u64::from(*block) * BLOCK;
        let end = file.here.base.min(start + BLOCK);
        copy_with_holes(&file.below, &file.own, start, end)?;
        copied += end - start;
    }
    if !upper.volatile {
        sys::data::sync(&*file.own, false)?;
    }
    Ok(copied)
}

/// Writes the list, in the family of the file's mark, and says that there is one: the first time after it, so that there is.
fn note(file: &OwnedFd, noted: &Parts, (family, is_first): (Family, bool)) -> Result<()> {
    sys::xattr::set(file, &family.name(parts::MARK), &noted.print(), SetMode::Any)?;
    if is_first {
        sys::xattr::set(file, &family.name(METACOPY), parts::IN_PARTS, SetMode::Any)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
