//! Mounting through the mount helper, which is a program of its own: the daemon that serves a mount must not be the command that
//! asked for it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use super::Error;
use super::Result;
use crate::mount::helper;
use crate::mount::record;
use crate::mount::record::RecordIo;
use crate::mount::table;
use crate::mount::umount;
use crate::path::Escaped;
use crate::store::Store;
use crate::sys::mount::Detach;

/// What the helper is to mount.
#[derive(Debug, Clone)]
pub enum What {
    /// An image, read-only, or with the changes going to two directories: upper and work.
    Image(String, Option<(std::path::PathBuf, std::path::PathBuf)>),
    /// A container by its id, with its own changes.
    Container(String),
}

/// Mounts `what` of `store` at `target`; returns when the mount answers. `options` are the helper's (`-o`).
///
/// # Errors
/// [`Error::NoHelper`]; [`Error::Helper`] with the helper's own words.
pub fn mount(store: &Store, what: &What, target: &Path, options: Option<&str>) -> Result<()> {
    let program = helper::find().ok_or(Error::NoHelper)?;
    let mut command = Command::new(&program);
    match what {
        What::Image(name, changes) => {
            command.arg("--image").arg(name);
            if let Some((upper, work)) = changes {
                command.arg("--upper").arg(upper).arg("--work").arg(work).arg("--rw");
            }
        }
        What::Container(id) => {
            command.arg("--container").arg(id);
        }
    }
    command.arg("--root").arg(absolute(store.path())?);
    if let Some(options) = options {
        command.arg("-o").arg(options);
    }
    command.arg("--").arg(target);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|source| Error::Open { path: program.display().to_string(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Helper(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The daemon leaves the caller's directory, so it must not be given a path relative to it.
fn absolute(path: &Path) -> Result<OsString> {
    let absolute = std::path::absolute(path);
    absolute.map(Into::into).map_err(|source| Error::Open { path: path.display().to_string(), source })
}

/// Takes the mount at `target` away, if there is one; `lazy` also when it is in use.
///
/// # Errors
/// [`Error::Mount`].
pub fn unmount(target: &Path, lazy: bool) -> Result<()> {
    let how = if lazy { Detach::Lazy } else { Detach::IfIdle };
    umount::umount(target, how).map(drop).map_err(Error::Mount)
}

/// Takes the mount at `target` out of the tree, if there is one; somebody else may take it away at the same moment.
///
/// # Errors
/// [`Error::Mount`].
pub fn clear(target: &Path) -> Result<()> {
    match is_mounted(target) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        // Removed by somebody else, with its container.
        Err(Error::Mount(crate::mount::Error::Path { source, .. }))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(());
        }
        Err(e) => return Err(e),
    }
    match unmount(target, true) {
        Err(Error::Mount(crate::mount::Error::NotMounted(_))) => Ok(()),
        other => other,
    }
}

/// Whether a union is mounted at `target`.
///
/// # Errors
/// [`Error::Mount`] when the mount table cannot be read.
pub fn is_mounted(target: &Path) -> Result<bool> {
    let look = || {
        let place = table::place(target)?;
        let entries = table::read()?;
        Ok(table::topmost(&entries, &place).is_some_and(table::Entry::is_union))
    };
    look().map_err(Error::Mount)
}

/// A mount of mica, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRow {
    /// Where it is.
    pub target: String,
    /// The image, the container's id, or what else was mounted.
    pub source: String,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// How file data travels, where its server told.
    pub io: Option<RecordIo>,
}

/// The unions of mica that this process can reach, hostile bytes in their names escaped.
///
/// # Errors
/// [`Error::Mount`] when the mount table cannot be read.
pub fn list() -> Result<Vec<MountRow>> {
    use std::os::unix::ffi::OsStrExt;
    let row = |entry: table::Entry| MountRow {
        target: Escaped(entry.target.as_os_str().as_bytes()).to_string(),
        source: Escaped(entry.source.as_bytes()).to_string(),
        read_only: entry.has_flag("ro"),
        io: record::of_device(entry.dev).and_then(|record| record.io),
    };
    Ok(table::mica_mounts().map_err(Error::Mount)?.into_iter().map(row).collect())
}
