//! A layer in memory, built from a list of entries: for tests, and to try an idea without a disk.
//!
//! File contents lie one behind the other in a single anonymous file, as those of a pack do, so what holds here for slices and
//! extents holds there.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Content;
use super::Error;
use super::Item;
use super::ItemKind;
use super::Layer;
use super::Marks;
use super::Obj;
use super::Object;
use super::ObjectId;
use super::PACK_DEV;
use super::Result;
use super::Seen;
use super::content::Extent;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::sys::attr::Time;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A directory; the flag marks it opaque.
    Dir(bool),
    /// A regular file of this size: runs of data (where each starts, its bytes), holes between them.
    File(u64, Vec<(u64, Vec<u8>)>),
    /// A symlink with this text.
    Symlink(Vec<u8>),
    /// A FIFO, socket or device with this number.
    Node(Kind, u64),
    /// One more name of the file at this path, which stands before this entry in the list.
    Link(RelPath),
    /// The name is deleted below.
    Whiteout,
}

/// One entry of a layer. An entry of the root path gives the root's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is; its parent stands before it in the list.
    pub path: RelPath,
    /// What it is.
    pub shape: Shape,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the data, and last access.
    pub mtime: Time,
    /// Extended attributes by their raw names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A layer in memory.
#[derive(Debug)]
pub struct MemLayer {
    label: String,
    root: Arc<MemObject>,
}

impl MemLayer {
    /// Builds a layer of `entries`: parents before children, link targets before links.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an entry without its parent or link target; the kernel's for the contents' file.
    pub fn new(label: &str, entries: &[Entry]) -> Result<Self> {
        let mut build = Build { label, fd: Arc::new(sys::open::anonymous()?), used: 0, slots: vec![Slot::root()] };
        entries.iter().try_for_each(|entry| build.add(entry))?;
        let root = build.finish(0);
        Ok(Self { label: label.to_owned(), root })
    }
}

impl Layer for MemLayer {
    fn root(&self) -> Result<Obj> {
        Ok(self.root.clone().into())
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn key(&self) -> String {
        format!("mem:{}", self.label)
    }

    fn fs_stat(&self) -> Result<FsStat> {
        Ok(FsStat { bsize: 4096, frsize: 4096, namelen: 255, ..FsStat::default() })
    }
}

/// An object while the layer is built.
#[derive(Debug, Clone)]
struct Slot {
    stat: Stat,
    opaque: bool,
    body: SlotBody,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum SlotBody {
    Dir(BTreeMap<NameBuf, Option<usize>>),
    File(Content),
    Symlink(Vec<u8>),
    Node,
}

impl Slot {
    fn root() -> Self {
        let stat = Stat { dev: PACK_DEV, ino: 1, mode: 0o40755, nlink: 1, blksize: 4096, ..Stat::default() };
        Self { stat, opaque: false, body: SlotBody::Dir(BTreeMap::new()), xattrs: Vec::new() }
    }
}

struct Build<'a> {
    label: &'a str,
    fd: Arc<OwnedFd>,
    used: u64,
    slots: Vec<Slot>,
}

impl Build<'_> {
    fn damaged(&self, what: &str, path: &RelPath) -> Error {
        Error::Damaged { layer: self.label.to_owned(), what: format!("{what} of {path}") }
    }

    fn find(&self, path: &RelPath) -> Option<usize> {
        path.components().try_fold(0, |at, name| match &self.slots.get(at)?.body {
            SlotBody::Dir(names) => *names.get(name.as_bytes())?,
            _ => None,
        })
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        let Some((parent, name)) = entry.path.split_last() else {
            let slot = self.slot(entry, 1)?;
            if let (Some(root), Shape::Dir(_)) = (self.slots.first_mut(), &entry.shape) {
                *root = Slot { body: root.body.clone(), ..slot };
            }
            return Ok(());
        };
        let parent = self.find(&parent).ok_or_else(|| self.damaged("no parent", &entry.path))?;
        let child = match &entry.shape {
            Shape::Whiteout => None,
            Shape::Link(target) => {
                let at = self.find(target).ok_or_else(|| self.damaged("no link target", &entry.path))?;
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.stat.nlink += 1;
                }
                Some(at)
            }
            _ => {
                let slot = self.slot(entry, self.slots.len() as u64 + 1)?;
                self.slots.push(slot);
                Some(self.slots.len() - 1)
            }
        };
        match self.slots.get_mut(parent).map(|slot| &mut slot.body) {
            Some(SlotBody::Dir(names)) => names.insert(name.to_buf(), child),
            _ => return Err(self.damaged("no directory as parent", &entry.path)),
        };
        Ok(())
    }

    fn slot(&mut self, entry: &Entry, ino: u64) -> Result<Slot> {
        let (kind, body) = match &entry.shape {
            Shape::File(len, runs) => (Kind::File, SlotBody::File(self.content(*len, runs)?)),
            Shape::Symlink(text) => (Kind::Symlink, SlotBody::Symlink(text.clone())),
            Shape::Node(kind, _) => (*kind, SlotBody::Node),
            Shape::Dir(_) | Shape::Link(_) | Shape::Whiteout => (Kind::Dir, SlotBody::Dir(BTreeMap::new())),
        };
        let size = match &body {
            SlotBody::File(content) => content.len(),
            SlotBody::Symlink(text) => text.len() as u64,
            _ => 0,
        };
        let stat = Stat {
            ino,
            // A symlink has no permissions of its own; every filesystem shows it like this.
            mode: kind.mode_bits() | if kind == Kind::Symlink { 0o777 } else { entry.mode & sys::attr::PERM_MASK },
            uid: entry.uid,
            gid: entry.gid,
            rdev: if let Shape::Node(_, rdev) = entry.shape { rdev } else { 0 },
            size,
            blocks: size.div_ceil(512),
            atime: entry.mtime,
            mtime: entry.mtime,
            ctime: entry.mtime,
            ..Slot::root().stat
        };
        Ok(Slot { stat, opaque: entry.shape == Shape::Dir(true), body, xattrs: entry.xattrs.clone() })
    }

    /// One run that fills the file is a slice; anything else is a list of extents.
    fn content(&mut self, len: u64, runs: &[(u64, Vec<u8>)]) -> Result<Content> {
        let mut extents = Vec::new();
        for (at, bytes) in runs {
            sys::data::write_all_at(&*self.fd, bytes, self.used)?;
            extents.push(Extent { at: *at, offset: self.used, len: bytes.len() as u64 });
            self.used += bytes.len() as u64;
        }
        Ok(match extents.as_slice() {
            [one] if one.at == 0 && one.len == len => Content::slice(self.fd.clone(), one.offset, len),
            _ => Content::sparse(self.fd.clone(), extents.into(), len),
        })
    }

    fn finish(&self, at: usize) -> Arc<MemObject> {
        let slot = self.slots.get(at).cloned().unwrap_or_else(Slot::root);
        let body = match slot.body {
            SlotBody::Dir(names) => {
                Body::Dir(names.into_iter().map(|(name, child)| (name, child.map(|at| self.finish(at)))).collect())
            }
            SlotBody::File(content) => Body::File(content),
            SlotBody::Symlink(text) => Body::Symlink(text),
            SlotBody::Node => Body::Node,
        };
        Arc::new(MemObject { stat: slot.stat, opaque: slot.opaque, body, xattrs: slot.xattrs })
    }
}

#[derive(Debug)]
struct MemObject {
    stat: Stat,
    opaque: bool,
    body: Body,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
enum Body {
    /// `None` is a whiteout.
    Dir(BTreeMap<NameBuf, Option<Arc<MemObject>>>),
    File(Content),
    Symlink(Vec<u8>),
    Node,
}

impl Object for MemObject {
    fn id(&self) -> ObjectId {
        ObjectId { dev: self.stat.dev, ino: self.stat.ino }
    }

    fn kind(&self) -> Kind {
        self.stat.kind()
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.stat)
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        let Body::Dir(names) = &self.body else { return Err(Error::WrongKind(Errno::NOTDIR)) };
        Ok(match names.get(name.as_bytes()) {
            None => Seen::Miss,
            Some(None) => Seen::Whiteout,
            Some(Some(object)) => Seen::Found(object.clone().into(), object.stat),
        })
    }

    fn marks(&self) -> Result<Marks> {
        Ok(Marks { opaque: self.opaque, ..Marks::default() })
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        let Body::Dir(names) = &self.body else { return Err(Error::WrongKind(Errno::NOTDIR)) };
        names.iter().try_for_each(|(name, object)| {
            let what = object.as_ref().map_or(ItemKind::Whiteout, |o| ItemKind::Object(o.id(), o.kind()));
            each(Item { name: name.as_name(), what })
        })
    }

    fn open(&self) -> Result<Content> {
        match &self.body {
            Body::File(content) => Ok(content.clone()),
            Body::Dir(_) => Err(Error::WrongKind(Errno::ISDIR)),
            _ => Err(Error::WrongKind(Errno::INVAL)),
        }
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(text) => Ok(text.clone()),
            _ => Err(Error::WrongKind(Errno::INVAL)),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.xattrs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.xattrs.iter().map(|(name, _)| name.clone()).collect())
    }

    fn location(&self) -> String {
        format!("object {} in memory", self.stat.ino)
    }
}
