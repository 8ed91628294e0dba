//! Which blocks of a file lie in one layer while the rest of its content lies below: what a block-wise copy-up has copied so far.
//!
//! A copy of the attributes alone says so by an xattr without a value (the kernel's `metacopy`). Of one of which some blocks were copied
//! its value is [`IN_PARTS`], and the list of blocks stands in an xattr beside ([`MARK`]): four bytes of head (a version, and the size of a
//! block as a power of two), then the numbers of the blocks, 32 bits each, little end first, ascending. Kernels from 6.6 on refuse a
//! `metacopy` of one to three bytes (`EIO`), so none of these shows the content of below as if it were all.
//!
//! Blocks count only as far as the content below reaches (the *base*). Behind it the file is the upper part's own: what is appended, and
//! what lies between as a hole.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::Content;
use super::Result;
use crate::sys;

/// The size of a block in bytes: as much as a disk likes to be asked for, and a small part of what is worth copying in parts.
pub const BLOCK: u64 = 128 << 10;
/// The most blocks of one file that are noted. A file of which more is changed is copied as a whole, which then costs less than more
/// syncs would; and the list fits into an xattr of any filesystem (1 KiB).
pub const MOST: usize = 256;

/// The value of the `metacopy` xattr of a file that has some blocks.
pub const IN_PARTS: &[u8] = b"m";
/// The name of the xattr with the list, behind the prefix of its family.
pub const MARK: &str = "mica.blocks";

const HEAD: [u8; 4] = [1, 17, 0, 0];
const _: () = assert!(BLOCK == 1 << HEAD[1]);

/// The blocks that lie here, by number, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(Arc<[u32]>);

impl Parts {
    /// Reads a list; `None` for one that this version does not write.
    pub fn parse(list: &[u8]) -> Option<Self> {
        let (numbers, rest) = list.strip_prefix(&HEAD)?.as_chunks::<4>();
        let numbers: Vec<u32> = numbers.iter().map(|n| u32::from_le_bytes(*n)).collect();
        let sound = rest.is_empty() && numbers.len() <= MOST && numbers.is_sorted_by(|a, b| a < b);
        sound.then(|| Self(numbers.into()))
    }

    /// The list as it is stored.
    pub fn print(&self) -> Vec<u8> {
        HEAD.into_iter().chain(self.0.iter().flat_map(|n| n.to_le_bytes())).collect()
    }

    /// How many blocks lie here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all content lies below.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the byte at `at` is this layer's, and how far the same holds; all is from `base` on.
    pub fn run(&self, at: u64, base: u64) -> (bool, u64) {
        if at >= base {
            return (true, u64::MAX);
        }
        let start = |block: u32| u64::from(block) * BLOCK;
        match self.0.binary_search_by_key(&(at / BLOCK), |block| (*block).into()) {
            Err(next) => (false, self.0.get(next).map_or(base, |block| start(*block).min(base))),
            Ok(first) => {
                let after = self.0.iter().skip(first).zip(at / BLOCK..).take_while(|(a, b)| u64::from(**a) == *b);
                let end = after.last().map_or(at, |(block, _)| start(*block) + BLOCK);
                (true, if end >= base { u64::MAX } else { end })
            }
        }
    }

    /// The blocks that a change of `len` bytes at `at` touches, and that are not here. Who writes behind the base touches its last block: so
    /// a file that is longer than what lies below has a list that says so.
    pub fn missing(&self, at: u64, len: u64, base: u64) -> Vec<u32> {
        let end = at.saturating_add(len);
        let last = base.saturating_sub(1) / BLOCK;
        let touched = (at / BLOCK).min(last)..end.min(base).div_ceil(BLOCK);
        let numbers = touched.take_while(|_| len > 0 && base > 0).map_while(|block| u32::try_from(block).ok());
        numbers.filter(|block| self.0.binary_search(block).is_err()).collect()
    }

    /// Whether one that has these as well can be noted.
    pub fn has_room_for(&self, more: &[u32]) -> bool {
        self.0.len() + more.len() <= MOST
    }

    /// The same with `more`, none of which is here.
    #[must_use]
    pub fn with(&self, more: &[u32]) -> Self {
        let mut all = [&self.0[..], more].concat();
        all.sort_unstable();
        Self(all.into())
    }
}

/// A file of which some blocks lie in one open file, and the rest below.
#[derive(Debug, Clone, Copy)]
pub struct Patched<'a, F> {
    /// What lies here.
    pub parts: &'a Parts,
    /// The file with these blocks, in their places.
    pub own: &'a F,
    /// The content of below.
    pub below: &'a Content,
    /// How far the content of below counts, in bytes.
    pub base: u64,
}

impl<F: AsFd> Patched<'_, F> {
    /// Reads at `at` into `buf`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// The kernel's, of either file.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let pos = at + done as u64;
            let (here, end) = self.parts.run(pos, self.base);
            let want = usize::try_from(end - pos).unwrap_or(usize::MAX).min(buf.len() - done);
            let part = buf.get_mut(done..done + want).unwrap_or_default();
            let n = if here { sys::data::read_at(self.own, part, pos)? } else { self.below.read_at(part, pos)? };
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    /// The runs of `len` bytes at `at`, each with whether it lies here, where it begins and where it ends.
    pub fn runs(&self, at: u64, len: u64) -> impl Iterator<Item = (bool, u64, u64)> {
        let (mut pos, last) = (at, at.saturating_add(len));
        std::iter::from_fn(move || {
            let start = (pos < last).then_some(pos)?;
            let (here, end) = self.parts.run(start, self.base);
            pos = end.min(last);
            Some((here, start, pos))
        })
    }

    /// `lseek(SEEK_DATA)` in a file of `len` bytes: the next data at or after `at`.
    ///
    /// # Errors
    /// The kernel's, of either file.
    pub fn seek_data(&self, at: u64, len: u64) -> Result<Option<u64>> {
        for (here, start, end) in self.runs(at, len.saturating_sub(at)) {
            let found = if here { sys::data::seek_data(self.own, start)? } else { self.below.seek_data(start)? };
            if let Some(data) = found.filter(|data| *data < end) {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// `lseek(SEEK_HOLE)` in a file of `len` bytes: the next hole at or after `at`, the end counting as one.
    ///
    /// # Errors
    /// The kernel's, of either file.
    pub fn seek_hole(&self, at: u64, len: u64) -> Result<Option<u64>> {
        for (here, start, end) in self.runs(at, len.saturating_sub(at)) {
            let found = if here { sys::data::seek_hole(self.own, start)? } else { self.below.seek_hole(start)? };
            if let Some(hole) = found.filter(|hole| *hole < end) {
                return Ok(Some(hole));
            }
        }
        Ok((at < len).then_some(len))
    }
}

#[cfg(test)]
mod tests;
