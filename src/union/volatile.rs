//! An upper directory that is never synced, and what that costs: after a crash of the system it must not be trusted.
//!
//! As the kernel's overlayfs does, such a mount leaves the directory `incompat/volatile` in the work directory, and no mount takes the
//! upper directory while it is there; who knows better removes it (containers/storage does). Unlike the kernel, the mark names the
//! boot: as long as the system has not gone down, all that was written is there, and the upper directory is taken again.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Result;
use super::Union;
use super::error::Error;
use super::error::refused;
use super::node::Node;
use super::work::Upper;
use crate::env;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::xattr::SetMode;

const INCOMPAT: &[u8] = b"incompat";
const VOLATILE: &[u8] = b"volatile";
/// Where the mark keeps the boot; the second for those who may not set the first.
const BOOT: [&[u8]; 2] = [b"trusted.mica.boot", b"user.mica.boot"];

fn name(bytes: &'static [u8]) -> Result<Name<'static>> {
    Name::new(bytes).map_err(|e| Error::Setup(e.to_string()))
}

/// Looks for marks in `inner`, the folder of the work directory `work` that is about to be emptied. What a volatile mount of this boot
/// left unsynced is synced, unless it goes on to be volatile.
///
/// # Errors
/// [`Error::Setup`] for an upper directory that is not to be trusted, or that a newer overlayfs made; else the kernel's.
pub(super) fn check(inner: &OwnedFd, work: &Path, stays_volatile: bool) -> Result<()> {
    let incompat = match sys::open::dir_at(inner, name(INCOMPAT)?) {
        Err(e) if e.errno() == Errno::NOENT => return Ok(()),
        other => other?,
    };
    let mut unknown = None;
    let mut marked = false;
    sys::dir::for_each::<Error>(&incompat, |entry| {
        if entry.name == VOLATILE {
            marked = true;
        } else {
            unknown = Some(String::from_utf8_lossy(entry.name).into_owned());
        }
        Ok(())
    })?;
    if let Some(feature) = unknown {
        return Err(Error::Setup(format!(
            "{} is used with the feature {feature:?}, which mica does not know",
            work.display()
        )));
    }
    if !marked {
        return Ok(());
    }
    if !is_of_this_boot(&sys::open::dir_at(&incompat, name(VOLATILE)?)?)? {
        return Err(Error::Setup(format!(
            "it was mounted with 'volatile' when the system went down, so what it holds may be incomplete: use a new upperdir \
             and workdir, or, if you know that it is whole, remove {}/work/incompat/volatile",
            work.display()
        )));
    }
    if stays_volatile { Ok(()) } else { Ok(sys::data::sync_fs(inner)?) }
}

/// Whether `inner` has the mark of a volatile mount that this boot did not see.
///
/// # Errors
/// The kernel's.
pub(super) fn is_lost(inner: &OwnedFd) -> Result<bool> {
    let mut at = sys::open::duplicate(inner)?;
    for part in [INCOMPAT, VOLATILE] {
        match sys::open::dir_at(&at, name(part)?) {
            Err(e) if e.errno() == Errno::NOENT => return Ok(false),
            next => at = next?,
        }
    }
    Ok(!is_of_this_boot(&at)?)
}

fn is_of_this_boot(mark: &OwnedFd) -> Result<bool> {
    let Some(now) = env::boot_id() else { return Ok(false) };
    for attribute in BOOT {
        if let Some(then) = sys::xattr::get(mark, attribute)? {
            return Ok(then == now.as_bytes());
        }
    }
    Ok(false)
}

impl Upper {
    /// Marks the upper directory as one that is never synced. Syncs tell of lost data from now on, for good, though they write
    /// nothing themselves.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mark_volatile(&mut self) -> Result<()> {
        let make = |dir: &OwnedFd, bytes| -> Result<OwnedFd> {
            match sys::name::mkdir(dir, name(bytes)?, 0o700) {
                Err(e) if e.errno() != Errno::EXIST => Err(e.into()),
                _ => Ok(sys::open::dir_at(dir, name(bytes)?)?),
            }
        };
        let mark = make(&make(&self.work, INCOMPAT)?, VOLATILE)?;
        if let Some(boot) = env::boot_id() {
            // Without an attribute the mark holds for every boot, this one, too.
            let noted = BOOT.into_iter().any(|at| sys::xattr::set(&mark, at, boot.as_bytes(), SetMode::Any).is_ok());
            log::debug!("the mark of a volatile mount names the boot: {noted}");
        }
        (self.volatile, self.marked) = (true, true);
        Ok(())
    }
}

impl Union {
    /// Whether syncs do nothing and tell nothing (`fsync=0`), so that nobody need ask for them.
    pub fn never_syncs(&self) -> bool {
        self.stack().upper.as_ref().is_some_and(|upper| upper.volatile && !upper.marked)
    }

    /// Makes a file or directory durable, with the names that lead to it as far as they are new. On a volatile mount nothing is written:
    /// then it tells whether data is known to be lost, and once it was, always.
    ///
    /// # Errors
    /// The kernel's; `EIO` tells that data was lost.
    pub fn fsync(&self, node: &Arc<Node>, data_only: bool) -> Result<()> {
        match &self.stack().upper {
            Some(upper) if upper.marked => self.tell_losses(upper, node),
            _ => self.sync(node, data_only),
        }
    }

    /// Makes everything in the upper directory durable (`syncfs`). On a volatile mount nothing is written, as for [`Union::fsync`].
    ///
    /// # Errors
    /// The kernel's; `EIO` tells that data was lost.
    pub fn sync_all(&self) -> Result<()> {
        match &self.stack().upper {
            Some(upper) if upper.lost.load(Ordering::Relaxed) => refused(Errno::IO),
            Some(upper) if !upper.volatile => Ok(sys::data::sync_fs(&*upper.root.fd()?)?),
            _ => Ok(()),
        }
    }

    fn tell_losses(&self, upper: &Upper, node: &Arc<Node>) -> Result<()> {
        if upper.lost.load(Ordering::Relaxed) {
            return refused(Errno::IO);
        }
        if node.kind != Kind::File || !node.in_upper() {
            return Ok(());
        }
        // A file that was closed and opened again still tells of a loss that nobody heard of.
        let io = self.backing(node)?;
        let Some((fd, _)) = io.upper() else { return Ok(()) };
        sys::writeback::failures(fd).map_err(|e| {
            log::error!("data in the upper directory is lost: {e}");
            upper.lost.store(true, Ordering::Relaxed);
            Error::Refused(Errno::IO)
        })
    }
}

#[cfg(test)]
mod tests;
