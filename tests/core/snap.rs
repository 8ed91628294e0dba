//! A whole tree as data: of a plain directory or mount, and of a union.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use micafs::path::NameBuf;
use micafs::path::RelPath;
use micafs::sys;
use micafs::sys::attr::Kind;
use micafs::sys::attr::Stat;
use micafs::sys::attr::Time;
use micafs::union::Error;
use micafs::union::Union;
use micafs::union::node::Node;

/// Times from here on were made by the test, not by a layer (2021).
const RECENT: i64 = 1_609_459_200;

/// Everything a program can see of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    /// Content or symlink text.
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `None` for a time that an operation of the test made.
    pub mtime: Option<Time>,
    pub nlink: u32,
    pub ino: u64,
}

pub type Tree = BTreeMap<RelPath, Shown>;

fn shown(stat: &Stat, data: Vec<u8>, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Shown {
    let is_dir = stat.kind() == Kind::Dir;
    Shown {
        kind: stat.kind(),
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        rdev: if matches!(stat.kind(), Kind::Char | Kind::Block) { stat.rdev } else { 0 },
        size: if is_dir { 0 } else { stat.size },
        data,
        xattrs,
        mtime: Some(stat.mtime).filter(|t| t.secs < RECENT),
        nlink: if is_dir { 0 } else { stat.nlink },
        ino: stat.ino,
    }
}

/// The tree of a directory on disk.
pub fn of_dir(root: &Path) -> sys::Result<Tree> {
    let mut tree = Tree::new();
    let fd = sys::open::dir_path(root)?;
    add_dir(&fd, &RelPath::root(), &mut tree)?;
    Ok(tree)
}

fn xattrs_of(fd: &std::os::fd::OwnedFd) -> sys::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let names = sys::xattr::list(fd)?;
    let pairs = names.into_iter().map(|n| sys::xattr::get(fd, &n).map(|v| (n, v.unwrap_or_default())));
    pairs.collect()
}

fn add_dir(fd: &std::os::fd::OwnedFd, path: &RelPath, tree: &mut Tree) -> sys::Result<()> {
    tree.insert(path.clone(), shown(&sys::attr::fstat(fd)?, Vec::new(), xattrs_of(fd)?));
    let mut names = Vec::new();
    sys::dir::for_each::<sys::Error>(fd, |e| {
        names.push(NameBuf::new(e.name).unwrap());
        Ok(())
    })?;
    for name in names {
        let path = path.child(name.as_name());
        let object = match sys::open::path_at(fd, name.as_name()) {
            // The kernel's overlayfs lists whiteouts of a directory that only one layer has.
            Err(e) if e.errno() == sys::Errno::NOENT => continue,
            other => other?,
        };
        let stat = sys::attr::fstat(&object)?;
        let data = match stat.kind() {
            Kind::Dir => {
                add_dir(&sys::open::dir_at(fd, name.as_name())?, &path, tree)?;
                continue;
            }
            Kind::File => {
                let file = sys::open::file_at(fd, name.as_name(), sys::open::Access::Read)?;
                let mut data = vec![0; usize::try_from(stat.size).unwrap()];
                let n = sys::data::read_at(&file, &mut data, 0)?;
                data.truncate(n);
                data
            }
            Kind::Symlink => sys::name::readlink(fd, name.as_name())?,
            _ => Vec::new(),
        };
        tree.insert(path, shown(&stat, data, xattrs_of(&object)?));
    }
    Ok(())
}

/// References to nodes that a caller holds, as the kernel's caches do; given back all at once.
#[derive(Debug, Default)]
pub struct Pins(HashMap<u64, u64>);

impl Pins {
    pub fn add(&mut self, ino: u64) {
        *self.0.entry(ino).or_default() += 1;
    }

    pub fn forget_all(&mut self, union: &Union) {
        self.0.drain().for_each(|(ino, count)| union.forget(ino, count));
    }
}

/// The tree of a union; every node that was met stays pinned.
pub fn of_union(union: &Union, pins: &mut Pins) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    let root = union.node(micafs::union::node::ROOT)?;
    // Not recursive: many threads move trees into each other, hundreds of directories deep.
    let mut dirs = vec![(root, RelPath::root())];
    while let Some((dir, path)) = dirs.pop() {
        add_union_dir(union, (&dir, &path), &mut tree, pins, &mut dirs)?;
    }
    Ok(tree)
}

fn union_shown(union: &Union, node: &Arc<Node>, stat: &Stat) -> Result<Shown, Error> {
    let data = match node.kind {
        Kind::File => {
            let mut data = vec![0; usize::try_from(stat.size).unwrap()];
            union.open(node, false, false)?;
            let n = union.read(node, &mut data, 0);
            union.release(node);
            data.truncate(n?);
            data
        }
        Kind::Symlink => union.readlink(node)?,
        _ => Vec::new(),
    };
    let mut xattrs = BTreeMap::new();
    for name in union.listxattr(node)? {
        let value = union.getxattr(node, &name)?.unwrap_or_default();
        xattrs.insert(name, value);
    }
    Ok(shown(stat, data, xattrs))
}

fn add_union_dir(
    union: &Union,
    (node, path): (&Arc<Node>, &RelPath),
    tree: &mut Tree,
    pins: &mut Pins,
    dirs: &mut Vec<(Arc<Node>, RelPath)>,
) -> Result<(), Error> {
    tree.insert(path.clone(), union_shown(union, node, &union.getattr(node)?)?);
    let listing = union.list(node, 0)?;
    union.close_dir(node);
    let mut seen = std::collections::HashSet::new();
    for listed in &listing.entries {
        let path = path.child(listed.name.as_name());
        assert!(seen.insert(listed.name.clone()), "{path} is listed twice");
        let entry = union.lookup(node, listed.name.as_name())?;
        let entry = entry.unwrap_or_else(|| panic!("{path} is listed, but cannot be looked up"));
        pins.add(entry.node.ino);
        assert_eq!((listed.ino, listed.kind), (entry.attr.ino, entry.attr.kind()), "{path}: listed, looked up");
        // Reading a directory sets its access time, and a filesystem allocates a new file's blocks when it likes.
        let stat = Stat { atime: entry.attr.atime, blocks: entry.attr.blocks, ..union.getattr(&entry.node)? };
        assert_eq!(entry.attr, stat, "{path}: looked up, stat");
        if entry.node.kind == Kind::Dir {
            dirs.push((entry.node, path));
        } else {
            tree.insert(path, union_shown(union, &entry.node, &entry.attr)?);
        }
    }
    Ok(())
}
