//! Changing the flags of a mount that is there (`mount -o remount,ro DIR`). The daemon goes on as it is.

use std::path::Path;

use super::error::Error;
use super::error::Result;
use super::options::MountOptions;
use super::table;
use super::table::Entry;
use crate::sys::Errno;
use crate::sys::mount as calls;
use crate::sys::mount::Flags;

/// Gives the mount of mica at `target` the flags that `options` names; the others stay.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::NotMica`], [`Error::Refused`]; else the kernel's.
pub fn remount(target: &Path, options: &MountOptions) -> Result<()> {
    let place = table::place(target)?;
    let entries = table::read()?;
    let entry = table::topmost(&entries, &place).ok_or_else(|| Error::NotMounted(place.clone()))?;
    if !entry.is_union() {
        return Err(Error::NotMica { target: place, kind: String::from_utf8_lossy(&entry.kind).into_owned() });
    }
    calls::remount(&place, flags(entry, options)).map_err(|e| match e.errno() {
        Errno::PERM => Error::Refused(e),
        _ => Error::Sys(e),
    })
}

/// The flags of the mount, changed by the options.
pub fn flags(now: &Entry, options: &MountOptions) -> Flags {
    let without = |said: Option<bool>, flag: &str| said.map_or_else(|| now.has_flag(flag), |yes| !yes);
    let with = |said: Option<bool>, flag: &str| said.unwrap_or_else(|| now.has_flag(flag));
    Flags {
        read_only: with(options.read_only, "ro"),
        no_suid: without(options.suid, "nosuid"),
        no_dev: without(options.dev, "nodev"),
        no_exec: without(options.exec, "noexec"),
        no_atime: without(options.atime, "noatime"),
        no_dir_atime: without(options.dir_atime, "nodiratime"),
        sync: with(options.sync, "sync"),
        dir_sync: with(options.dir_sync, "dirsync"),
    }
}
