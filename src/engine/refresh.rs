//! Telling a mount that its layers were changed from outside.

use std::io;
use std::path::Path;

use super::Error;
use super::Result;
use crate::sys;
use crate::sys::Errno;

/// Makes the mount that holds `path` look again at its layers, at this directory and all below it; for anything but a directory,
/// at the directory that holds it. A path that does not show yet is looked for from the nearest directory above that does.
///
/// # Errors
/// [`Error::Refresh`]: no mount of mica, not permitted, or the layers cannot be read.
pub fn refresh(path: &Path) -> Result<()> {
    let failed = |source| Error::Refresh { path: path.display().to_string(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    for dir in absolute.ancestors() {
        let dir = match sys::open::dir_path(dir).and_then(sys::open::list_dir) {
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::STALE) => continue,
            other => other.map_err(|e| failed(e.into()))?,
        };
        return match sys::control::refresh(dir) {
            Err(e) if e.errno() == Errno::NOTTY => Err(failed(io::Error::other("no mount of mica"))),
            other => other.map_err(|e| failed(e.into())),
        };
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}
