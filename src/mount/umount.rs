//! Taking a mount of mica away.

use std::path::Path;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;
use super::fusermount;
use super::table;
use crate::sys::Errno;
use crate::sys::mount as calls;
use crate::sys::mount::Detach;

/// Takes away the mount of mica at `path`, and returns its place. With [`Detach::IfIdle`] everything written is with the daemon
/// when this returns, and the daemon ends by itself.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::NotMica`], [`Error::Busy`]; else the kernel's or fusermount's.
pub fn umount(path: &Path, how: Detach) -> Result<PathBuf> {
    let place = table::place(path)?;
    let entries = table::read()?;
    let entry = table::topmost(&entries, &place).ok_or_else(|| Error::NotMounted(place.clone()))?;
    if !entry.is_union() {
        let kind = String::from_utf8_lossy(&entry.kind).into_owned();
        return Err(Error::NotMica { target: place, kind });
    }
    by_any_means(&place, how)?;
    Ok(place)
}

/// Takes away the topmost mount at `target`, whatever it is: by the kernel, or by fusermount where that is not allowed.
///
/// # Errors
/// [`Error::Busy`] with [`Detach::IfIdle`]; else the kernel's or fusermount's.
pub fn by_any_means(target: &Path, how: Detach) -> Result<()> {
    match calls::detach(target, how) {
        Ok(()) => Ok(()),
        Err(e) if e.errno() == Errno::BUSY => Err(Error::Busy(target.to_owned())),
        Err(e) if e.errno() == Errno::PERM => match fusermount::unmount(target, how == Detach::Lazy)? {
            true => Ok(()),
            false => Err(Error::Refused(e)),
        },
        Err(e) => Err(e.into()),
    }
}
