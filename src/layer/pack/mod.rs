//! Packs: image layers as mica stores them, and the [`Layer`] that reads one.
//!
//! A layer's tar is never unpacked as a tree. It becomes an *index* (`format`: one record per inode, names sorted per
//! directory, read through `mmap`), *objects* (file bodies from [`OBJECT_MIN`] on, one file per SHA-256, shared by all
//! layers), and a *pack file* (all other bytes of the tar, in order). So owner, mode, devices and capabilities are right
//! without being root, no name of an image ever becomes a name on the host, and the exact tar can be given back
//! ([`PackLayer::tar_stream`]).
//!
//! [`Tree`] has the rules by which a tar's entries make a tree, [`PackWriter`] writes, [`PackStore`] holds the packs.

mod encode;
mod format;
mod links;
mod store;
mod tar_stream;
mod tree;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;

use format::Index;
use format::NODE_IMPLIED;
use format::NODE_OPAQUE;
use format::Node;
use format::Place;
pub use store::Collected;
pub use store::PackInfo;
pub use store::PackStore;
pub use tar_stream::TarStream;
pub use tree::Attrs;
pub use tree::Body;
pub use tree::Item as TreeItem;
pub use tree::SparseRun;
pub use tree::Tree;
pub use tree::TreeError;
pub use tree::TreeLimits;
pub use tree::Xattr;
pub use verify::BadObjects;
pub use verify::Damage;
pub use verify::Part;
pub use writer::OBJECT_MIN;
pub use writer::PackWriter;
pub use writer::Prepared;

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
use crate::digest::Digest;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// One stored image layer, open for reading. Cloning shares it.
#[derive(Debug, Clone)]
pub struct PackLayer {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    index: Index,
    pack: Arc<OwnedFd>,
    dirs: Arc<store::Dirs>,
    /// Found when first asked for.
    links: OnceLock<links::Links>,
}

impl PackLayer {
    fn new(index: Index, pack: OwnedFd, dirs: Arc<store::Dirs>) -> Self {
        Self { open: Arc::new(Open { index, pack: Arc::new(pack), dirs, links: OnceLock::new() }) }
    }

    /// The digest of the layer's uncompressed tar.
    pub fn diff_id(&self) -> Digest {
        self.open.index.diff_id
    }

    /// The size of the layer's uncompressed tar in bytes.
    pub fn tar_size(&self) -> u64 {
        self.open.index.tar_size
    }

    /// The layer's uncompressed tar, byte for byte as it was imported.
    pub fn tar_stream(&self) -> TarStream {
        TarStream::new(self.open.clone())
    }
}

impl Layer for PackLayer {
    fn root(&self) -> Result<Obj> {
        Ok(PackObject::new(&self.open, 0)?.0.into())
    }

    fn label(&self) -> String {
        self.open.index.label().to_owned()
    }

    fn key(&self) -> String {
        self.diff_id().to_string()
    }

    fn fs_stat(&self) -> Result<FsStat> {
        Ok(crate::sys::attr::fs_stat(&*self.open.pack)?)
    }

    fn tar_size(&self) -> Option<u64> {
        Some(self.open.index.tar_size)
    }
}

/// About what a name takes in a listing with attributes, in bytes.
const LISTED: u32 = 192;

/// One inode of a pack. Its number is its position in the index plus one, so hardlinked names share it. What else is to be known of
/// it is read from the index each time: one of these is kept for every inode that the kernel knows.
#[derive(Debug, Clone)]
pub struct PackObject {
    open: Arc<Open>,
    position: u32,
    kind: Kind,
    implied: bool,
}

impl PackObject {
    fn new(open: &Arc<Open>, position: u32) -> Result<(Self, Node)> {
        let node = open.index.node(position)?;
        open.index.must_be_readable()?;
        let (kind, implied) = (node.kind().unwrap_or(Kind::File), node.flags & NODE_IMPLIED != 0);
        Ok((Self { open: open.clone(), position, kind, implied }, node))
    }

    fn node(&self) -> Result<Node> {
        let node = self.open.index.node(self.position)?;
        self.open.index.must_be_readable().map(|()| node)
    }

    fn stat_of(&self, n: &Node) -> Stat {
        let id = self.id();
        Stat {
            dev: id.dev,
            ino: id.ino,
            // Unpacked, a symlink has all bits whatever the tar says: the kernel gives it no others.
            mode: if self.kind() == Kind::Symlink { Kind::Symlink.mode_bits() | 0o777 } else { n.mode },
            nlink: n.nlink,
            uid: n.uid,
            gid: n.gid,
            rdev: n.rdev,
            size: n.size,
            blocks: n.stored.div_ceil(512),
            // As a directory has no size here, its names say how much room a listing takes.
            blksize: if self.kind == Kind::Dir { n.count.clamp(21, 1365).saturating_mul(LISTED) } else { 4096 },
            atime: n.atime,
            mtime: n.mtime,
            ctime: n.ctime,
        }
    }

    fn want(&self, kind: Kind, otherwise: Errno) -> Result<()> {
        if self.kind() == kind { Ok(()) } else { Err(Error::WrongKind(otherwise)) }
    }

    /// The position of `name` among this directory's entries.
    fn find(&self, name: Name<'_>) -> Result<Option<u32>> {
        let index = &self.open.index;
        let node = self.node()?;
        let (mut low, mut high) = (node.first, self.end(&node)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match index.entry(middle)?.name.cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        index.must_be_readable()?;
        Ok(None)
    }

    /// Behind the last of this node's entries or extents.
    fn end(&self, node: &Node) -> Result<u32> {
        let end = node.first.checked_add(node.count);
        end.ok_or_else(|| self.open.index.damaged(format!("node {} has too many parts", self.position)))
    }

    /// The runs of a sparse file over a body that starts at `base` in its file.
    fn extents(&self, node: &Node, base: u64) -> Result<Arc<[Extent]>> {
        let index = &self.open.index;
        let bad = || index.damaged(format!("node {} has a bad extent", self.position));
        let mut last = 0;
        let mut extents = Vec::new();
        for position in node.first..self.end(node)? {
            let (at, offset, len) = index.extent(position)?;
            let end = at.checked_add(len).filter(|&end| at >= last && end <= node.size).ok_or_else(bad)?;
            offset.checked_add(len).filter(|&end| end <= node.stored).ok_or_else(bad)?;
            extents.push(Extent { at, offset: base.checked_add(offset).ok_or_else(bad)?, len });
            last = end;
        }
        index.must_be_readable()?;
        Ok(extents.into())
    }
}

impl Object for PackObject {
    fn id(&self) -> ObjectId {
        ObjectId { dev: PACK_DEV, ino: u64::from(self.position) + 1 }
    }

    /// The layer's tar has no entry for this directory: its attributes are made up.
    fn is_implied(&self) -> bool {
        self.implied
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.stat_of(&self.node()?))
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        self.want(Kind::Dir, Errno::NOTDIR)?;
        let Some(position) = self.find(name)? else { return Ok(Seen::Miss) };
        let Some(node) = self.open.index.entry(position)?.node else { return Ok(Seen::Whiteout) };
        let (object, node) = Self::new(&self.open, node)?;
        let stat = object.stat_of(&node);
        Ok(Seen::Found(object.into(), stat))
    }

    fn marks(&self) -> Result<Marks> {
        Ok(Marks { opaque: self.node()?.flags & NODE_OPAQUE != 0, ..Marks::default() })
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        self.want(Kind::Dir, Errno::NOTDIR)?;
        let index = &self.open.index;
        let node = self.node()?;
        for position in node.first..self.end(&node)? {
            let entry = index.entry(position)?;
            let name = Name::new(entry.name).map_err(|e| index.damaged(format!("entry {position}: {e}")))?;
            let what = match entry.node {
                None => ItemKind::Whiteout,
                Some(node) => {
                    let object = Self::new(&self.open, node)?.0;
                    ItemKind::Object(object.id(), object.kind())
                }
            };
            index.must_be_readable()?;
            each(Item { name, what })?;
        }
        index.must_be_readable()
    }

    fn open(&self) -> Result<Content> {
        self.want(Kind::File, Errno::INVAL)?;
        let (node, index) = (&self.node()?, &self.open.index);
        let bad = |what: &str| index.damaged(format!("node {}: {what}", self.position));
        if !node.sparse && node.stored != node.size {
            return Err(bad("its size is not that of its content"));
        }
        match node.place {
            Place::Empty if node.stored > 0 => Err(bad("it has no content")),
            Place::Empty => Ok(Content::sparse(self.open.pack.clone(), Arc::new([]), node.size)),
            Place::Pack(offset) => {
                let end = offset.checked_add(node.stored).filter(|&end| end <= index.pack_len);
                end.ok_or_else(|| bad("its content lies outside of the pack file"))?;
                match node.sparse {
                    true => Ok(Content::sparse(self.open.pack.clone(), self.extents(node, offset)?, node.size)),
                    false => Ok(Content::slice(self.open.pack.clone(), offset, node.size)),
                }
            }
            Place::Object(position) => {
                let object = index.object(position)?;
                let (fd, len) = self.open.dirs.open_object(&object.digest)?;
                if len != object.len || len != node.stored {
                    return Err(bad(&format!("object {} has {len} bytes instead of {}", object.digest, node.stored)));
                }
                match node.sparse {
                    true => Ok(Content::sparse(Arc::new(fd), self.extents(node, 0)?, node.size)),
                    false => Ok(Content::whole(Arc::new(fd), len)),
                }
            }
        }
    }

    fn open_checked(&self) -> Result<Content> {
        // First, since it compares the place with the length of the file.
        let content = self.open()?;
        let node = self.node()?;
        if let Place::Pack(offset) = node.place
            && self.open.index.sums
            && let Some(why) = verify::differs(&self.open, &mut [0; 8192], offset, node.stored, node.sum)
        {
            return Err(self.open.index.damaged(why));
        }
        Ok(content)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.want(Kind::Symlink, Errno::INVAL)?;
        let node = self.node()?;
        let text = self.open.index.text(node.first, node.count)?.to_vec();
        self.open.index.must_be_readable().map(|()| text)
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        for position in self.xattr_positions()? {
            let (found, value) = self.open.index.xattr(position)?;
            if found == name {
                let value = value.to_vec();
                return self.open.index.must_be_readable().map(|()| Some(value));
            }
        }
        self.open.index.must_be_readable().map(|()| None)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let names = self.xattr_positions()?.map(|position| Ok(self.open.index.xattr(position)?.0.to_vec())).collect();
        self.open.index.must_be_readable().and(names)
    }

    fn names(&self) -> Result<Option<Vec<RelPath>>> {
        let links = match self.open.links.get() {
            Some(links) => links,
            None => {
                let found = links::find(&self.open.index)?;
                self.open.links.get_or_init(|| found)
            }
        };
        Ok(links.get(&self.position).cloned())
    }

    /// Known of what is kept as an object, which is named by it; of a sparse one only the stored bytes' is.
    fn digest(&self) -> Result<Option<Digest>> {
        let node = self.node()?;
        match node.place {
            Place::Object(position) if !node.sparse => Ok(Some(self.open.index.object(position)?.digest)),
            _ => Ok(None),
        }
    }

    fn location(&self) -> String {
        let layer = self.open.index.label();
        let node = match self.node() {
            Ok(node) => node,
            Err(e) => return format!("pack {layer}, {e}"),
        };
        match node.place {
            Place::Empty => format!("pack {layer}, index only"),
            Place::Pack(offset) => format!("pack {layer}, {} bytes at {offset}", node.stored),
            Place::Object(position) => match self.open.index.object(position) {
                Ok(object) => format!("pack {layer}, object {}", object.digest),
                Err(e) => format!("pack {layer}, {e}"),
            },
        }
    }
}

impl PackObject {
    fn xattr_positions(&self) -> Result<std::ops::Range<u32>> {
        let node = self.node()?;
        let first = node.xattr_first;
        let end = first.checked_add(node.xattr_count);
        let end = end.ok_or_else(|| self.open.index.damaged(format!("node {} has too many xattrs", self.position)))?;
        Ok(first..end)
    }
}
