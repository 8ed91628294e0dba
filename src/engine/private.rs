//! A store of one look: an archive is taken apart into a directory of its own, and all of it goes when the look is over.
//!
//! The layers of an archive are tars, perhaps compressed: to look a path up, they must be read once. They are read as `mica load` does, with the
//! same checks, into `mica-look-RANDOM` in `$TMPDIR` (else `/var/tmp`, as podman and skopeo have it), which is this user's alone. The
//! directory is locked as long as its process lives; the next look removes those that a killed one left.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use super::Progress;
use super::Result;
use super::input::Input;
use super::load;
use crate::digest::hex_of;
use crate::env;
use crate::path::NameBuf;
use crate::store::Store;
use crate::sys;
use crate::sys::lock::LockKind;

/// The beginning of the names of such directories.
const PREFIX: &str = "mica-look-";
/// Where they are made without `$TMPDIR`.
const PLACE: &str = "/var/tmp";

/// A store that is removed when it is dropped.
#[derive(Debug)]
pub struct PrivateStore {
    store: Store,
    parent: OwnedFd,
    name: NameBuf,
    _lock: OwnedFd,
}

impl PrivateStore {
    /// Reads all images of an archive or layout into a new store.
    ///
    /// # Errors
    /// As [`load::load`]; when there is no place for it. Nothing is left then.
    pub fn of_archive(archive: &Path, progress: &dyn Progress) -> Result<Self> {
        let input = Input::open(archive)?;
        let place = env::var("TMPDIR").map_or_else(|| PathBuf::from(PLACE), PathBuf::from);
        let parent = sys::open::dir_path(&place)?;
        sweep(&parent);
        let random: [u8; 16] = env::random().map_err(super::Error::Random)?;
        let text = format!("{PREFIX}{}", hex_of(&random));
        let name = NameBuf::new(text.as_bytes()).map_err(|e| super::Error::Internal(e.to_string()))?;
        sys::name::mkdir(&parent, name.as_name(), 0o700)?;
        let made = lock(&parent, &name).and_then(|lock| Ok((lock, Store::open(&place.join(&text))?)));
        match made {
            Ok((lock, store)) => {
                let private = Self { store, parent, name, _lock: lock };
                load::load(&private.store, input, progress)?;
                Ok(private)
            }
            Err(e) => {
                remove(&parent, &name);
                Err(e)
            }
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for PrivateStore {
    fn drop(&mut self) {
        remove(&self.parent, &self.name);
    }
}

fn lock(parent: &OwnedFd, name: &NameBuf) -> Result<OwnedFd> {
    let fd = sys::open::list_dir(&sys::open::dir_at(parent, name.as_name())?)?;
    sys::lock::lock(&fd, LockKind::Exclusive)?;
    Ok(fd)
}

/// Whether a name is one that a look makes: other people's directories begin like that, too.
fn is_ours(name: &[u8]) -> bool {
    let random = name.strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|random| random.len() == 32 && random.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn remove(parent: &OwnedFd, name: &NameBuf) {
    if let Err(e) = sys::name::remove_all(parent, name.as_name()) {
        log::warn!("{name} stays: {e}");
    }
}

/// Removes what killed looks of this user left: directories of such a name that nobody has locked. One that was made a moment ago
/// and is not locked yet is left alone: it is still empty.
fn sweep(parent: &OwnedFd) {
    let mut names = Vec::new();
    let listed = sys::open::list_dir(parent).and_then(|dir| {
        sys::dir::for_each::<sys::Error>(&dir, |entry| {
            if is_ours(entry.name) {
                names.extend(NameBuf::new(entry.name));
            }
            Ok(())
        })
    });
    if let Err(e) = listed {
        log::debug!("cannot look for what was left: {e}");
    }
    for name in names {
        let Ok(dir) = sys::open::dir_at(parent, name.as_name()) else { continue };
        let ours = sys::attr::fstat(&dir).is_ok_and(|stat| stat.uid == sys::process::effective_uid());
        let Ok(fd) = sys::open::list_dir(&dir) else { continue };
        let mut entries = 0;
        let counted = sys::dir::for_each::<sys::Error>(&fd, |_| {
            entries += 1;
            Ok(())
        });
        if ours && counted.is_ok() && entries > 0 && sys::lock::try_lock(&fd, LockKind::Exclusive).unwrap_or(false) {
            remove(parent, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_that_only_begin_like_ours_are_not_swept() {
        assert!(is_ours(format!("{PREFIX}{}", hex_of(&[7; 16])).as_bytes()));
        for other in ["", "mine", "oci-1234-5", "0707070707070707070707070707070G", "07070707070707070707070707070707x"]
        {
            assert!(!is_ours(format!("{PREFIX}{other}").as_bytes()), "{other}");
        }
        assert!(!is_ours(hex_of(&[7; 16]).as_bytes()));
    }
}
