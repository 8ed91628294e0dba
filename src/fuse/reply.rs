//! Replies: from what the adapter answers to the bytes that the kernel takes, in one write.
//!
//! Source of the layouts: [`super::abi`].

use std::sync::Arc;
use std::time::Duration;

use super::abi;
use super::bytes::Fixed;
use super::convert;
use super::device::Device;
use super::way::Way;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Stat;
use crate::union::node::Node;

/// What a request is answered with when it succeeds.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Nothing is sent: the kernel waits for no answer.
    Silent,
    /// It is done, and there is nothing to tell.
    Done,
    /// A node under a name; the kernel has one more reference of it.
    Entry(Known),
    /// The name is nobody's, and the kernel may remember that.
    Absent,
    Created(Known, Opened),
    Attributes(Stat, Duration),
    Opened(Opened),
    /// Bytes of the thread's own buffer.
    Data(&'a [u8]),
    Bytes(Vec<u8>),
    /// How long the bytes of an extended attribute are.
    Size(u32),
    Written(u32),
    /// As `Written`, where the kernel has room for 64 bits.
    Copied(u64),
    Offset(u64),
    Space(FsStat),
    Ioctl(Vec<u8>),
    /// The answer comes when the node was refreshed.
    Refresh(Arc<Node>),
}

/// A node as the kernel gets to know it. Its number in the protocol and the one that `stat` shows need not be the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub nodeid: u64,
    pub stat: Stat,
    /// The kernel is to ask for the attributes each time.
    pub fleeting: bool,
}

/// An open file or directory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Opened {
    pub handle: u64,
    /// [`abi::fopen`].
    pub flags: u32,
    /// A file that was lent to the kernel ([`Device::lend`]), or 0.
    pub backing: i32,
}

/// `struct fuse_attr`.
const ATTR: usize = 88;
/// The largest answer of fixed size: an entry and an open file.
const LARGEST: usize = abi::ENTRY_OUT + 16;

type Body = Fixed<LARGEST>;

/// How long the name holds, and how long the attributes do.
fn times_to_live<const N: usize>(body: Fixed<N>, name: Duration, attr: Duration) -> Fixed<N> {
    body.u64(name.as_secs()).u64(attr.as_secs()).u32(name.subsec_nanos()).u32(attr.subsec_nanos())
}

/// `struct fuse_attr`. Times before 1970 have negative seconds, and nanoseconds that count forward.
fn attributes<const N: usize>(body: Fixed<N>, s: &Stat) -> Fixed<N> {
    let body = body.u64(s.ino).u64(s.size).u64(s.blocks).i64(s.atime.secs).i64(s.mtime.secs).i64(s.ctime.secs);
    let body = body.u32(s.atime.nanos).u32(s.mtime.nanos).u32(s.ctime.nanos);
    let body = body.u32(s.mode).u32(s.nlink).u32(s.uid).u32(s.gid).u32(convert::device(s.rdev));
    body.u32(if s.blksize == 0 { 4096 } else { s.blksize }).u32(0)
}

/// `struct fuse_entry_out`; generations are all 0, since numbers are not used again while the kernel knows them.
fn entry<const N: usize>(body: Fixed<N>, known: &Known, ttl: Duration) -> Fixed<N> {
    let attr = if known.fleeting { Duration::ZERO } else { ttl };
    attributes(times_to_live(body.u64(known.nodeid).u64(0), ttl, attr), &known.stat)
}

/// `struct fuse_open_out`.
fn opened(body: Body, opened: &Opened) -> Body {
    body.u64(opened.handle).u32(opened.flags).i32(opened.backing)
}

/// `struct fuse_kstatfs`.
fn space(s: &FsStat) -> Body {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let body = Body::new().u64(s.blocks).u64(s.bfree).u64(s.bavail).u64(s.files).u64(s.ffree);
    body.u32(narrow(s.bsize)).u32(narrow(s.namelen.min(255))).u32(narrow(s.frsize)).zeros(28)
}

/// What is sent behind the header: a part of fixed size, and bytes.
fn encode<'a>(answer: &'a Answer<'_>, ttl: Duration) -> (Body, &'a [u8]) {
    let new = Body::new;
    match answer {
        Answer::Silent | Answer::Done | Answer::Refresh(_) => (new(), b""),
        Answer::Entry(known) => (entry(new(), known, ttl), b""),
        Answer::Absent => (times_to_live(new().zeros(16), ttl, ttl).zeros(ATTR), b""),
        Answer::Created(known, file) => (opened(entry(new(), known, ttl), file), b""),
        Answer::Attributes(stat, ttl) => {
            (attributes(new().u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0), stat), b"")
        }
        Answer::Opened(file) => (opened(new(), file), b""),
        Answer::Data(bytes) => (new(), bytes),
        Answer::Bytes(bytes) => (new(), bytes),
        Answer::Size(n) | Answer::Written(n) => (new().u32(*n).u32(0), b""),
        Answer::Copied(n) | Answer::Offset(n) => (new().u64(*n), b""),
        Answer::Space(s) => (space(s), b""),
        Answer::Ioctl(bytes) => (new().zeros(16), bytes),
    }
}

/// The duty to answer one request. Dropped unsent (a panic, a thread that could not be started) it answers `EIO`.
#[derive(Debug)]
pub(super) struct Reply<'w> {
    way: Way<'w>,
    unique: u64,
    sent: bool,
}

impl<'w> Reply<'w> {
    pub(super) fn new(way: Way<'w>, unique: u64) -> Self {
        Self { way, unique, sent: false }
    }

    pub(super) fn send(mut self, answer: &Answer<'_>, ttl: Duration) {
        self.sent = true;
        if matches!(answer, Answer::Silent) {
            return;
        }
        let (fixed, bytes) = encode(answer, ttl);
        let sent = match fixed.as_bytes() {
            [] => self.way.send(self.unique, 0, [bytes, b""]),
            fixed => self.way.send(self.unique, 0, [fixed, bytes]),
        };
        match sent {
            Ok(()) => {}
            Err(e) if nobody_waits(e) => log::debug!("nobody waits for an answer: {e}"),
            Err(e) => {
                // Whoever asked must not wait for ever.
                log::error!("the kernel did not take an answer: {e}");
                self.fail(Errno::IO);
            }
        }
    }

    pub(super) fn error(mut self, errno: Errno) {
        self.sent = true;
        self.fail(errno);
    }

    /// Another one has the duty now.
    pub(super) fn hand_over(mut self) {
        self.sent = true;
    }

    fn fail(&self, errno: Errno) {
        if let Err(e) = self.way.send(self.unique, -errno.raw_os_error(), [b"", b""])
            && !nobody_waits(e)
        {
            log::error!("the kernel did not take an error: {e}");
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        if !self.sent {
            self.fail(Errno::IO);
        }
    }
}

/// The request was aborted, or the mount is gone.
fn nobody_waits(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NODEV | Errno::CONNABORTED | Errno::NOTCONN | Errno::PIPE)
}

/// A reply that another thread gives.
#[derive(Debug)]
pub(super) struct Later {
    device: Arc<Device>,
    unique: u64,
    done: bool,
}

impl Later {
    pub(super) fn new(device: &Arc<Device>, unique: u64) -> Self {
        Self { device: device.clone(), unique, done: false }
    }

    fn reply(&self) -> Reply<'_> {
        Reply::new(Way::Device(&self.device), self.unique)
    }

    pub(super) fn done(mut self) {
        self.done = true;
        self.reply().send(&Answer::Ioctl(Vec::new()), Duration::ZERO);
    }

    pub(super) fn error(mut self, errno: Errno) {
        self.done = true;
        self.reply().error(errno);
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if !self.done {
            self.reply().error(Errno::IO);
        }
    }
}

/// A part of a listing, in a buffer that is used again.
#[derive(Debug)]
pub(super) struct Lines<'b> {
    room: &'b mut [u8],
    len: usize,
}

/// One name of a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'n> {
    pub ino: u64,
    /// Where a reader that has seen it goes on.
    pub cookie: u64,
    /// The type bits of a mode.
    pub mode: u32,
    pub name: &'n [u8],
}

impl<'b> Lines<'b> {
    /// At most `room` bytes, and no more than the buffer has.
    pub(super) fn new(buffer: &'b mut [u8], room: u32) -> Self {
        let room = buffer.len().min(room as usize);
        Self { room: buffer.get_mut(..room).unwrap_or_default(), len: 0 }
    }

    /// Adds a name; `false` when it does not fit any more.
    pub(super) fn add(&mut self, line: Line<'_>) -> bool {
        self.put(b"", line)
    }

    /// Adds a name and what is known of its object: without one the kernel asks when it wants to know. `false` when it does not fit.
    pub(super) fn add_plus(&mut self, known: Option<&Known>, line: Line<'_>, ttl: Duration) -> bool {
        let out: Fixed<{ abi::ENTRY_OUT }> = match known {
            Some(known) => entry(Fixed::new(), known, ttl),
            None => Fixed::new().zeros(abi::ENTRY_OUT),
        };
        self.put(out.as_bytes(), line)
    }

    fn put(&mut self, entry: &[u8], line: Line<'_>) -> bool {
        let Ok(len) = u32::try_from(line.name.len()) else { return false };
        let padded = (entry.len() + abi::DIRENT + line.name.len()).next_multiple_of(8);
        let Some(mut place) = self.room.get_mut(self.len..self.len + padded) else { return false };
        let head = Fixed::<{ abi::DIRENT }>::new().u64(line.ino).u64(line.cookie).u32(len).u32(line.mode >> 12);
        for part in [entry, head.as_bytes(), line.name] {
            let Some((start, rest)) = place.split_at_mut_checked(part.len()) else { return false };
            start.copy_from_slice(part);
            place = rest;
        }
        place.fill(0);
        self.len += padded;
        true
    }

    pub(super) fn answer(self) -> Answer<'b> {
        let Self { room, len } = self;
        Answer::Data(room.get(..len).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
