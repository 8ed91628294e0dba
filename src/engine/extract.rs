//! Taking a file or a directory out of a stack: `extract` of `mica debug`.
//!
//! What the union shows goes to a new place of the host, whole or not at all. Taken along are content, mode (without set-id bits)
//! and times of change; not owners, attributes, and nothing that is no file, directory or symlink: images are anybody's. Each
//! name is made relative to a directory that we opened.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Error;
use super::Result;
use super::output;
use crate::digest::hex_of;
use crate::env;
use crate::explain;
use crate::explain::Subject;
use crate::explain::layers::Entry;
use crate::explain::layers::Folder;
use crate::explain::versions::entry_at;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::SetTime;
use crate::sys::attr::Stat;
use crate::sys::writeback::WriteBack;

/// Bits of a mode that are taken along.
const MODE_BITS: u32 = 0o1777;
/// The deepest directory that is taken out; each level holds a descriptor.
const DEPTH_MAX: usize = 512;

/// What was taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Regular files and symlinks.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Devices, sockets and FIFOs, which are left out.
    pub skipped: u64,
}

/// Writes what `subject` shows at `path` to the new place `to`; a directory with all that is in it.
///
/// # Errors
/// [`Error::Output`] when `to` is there already (but for an empty directory where one is to come), or cannot be written; when
/// a layer cannot be read, or the union does not show the path.
///
/// # Durability
/// None is promised for what is in a directory.
pub fn extract(subject: &Subject, path: &RelPath, to: &Path) -> Result<Extracted> {
    let mut done = Extracted::default();
    let fail = |source: io::Error| Error::Output { path: to.display().to_string(), source };
    let folder = Folder::at(subject, path)?.filter(Folder::is_shown);
    if let Some(folder) = folder {
        let stat = entry_at(subject, path)?.and_then(|entry| entry.stat);
        output::directory(to, |fd| {
            let fd = sys::open::duplicate(fd).map_err(|e| fail(e.into()))?;
            tree(subject, folder, stat, fd, &mut done).map_err(|e| in_place(e, to))
        })?;
        return Ok(done);
    }
    let Some(entry) = entry_at(subject, path)?.filter(|entry| entry.stat.is_some()) else {
        return Err(fail(io::Error::new(io::ErrorKind::NotFound, format!("the union does not show {path}"))));
    };
    let (dir, name) = place(to).map_err(fail)?;
    let hidden = NameBuf::new(format!(".mica-{}", hex_of(&env::random::<12>().map_err(Error::Random)?)).as_bytes())
        .map_err(|e| fail(io::Error::other(e)))?;
    // A link gets the final name only if nobody has it; a rename would replace what is there.
    let made = one(&dir, &hidden, &entry, &mut done).and_then(|()| {
        if done.files == 0 {
            return Err(fail(io::Error::other("only files, directories and symlinks are taken out")));
        }
        sys::name::link(&dir, hidden.as_name(), &dir, name.as_name()).map_err(|e| fail(e.into()))
    });
    match sys::name::unlink(&dir, hidden.as_name()) {
        Err(e) if e.errno() != Errno::NOENT => log::warn!("leaving {hidden} behind: {e}"),
        _ => {}
    }
    made.map_err(|e| in_place(e, to)).map(|()| done)
}

/// The error of a system call names no place of the user's.
fn in_place(e: Error, to: &Path) -> Error {
    match e {
        Error::Store(crate::store::Error::Sys(e)) => Error::Output { path: to.display().to_string(), source: e.into() },
        other => other,
    }
}

fn place(to: &Path) -> io::Result<(OwnedFd, NameBuf)> {
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let name = to.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((sys::open::dir_path(parent)?, NameBuf::new(name.as_bytes()).map_err(io::Error::other)?))
}

/// A directory that is being written.
struct Open {
    folder: Folder,
    names: std::vec::IntoIter<NameBuf>,
    dir: OwnedFd,
    stat: Option<Stat>,
}

/// Depth first, with a stack of its own. A directory gets its mode and time when it is full.
fn tree(subject: &Subject, top: Folder, stat: Option<Stat>, dir: OwnedFd, done: &mut Extracted) -> Result<()> {
    let names = top.names()?.into_iter();
    let mut open = vec![Open { folder: top, names, dir, stat }];
    while let Some(here) = open.last_mut() {
        let Some(name) = here.names.next() else {
            if let Some(stat) = open.pop().and_then(|full| Some((full.dir, full.stat?))) {
                finish(&stat.0, &stat.1)?;
            }
            continue;
        };
        let Some(entry) = here.folder.entry(subject, name.as_name())? else { continue };
        let Some(stat) = entry.stat else { continue };
        if stat.kind() != Kind::Dir {
            one(&here.dir, &name, &entry, done)?;
            continue;
        }
        let Some(folder) = here.folder.enter(entry) else { continue };
        sys::name::mkdir(&here.dir, name.as_name(), 0o700)?;
        let dir = sys::open::dir_at(&here.dir, name.as_name())?;
        if open.len() >= DEPTH_MAX {
            return Err(
                explain::Error::from(crate::layer::Error::from(sys::Error::bare("mkdir", Errno::NAMETOOLONG))).into()
            );
        }
        let names = folder.names()?.into_iter();
        open.push(Open { folder, names, dir, stat: Some(stat) });
    }
    Ok(())
}

fn one(dir: &OwnedFd, name: &NameBuf, entry: &Entry, done: &mut Extracted) -> Result<()> {
    let Some((face, stat)) = entry.face().zip(entry.stat) else { return Ok(()) };
    match (stat.kind(), entry.content()) {
        (Kind::File, Some(object)) => {
            let content = object.open_checked().map_err(explain::Error::from)?;
            let file = sys::open::create_at(dir, name.as_name(), 0o600)?;
            content.copy_to(&file, content.len(), WriteBack::Later).map_err(explain::Error::from)?;
            finish(&file, &stat)?;
            done.bytes = done.bytes.saturating_add(content.len());
        }
        (Kind::Symlink, _) => {
            let text = face.readlink().map_err(explain::Error::from)?;
            sys::name::symlink(&text, dir, name.as_name())?;
        }
        _ => {
            done.skipped += 1;
            return Ok(());
        }
    }
    done.files += 1;
    Ok(())
}

fn finish(fd: &OwnedFd, stat: &Stat) -> Result<()> {
    let kept = if stat.kind() == Kind::Dir { MODE_BITS } else { 0o777 };
    sys::attr::chmod(fd, stat.mode & kept)?;
    Ok(sys::attr::set_times(fd, SetTime::Keep, SetTime::At(stat.mtime))?)
}
