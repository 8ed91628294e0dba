//! Resolving a path inside a root that may be hostile.
//!
//! The walk opens one component at a time as `O_PATH|O_NOFOLLOW` and resolves symlinks itself, as text, relative to the
//! root; `..` goes back along the descriptors of the walk. So nothing leads out of the root: no absolute or `..`
//! symlink, no rename during the walk, and no magic link of `/proc` either, whose text is a path like any other here.
//! Nothing is opened for data on the way, so FIFOs and devices do not act.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use super::error::Error;
use super::error::Result;
use super::error::Step;
use crate::path::Escaped;
use crate::path::Name;
use crate::sys::Errno;
use crate::sys::attr;
use crate::sys::attr::Kind;
use crate::sys::data;
use crate::sys::name;
use crate::sys::open;

/// Symlinks followed in one resolution, as in the kernel.
const LINKS_MAX: usize = 40;
/// Directories deep below the root; bounds the descriptors that a walk holds.
const DEPTH_MAX: usize = 128;

/// What to do about a component that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Fail with `ENOENT`.
    Fail,
    /// Make it and everything below it a directory, mode 0755.
    MakeDir,
    /// Make the last one an empty file, mode 0644, and those above it directories.
    MakeFile,
}

/// A directory that serves as the root of resolutions.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Takes a directory, opened as `O_PATH`, as a root.
    pub fn new(dir: OwnedFd) -> Self {
        Self(dir)
    }

    /// The object at `path`, as `O_PATH`; never a symlink. Mounts are crossed.
    ///
    /// # Errors
    /// [`Error::Setup`] naming the path: `ENOENT`, `ENOTDIR`, `ELOOP` for too many symlinks or too deep a path.
    pub fn resolve(&self, path: &[u8], missing: Missing) -> Result<OwnedFd> {
        self.walk(path, missing).step(|| format!("reach {} in the container's root", Escaped(path)))
    }

    fn walk(&self, path: &[u8], missing: Missing) -> crate::sys::Result<OwnedFd> {
        let mut todo = components(path);
        let mut dirs: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                dirs.pop();
                continue;
            }
            let bad = |_| crate::sys::Error::bare("openat", Errno::INVAL);
            let part = Name::new(&part).map_err(bad)?.to_buf();
            let here = dirs.last().map_or(self.0.as_fd(), AsFd::as_fd);
            let found = match open::path_at(here, part.as_name()) {
                Err(e) if e.errno() == Errno::NOENT => make(here, part.as_name(), missing, todo.is_empty())?,
                other => other?,
            };
            match attr::fstat(&found)?.kind() {
                Kind::Symlink => {
                    links += 1;
                    let text = name::readlink_fd(&found)?;
                    if links > LINKS_MAX || text.is_empty() {
                        return Err(crate::sys::Error::bare("readlinkat", Errno::LOOP));
                    }
                    if text.starts_with(b"/") {
                        dirs.clear();
                    }
                    todo.extend(components(&text));
                }
                Kind::Dir if dirs.len() < DEPTH_MAX => dirs.push(found),
                Kind::Dir => return Err(crate::sys::Error::bare("openat", Errno::LOOP)),
                _ if todo.is_empty() => return Ok(found),
                _ => return Err(crate::sys::Error::new("openat", part.to_string(), Errno::NOTDIR)),
            }
        }
        dirs.pop().map_or_else(|| open::duplicate(&self.0), Ok)
    }

    /// The directory `name` right below the root, made if it is missing. A symlink or anything else is refused: the
    /// kernel's own filesystems are mounted there, and programs rely on finding them under exactly this name.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is no directory; [`Error::Setup`].
    pub fn plain_dir(&self, name: Name<'_>) -> Result<OwnedFd> {
        let step = || format!("use /{name} of the container's root");
        let found = match open::path_at(&self.0, name) {
            Err(e) if e.errno() == Errno::NOENT => make(self.0.as_fd(), name, Missing::MakeDir, true).step(step)?,
            other => other.step(step)?,
        };
        match attr::fstat(&found).step(step)?.kind() {
            Kind::Dir => Ok(found),
            kind => {
                Err(Error::Refused { path: format!("/{name}"), why: format!("a directory is needed, found {kind:?}") })
            }
        }
    }

    /// Up to `limit` bytes of the regular file at `path`; `None` when there is none or it is something else.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is larger; [`Error::Setup`].
    pub fn read(&self, path: &[u8], limit: usize) -> Result<Option<Vec<u8>>> {
        let step = || format!("read {} of the container's root", Escaped(path));
        let found = match self.walk(path, Missing::Fail) {
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other.step(step)?,
        };
        if attr::fstat(&found).step(step)?.kind() != Kind::File {
            return Ok(None);
        }
        let file = open::reopen(&found, open::Access::Read).step(step)?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let got = data::read_at(&file, &mut chunk, bytes.len() as u64).step(step)?;
            bytes.extend_from_slice(chunk.get(..got).unwrap_or_default());
            if bytes.len() > limit {
                let why = format!("larger than {limit} bytes");
                return Err(Error::Refused { path: Escaped(path).to_string(), why });
            }
            if got == 0 {
                return Ok(Some(bytes));
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The components, last first, so that the next one is popped.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").rev().map(<[u8]>::to_vec).collect()
}

fn make(dir: BorrowedFd<'_>, part: Name<'_>, missing: Missing, last: bool) -> crate::sys::Result<OwnedFd> {
    let made = match (missing, last) {
        (Missing::Fail, _) => return Err(crate::sys::Error::new("openat", part.to_string(), Errno::NOENT)),
        (Missing::MakeFile, true) => open::create_at(dir, part, 0o644).map(drop),
        (Missing::MakeFile, false) | (Missing::MakeDir, _) => name::mkdir(dir, part, 0o755),
    };
    match made {
        // Someone else was faster: take what is there now.
        Err(e) if e.errno() != Errno::EXIST => Err(e),
        _ => open::path_at(dir, part),
    }
}
