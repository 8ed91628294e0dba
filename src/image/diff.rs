//! From an upper directory to a layer's tar.
//!
//! The upper directory is in the kernel's overlay format; its marks become those of OCI layers: a whiteout becomes an empty
//! file `.wh.NAME`, an opaque directory gets `.wh..wh..opq` as its first entry. Everything else is written as it is, also
//! a directory that was only copied up (docker does the same). The same directory gives the same bytes each time: names
//! are sorted, and nothing of the host (user names, access times, inode numbers) goes in.
//!
//! Sources: OCI image specification `layer.md`; the kernel's `overlayfs.rst`; POSIX `pax` for the headers.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use crate::image::tar_header::Header;
use crate::image::tar_header::SPARSE_MIN;
use crate::image::tar_header::sparse_map;
use crate::layer::marks::AUFS_OPAQUE;
use crate::layer::marks::AUFS_OPAQUE_OLD;
use crate::layer::marks::AufsName;
use crate::layer::marks::Family;
use crate::layer::marks::OPAQUE_NAMES;
use crate::layer::marks::Opaque;
use crate::layer::marks::is_private_xattr;
use crate::layer::pack::Xattr;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::sys::open::Access;

/// How a diff is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffOptions<'a> {
    /// Whether the upper directory itself gets an entry (`./`), so that a change of the root's attributes is kept.
    pub root: bool,
    /// Paths that are left out, with all below them.
    pub skip: &'a [RelPath],
}

impl Default for DiffOptions<'_> {
    fn default() -> Self {
        Self { root: true, skip: &[] }
    }
}

/// What a diff holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffStats {
    /// Entries written, whiteouts and opaque marks too.
    pub entries: u64,
    /// Whiteouts among them.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
    /// Bytes of tar.
    pub bytes: u64,
    /// Sockets, which a tar cannot hold.
    pub sockets: u64,
}

/// Why a diff could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The upper directory could not be read.
    #[error("cannot read '{path}': {source}")]
    Read {
        /// The path below the upper directory.
        path: RelPath,
        /// The failed call.
        source: sys::Error,
    },
    /// A part of it lies in a layer below, by a mark that no image layer can have: the directory must be settled first.
    #[error("'{0}' was changed while the layer was written: a part of it lies below")]
    Unsettled(RelPath),
    /// A file became shorter while it was read.
    #[error("'{0}' was changed while it was read")]
    Changed(RelPath),
    /// The name is so long that its whiteout cannot be written.
    #[error("'{0}' is deleted, but its name is too long for a whiteout in a layer")]
    TooLong(RelPath),
    /// The tar could not be written.
    #[error("cannot write the layer: {0}")]
    Write(#[from] io::Error),
}

/// Writes the tar of the changes in the directory `upper`.
///
/// # Errors
/// [`Error`]; what was written so far is no whole tar then.
pub fn write_diff(upper: &OwnedFd, out: &mut dyn Write, options: DiffOptions<'_>) -> Result<DiffStats, Error> {
    let root = RelPath::root();
    let fail = |source| Error::Read { path: RelPath::root(), source };
    let mut diff = Diff { out, stats: DiffStats::default(), links: HashMap::default(), buf: vec![0; 256 * 1024] };
    if options.root {
        diff.object(upper, &root, &sys::attr::fstat(upper).map_err(fail)?)?;
    }
    let mut levels = vec![Level::open(&mut diff, sys::open::duplicate(upper).map_err(fail)?, root)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        let path = level.path.child(name.as_name());
        if options.skip.contains(&path) {
            continue;
        }
        let Some(child) = diff.entry(level.dir(upper)?, &path, name.as_name())? else { continue };
        levels.push(Level::open(&mut diff, child, path)?);
        if let Some(far) = levels.len().checked_sub(OPEN_LEVELS).and_then(|n| levels.get_mut(n)) {
            far.dir = None;
        }
    }
    diff.write(&[0; 1024])?;
    diff.out.flush()?;
    Ok(diff.stats)
}

/// How many directories of the way down stay open; those further up are opened again on the way back.
const OPEN_LEVELS: usize = 64;

/// A directory on the way down.
struct Level {
    dir: Option<OwnedFd>,
    path: RelPath,
    /// The names still to be written.
    names: std::vec::IntoIter<NameBuf>,
}

impl Level {
    fn open(diff: &mut Diff<'_>, dir: OwnedFd, path: RelPath) -> Result<Self, Error> {
        let names = diff.directory(&dir, &path)?;
        Ok(Self { dir: Some(dir), path, names })
    }

    fn dir(&mut self, upper: &OwnedFd) -> Result<&OwnedFd, Error> {
        if self.dir.is_none() {
            let first = read(&self.path, sys::open::duplicate(upper))?;
            let step = |dir: OwnedFd, name: Name<'_>| sys::open::dir_at(&dir, name);
            self.dir = Some(read(&self.path, self.path.components().try_fold(first, step))?);
        }
        self.dir.as_ref().ok_or_else(|| Error::Changed(self.path.clone()))
    }
}

struct Diff<'a> {
    out: &'a mut dyn Write,
    stats: DiffStats,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), RelPath, rustc_hash::FxBuildHasher>,
    buf: Vec<u8>,
}

/// Turns a failed call into an error about `path`.
fn read<T>(path: &RelPath, result: sys::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Read { path: path.clone(), source })
}

/// The mark that an opaque xattr makes.
fn opaque(fd: &OwnedFd) -> sys::Result<Opaque> {
    for name in OPAQUE_NAMES {
        match may(sys::xattr::get(fd, name))?.flatten().map(|value| Opaque::parse(&value)) {
            None | Some(Opaque::No) => {}
            Some(mark) => return Ok(mark),
        }
    }
    Ok(Opaque::No)
}

/// `None` for a xattr that only the real root may read.
fn may<T>(result: sys::Result<T>) -> sys::Result<Option<T>> {
    match result {
        Err(e) if matches!(e.errno(), Errno::PERM | Errno::ACCESS) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether an empty file is a whiteout in the form of a xattr, as the kernel writes it for nested overlays.
fn is_xattr_whiteout(fd: &OwnedFd) -> sys::Result<bool> {
    for name in [&b"trusted.overlay.whiteout"[..], b"user.overlay.whiteout"] {
        if may(sys::xattr::get(fd, name))?.flatten().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Diff<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.stats.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes a directory's own marks; the names in it, sorted.
    fn directory(&mut self, dir: &OwnedFd, path: &RelPath) -> Result<std::vec::IntoIter<NameBuf>, Error> {
        let mut names = Vec::new();
        let mut old_mark = false;
        read(
            path,
            sys::dir::for_each::<sys::Error>(dir, |entry| {
                match entry.name == AUFS_OPAQUE || entry.name == AUFS_OPAQUE_OLD {
                    true => old_mark = true,
                    false => names.extend(NameBuf::new(entry.name)),
                }
                Ok(())
            }),
        )?;
        names.sort();
        if old_mark || read(path, opaque(dir))? == Opaque::Yes {
            self.mark(path, AUFS_OPAQUE)?;
            self.stats.opaque += 1;
        }
        Ok(names.into_iter())
    }

    /// An empty file named `name` in `dir`.
    fn mark(&mut self, dir: &RelPath, name: &[u8]) -> Result<(), Error> {
        let path = [dir.to_bytes(), name.to_vec()].join(&b'/');
        let header = Header { path: path.strip_prefix(b"/").unwrap_or(&path), ..Header::empty() };
        self.header(&header)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), Error> {
        self.stats.entries += 1;
        let bytes = header.encode();
        self.write(&bytes)
    }

    /// Writes one name; the directory, opened, when it is one.
    fn entry(&mut self, dir: &OwnedFd, path: &RelPath, name: Name<'_>) -> Result<Option<OwnedFd>, Error> {
        let fd = read(path, sys::open::path_at(dir, name))?;
        let stat = read(path, sys::attr::fstat(&fd))?;
        let whiteout =
            stat.is_whiteout() || stat.kind() == Kind::File && stat.size == 0 && read(path, is_xattr_whiteout(&fd))?;
        if whiteout {
            let hidden = AufsName::whiteout_of(name).ok_or_else(|| Error::TooLong(path.clone()))?;
            let parent = path.split_last().map(|(parent, _)| parent).unwrap_or_default();
            self.mark(&parent, hidden.as_bytes())?;
            self.stats.whiteouts += 1;
            return Ok(None);
        }
        if stat.kind() == Kind::Socket {
            self.stats.sockets += 1;
            return Ok(None);
        }
        self.object(&fd, path, &stat)?;
        Ok((stat.kind() == Kind::Dir).then_some(fd))
    }

    fn object(&mut self, fd: &OwnedFd, path: &RelPath, stat: &Stat) -> Result<(), Error> {
        let mut name = path.to_bytes();
        if stat.kind() == Kind::Dir {
            name.extend_from_slice(if path.is_root() { b"./" } else { b"/" });
        }
        let mut header = Header { path: &name, ..Header::of(stat) };
        if stat.kind() != Kind::Dir && stat.nlink > 1 {
            if let Some(first) = self.links.get(&(stat.dev, stat.ino)) {
                let target = first.to_bytes();
                return self.header(&header.hardlink(&target));
            }
            self.links.insert((stat.dev, stat.ino), path.clone());
        }
        header.xattrs = xattrs(fd, path)?;
        match stat.kind() {
            Kind::Symlink => {
                let text = read(path, sys::name::readlink_fd(fd))?;
                header.link = &text;
                self.header(&header)
            }
            Kind::File => self.file(fd, path, header, stat.size),
            _ => self.header(&header),
        }
    }

    fn file(&mut self, fd: &OwnedFd, path: &RelPath, mut header: Header<'_>, size: u64) -> Result<(), Error> {
        let data = read(path, sys::open::reopen(fd, Access::Read))?;
        let runs = read(path, runs_of(&data, size))?;
        let stored: u64 = runs.iter().map(|(from, to)| to - from).sum();
        if size - stored < SPARSE_MIN {
            header.size = size;
            self.header(&header)?;
            self.range(&data, path, 0, size)?;
            return self.pad(size);
        }
        let map = sparse_map(&runs, size);
        header.size = stored + map.len() as u64;
        header.sparse = Some(size);
        self.header(&header)?;
        self.write(&map)?;
        for (from, to) in runs {
            self.range(&data, path, from, to)?;
        }
        self.pad(stored)
    }

    fn range(&mut self, data: impl AsFd, path: &RelPath, mut at: u64, end: u64) -> Result<(), Error> {
        let mut buf = std::mem::take(&mut self.buf);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buf.len());
            let part = buf.get_mut(..want).unwrap_or_default();
            if read(path, sys::data::read_at(&data, part, at))? < want {
                return Err(Error::Changed(path.clone()));
            }
            self.write(part)?;
            at += want as u64;
        }
        self.buf = buf;
        Ok(())
    }

    /// Fills up to the next block.
    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let rest = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.write([0; 512].get(..rest).unwrap_or_default())
    }
}

/// The xattrs that belong to the file: not a union's own marks, and not the host's label.
fn xattrs(fd: &OwnedFd, path: &RelPath) -> Result<Vec<Xattr>, Error> {
    let mut names = read(path, sys::xattr::list(fd))?;
    let has = |mark: &str| [Family::Trusted, Family::User].iter().any(|f| names.contains(&f.name(mark)));
    // The redirect of an opaque directory is never followed.
    let is_opaque = names.iter().any(|name| OPAQUE_NAMES.contains(&name.as_slice()));
    if has("metacopy") || (has("redirect") && !is_opaque) {
        return Err(Error::Unsettled(path.clone()));
    }
    names.retain(|name| !is_private_xattr(name) && name != b"security.selinux");
    names.sort();
    let mut out = Vec::new();
    for name in names {
        // One that went away since, or that only the real root may read, is none.
        if let Some(value) = read(path, may(sys::xattr::get(fd, &name)))?.flatten() {
            out.push((name.into(), value.into()));
        }
    }
    Ok(out)
}

/// The ranges of a file that hold data; all of it where the filesystem knows no holes.
fn runs_of(data: &OwnedFd, size: u64) -> sys::Result<Vec<(u64, u64)>> {
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < size {
        let from = match sys::data::seek_data(data, at) {
            Ok(Some(from)) if from < size => from,
            Ok(_) => break,
            Err(e) if e.errno() == Errno::INVAL => at,
            Err(e) => return Err(e),
        };
        let to = match sys::data::seek_hole(data, from) {
            Ok(to) => to.unwrap_or(size).min(size),
            Err(e) if e.errno() == Errno::INVAL => size,
            Err(e) => return Err(e),
        };
        runs.push((from, to.max(from + 1)));
        at = to.max(from + 1);
    }
    Ok(runs)
}
