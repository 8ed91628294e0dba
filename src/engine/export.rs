//! Exporting: all that a container shows, as one tar.
//!
//! The tree is read by the union core, over the same layers as the container's mount and without one: a running container is
//! exported as it is at the moment each file is read. Names come sorted, and nothing of the host goes in, so the same tree gives
//! the same bytes. A tar cannot hold sockets; they are left out.

use std::io::Write;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Error;
use super::Result;
use super::containers;
use super::diff;
use crate::image::tar_header::Header;
use crate::image::tar_header::SPARSE_MIN;
use crate::image::tar_header::sparse_map;
use crate::layer::Layer;
use crate::layer::dir::DirLayer;
use crate::layer::handle::FdCache;
use crate::layer::pack::Xattr;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union;
use crate::union::Union;
use crate::union::Whence;
use crate::union::node;
use crate::union::node::Node;
use crate::union::stack::Stack;

/// Directory descriptors kept open during a walk.
const FDS: usize = 256;
/// How much of a file is read at a time, in bytes.
const BUFFER: usize = 256 << 10;
/// The host's label, which is not the container's.
const HOST_LABEL: &[u8] = b"security.selinux";

/// What an export held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries written.
    pub entries: u64,
    /// Sockets, which a tar cannot hold.
    pub sockets: u64,
    /// Files of a running container that became shorter while they were read; the rest is zeros.
    pub shrunk: u64,
}

/// Writes the tree of a container, running or not, as a tar.
///
/// # Errors
/// A layer that cannot be read; [`Error::Export`] when `out` fails. What was written is no whole tar then.
pub fn export(store: &Store, record: &ContainerRecord, out: &mut dyn Write) -> Result<Exported> {
    let upper = containers::dir(store, &record.id).join("upper");
    // A container that runs makes its directories hold copies at any moment, which their marks say.
    let fds = FdCache::new(FDS);
    fds.remember_nothing();
    let upper = DirLayer::open(&upper, fds).map_err(union::Error::from)?;
    let mut layers: Vec<Arc<dyn Layer>> = vec![Arc::new(upper)];
    layers.extend(diff::layers(store, record)?);
    let union = Union::new(Stack::new(None, layers)?, union::Options::default())?;
    let mut export =
        Export { union, out, done: Exported::default(), links: FxHashMap::default(), buffer: vec![0; BUFFER] };
    export.tree()?;
    export.write(&[0; 1024])?;
    export.out.flush().map_err(Error::Export)?;
    Ok(export.done)
}

struct Export<'a> {
    union: Union,
    out: &'a mut dyn Write,
    done: Exported,
    /// The first name of each file with several, by number.
    links: FxHashMap<u64, RelPath>,
    buffer: Vec<u8>,
}

/// A directory on the way down.
struct Level {
    node: Arc<Node>,
    path: RelPath,
    /// The names still to be written.
    names: std::vec::IntoIter<NameBuf>,
}

/// What of an object is read before its header is written, so that one that goes away meanwhile leaves no half entry.
#[derive(Default)]
struct Described {
    xattrs: Vec<Xattr>,
    /// A symlink's text.
    link: Vec<u8>,
    /// A file's runs of data, as offsets where they begin and end.
    runs: Vec<(u64, u64)>,
    /// The file is open.
    opened: bool,
}

/// `None` for what went away while it was looked at: the container runs.
fn gone<T>(result: union::Result<T>) -> Result<Option<T>> {
    match result {
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::STALE | Errno::NOTDIR) => Ok(None),
        other => Ok(other.map(Some)?),
    }
}

impl Export<'_> {
    fn tree(&mut self) -> Result<()> {
        let root = self.union.node(node::ROOT)?;
        let stat = self.union.getattr(&root)?;
        let path = RelPath::root();
        self.object(&root, &path, &stat)?;
        let mut levels = vec![self.level(root, path)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                if let Some(done) = levels.pop().filter(|done| done.node.ino != node::ROOT) {
                    self.union.forget(done.node.ino, 1);
                }
                continue;
            };
            let path = level.path.child(name.as_name());
            let Some(found) = gone(self.union.lookup(&level.node, name.as_name()))?.flatten() else { continue };
            self.object(&found.node, &path, &found.attr)?;
            if found.attr.kind() == Kind::Dir {
                levels.push(self.level(found.node, path)?);
            } else {
                self.union.forget(found.node.ino, 1);
            }
        }
        Ok(())
    }

    fn level(&self, node: Arc<Node>, path: RelPath) -> Result<Level> {
        let listing = gone(self.union.list(&node, 0))?;
        let mut names: Vec<NameBuf> = listing.iter().flat_map(|l| &l.entries).map(|entry| entry.name.clone()).collect();
        names.sort();
        Ok(Level { node, path, names: names.into_iter() })
    }

    /// Writes one object; nothing for one that went away, and for a socket.
    fn object(&mut self, node: &Arc<Node>, path: &RelPath, stat: &Stat) -> Result<()> {
        if stat.kind() == Kind::Socket {
            self.done.sockets += 1;
            return Ok(());
        }
        let mut name = path.to_bytes();
        if stat.kind() == Kind::Dir {
            name.extend_from_slice(if path.is_root() { b"./" } else { b"/" });
        }
        let header = Header { path: &name, ..Header::of(stat) };
        let several = stat.kind() != Kind::Dir && stat.nlink > 1;
        if let Some(first) = self.links.get(&stat.ino).filter(|_| several) {
            let target = first.to_bytes();
            return self.header(&header.hardlink(&target));
        }
        let described = gone(self.describe(node, stat));
        let result = match &described {
            Ok(Some(described)) => {
                if several {
                    self.links.insert(stat.ino, path.clone());
                }
                self.described(node, stat, header, described)
            }
            _ => Ok(()),
        };
        if matches!(&described, Ok(Some(described)) if described.opened) {
            self.union.release(node);
        }
        described.and(result)
    }

    fn describe(&self, node: &Arc<Node>, stat: &Stat) -> union::Result<Described> {
        let mut described = Described::default();
        let mut names = self.union.listxattr(node)?;
        names.retain(|name| name != HOST_LABEL);
        names.sort();
        for name in names {
            // One that went away since, or that only the real root may read, is none.
            match self.union.getxattr(node, &name) {
                Ok(value) => described.xattrs.extend(value.map(|value| (name.into(), value.into()))),
                Err(e) if matches!(e.errno(), Errno::PERM | Errno::ACCESS | Errno::NODATA) => {}
                Err(e) => return Err(e),
            }
        }
        match stat.kind() {
            Kind::Symlink => described.link = self.union.readlink(node)?,
            Kind::File => {
                self.union.open(node, false, false)?;
                described.opened = true;
                described.runs = match self.runs(node, stat.size) {
                    Ok(runs) => runs,
                    Err(e) => {
                        self.union.release(node);
                        return Err(e);
                    }
                };
            }
            _ => {}
        }
        Ok(described)
    }

    /// The ranges of a file that hold data; all of it for one too small to be worth a sparse entry.
    fn runs(&self, node: &Arc<Node>, size: u64) -> union::Result<Vec<(u64, u64)>> {
        if size < SPARSE_MIN {
            return Ok(vec![(0, size)]);
        }
        let seek = |at, whence| match self.union.seek(node, at, whence) {
            Ok(found) => Ok(Some(found).filter(|found| *found < size)),
            Err(e) if e.errno() == Errno::NXIO => Ok(None),
            // A filesystem that knows no holes.
            Err(e) if e.errno() == Errno::INVAL => Ok((whence == Whence::Data).then_some(at)),
            Err(e) => Err(e),
        };
        let (mut runs, mut at) = (Vec::new(), 0);
        while let Some(from) = seek(at, Whence::Data)? {
            let to = seek(from, Whence::Hole)?.unwrap_or(size).max(from + 1);
            runs.push((from, to));
            at = to;
            if at >= size {
                break;
            }
        }
        Ok(runs)
    }

    fn described<'a>(
        &mut self,
        node: &Arc<Node>,
        stat: &Stat,
        mut header: Header<'a>,
        of: &'a Described,
    ) -> Result<()> {
        header.xattrs.clone_from(&of.xattrs);
        header.link = &of.link;
        if stat.kind() != Kind::File {
            return self.header(&header);
        }
        let stored: u64 = of.runs.iter().map(|(from, to)| to - from).sum();
        if stat.size - stored < SPARSE_MIN {
            header.size = stat.size;
            self.header(&header)?;
            self.range(node, 0, stat.size)?;
            return self.pad(stat.size);
        }
        let map = sparse_map(&of.runs, stat.size);
        header.size = stored + map.len() as u64;
        header.sparse = Some(stat.size);
        self.header(&header)?;
        self.write(&map)?;
        of.runs.iter().try_for_each(|&(from, to)| self.range(node, from, to))?;
        self.pad(stored)
    }

    /// Writes a part of a file; zeros for what is no longer there, since its header has promised so many bytes.
    fn range(&mut self, node: &Arc<Node>, mut at: u64, end: u64) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut shrunk = false;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..want).unwrap_or_default();
            let n = self.union.read(node, part, at)?;
            shrunk |= n < want;
            part.get_mut(n..).unwrap_or_default().fill(0);
            self.write(part)?;
            at += want as u64;
        }
        self.done.shrunk += u64::from(shrunk);
        self.buffer = buffer;
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>) -> Result<()> {
        self.done.entries += 1;
        self.write(&header.encode())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Export)
    }

    /// Fills up to the next block.
    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.write([0; 512].get(..rest).unwrap_or_default())
    }
}
