//! Layers: read-only sheets of a union.
//!
//! A [`Layer`] is a tree of [`Object`]s. An object answers for itself: a directory looks up and lists its names, a file gives
//! its [`Content`]. What one layer *says* about a name is a [`Seen`]: a miss, a whiteout, or an object; what the *stack* makes of
//! it is the walk's business (`union::lookup`). Every encoding of a whiteout or an opaque mark is turned into these words
//! here, so the union knows none of them.
//!
//! Three kinds: [`dir::DirLayer`] (a directory on disk), `pack::PackLayer` (an image layer as mica stores it) and
//! [`mem::MemLayer`] (in memory, for tests).

pub mod content;
pub mod dir;
mod dir_links;
pub mod error;
pub mod handle;
pub mod marks;
pub mod mem;
mod obj;
pub mod override_stat;
pub mod pack;
pub mod parts;
pub mod patched;
pub mod sheets;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use content::Content;
pub use error::Error;
pub use error::Result;
pub use obj::Obj;
pub use parts::Parts;

use crate::digest::Digest;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// One read-only sheet of a union.
pub trait Layer: Send + Sync + Debug {
    /// The layer's root directory.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn root(&self) -> Result<Obj>;

    /// A short name for people: a path, or a digest.
    fn label(&self) -> String;

    /// A text that names this layer's contents for as long as they stay what they are (the diff id of a pack, the device and
    /// inode of a directory), used to record where a copied-up file came from.
    fn key(&self) -> String;

    /// Space on the filesystem that holds the layer.
    ///
    /// # Errors
    /// The kernel's.
    fn fs_stat(&self) -> Result<FsStat>;

    /// The size of an image layer's uncompressed tar in bytes; `None` for what is no image layer.
    fn tar_size(&self) -> Option<u64> {
        None
    }
}

/// The identity of an object, stable as long as the layer is what it is. Two names with the same identity are one file
/// with two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Which filesystem or pack the number belongs to: `st_dev`, or [`PACK_DEV`] for objects numbered by their layer alone.
    pub dev: u64,
    /// The object's number there.
    pub ino: u64,
}

/// The `dev` of objects whose number is unique only within their own layer.
pub const PACK_DEV: u64 = u64::MAX;

/// One thing in one layer. Methods for the wrong kind of object fail with `ENOTDIR` or `EINVAL`, as the kernel's do.
pub trait Object: Send + Sync + Debug {
    /// The object's identity.
    fn id(&self) -> ObjectId;

    /// The object's type.
    fn kind(&self) -> Kind;

    /// The object's attributes. `dev` and `ino` repeat [`Object::id`].
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn stat(&self) -> Result<Stat>;

    /// What this directory says about `name`.
    ///
    /// # Errors
    /// Every error but "no such name" is returned: an unreadable layer must not look like an empty one.
    fn lookup(&self, name: Name<'_>) -> Result<Seen>;

    /// What this directory or file says about the layers below it.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn marks(&self) -> Result<Marks>;

    /// Calls `each` for every entry and every whiteout of this directory.
    ///
    /// # Errors
    /// When the layer cannot be read, or the first error of `each`.
    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()>;

    /// Whether [`Object::list`] names everything that [`Object::lookup`] finds, and will do so as long as the layer is mounted.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn lists_all(&self) -> Result<bool> {
        Ok(true)
    }

    /// The content of this regular file.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn open(&self) -> Result<Content>;

    /// As [`Object::open`], for whoever shows content to people and takes no damage for it: what has a checksum that costs little (the
    /// small bodies of a pack) is compared with it first.
    ///
    /// # Errors
    /// As [`Object::open`]; [`Error::Damaged`].
    fn open_checked(&self) -> Result<Content> {
        self.open()
    }

    /// The text of this symlink.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn readlink(&self) -> Result<Vec<u8>>;

    /// One extended attribute, by its raw name; `None` when there is none.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The raw names of all extended attributes.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn xattrs(&self) -> Result<Vec<Vec<u8>>>;

    /// [`Object::xattr`] of a regular file whose content is open already.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn xattr_of_open(&self, _open: &Content, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.xattr(name)
    }

    /// [`Object::xattrs`] of a regular file whose content is open already.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn xattrs_of_open(&self, _open: &Content) -> Result<Vec<Vec<u8>>> {
        self.xattrs()
    }

    /// Forgets what is remembered of the object: the layer may have been changed from outside.
    fn refresh(&self) {}

    /// This directory opened for listing, as far as it is one on disk: what asks the filesystem about it (inode flags) needs that.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn listable(&self) -> Result<Option<Arc<OwnedFd>>> {
        Ok(None)
    }

    /// Whether this directory only stands here because something below it does: the layer says nothing of its attributes, and
    /// those of the layer below show. (A layer's tar need not list every directory.)
    fn is_implied(&self) -> bool {
        false
    }

    /// All names of a file with several, as paths from the layer's root; `None` where finding them would mean to walk the layer.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn names(&self) -> Result<Option<Vec<RelPath>>> {
        Ok(None)
    }

    /// The SHA-256 of this file's content, where the layer knows it without reading the content.
    ///
    /// # Errors
    /// When the layer cannot be read.
    fn digest(&self) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Where the object's content lies, for people: a path, or an object file, or a pack with offset and length.
    fn location(&self) -> String;
}

/// What one layer says about one name.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Nothing: the layers below decide.
    Miss,
    /// The name is deleted: nothing below shows.
    Whiteout,
    /// An object with its attributes. For a name with both an object and a whiteout (which AUFS-style layers can hold), the
    /// object is seen and its [`Marks::opaque`] is set.
    Found(Obj, Stat),
}

/// What an object says about the layers below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Nothing below this object shows.
    pub opaque: bool,
    /// The name or path below at which the lower part of this object lies, if not its own.
    pub redirect: Option<marks::Redirect>,
    /// The file has only attributes here, and these blocks; the rest of its content lies below.
    pub metacopy: Option<Parts>,
}

/// One entry of a directory in one layer.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The name.
    pub name: Name<'a>,
    /// What it is.
    pub what: ItemKind,
}

/// What an entry of a directory in one layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A whiteout: the name is deleted from the layers below.
    Whiteout,
    /// An object, with its identity and type.
    Object(ObjectId, Kind),
}
