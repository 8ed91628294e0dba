//! Requests about listings.

use super::abi::fopen;
use super::reply::Answer;
use super::reply::Line;
use super::reply::Lines;
use super::reply::Opened;
use super::request::Listing;
use super::server::Server;
use crate::sys::attr::Kind;
use crate::union::Result;
use crate::union::node::Node;

impl Server {
    pub(super) fn opendir(&self, nodeid: u64) -> Result<Answer<'static>> {
        let node = self.node(nodeid)?;
        self.union.open_dir(&node);
        let (handle, alone) = self.readers.open(nodeid);
        let cache = self.kept(fopen::KEEP_CACHE | fopen::CACHE_DIR);
        Ok(Answer::Opened(Opened { handle, flags: if alone { cache } else { 0 }, backing: 0 }))
    }

    pub(super) fn releasedir(&self, nodeid: u64, handle: u64) -> Result<Answer<'static>> {
        self.readers.close(handle);
        if let Ok(node) = self.node(nodeid) {
            self.union.close_dir(&node);
        }
        Ok(Answer::Done)
    }

    pub(super) fn readdir<'b>(&self, nodeid: u64, part: Listing, buffer: &'b mut [u8]) -> Result<Answer<'b>> {
        let node = self.node(nodeid)?;
        let listing = self.union.list(&node, part.offset)?;
        let mut lines = Lines::new(buffer, part.size);
        if !dots(&node, part.offset).all(|line| lines.add(line)) {
            return Ok(lines.answer());
        }
        for item in self.readers.rest(part.handle, &listing, part.offset) {
            let (mode, name) = (item.kind.mode_bits(), item.name.as_bytes());
            if !lines.add(Line { ino: item.ino, cookie: item.cookie, mode, name }) {
                break;
            }
        }
        Ok(lines.answer())
    }

    /// A listing whose entries are looked up, too. An entry that does not fit gives its reference back; `.` and `..` take none.
    pub(super) fn readdirplus<'b>(&self, nodeid: u64, part: Listing, buffer: &'b mut [u8]) -> Result<Answer<'b>> {
        let node = self.node(nodeid)?;
        let listing = self.union.list(&node, part.offset)?;
        let mut lines = Lines::new(buffer, part.size);
        if !dots(&node, part.offset).all(|line| lines.add_plus(None, line, self.ttl())) {
            return Ok(lines.answer());
        }
        for item in self.readers.rest(part.handle, &listing, part.offset) {
            // A name that went since it was listed, or cannot be read now, is listed without attributes: the kernel asks.
            let entry = self.union.lookup(&node, item.name.as_name()).ok().flatten();
            let plus = entry.as_ref().map(|entry| self.known(entry));
            let (ino, mode) = plus.map_or((item.ino, item.kind.mode_bits()), |k| (k.stat.ino, k.stat.mode));
            let line = Line { ino, cookie: item.cookie, mode, name: item.name.as_bytes() };
            if !lines.add_plus(plus.as_ref(), line, self.ttl()) {
                if let Some(entry) = entry {
                    let ino = entry.node.ino;
                    drop(entry);
                    self.union.forget(ino, 1);
                }
                break;
            }
        }
        Ok(lines.answer())
    }
}

/// `.` and `..` as far as they come behind `offset`.
fn dots(node: &Node, offset: u64) -> impl Iterator<Item = Line<'static>> {
    let mode = Kind::Dir.mode_bits();
    let line = move |(cookie, name, ino): (u64, &'static [u8], u64)| Line { ino, cookie, mode, name };
    [(1, &b"."[..], node.ino), (2, b"..", node.parent_ino())].into_iter().map(line).filter(move |l| l.cookie > offset)
}
