//! Layers as lists of entries: made at random, written to disk, and applied to a plain directory as `cp -a` would.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use micafs::layer::marks::AufsName;
use micafs::layer::mem::Entry;
use micafs::layer::mem::Shape;
use micafs::path::Name;
use micafs::path::NameBuf;
use micafs::path::RelPath;
use micafs::sys;
use micafs::sys::attr::Kind;
use micafs::sys::attr::SetTime;
use micafs::sys::attr::Time;
use micafs::sys::xattr::SetMode;
use proptest::prelude::*;

pub const LONG: [u8; 255] = [b'n'; 255];

/// A tiny alphabet: names meet often.
pub fn name(pick: u8) -> NameBuf {
    let bytes: &[u8] = match pick % 8 {
        0 | 5 => b"a",
        1 | 6 => b"b",
        2 | 7 => b"c",
        3 => b"\xff",
        _ => &LONG,
    };
    NameBuf::new(bytes).unwrap()
}

pub fn rel(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A directory with the kernel's marks.
    Dir,
    /// A directory with `.wh.` marks.
    Aufs,
    /// In memory.
    Mem,
}

#[derive(Clone)]
pub struct LayerSpec {
    pub store: Store,
    pub entries: Vec<Entry>,
}

impl std::fmt::Debug for LayerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}[", self.store)?;
        for e in &self.entries {
            let path = e.path.to_string().replace(std::str::from_utf8(&LONG).unwrap(), "LONG");
            write!(f, "{path} {:o} ", e.mode)?;
            match &e.shape {
                Shape::File(len, runs) => write!(f, "File({len}, {} runs), ", runs.len())?,
                other => write!(f, "{other:?}, ")?,
            }
        }
        write!(f, "]")
    }
}

impl LayerSpec {
    pub fn has_links(&self) -> bool {
        self.entries.iter().any(|e| matches!(e.shape, Shape::Link(_)))
    }
}

/// An entry with unremarkable attributes.
pub fn entry(path: &str, shape: Shape) -> Entry {
    let mode = if matches!(shape, Shape::Dir(_)) { 0o755 } else { 0o644 };
    let mtime = Time { secs: 1_000_000_000, nanos: 123_456_789 };
    Entry { path: rel(path), shape, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
}

pub fn file(path: &str, text: &str) -> Entry {
    entry(path, Shape::File(text.len() as u64, vec![(0, text.as_bytes().to_vec())]))
}

pub fn dir(path: &str) -> Entry {
    entry(path, Shape::Dir(false))
}

/// One roll of the dice for one entry.
type Roll = (u8, u8, u8, u8);

fn shape_of(kind: u8, salt: u8, files: &[RelPath], links: bool) -> Shape {
    match kind % 24 {
        0..=5 => Shape::Dir(false),
        6 => Shape::Dir(true),
        7..=12 => Shape::File(u64::from(salt), vec![(0, vec![b'0' + kind % 10; usize::from(salt)])]),
        13 => Shape::File(40_000 + u64::from(salt), vec![(4096, vec![7; 100]), (20_000, vec![9; 5000])]),
        14 => Shape::File(0, Vec::new()),
        15 => Shape::Symlink(vec![b'/', b'a' + salt % 3, 0xfe]),
        16 => Shape::Node(Kind::Fifo, 0),
        17 => Shape::Node(Kind::Char, sys::attr::makedev(1, 3)),
        18 => Shape::Node(Kind::Socket, 0),
        19 | 20 if links && !files.is_empty() => Shape::Link(files[usize::from(salt) % files.len()].clone()),
        19..=22 => Shape::Whiteout,
        _ => Shape::File(5000, vec![(0, vec![b'x'; 5000])]),
    }
}

fn grow(rolls: &[Roll], store: Store, links: bool) -> LayerSpec {
    let (mut dirs, mut files) = (vec![RelPath::root()], Vec::new());
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for &(at, who, kind, salt) in rolls {
        let parent = dirs[usize::from(at) % dirs.len()].clone();
        let path = parent.child(name(who).as_name());
        if parent.components().len() > 3 || !seen.insert(path.clone()) {
            continue;
        }
        let shape = shape_of(kind, salt, &files, links);
        match shape {
            Shape::Dir(_) => dirs.push(path.clone()),
            Shape::File(..) => files.push(path.clone()),
            _ => {}
        }
        let modes = [0o644, 0o755, 0o600, 0o4755, 0o1777, 0o2755, 0o400, 0o777];
        let mut xattrs = Vec::new();
        if salt & 1 == 1 && !matches!(shape, Shape::Link(_) | Shape::Whiteout) {
            xattrs.push((b"trusted.t".to_vec(), vec![salt; usize::from(salt)]));
        }
        if salt & 2 == 2 && matches!(shape, Shape::Dir(_) | Shape::File(..)) {
            xattrs.push((b"user.u".to_vec(), vec![salt]));
        }
        entries.push(Entry {
            path,
            shape,
            mode: modes[usize::from(kind ^ salt) % modes.len()],
            uid: u32::from(salt % 3) * 1000,
            gid: u32::from(salt % 2) * 1000,
            mtime: Time { secs: i64::from(salt) * 3_000_000 - 90_000_000, nanos: u32::from(kind) * 3_000_001 },
            xattrs,
        });
    }
    LayerSpec { store, entries }
}

/// One layer at random.
pub fn any_layer(stores: &'static [Store], links: bool) -> impl Strategy<Value = LayerSpec> {
    let rolls = prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>()), 0..16);
    (rolls, 0..stores.len()).prop_map(move |(rolls, store)| grow(&rolls, stores[store], links))
}

/// The directory that holds `path`, and the last name.
pub fn parent_of(root: &Path, path: &RelPath) -> sys::Result<(OwnedFd, NameBuf)> {
    let (parent, last) = path.split_last().expect("not the root");
    let mut fd = sys::open::dir_path(root)?;
    for part in parent.components() {
        fd = sys::open::dir_at(&fd, part)?;
    }
    Ok((fd, last.to_buf()))
}

/// Makes what an entry is, without its marks; nothing must be there, but for a directory.
fn make(root: &Path, e: &Entry) -> sys::Result<()> {
    let (dir, last) = parent_of(root, &e.path)?;
    let name = last.as_name();
    match &e.shape {
        Shape::Dir(_) => match sys::name::mkdir(&dir, name, 0o700) {
            Err(e) if e.errno() == sys::Errno::EXIST => {}
            other => other?,
        },
        Shape::File(len, runs) => {
            let fd = sys::open::create_at(&dir, name, 0o600)?;
            for (at, bytes) in runs {
                sys::data::write_all_at(&fd, bytes, *at)?;
            }
            sys::data::set_len(&fd, *len)?;
        }
        Shape::Symlink(text) => sys::name::symlink(text, &dir, name)?,
        Shape::Node(kind, rdev) => sys::name::mknod(&dir, name, *kind, 0o600, *rdev)?,
        Shape::Link(target) => {
            let (from, old) = parent_of(root, target)?;
            return sys::name::link(&from, old.as_name(), &dir, name);
        }
        Shape::Whiteout => return Ok(()),
    }
    let fd = sys::open::path_at(&dir, name)?;
    for old in sys::xattr::list(&fd)? {
        sys::xattr::remove(&fd, &old)?;
    }
    dress(&fd, e)
}

fn dress(fd: &OwnedFd, e: &Entry) -> sys::Result<()> {
    sys::attr::chown(fd, Some(e.uid), Some(e.gid))?;
    if !matches!(e.shape, Shape::Symlink(_)) {
        sys::attr::chmod(fd, e.mode)?;
    }
    for (name, value) in &e.xattrs {
        sys::xattr::set(fd, name, value, SetMode::Any)?;
    }
    sys::attr::set_times(fd, SetTime::At(e.mtime), SetTime::At(e.mtime))
}

fn set_dir_times(root: &Path, entries: &[Entry]) -> sys::Result<()> {
    for e in entries.iter().rev().filter(|e| matches!(e.shape, Shape::Dir(_))) {
        let Ok((dir, last)) = parent_of(root, &e.path) else { continue };
        if let Ok(fd) = sys::open::dir_at(&dir, last.as_name()) {
            sys::attr::set_times(&fd, SetTime::At(e.mtime), SetTime::At(e.mtime))?;
        }
    }
    Ok(())
}

/// Writes a layer to the empty directory `root`.
pub fn write(root: &Path, spec: &LayerSpec) -> sys::Result<()> {
    for e in &spec.entries {
        make(root, e)?;
        let (dir, last) = parent_of(root, &e.path)?;
        let aufs = AufsName::whiteout_of(last.as_name()).filter(|_| spec.store == Store::Aufs);
        match (&e.shape, aufs) {
            (Shape::Whiteout, Some(mark)) => sys::name::mknod(&dir, mark.as_name(), Kind::File, 0, 0)?,
            (Shape::Whiteout, None) => sys::name::mknod(&dir, last.as_name(), Kind::Char, 0, 0)?,
            (Shape::Dir(true), Some(_)) => {
                let inner = sys::open::dir_at(&dir, last.as_name())?;
                sys::name::mknod(&inner, Name::new(b".wh..wh..opq").unwrap(), Kind::File, 0, 0)?;
            }
            (Shape::Dir(true), None) => {
                let inner = sys::open::dir_at(&dir, last.as_name())?;
                sys::xattr::set(&inner, b"trusted.overlay.opaque", b"y", SetMode::Any)?;
            }
            _ => {}
        }
    }
    set_dir_times(root, &spec.entries)
}

/// Applies layers, given bottom first, to the plain directory `root`.
pub fn apply<'a>(root: &Path, specs: impl Iterator<Item = &'a LayerSpec> + Clone) -> sys::Result<()> {
    for e in specs.clone().flat_map(|s| &s.entries) {
        let (dir, last) = parent_of(root, &e.path)?;
        let is_dir = sys::open::dir_at(&dir, last.as_name());
        match (&e.shape, is_dir) {
            (Shape::Dir(false), Ok(_)) => {}
            (Shape::Dir(true), Ok(old)) => sys::name::clear(&old)?,
            _ => sys::name::remove_all(&dir, last.as_name())?,
        }
        make(root, e)?;
    }
    specs.into_iter().try_for_each(|spec| set_dir_times(root, &spec.entries))
}
