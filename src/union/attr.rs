//! Attributes: showing them, and changing them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::lookup::face;
use super::node::Io;
use super::node::Node;
use super::node::Real;
use crate::layer::ObjectId;
use crate::layer::handle::DirHandle;
use crate::layer::override_stat;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::SetTime;
use crate::sys::attr::Stat;

/// A change of attributes; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

/// How often an operation on an upper object looks again when its name moves meanwhile.
const RETRIES: usize = 16;

/// How large a buffer a directory with these attributes is best read with. The C library makes it as large as `st_blksize` says, and the kernel
/// asks for as much at once; the first part of a listing brings attributes, so what does not fit costs one trip each. A line with
/// attributes is several times as large as a name on a disk. Not without end, as who wants names only pays for the rest.
fn listing_buffer(stat: &Stat) -> u32 {
    const MOST: u64 = 256 << 10;
    let size = stat.size.saturating_mul(8).max(stat.blksize.into());
    u32::try_from(size.clamp(4096, MOST).next_power_of_two()).unwrap_or(4096)
}

/// The attributes of a lower object; of one that was replaced from outside while it is open, those of the open file.
fn lower_stat(lower: &super::lookup::Lower, io: Option<&Io>) -> Result<Stat> {
    match (lower.obj.stat(), io) {
        (Err(crate::layer::Error::Stale(_)), Some(Io::Lower(content))) if content.whole_file().is_some() => {
            content.whole_file().map_or_else(|| refused(Errno::STALE), |fd| Ok(sys::attr::fstat(&**fd)?))
        }
        (stat, _) => Ok(stat?),
    }
}

impl Union {
    /// The attributes of a node; also of one without a name.
    ///
    /// # Errors
    /// Those of the layer that holds the object.
    pub fn getattr(&self, node: &Node) -> Result<Stat> {
        let stat = self.real_stat(node)?;
        Ok(self.show(node, stat))
    }

    /// Changes attributes and returns the new ones.
    ///
    /// # Errors
    /// `EROFS`, `EINVAL` for a size of something that has none; those of the copy-up and of the upper filesystem.
    pub fn setattr(&self, node: &Arc<Node>, change: &SetAttr) -> Result<Stat> {
        if change.size.is_some() && node.kind != Kind::File {
            return refused(if node.kind == Kind::Dir { Errno::ISDIR } else { Errno::INVAL });
        }
        self.upper()?;
        self.copy_up(node, change.size.map_or(Copy::Attributes, Copy::Prefix))?;
        if let Some(size) = change.size {
            sys::data::set_len(&*self.writable(node)?, size)?;
        }
        let fd = self.hold(node)?;
        if change.uid.is_some() || change.gid.is_some() {
            self.chown(&fd, change.uid, change.gid)?;
        }
        // After chown, which clears the set-id bits.
        if let Some(mode) = change.mode {
            self.upper()?.chmod(&fd, mode)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let (atime, mtime) = (change.atime.unwrap_or(SetTime::Keep), change.mtime.unwrap_or(SetTime::Keep));
            // Not while content is copied, which sets the times of before again.
            let partly = node.body.read().rare().data.is_some();
            let _copying = partly.then(|| node.copy.lock());
            sys::attr::set_times(&fd, atime, mtime)?;
        }
        node.is_changed();
        Ok(self.show(node, self.upper()?.stat(&fd)?))
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// `EINVAL` when it is none.
    pub fn readlink(&self, node: &Node) -> Result<Vec<u8>> {
        let lower = match &node.body.read().real {
            _ if node.kind != Kind::Symlink => return refused(Errno::INVAL),
            Real::Lower(lower) => Some(lower.obj.clone()),
            _ => None,
        };
        match lower {
            Some(obj) => Ok(obj.readlink()?),
            None => Ok(sys::name::readlink_fd(&*self.hold(node)?)?),
        }
    }

    /// Space and inodes: of upper, or of the top layer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn statfs(&self) -> Result<FsStat> {
        match (&self.stack().upper, self.stack().layers.first()) {
            (Some(upper), _) => Ok(sys::attr::fs_stat(&*upper.root.fd()?)?),
            (None, Some(layer)) => Ok(FsStat { bfree: 0, bavail: 0, ffree: 0, ..layer.fs_stat()? }),
            (None, None) => refused(Errno::IO),
        }
    }

    /// The attributes as the union shows them: its own number, and its own count of names.
    pub(super) fn show(&self, node: &Node, stat: Stat) -> Stat {
        let data = node.body.read().rare().data.clone();
        // A copy of the attributes alone has no blocks of its own.
        let blocks = data.and_then(|d| d.obj.stat().ok()).map_or(stat.blocks, |s| s.blocks);
        let body = node.body.read();
        let nlink = match &body.real {
            Real::Dir(_) if body.place.is_none() && node.ino != super::node::ROOT => 0,
            // As the kernel's overlayfs: the number of subdirectories of a merged directory is not counted.
            Real::Dir(dirs) if usize::from(dirs.upper.is_some()) + dirs.lowers.len() > 1 => 1,
            _ => u32::try_from((i64::from(stat.nlink) + body.rare().nlink_shift).max(0)).unwrap_or(u32::MAX),
        };
        let blksize = if node.kind == Kind::Dir { listing_buffer(&stat) } else { stat.blksize };
        let ctime = if node.kind == Kind::Dir { node.shown_ctime(stat.ctime) } else { stat.ctime };
        self.owned(Stat { ino: node.ino, dev: 0, nlink, blocks, blksize, ctime, ..stat })
    }

    fn real_stat(&self, node: &Node) -> Result<Stat> {
        for _ in 0..RETRIES {
            let (real, io) = {
                let body = node.body.read();
                (body.real.clone(), body.rare().io.clone())
            };
            match real {
                Real::Dir(dirs) => {
                    return match (&dirs.upper, face(&dirs.lowers)) {
                        (Some(handle), _) => Ok(self.upper()?.stat(&*handle.fd()?)?),
                        (None, Some(lower)) => Ok(lower.obj.stat()?),
                        (None, None) => refused(Errno::IO),
                    };
                }
                Real::Lower(lower) => return lower_stat(&lower, io.as_ref()),
                Real::Upper { held: Some(fd), .. } => return Ok(self.upper()?.stat(&fd)?),
                Real::Upper { id, held: None } => {
                    if let Some((fd, _)) = io.as_ref().and_then(Io::upper) {
                        return Ok(self.upper()?.stat(fd)?);
                    }
                    let (dir, name) = self.upper_place(node)?;
                    match override_stat::stat_at(&dir, name.as_name())? {
                        Some(stat) if (ObjectId { dev: stat.dev, ino: stat.ino }) == id => return Ok(stat),
                        _ => {}
                    }
                }
            }
        }
        refused(Errno::STALE)
    }

    /// The upper directory and the name at which an upper object lies.
    pub(super) fn upper_place(&self, node: &Node) -> Result<(Arc<DirHandle>, NameBuf)> {
        let place = node.body.read().place.clone();
        let (parent, name) = place.ok_or(Error::Refused(Errno::STALE))?;
        let handle = parent.dirs().and_then(|d| d.upper).ok_or(Error::Refused(Errno::STALE))?;
        Ok((handle, name))
    }

    /// A descriptor of a node's object in upper, whether it has a name or not: that of its open backing file, else an `O_PATH` one. A name that moves meanwhile is looked
    /// for again.
    pub(super) fn hold(&self, node: &Node) -> Result<Arc<OwnedFd>> {
        for _ in 0..RETRIES {
            let body = node.body.read();
            if let Some((fd, _)) = body.rare().io.as_ref().and_then(Io::upper) {
                return Ok(fd.clone());
            }
            let id = match &body.real {
                Real::Dir(dirs) => match &dirs.upper {
                    Some(handle) => Err(handle.clone()),
                    None => return refused(Errno::ROFS),
                },
                Real::Upper { held: Some(fd), .. } => return Ok(fd.clone()),
                Real::Upper { id, held: None } => Ok(*id),
                Real::Lower(_) => return refused(Errno::ROFS),
            };
            drop(body);
            let id = match id {
                Ok(id) => id,
                Err(handle) => return Ok(handle.fd()?),
            };
            let (dir, name) = self.upper_place(node)?;
            match sys::open::path_at(&*dir.fd()?, name.as_name()) {
                Ok(fd) => {
                    let stat = sys::attr::fstat(&fd)?;
                    if (ObjectId { dev: stat.dev, ino: stat.ino }) == id {
                        return Ok(Arc::new(fd));
                    }
                }
                Err(e) if e.errno() == Errno::NOENT => {}
                Err(e) => return Err(e.into()),
            }
        }
        refused(Errno::STALE)
    }
}
