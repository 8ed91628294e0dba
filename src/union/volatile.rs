//! The note of a volatile mount: what was written without syncs is not to be trusted once the system has stopped.
//!
//! It lies where the kernel's overlayfs keeps its own (`work/incompat/volatile` in the work directory), so the kernel refuses such an
//! upper, too. Inside lies an entry named by the boot: in the same boot nothing can be lost, also when the server was killed.
//!
//! Source: kernel `overlayfs.rst`, "Volatile mount".

use std::os::fd::OwnedFd;
use std::path::Path;

use super::error::Error;
use super::error::Result;
use super::work::INNER;
use super::work::Upper;
use crate::env;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;

/// The folders of the note, from the work directory's inner folder.
const NOTE: [&[u8]; 2] = [b"incompat", b"volatile"];

/// What a work directory says about an earlier mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing was left unsynced.
    Synced,
    /// A volatile mount of this boot: what it wrote is in memory, if not on disk.
    SameBoot,
    /// A volatile mount of an earlier boot, or by another program: what it wrote may be lost.
    Lost,
}

/// Reads the note in the work directory `work`.
///
/// # Errors
/// The kernel's.
pub fn earlier(work: &OwnedFd) -> Result<Earlier> {
    let mut at = sys::open::duplicate(work)?;
    for part in [INNER].into_iter().chain(NOTE) {
        match sys::open::dir_at(&at, name(part)?.as_name()) {
            Err(e) if e.errno() == Errno::NOENT => return Ok(Earlier::Synced),
            next => at = next?,
        }
    }
    let ours = sys::attr::stat_at(&at, boot()?.as_name())?.is_some();
    Ok(if ours { Earlier::SameBoot } else { Earlier::Lost })
}

/// Refuses a work directory whose upper lost what it was given; brings to disk what only this boot knows, before the note goes.
///
/// # Errors
/// [`Error::Setup`] when something may be lost; else the kernel's.
pub fn admit(work: &Path) -> Result<()> {
    let dir = sys::open::dir_path(work)?;
    match earlier(&dir)? {
        Earlier::Synced => Ok(()),
        Earlier::SameBoot => Ok(sys::data::sync_fs(&dir)?),
        Earlier::Lost => Err(Error::Setup(format!(
            "it was mounted volatile when the system stopped, so what was written last may be lost: throw it away, or look at it and \
            remove {}/work/incompat",
            work.display()
        ))),
    }
}

impl Upper {
    /// Leaves the note of a volatile mount. It stays when the mount ends: nothing is synced then either.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Durability
    /// The note is on disk when this returns.
    pub fn note_volatile(&self) -> Result<()> {
        let boot = boot()?;
        let mut at = sys::open::duplicate(&*self.work)?;
        for part in [name(NOTE[0])?, name(NOTE[1])?, boot] {
            match sys::name::mkdir(&at, part.as_name(), 0o700) {
                Err(e) if e.errno() != Errno::EXIST => return Err(e.into()),
                _ => sys::data::sync_dir(&at)?,
            }
            at = sys::open::dir_at(&at, part.as_name())?;
        }
        Ok(())
    }
}

fn name(bytes: &[u8]) -> Result<NameBuf> {
    Name::new(bytes).map(Name::to_buf).map_err(|e| Error::Setup(e.to_string()))
}

fn boot() -> Result<NameBuf> {
    // Where it cannot be read, no later boot is taken for this one.
    let id = env::boot_id().unwrap_or_else(|_| "unknown".to_owned());
    name(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::handle::FdCache;

    #[test]
    fn an_upper_is_refused_after_another_boot_only() {
        let base = std::env::temp_dir().join(format!("mica-volatile-{}", std::process::id()));
        let (upper, work) = (base.join("u"), base.join("w"));
        [&upper, &work].iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        admit(&work).unwrap();
        let open = || Upper::open(&upper, &work, FdCache::new(8), true).unwrap();
        open().note_volatile().unwrap();
        admit(&work).expect("the system did not stop");
        let note = work.join("work/incompat/volatile");
        std::fs::rename(note.join(env::boot_id().unwrap()), note.join("another-boot")).unwrap();
        assert!(matches!(admit(&work), Err(Error::Setup(_))));
        std::fs::remove_dir_all(work.join("work/incompat")).unwrap();
        admit(&work).unwrap();
        std::fs::remove_dir_all(base).unwrap();
    }
}
