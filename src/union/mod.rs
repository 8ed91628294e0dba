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
//! 5. the locks of the [`node::Table`] in the order that it names, then `Node::body`: held for a few instructions.
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
pub mod ids;
mod inode_flags;
mod keeper;
mod links;
pub mod lookup;
mod lowers;
pub mod manners;
mod names;
mod no_caps;
pub mod node;
pub mod observe;
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
use error::refused;
use lookup::Dirs;
use lookup::InUpper;
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

use crate::layer::ObjectId;
use crate::layer::handle::DirHandle;
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

    /// The options it was made with.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The nodes that are known now.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether nothing can be changed.
    pub fn is_read_only(&self) -> bool {
        self.stack.upper.is_none()
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

    /// The node of what a walk found, with one more reference.
    fn intern(&self, parent: &Arc<Node>, name: Name<'_>, target: Target) -> Result<Entry> {
        let (own, top) = (ObjectId { dev: target.stat.dev, ino: target.stat.ino }, target.lowers.first());
        let noted = target.upper.as_ref().and_then(|_| self.table.copy_of(own));
        let (layer, key) = match (&target.upper, top) {
            // A directory that is merged keeps the number of its topmost lower one, whatever is copied up.
            (Some(InUpper::Dir(_)), Some(l)) => (Some(l.layer), self.stack.lower_ino(l.layer, l.obj.id())),
            (Some(InUpper::Other(_)), _) => {
                let known = match noted {
                    None => self.origin_of(&self.dirs_of(parent)?, name)?,
                    known => known,
                };
                (None, known.or(self.stack.upper_ino(own)))
            }
            (Some(InUpper::New), _) => (None, self.stack.upper_ino(own)),
            (Some(InUpper::Dir(_)), None) => (None, noted.or(self.stack.upper_ino(own))),
            (None, Some(l)) => (Some(l.layer), self.stack.lower_ino(l.layer, l.obj.id())),
            (None, None) => return refused(Errno::IO),
        };
        // Below a copy of the attributes alone, the last object has the content.
        let data = match &target.upper {
            Some(InUpper::Other(true)) => target.lowers.last().cloned(),
            None if target.kind() == Kind::File && target.lowers.len() > 1 => target.lowers.last().cloned(),
            _ => None,
        };
        let id = top.filter(|_| layer.is_some()).map_or(own, |l| l.obj.id());
        let stat = target.stat;
        let kind = target.kind();
        let real = match target.upper {
            Some(InUpper::Dir(handle)) => Real::Dir(Dirs { upper: Some(handle), lowers: target.lowers.into() }),
            Some(InUpper::Other(_) | InUpper::New) => Real::Upper { id: own, held: None },
            None if kind == Kind::Dir => Real::Dir(Dirs { upper: None, lowers: target.lowers.into() }),
            None => match target.lowers.into_iter().next() {
                Some(lower) => Real::Lower(lower),
                None => return refused(Errno::IO),
            },
        };
        let fits = |node: &Node| adopt(node, kind, &real, &stat, parent, name) && self.renew(node, &real);
        // The name is shared with the object, where that has it.
        let own_name = match &real {
            Real::Lower(lower) => lower.obj.own_name().filter(|own| own.as_name() == name).cloned(),
            _ => None,
        };
        let place = || Some((parent.clone(), own_name.clone().unwrap_or_else(|| name.to_buf())));
        let make = |ino| {
            // The node that this copy was noted for was forgotten meanwhile, and the note with it.
            if noted == Some(ino) {
                self.table.note_copy(own, ino);
            }
            Node::new(ino, kind, place(), real.clone()).with_data(data.clone())
        };
        let node = key
            .and_then(|ino| self.table.intern(ino, fits, || make(ino)))
            .or_else(|| self.table.intern_dynamic(layer, id, fits, make))
            .ok_or(Error::Refused(Errno::STALE))?;
        // A lower name of a file that was copied up under another of its names shows the copy.
        let attr = match (&node.body.read().real, &real) {
            (Real::Upper { .. }, Real::Lower(_)) => None,
            _ => Some(stat),
        };
        let attr = match attr {
            Some(stat) => self.show(&node, stat),
            None => self.getattr(&node)?,
        };
        Ok(Entry { node, attr })
    }

    /// Whether a directory of upper may hold copies that keep the number of what they were copied from. It says so, where only
    /// mica was at work; the kernel's overlayfs does not know our record, and moves and links copies without a word.
    fn may_hold_copies(&self, dir: &Arc<DirHandle>) -> Result<bool> {
        Ok(self.stack.upper.as_ref().is_some_and(|u| u.foreign) || crate::layer::dir::is_impure(dir)?)
    }

    /// The number that an object in upper keeps from the lower object it was copied from.
    fn origin_of(&self, parent: &Dirs, name: Name<'_>) -> Result<Option<u64>> {
        let (Some(handle), Some(upper)) = (&parent.upper, &self.stack.upper) else { return Ok(None) };
        if !self.may_hold_copies(handle)? {
            return Ok(None);
        }
        let fd = crate::sys::open::path_at(&*handle.fd()?, name)?;
        let Some(xattr) = upper.mark_name(copy_up::ORIGIN) else { return Ok(None) };
        Ok(crate::sys::xattr::get(fd, &xattr)?.and_then(|record| self.stack.origin_ino(&record)))
    }
}

/// Whether a directory has lost its name while somebody still uses it.
fn is_removed(node: &Node) -> bool {
    node.ino != node::ROOT && node.body.read().place.is_none()
}

/// Whether a known node is the object that a walk found at `name`; if so, brings its place up to date.
fn adopt(node: &Node, kind: Kind, found: &Real, stat: &Stat, parent: &Arc<Node>, name: Name<'_>) -> bool {
    if node.kind != kind {
        return false;
    }
    let mut body = node.body.write();
    let here = body.place.as_ref().is_some_and(|(p, n)| Arc::ptr_eq(p, parent) && n.as_name() == name);
    // Then it stays at the name that the copy is made for. Asked with the body locked, which the copy-up reads with its own lock held.
    let is_copied = node.copy.is_locked();
    match (&mut body.real, found) {
        (Real::Dir(known), Real::Dir(new)) => {
            let same = match (&known.upper, &new.upper) {
                (Some(a), Some(b)) => a.id() == b.id(),
                (None, None) => true,
                _ => false,
            };
            return same && (here || body.place.is_none() && stat.nlink == 0);
        }
        (Real::Upper { id, held }, Real::Upper { id: new, .. }) => {
            if id != new {
                return false;
            }
            if !here {
                // Another name of the same file, or a name again after the known one was removed.
                *held = None;
                body.place = Some((parent.clone(), name.to_buf()));
            }
        }
        (Real::Lower(known), Real::Lower(new)) => {
            if known.obj.id() != new.obj.id() {
                return false;
            }
            if !here && is_copied {
                if stat.nlink > 1 {
                    body.saw(parent, name, new);
                }
            } else if !here {
                let before = std::mem::replace(known, new.clone());
                let place = body.place.replace((parent.clone(), name.to_buf()));
                if let Some((parent, name)) = place.filter(|_| stat.nlink > 1) {
                    body.saw(&parent, name.as_name(), &before);
                }
            }
        }
        // It has the number of the lower object, so it is the copy that is being made: this one of its names is there already.
        (Real::Lower(_), Real::Upper { .. }) => return is_copied,
        // Copied up under one name, seen under another lower name: the same file if the lower one has several names.
        (Real::Upper { .. }, Real::Lower(lower)) => {
            let same = stat.nlink > 1;
            if same {
                body.saw(parent, name, lower);
            }
            return same;
        }
        _ => return false,
    }
    true
}
