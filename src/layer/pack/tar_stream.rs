//! The tar of a pack, put together again.

use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Open;
use super::format::Table;
use crate::layer::Error;
use crate::sys;

/// Reads a layer's uncompressed tar, byte for byte as it was imported.
#[derive(Debug)]
pub struct TarStream {
    open: Arc<Open>,
    /// Offset in the pack file.
    at: u64,
    /// The next splice.
    next: u32,
    /// The object that is being read, from this offset on to this length.
    object: Option<(OwnedFd, u64, u64)>,
}

impl TarStream {
    pub(super) fn new(open: Arc<Open>) -> Self {
        Self { open, at: 0, next: 0, object: None }
    }

    fn step(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let index = &self.open.index;
        loop {
            if let Some((fd, at, len)) = &mut self.object {
                if let Some(part) = cut(buf, *len - *at) {
                    let n = sys::data::read_at(&*fd, part, *at)?;
                    if n == 0 {
                        return Err(index.damaged("an object is cut short"));
                    }
                    *at += n as u64;
                    return Ok(n);
                }
                self.object = None;
            }
            let splice = match (self.next as usize) < index.count(Table::Splices) {
                true => Some(index.splice(self.next)?),
                false => None,
            };
            let end = splice.map_or(index.pack_len, |s| s.at);
            if end < self.at || end > index.pack_len {
                return Err(index.damaged(format!("splice {} is out of order", self.next)));
            }
            if let Some(part) = cut(buf, end - self.at) {
                let n = sys::data::read_at(&*self.open.pack, part, self.at)?;
                if n == 0 {
                    return Err(index.damaged("the pack file is cut short"));
                }
                self.at += n as u64;
                return Ok(n);
            }
            let Some(splice) = splice else { return Ok(0) };
            let object = index.object(splice.object)?;
            let (fd, len) = self.open.dirs.open_object(&object.digest)?;
            if len != object.len {
                return Err(
                    index.damaged(format!("object {} has {len} bytes instead of {}", object.digest, object.len))
                );
            }
            self.object = Some((fd, 0, len));
            self.next += 1;
        }
    }
}

/// At most `len` bytes of `buf`; `None` when there is nothing to read.
fn cut(buf: &mut [u8], len: u64) -> Option<&mut [u8]> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
    buf.get_mut(..len).filter(|part| !part.is_empty())
}

impl Read for TarStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.step(buf).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
