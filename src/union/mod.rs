//! The union filesystem. It knows no FUSE and no images.
//!
//! [`Union`] is the facade: one method per operation. A mutation locks, observes, plans ([`plan`]), executes ([`exec`]) and then
//! publishes the result in the nodes. Reads take no lock over I/O but the shared one of a directory's names.
//!
//! # Lock order
//! 1. `Node::copy` of a node, after those of its ancestors were taken and released one by one;
//! 2. `Union::moving`, for a rename between two directories: which is above which cannot change then;
//! 3. `Node::names` of directories: an ancestor before what is below it, otherwise the one with the smaller number first;
//! 4. `Node::listing`;
//! 5. the locks of the [`node::Table`] in the order that it names, then `Node::body`, then a directory's
//!    change time: held for a few instructions.
//!
//! Over the copying of data and over `fsync` only the first kind is held, and only that node's: a copy-up of 10 GB does not delay a
//! `touch` beside it.

mod acl;
mod aside;
pub mod attr;
pub mod check;
pub mod copy_up;
mod data;
pub mod error;
mod exec;
mod files;
mod identify;
pub mod ids;
mod inode_flags;
mod io;
mod keeper;
mod links;
pub mod lookup;
mod lowers;
pub mod manners;
mod names;
mod no_caps;
pub mod node;
pub mod observe;
mod parts;
pub mod plan;
pub mod readdir;
pub mod refresh;
mod rename;
mod settle;
pub mod stack;
#[cfg(test)]
mod testing;
mod tmpfile;
pub mod view;
mod volatile;
pub mod watch;
mod whiteout;
pub mod work;
mod xattr;

use std::sync::Arc;

pub use data::Lendable;
pub use data::SMALL;
pub use data::Whence;
pub use error::Error;
pub use error::Result;
use lookup::Dirs;
use lookup::Target;
pub use names::Caller;
pub use names::MakeKind;
use node::Node;
use node::Real;
use node::Table;
use observe::Observer;
pub use rename::RenameFlags;
use stack::Stack;
use work::Upper;

use crate::layer::handle::FdCache;
use crate::path::Name;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// How the union behaves; fixed when it is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Rename lower and merged directories by a redirect instead of answering `EXDEV`.
    pub redirect_dir: bool,
    /// Copy up only the attributes of a lower file as long as its content is not changed.
    pub metacopy: bool,
    /// Of a large file that is written to, copy up the blocks that are written to alone; only with `metacopy`.
    pub blocks: bool,
}

/// A stack of layers as one filesystem.
///
/// Names made here get their mode from the caller alone: the process must have cleared its umask
/// ([`crate::sys::process::clear_umask`]).
#[derive(Debug)]
pub struct Union {
    stack: Stack,
    table: Table,
    options: Options,
    plain: settle::Plain,
    moving: parking_lot::Mutex<()>,
    aside: aside::Aside,
    manners: manners::Manners,
    files: files::Files,
    copies: watch::CopyUps,
    fds: Option<Arc<FdCache>>,
}

/// A node with its attributes, as a lookup finds it. The node's reference count was raised by one.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The node.
    pub node: Arc<Node>,
    /// Its attributes.
    pub attr: Stat,
}

impl Union {
    /// A union over `stack`.
    ///
    /// # Errors
    /// When the roots cannot be read.
    pub fn new(stack: Stack, options: Options) -> Result<Self> {
        let dirs = Dirs { upper: stack.upper.as_ref().map(|u| u.root.clone()), lowers: lookup::merged_roots(&stack)? };
        let table = Table::default();
        table.insert_root(Arc::new(Node::new(node::ROOT, Kind::Dir, None, Real::Dir(dirs))));
        Ok(Self {
            stack,
            table,
            options,
            plain: settle::Plain::default(),
            moving: parking_lot::Mutex::new(()),
            aside: aside::Aside::default(),
            manners: manners::Manners::default(),
            files: files::Files::default(),
            copies: watch::CopyUps::default(),
            fds: None,
        })
    }

    /// The stack below.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The options it was made with; while it stays in plain overlay form ([`Union::stay_plain`]), all content is copied.
    pub fn options(&self) -> Options {
        if self.plain.holds() { Options { metacopy: false, blocks: false, ..self.options } } else { self.options }
    }

    /// The nodes that are known now.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The node of a number.
    ///
    /// # Errors
    /// `ESTALE` for a number that was never given out or was forgotten.
    pub fn node(&self, ino: u64) -> Result<Arc<Node>> {
        self.table.get(ino).ok_or(Error::Refused(Errno::STALE))
    }

    /// Takes back `count` references of a node.
    pub fn forget(&self, ino: u64, count: u64) {
        self.table.forget(ino, count);
    }

    /// Looks one name up; `None` when the union has no such name.
    ///
    /// # Errors
    /// `ENOTDIR`; errors of the layers.
    pub fn lookup(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Option<Entry>> {
        let _names = parent.names()?.read();
        self.lookup_locked(parent, name)
    }

    /// Looks one name up, and tells `observer` what each layer said; does not touch the node table.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn explain(&self, parent: &Dirs, name: Name<'_>, observer: &mut impl Observer) -> Result<Option<Target>> {
        lookup::walk(parent, &self.stack.roots, name, observer)
    }

    /// The directories that the root is merged of.
    pub fn root_dirs(&self) -> Result<Dirs> {
        self.node(node::ROOT)?.dirs().ok_or(Error::Refused(Errno::NOTDIR))
    }

    fn upper(&self) -> Result<&Upper> {
        self.stack.upper.as_ref().ok_or(Error::Refused(Errno::ROFS))
    }

    fn dirs_of(&self, node: &Node) -> Result<Dirs> {
        node.dirs().ok_or(Error::Refused(Errno::NOTDIR))
    }

    /// [`Union::lookup`] with the parent's names locked.
    fn lookup_locked(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Option<Entry>> {
        self.lookup_heard(parent, name, &mut ())
    }

    fn lookup_heard(&self, parent: &Arc<Node>, name: Name<'_>, observer: &mut impl Observer) -> Result<Option<Entry>> {
        let dirs = self.dirs_of(parent)?;
        if is_removed(parent) {
            return Ok(None);
        }
        match lookup::walk(&dirs, &self.stack.roots, name, observer)? {
            None => Ok(None),
            Some(target) => self.intern(parent, name, target).map(Some),
        }
    }
}

/// Whether a directory has lost its name while somebody still uses it.
fn is_removed(node: &Node) -> bool {
    node.ino != node::ROOT && node.body.read().place.is_none()
}
