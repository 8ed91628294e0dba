//! Files and directories that a user asks for: there when they are whole, and never before.
//!
//! A file is written without a name (`O_TMPFILE`), so that nothing is left of it even when mica is killed; where the
//! filesystem cannot do that, under a temporary name beside. A directory is made under a temporary name.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use super::Error;
use super::Result;
use crate::digest::hex_of;
use crate::env;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::data::Appender;
use crate::sys::name::RenameMode;

/// How much is written at a time, in bytes.
const BUFFER: usize = 256 << 10;

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Output { path: path.display().to_string(), source }
}

/// Splits a path that the user named into its directory, opened, and the last name.
fn place(path: &Path) -> Result<(OwnedFd, NameBuf)> {
    let bad = || failed(path)(std::io::ErrorKind::InvalidInput.into());
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => return Err(bad()),
    };
    let name = path.file_name().and_then(|name| NameBuf::new(name.as_bytes()).ok()).ok_or_else(bad)?;
    Ok((sys::open::dir_path(parent).map_err(|e| failed(path)(e.into()))?, name))
}

/// A name in the same directory that nobody can guess.
fn temporary() -> std::io::Result<NameBuf> {
    let name = format!(".mica-{}", hex_of(&env::random::<12>()?));
    NameBuf::new(name.as_bytes()).map_err(std::io::Error::other)
}

/// Writes the file `path`, replacing one that is there. A device or a pipe that the user named is written itself; a symlink
/// stays, and what it leads to is replaced.
///
/// # Errors
/// Those of `write`; [`Error::Output`]. What was at `path` before is still there then.
///
/// # Durability
/// The file's content, when this returns.
pub fn file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let fail = failed(path);
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        let file = File::options().write(true).open(&target).map_err(&fail)?;
        // It has no places to write at, and may be a pipe: nothing that a fault could leave half done.
        return buffered(&file, write, &fail);
    }
    let (dir, name) = place(&target)?;
    let hidden = temporary().map_err(&fail)?;
    let nameless = sys::open::tmpfile(&dir, 0o666).map_err(|e| fail(e.into()))?;
    let named = nameless.is_none();
    let file = match nameless {
        Some(fd) => fd,
        None => sys::open::create_at(&dir, hidden.as_name(), 0o666).map_err(|e| fail(e.into()))?,
    };
    let publish = || -> sys::Result<()> {
        sys::data::sync(&file, true)?;
        if !named {
            // A new name needs no temporary one; an old file can only be replaced by a rename.
            match sys::name::link_fd(&file, &dir, name.as_name()) {
                Err(e) if e.errno() == Errno::EXIST => sys::name::link_fd(&file, &dir, hidden.as_name())?,
                other => return other,
            }
        }
        sys::name::rename(&dir, hidden.as_name(), &dir, name.as_name(), RenameMode::Replace)
    };
    let result = buffered(Appender::new(&file), write, &fail).and_then(|()| publish().map_err(|e| fail(e.into())));
    if result.is_err() {
        forget(&dir, &hidden);
    }
    result
}

fn buffered(
    to: impl Write,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
    fail: &impl Fn(std::io::Error) -> Error,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, to);
    write(&mut out)?;
    out.flush().map_err(fail)
}

/// Makes the directory `path`, which must not be there or be empty.
///
/// # Errors
/// Those of `write`; [`Error::NotEmpty`]; [`Error::Output`]. Nothing is left then.
///
/// # Durability
/// What `write` made durable, and the name.
pub fn directory(path: &Path, write: impl FnOnce(&OwnedFd) -> Result<()>) -> Result<()> {
    let fail = failed(path);
    // Without a slash at the end, which would hide the name.
    let path: PathBuf = path.components().collect();
    if let Ok(mut entries) = std::fs::read_dir(&path)
        && entries.next().is_some()
    {
        return Err(Error::NotEmpty(path.display().to_string()));
    }
    let (dir, name) = place(&path)?;
    let hidden = temporary().map_err(&fail)?;
    sys::name::mkdir(&dir, hidden.as_name(), 0o755).map_err(|e| fail(e.into()))?;
    let fill = || -> Result<()> {
        write(&sys::open::dir_at(&dir, hidden.as_name()).map_err(|e| fail(e.into()))?)?;
        // An empty directory is replaced; one that was filled meanwhile is not.
        sys::name::rename(&dir, hidden.as_name(), &dir, name.as_name(), RenameMode::Replace)
            .and_then(|()| sys::data::sync_dir(&dir))
            .map_err(|e| fail(e.into()))
    };
    let result = fill();
    if result.is_err() {
        forget(&dir, &hidden);
    }
    result
}

/// Removes what was not finished; the error that counts is the one before.
fn forget(dir: &OwnedFd, name: &NameBuf) {
    match sys::name::remove_all(dir, name.as_name()) {
        Err(e) if e.errno() != Errno::NOENT => log::warn!("leaving {name} behind: {e}"),
        _ => {}
    }
}
