//! File contents: open, read, write, and the rest.
//!
//! The open backing file belongs to the node, not to a handle: all handles of a node share it, so a handle that was opened
//! before a copy-up sees what is written after it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::node::Body;
use super::node::Io;
use super::node::Node;
use super::node::OpenFor;
use super::node::Real;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::open::Access;

/// Below this size, in bytes, a layer's file is opened by the first read that comes, not by each opening: what the kernel has cached is
/// opened, read and closed without a system call here. It is lent to nobody.
pub const SMALL: u64 = 128 * 1024;

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// Data.
    Data,
    /// A hole.
    Hole,
}

/// What somebody may read and write in the union's place.
#[derive(Debug)]
pub enum Lendable {
    /// The file in upper, that takes all changes.
    Upper(Arc<OwnedFd>),
    /// A file of a layer, to be read only, and its length in bytes.
    Layer(Arc<OwnedFd>, u64),
    /// Nothing: the content is a part of a file, or writes are looked at. Whether it lies in upper.
    Nothing(bool),
}

impl Lendable {
    /// Whether it lies in upper.
    pub fn in_upper(&self) -> bool {
        matches!(self, Self::Upper(_) | Self::Nothing(true))
    }
}

impl Union {
    /// The file that has the content of an open node now. It stays so for what is in upper; for what is not, until the next change.
    ///
    /// # Errors
    /// Those of [`Union::read`].
    pub fn lendable(&self, node: &Arc<Node>) -> Result<Lendable> {
        if is_known_small(node) {
            return Ok(Lendable::Nothing(false));
        }
        Ok(match self.backing(node)? {
            // Who writes where in an append-only file is checked here, and what must be copied before in one that is copied in parts.
            Io::Upper(_, OpenFor::Appending) | Io::Partly(_) => Lendable::Nothing(true),
            Io::Upper(fd, _) => Lendable::Upper(fd),
            Io::Lower(content) => match content.whole_file() {
                Some(fd) => Lendable::Layer(fd.clone(), content.len()),
                None => Lendable::Nothing(false),
            },
        })
    }

    /// Counts one more open handle of a regular file; opening for writing copies it up.
    ///
    /// # Errors
    /// `EROFS` for writing without an upper; those of the copy-up; `EMFILE`.
    pub fn open(&self, node: &Arc<Node>, write: bool, truncate: bool) -> Result<()> {
        match node.kind {
            Kind::File => {}
            Kind::Dir => return refused(Errno::ISDIR),
            _ => return refused(Errno::INVAL),
        }
        let io = if write || truncate {
            if truncate {
                self.copy_up(node, Copy::Prefix(0))?;
            }
            let io = self.open_writable(node, Copy::Blocks)?;
            if let Some((fd, _)) = io.upper().filter(|_| truncate) {
                sys::data::set_len(fd, 0)?;
            }
            Some(io)
        } else if is_known_small(node) && !self.manners.unsteady {
            None
        } else {
            let io = self.backing(node)?;
            if matches!(&io, Io::Lower(content) if content.len() < SMALL) {
                node.is_small.store(true, Ordering::Relaxed);
            }
            Some(io)
        };
        let mut body = node.body.write();
        let better = io.filter(|io| is_better(io, &body));
        let before = body.change(|rare| {
            rare.opens += 1;
            better.and_then(|io| rare.io.replace(io))
        });
        drop(body);
        drop(before);
        Ok(())
    }

    /// From now on handles are not counted: [`Union::open`] and [`Union::release`] are not called any more. A backing file is
    /// opened when it is first needed, a file is copied up when it is first changed, and of the open files at most `capacity` stay
    /// so.
    pub fn stop_counting_handles(&self, capacity: usize) {
        self.files.stop_counting(capacity);
    }

    /// Takes back one open handle; the last one closes the backing file.
    pub fn release(&self, node: &Node) {
        let last = {
            node.body.write().change(|rare| {
                rare.opens = rare.opens.saturating_sub(1);
                if rare.opens == 0 { rare.io.take() } else { None }
            })
        };
        // The file is closed with nothing locked: the next open of it may be waiting.
        drop(last);
    }

    /// Reads at `at` into `buf`; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// Those of the layer that holds the data.
    pub fn read(&self, node: &Arc<Node>, buf: &mut [u8], at: u64) -> Result<usize> {
        let (io, is_kept) = self.find_backing(node)?;
        let n = match &io {
            Io::Lower(content) => content.read_at(buf, at)?,
            Io::Upper(fd, _) => sys::data::read_at(&**fd, buf, at)?,
            Io::Partly(file) => file.read_at(buf, at)?,
        };
        // A small file that was read from its start to its end is in the kernel's cache now: nobody comes back for it soon.
        let is_whole = at == 0 && n < buf.len() && n < SMALL as usize && matches!(io, Io::Lower(_));
        if !is_kept && !is_whole {
            self.keep_open(node, io);
        }
        Ok(n)
    }

    /// Writes `data` at `at`; how many bytes were written.
    ///
    /// # Errors
    /// Those of the copy-up and of the upper filesystem.
    pub fn write(&self, node: &Arc<Node>, data: &[u8], at: u64) -> Result<usize> {
        let io = self.opened_at(node, at, data.len() as u64)?;
        io.write(|fd| Ok(sys::data::write_at(fd, data, at)?))
    }

    /// The same through a handle that was opened without telling ([`Union::stop_counting_handles`]): what its opening would have
    /// refused, this does.
    ///
    /// # Errors
    /// As [`Union::write`]; `EPERM` for a file that takes writes at its end only, unless the handle writes there.
    pub fn write_unopened(&self, node: &Arc<Node>, data: &[u8], at: u64, appends: bool) -> Result<usize> {
        let io = self.opened_at(node, at, data.len() as u64)?;
        if io.upper().is_some_and(|(_, how)| how == OpenFor::Appending) && !appends {
            return refused(Errno::PERM);
        }
        io.write(|fd| Ok(sys::data::write_at(fd, data, at)?))
    }

    /// Makes the file durable, and with it the names under which it was made or copied up.
    ///
    /// # Errors
    /// The kernel's; `EIO` tells that data was lost.
    pub(super) fn sync(&self, node: &Arc<Node>, data_only: bool) -> Result<()> {
        match &self.stack().upper {
            Some(upper) if !upper.volatile && node.in_upper() => {}
            _ => return Ok(()),
        }
        if node.kind == Kind::Dir {
            let handle = node.dirs().and_then(|d| d.upper).ok_or(Error::Refused(Errno::ROFS))?;
            sys::data::sync_dir(&*handle.fd()?)?;
        } else {
            // Of the first one nobody knows what else is to be written: that it became whole, for one, is said in an attribute.
            let all = !data_only || node.is_fresh();
            match self.backing(node)? {
                Io::Upper(fd, _) => sys::data::sync(&*fd, all)?,
                // What was copied is said in an attribute.
                Io::Partly(file) => sys::data::sync(&*file.own, true)?,
                // Only attributes were changed.
                Io::Lower(_) => sys::data::sync(sys::open::reopen(&*self.hold(node)?, Access::Read)?, true)?,
            }
        }
        self.sync_names(node)
    }

    /// Syncs the directories above a node as far as they are new.
    fn sync_names(&self, node: &Arc<Node>) -> Result<()> {
        let mut at = node.clone();
        loop {
            let place = {
                if !at.take_fresh() {
                    return Ok(());
                }
                at.body.read().place.clone()
            };
            let Some((parent, _)) = place else { return Ok(()) };
            if let Some(handle) = parent.dirs().and_then(|d| d.upper)
                && let Err(e) = handle.fd().map_err(Error::from).and_then(|fd| Ok(sys::data::sync_dir(&*fd)?))
            {
                at.mark_fresh();
                return Err(e);
            }
            at = parent;
        }
    }

    /// `fallocate` with the kernel's mode bits.
    ///
    /// # Errors
    /// Those of the copy-up and of the upper filesystem.
    pub fn fallocate(&self, node: &Arc<Node>, mode: u32, at: u64, len: u64) -> Result<()> {
        Ok(sys::data::fallocate(&*self.writable(node)?, mode, at, len)?)
    }

    /// The next data or hole at or after `at`.
    ///
    /// # Errors
    /// `ENXIO` behind the end, or when only a hole is left.
    pub fn seek(&self, node: &Arc<Node>, at: u64, whence: Whence) -> Result<u64> {
        let found = match (self.backing(node)?, whence) {
            (Io::Lower(content), Whence::Data) => content.seek_data(at)?,
            (Io::Lower(content), Whence::Hole) => content.seek_hole(at)?,
            (Io::Upper(fd, _), Whence::Data) => sys::data::seek_data(&*fd, at)?,
            (Io::Upper(fd, _), Whence::Hole) => sys::data::seek_hole(&*fd, at)?,
            (Io::Partly(file), Whence::Data) => file.seek_data(at)?,
            (Io::Partly(file), Whence::Hole) => file.seek_hole(at)?,
        };
        found.ok_or(Error::Refused(Errno::NXIO))
    }

    /// Copies `len` bytes between two files of the union, inside the kernel where that works; how many were copied.
    ///
    /// # Errors
    /// Those of the layer read and of the upper filesystem.
    pub fn copy_range(&self, from: &Arc<Node>, from_at: u64, to: &Arc<Node>, to_at: u64, len: u64) -> Result<usize> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
        let out = self.opened_at(to, to_at, len as u64)?;
        let io = self.backing(from)?;
        let whole = match &io {
            Io::Upper(fd, _) => Some(fd),
            Io::Lower(content) => content.whole_file(),
            Io::Partly(_) => None,
        };
        if let Some(fd) = whole {
            return out.write(|out| Ok(sys::data::copy_range(&**fd, from_at, out, to_at, len)?));
        }
        let mut buf = vec![0; len.min(1 << 20)];
        let n = self.read(from, &mut buf, from_at)?;
        out.write(|out| Ok(sys::data::write_all_at(out, buf.get(..n).unwrap_or_default(), to_at)?))?;
        Ok(n)
    }

    /// The file's backing, open for writing `len` bytes at `at`. As much is copied up as that needs.
    fn opened_at(&self, node: &Arc<Node>, at: u64, len: u64) -> Result<Io> {
        let io = self.open_writable(node, Copy::Blocks)?;
        if let Io::Partly(file) = &io {
            self.bring(node, file, at, len)?;
        }
        Ok(io)
    }

    /// The file's backing in upper, open for writing; all of it is copied up if it is not there yet.
    pub(super) fn writable(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        self.open_writable(node, Copy::All)?.upper().map_or_else(|| refused(Errno::IO), |(fd, _)| Ok(fd.clone()))
    }

    /// The file's backing, open for writing, after `copy` of it was copied up: all, or what [`Union::bring`] will bring.
    pub(super) fn open_writable(&self, node: &Arc<Node>, copy: Copy) -> Result<Io> {
        let known = || {
            let body = node.body.read();
            let fits = |io: &&Io| io.writes() && (copy == Copy::Blocks || matches!(io, Io::Upper(..)));
            body.rare().io.as_ref().filter(|_| body.rare().seen.is_empty()).filter(fits).cloned()
        };
        if let Some(known) = known() {
            node.queued.touch();
            return Ok(known);
        }
        if node.kind != Kind::File {
            return refused(Errno::INVAL);
        }
        self.copy_up(node, copy)?;
        // A copy-up leaves the copy open.
        if let Some(known) = known() {
            return Ok(known);
        }
        let (fd, how) = super::inode_flags::open_to_write(&*self.hold(node)?)?;
        let io = self.opened_upper(node, Arc::new(fd), how)?;
        self.keep_open(node, io.clone());
        Ok(io)
    }

    /// Lets a backing file stay open for the requests to come, where somebody will close it.
    pub(super) fn keep_open(&self, node: &Arc<Node>, io: Io) {
        let uncounted = self.files.are_uncounted();
        let mut body = node.body.write();
        if (body.rare().opens == 0 && !uncounted) || !is_better(&io, &body) {
            return;
        }
        let before = body.change(|rare| rare.io.replace(io));
        drop(body);
        drop(before);
        if uncounted {
            self.files.admit(node);
        }
    }

    /// The file's backing for reading: the one its handles share, or one opened for this time.
    pub(super) fn backing(&self, node: &Arc<Node>) -> Result<Io> {
        let (io, is_kept) = self.find_backing(node)?;
        if !is_kept {
            self.keep_open(node, io.clone());
        }
        Ok(io)
    }

    /// The same, and whether it stays open: else it is for the caller to decide.
    fn find_backing(&self, node: &Arc<Node>) -> Result<(Io, bool)> {
        let (real, data) = {
            let body = node.body.read();
            if let Some(io) = &body.rare().io {
                node.queued.touch();
                return Ok((io.clone(), true));
            }
            (body.real.clone(), body.rare().data.clone())
        };
        let io = match real {
            Real::Dir(_) => return refused(Errno::ISDIR),
            Real::Lower(lower) => Io::Lower(data.unwrap_or(lower).obj.open()?),
            Real::Upper { .. } => {
                if node.kind != Kind::File {
                    return refused(Errno::INVAL);
                }
                let fd = sys::open::reopen(&*self.hold(node)?, Access::Read)?;
                self.opened_upper(node, Arc::new(fd), OpenFor::Reading)?
            }
        };
        Ok((io, false))
    }
}

/// Whether a file lies in a layer and was opened before, and found small.
fn is_known_small(node: &Node) -> bool {
    node.is_small.load(Ordering::Relaxed) && matches!(node.body.read().real, Real::Lower(_))
}

/// Whether a file that was just opened is to be the node's backing. Somebody may have opened it meanwhile: one that can be written is
/// never replaced by one that cannot. And a copy-up that finished meanwhile made a lower file the old one: the next read opens the
/// copy.
fn is_better(io: &Io, body: &Body) -> bool {
    let rare = body.rare();
    let outdated = match io {
        Io::Lower(_) => matches!(body.real, Real::Upper { .. }) && (rare.data.is_none() || rare.here.is_some()),
        Io::Partly(_) => rare.data.is_none(),
        Io::Upper(..) => false,
    };
    !outdated && (rare.io.is_none() || io.writes())
}
