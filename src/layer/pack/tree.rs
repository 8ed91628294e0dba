//! The tree that a layer's entries make when they are taken in order, as if each were extracted over what is there.
//!
//! It never touches a filesystem: a path is resolved within the layer's own tree, with the root as the wall. The rules are
//! those of containerd's unpacker (`pkg/archive`), which extracts into the layer's directory alone:
//! - the last component of an entry's name is never followed, a symlink in front of it is, with `..` and `/` clamped at the
//!   root, and a dangling one makes directories where it points;
//! - missing directories are *implied*: 0755, owned by 0:0, times 0, until an entry of their own comes;
//! - a directory over a directory keeps what is in it and takes the new attributes; anything else replaces;
//! - a hardlink means the inode that its target has at that moment;
//! - a whiteout is about the layers below only (OCI `layer.md`, "Whiteouts"), in whatever order it comes: an entry of the
//!   same name in the same layer stays, and is opaque.

use std::collections::BTreeMap;

use super::format::Place;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;

/// The most symlinks that one path may lead through, as in the kernel.
const MAX_SYMLINKS: u32 = 40;

/// A raw name and its value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// Owner, permissions and times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Permission, set-id and sticky bits, no type bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the data.
    pub mtime: Time,
    /// Last access, where the tar tells it; else `mtime` counts.
    pub atime: Option<Time>,
    /// Last change of the attributes, where the tar tells it; else `mtime` counts.
    pub ctime: Option<Time>,
    /// Extended attributes by raw name; sorted when the index is written.
    pub xattrs: Vec<Xattr>,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseRun {
    /// Where it starts in the file's content.
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The body of a regular file, as [`super::PackWriter`] stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Where the stored bytes lie.
    pub(super) place: Place,
    /// How many bytes are stored.
    pub(super) stored: u64,
    /// The CRC-32 of these bytes, where they lie in the pack file; else 0.
    pub(super) sum: u32,
}

/// What an entry adds to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A regular file.
    File {
        /// Its stored bytes.
        body: Body,
        /// Its size in bytes; more than is stored only when sparse.
        size: u64,
        /// Where the stored bytes lie in the content, when it is sparse: sorted, not overlapping, within `size`, and as
        /// long in sum as what is stored.
        sparse: Option<Box<[SparseRun]>>,
    },
    /// A directory.
    Dir,
    /// A symlink with its text.
    Symlink(Box<[u8]>),
    /// A device (number as `makedev` composes it), FIFO or socket.
    Special(Kind, u64),
}

/// Why an entry does not fit into the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The root is named by something that is no directory.
    #[error("the root of a layer must be a directory")]
    RootKind,
    /// A parent is neither a directory nor a symlink to one.
    #[error("'{0}' on the way is no directory")]
    NotADirectory(NameBuf),
    /// More than 40 symlinks, or a symlink whose text is no path.
    #[error("too many symlinks, or a bad one, on the way at '{0}'")]
    Symlinks(NameBuf),
    /// The target of a hardlink is not in this layer.
    #[error("the target '{0}' of the hardlink is not in this layer")]
    NoTarget(RelPath),
    /// The target of a hardlink is a directory.
    #[error("the target '{0}' of the hardlink is a directory")]
    DirectoryTarget(RelPath),
    /// The tree is larger than one of [`TreeLimits`].
    #[error("more than the limit {name}={limit}")]
    Limit {
        /// Which one.
        name: &'static str,
        /// Its value.
        limit: u64,
    },
    /// More inodes than can be numbered.
    #[error("more entries than an index can number")]
    TooMany,
}

/// What a tree may grow to. The names of an entry say little about it: one symlink can stand for many directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Steps from one directory to the next for all paths together: an entry costs as many as its name has components, so only
    /// a layer made to waste time (long chains of symlinks) takes more than some per entry.
    pub steps: u64,
    /// Inodes, implied and replaced ones too.
    pub nodes: u64,
    /// Components of a path, symlinks resolved.
    pub depth: u64,
    /// Bytes of a path, symlinks resolved.
    pub path: u64,
}

pub(super) type NodeId = u32;

#[derive(Debug)]
pub(super) struct TreeNode {
    pub attrs: Attrs,
    pub what: What,
    pub opaque: bool,
    pub implied: bool,
    /// Where it was put: components and bytes of the path.
    depth: u32,
    len: u32,
}

impl TreeNode {
    fn new(attrs: Attrs, what: What, implied: bool) -> Self {
        Self { attrs, what, opaque: false, implied, depth: 0, len: 0 }
    }
}

#[derive(Debug)]
pub(super) enum What {
    Dir(BTreeMap<NameBuf, Slot>),
    Leaf(Item),
}

/// What a directory says about one name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub node: Option<NodeId>,
    pub whiteout: bool,
}

/// The tree of one layer while it is read.
#[derive(Debug)]
pub struct Tree {
    pub(super) nodes: Vec<TreeNode>,
    steps_left: u64,
    limits: TreeLimits,
    /// The parent of the last entry: tars list a directory's entries one after the other.
    last: Option<(RelPath, NodeId)>,
}

pub(super) const ROOT: NodeId = 0;

impl Tree {
    /// A tree with only an implied root.
    pub fn new(limits: TreeLimits) -> Self {
        let root = TreeNode::new(implied(), What::Dir(BTreeMap::new()), true);
        Self { nodes: vec![root], steps_left: limits.steps, limits, last: None }
    }

    /// Adds `item` at `path`.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then of no further use.
    pub fn add(&mut self, path: &RelPath, attrs: Attrs, item: Item) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split_last() else {
            return match item {
                Item::Dir => self.dress(ROOT, attrs),
                _ => Err(TreeError::RootKind),
            };
        };
        let dir = self.parent(&parent)?;
        let old = self.slot(dir, name).node;
        let what = match item {
            Item::Dir => match old.filter(|&old| self.is_dir(old)) {
                Some(old) => return self.dress(old, attrs),
                None => What::Dir(BTreeMap::new()),
            },
            item => What::Leaf(item),
        };
        if old.is_some() {
            // A directory or a symlink goes; the remembered path may have led through it.
            self.last = None;
        }
        self.put(dir, name, TreeNode::new(attrs, what, false))
    }

    /// Gives what `target` names a second name.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then of no further use.
    pub fn hardlink(&mut self, path: &RelPath, target: &RelPath) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split_last() else { return Err(TreeError::RootKind) };
        let found = match target.split_last() {
            Some((dir, name)) => self.find(&dir)?.and_then(|dir| self.slot(dir, name).node),
            None => Some(ROOT),
        };
        let node = found.ok_or_else(|| TreeError::NoTarget(target.clone()))?;
        if self.is_dir(node) {
            return Err(TreeError::DirectoryTarget(target.clone()));
        }
        let dir = self.parent(&parent)?;
        self.room(dir, name)?;
        self.last = None;
        if let Some(slot) = self.entry(dir, name) {
            slot.node = Some(node);
        }
        Ok(())
    }

    /// Marks `path` as deleted from the layers below.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then of no further use.
    pub fn whiteout(&mut self, path: &RelPath) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split_last() else { return Err(TreeError::RootKind) };
        let dir = self.parent(&parent)?;
        self.room(dir, name)?;
        if let Some(slot) = self.entry(dir, name) {
            slot.whiteout = true;
        }
        Ok(())
    }

    /// Marks the directory `path` opaque.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then of no further use.
    pub fn opaque(&mut self, path: &RelPath) -> Result<(), TreeError> {
        let dir = self.parent(path)?;
        if let Some(node) = self.node_mut(dir) {
            node.opaque = true;
        }
        Ok(())
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut TreeNode> {
        self.nodes.get_mut(id as usize)
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&TreeNode> {
        self.nodes.get(id as usize)
    }

    fn is_dir(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|n| matches!(n.what, What::Dir(_)))
    }

    /// New attributes for a directory that is there.
    fn dress(&mut self, id: NodeId, attrs: Attrs) -> Result<(), TreeError> {
        if let Some(node) = self.node_mut(id) {
            node.attrs = attrs;
            node.implied = false;
        }
        Ok(())
    }

    fn slot(&self, dir: NodeId, name: Name<'_>) -> Slot {
        match self.node(dir).map(|n| &n.what) {
            Some(What::Dir(children)) => children.get(name.as_bytes()).copied().unwrap_or_default(),
            _ => Slot::default(),
        }
    }

    /// The slot of `name`, made if need be; `None` only when `dir` is no directory, which no caller passes.
    fn entry(&mut self, dir: NodeId, name: Name<'_>) -> Option<&mut Slot> {
        match self.node_mut(dir).map(|n| &mut n.what) {
            Some(What::Dir(children)) => Some(children.entry(name.to_buf()).or_default()),
            _ => None,
        }
    }

    /// Components and bytes of the path of `name` in `dir`, which must not be too long.
    fn room(&self, dir: NodeId, name: Name<'_>) -> Result<(u32, u32), TreeError> {
        let (depth, len) = self.node(dir).map_or((0, 0), |node| (node.depth, node.len));
        let bytes = u32::try_from(name.as_bytes().len()).unwrap_or(u32::MAX);
        let (depth, len) = (depth.saturating_add(1), len.saturating_add(bytes).saturating_add(u32::from(len > 0)));
        within("depth", self.limits.depth, depth.into())?;
        within("path", self.limits.path, len.into())?;
        Ok((depth, len))
    }

    fn put(&mut self, dir: NodeId, name: Name<'_>, mut node: TreeNode) -> Result<(), TreeError> {
        (node.depth, node.len) = self.room(dir, name)?;
        // The root is no entry.
        within("entries", self.limits.nodes, self.nodes.len() as u64)?;
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| TreeError::TooMany)?;
        self.nodes.push(node);
        if let Some(slot) = self.entry(dir, name) {
            slot.node = Some(id);
        }
        Ok(())
    }

    /// The directory at `path`, made where it is missing.
    fn parent(&mut self, path: &RelPath) -> Result<NodeId, TreeError> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(*id);
        }
        let id = self.resolve(path, true)?.unwrap_or(ROOT);
        self.last = Some((path.clone(), id));
        Ok(id)
    }

    /// The directory at `path`, if it is there.
    fn find(&mut self, path: &RelPath) -> Result<Option<NodeId>, TreeError> {
        self.resolve(path, false)
    }

    fn resolve(&mut self, path: &RelPath, make: bool) -> Result<Option<NodeId>, TreeError> {
        // What is still to be walked, next component last.
        let mut todo: Vec<Step> = path.components().rev().map(|n| Step::Down(n.to_buf())).collect();
        let mut stack = vec![ROOT];
        let mut symlinks = 0;
        while let Some(step) = todo.pop() {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(over("steps", self.limits.steps))?;
            let name = match step {
                Step::Up => {
                    stack.truncate(stack.len().saturating_sub(1).max(1));
                    continue;
                }
                Step::Down(name) => name,
            };
            let here = stack.last().copied().unwrap_or(ROOT);
            let Some(next) = self.slot(here, name.as_name()).node else {
                if !make {
                    return Ok(None);
                }
                self.put(here, name.as_name(), TreeNode::new(implied(), What::Dir(BTreeMap::new()), true))?;
                stack.push(self.slot(here, name.as_name()).node.unwrap_or(ROOT));
                continue;
            };
            match self.node(next).map(|n| &n.what) {
                Some(What::Dir(_)) => stack.push(next),
                Some(What::Leaf(Item::Symlink(text))) => {
                    symlinks += 1;
                    let steps = (symlinks <= MAX_SYMLINKS).then(|| steps_of(text)).flatten();
                    let mut steps = steps.ok_or_else(|| TreeError::Symlinks(name.clone()))?;
                    if text.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    todo.append(&mut steps);
                }
                _ => return Err(TreeError::NotADirectory(name)),
            }
        }
        Ok(stack.last().copied())
    }
}

fn over(name: &'static str, limit: u64) -> TreeError {
    TreeError::Limit { name, limit }
}

fn within(name: &'static str, limit: u64, found: u64) -> Result<(), TreeError> {
    if found <= limit { Ok(()) } else { Err(over(name, limit)) }
}

/// One step of resolving a path.
#[derive(Debug)]
enum Step {
    Down(NameBuf),
    Up,
}

/// The steps of a symlink's text, the first one last; `None` when a component is no name.
fn steps_of(text: &[u8]) -> Option<Vec<Step>> {
    let parts = text.rsplit(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".");
    parts.map(|p| if p == b".." { Some(Step::Up) } else { NameBuf::new(p).ok().map(Step::Down) }).collect()
}

/// The attributes of a directory that no entry describes.
fn implied() -> Attrs {
    Attrs { perm: 0o755, ..Attrs::default() }
}
