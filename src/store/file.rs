//! Small files, written whole: under a temporary name, synced, renamed.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::Result;
use crate::digest::hex_of;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::name::RenameMode;
use crate::sys::open::Access;

/// The beginning of every temporary name.
pub const TEMPORARY: &str = ".tmp-";
/// The beginning of the name of something that is being removed.
pub const REMOVED: &str = ".gone-";

/// Makes the directory `name`, or finds it there.
pub fn make_dir(dir: impl AsFd, name: Name<'_>, mode: u32) -> Result<()> {
    match sys::name::mkdir(dir, name, mode) {
        Err(e) if e.errno() != Errno::EXIST => Err(e.into()),
        _ => Ok(()),
    }
}

/// Makes the directory `path`, which the user named, and those above it, where they are missing.
pub fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    match sys::open::dir_path(path) {
        Err(e) if e.errno() == Errno::NOENT => {}
        other => return other.map(drop).map_err(Error::from),
    }
    let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = if parent == OsStr::new("") { Path::new(".") } else { parent };
    make_dirs(parent, 0o755)?;
    make_dir(sys::open::dir_path(parent)?, name_of(last.as_bytes())?, mode)
}

/// Checks a name that is not known to be one.
pub fn name_of(bytes: &[u8]) -> Result<Name<'_>> {
    Name::new(bytes).map_err(|why| Error::Name { name: crate::path::Escaped(bytes).to_string(), why })
}

/// A new temporary name that nobody can guess.
pub fn temporary_name(prefix: &str) -> Result<NameBuf> {
    let random: [u8; 12] = crate::env::random().map_err(|e| sys::Error::new("getrandom", e.to_string(), Errno::IO))?;
    let name = format!("{prefix}{}", hex_of(&random));
    NameBuf::new(name.as_bytes()).map_err(|why| Error::Name { name, why })
}

/// Replaces the file `name` in `dir` by one with these bytes, in one step.
///
/// Durability: the file and its name are on disk when this returns. On an error the old file is still there.
pub fn replace(dir: &OwnedFd, name: Name<'_>, bytes: &[u8]) -> Result<()> {
    replace_with(dir, name, bytes, Lasting::Now)
}

/// When what [`replace_with`] writes is to outlast a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// When the call returns.
    Now,
    /// A little later: a power cut until then leaves the old file, whole.
    Soon,
    /// Never: a power cut may leave anything under the name, and whoever reads it knows by the name that it is worth nothing then.
    No,
}

/// [`replace`], as durable as `lasting` says; in one step for all who look, always.
pub fn replace_with(dir: &OwnedFd, name: Name<'_>, bytes: &[u8], lasting: Lasting) -> Result<()> {
    let temporary = temporary_name(TEMPORARY)?;
    let result = write_new(dir, temporary.as_name(), bytes, lasting != Lasting::No)
        .and_then(|()| sys::name::rename(dir, temporary.as_name(), dir, name, RenameMode::Replace));
    if let Err(e) = result {
        // The leftover is dead whatever happens here (I8); the error that counts is the first one.
        if let Err(second) = sys::name::unlink(dir, temporary.as_name()) {
            log::debug!("leaving {temporary} behind: {second}");
        }
        return Err(e.into());
    }
    if lasting == Lasting::Now {
        sys::data::sync_dir(dir)?;
    }
    Ok(())
}

fn write_new(dir: &OwnedFd, name: Name<'_>, bytes: &[u8], sync: bool) -> sys::Result<()> {
    let fd = sys::open::create_at(dir, name, 0o600)?;
    sys::data::write_all_at(&fd, bytes, 0)?;
    if sync { sys::data::sync(&fd, true) } else { Ok(()) }
}

/// The bytes of the regular file `name` in `dir`; `None` when there is no such name.
///
/// Anything that is no regular file, or larger than `limit` bytes, is damage.
pub fn read(dir: &OwnedFd, name: Name<'_>, limit: u64) -> Result<Option<Vec<u8>>> {
    let damaged = |why: String| Error::Damaged { file: name.to_string(), why };
    // Looked at first: opening a FIFO that someone put there would wait for ever.
    if sys::attr::stat_at(dir, name)?.is_some_and(|stat| !matches!(stat.kind(), Kind::File | Kind::Symlink)) {
        return Err(damaged("it is no regular file".to_owned()));
    }
    let fd = match sys::open::file_at(dir, name, Access::Read) {
        Ok(fd) => fd,
        Err(e) if e.errno() == Errno::NOENT => return Ok(None),
        Err(e) if e.errno() == Errno::LOOP => return Err(damaged("it is a symlink".to_owned())),
        Err(e) => return Err(e.into()),
    };
    let stat = sys::attr::fstat(&fd)?;
    if stat.kind() != Kind::File {
        return Err(damaged("it is no regular file".to_owned()));
    }
    if stat.size > limit {
        return Err(damaged(format!("its {} bytes are more than the limit of {limit}", stat.size)));
    }
    let mut bytes = vec![0; usize::try_from(stat.size).unwrap_or(0)];
    let n = sys::data::read_at(&fd, &mut bytes, 0)?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// Reads a JSON document; `None` when there is none.
pub fn read_json<T: DeserializeOwned>(dir: &OwnedFd, name: Name<'_>, limit: u64) -> Result<Option<T>> {
    let Some(bytes) = read(dir, name, limit)? else { return Ok(None) };
    let damaged = |e: serde_json::Error| Error::Damaged { file: name.to_string(), why: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Writes a JSON document as [`replace`] does.
pub fn write_json(dir: &OwnedFd, name: Name<'_>, value: &impl Serialize) -> Result<()> {
    let bad = |e: serde_json::Error| Error::Damaged { file: name.to_string(), why: e.to_string() };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(bad)?;
    bytes.push(b'\n');
    replace(dir, name, &bytes)
}

/// The names in `dir` for which `want` holds.
pub fn names(dir: &OwnedFd, want: impl Fn(&[u8]) -> bool) -> Result<Vec<NameBuf>> {
    let mut names = Vec::new();
    sys::dir::for_each::<Error>(dir, |entry| {
        if want(entry.name) {
            names.push(name_of(entry.name)?.to_buf());
        }
        Ok(())
    })?;
    Ok(names)
}

/// Whether a name is one of something half made or half removed.
pub fn is_dead(name: &[u8]) -> bool {
    name.starts_with(TEMPORARY.as_bytes()) || name.starts_with(REMOVED.as_bytes())
}

/// How many names of something half made there are in `dir`.
pub fn dead(dir: &OwnedFd) -> Result<u64> {
    Ok(names(dir, is_dead)?.len() as u64)
}

/// Removes what killed processes left in `dir`. Only under the exclusive lock (I8).
pub fn sweep(dir: &OwnedFd) -> Result<usize> {
    let dead = names(dir, is_dead)?;
    dead.iter().try_for_each(|name| sys::name::remove_all(dir, name.as_name()))?;
    Ok(dead.len())
}
