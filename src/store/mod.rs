//! The store: everything that mica keeps on disk, for many processes at once, with no daemon.
//!
//! ```text
//! ROOT/                  /var/lib/mica, or $XDG_DATA_HOME/mica for a user; mode 0700
//!   format.json          version and features of the store                          (format.rs)
//!   lock                 held shared by whoever adds, exclusively by whoever collects (lock.rs)
//!   index.lock           held for a moment by whoever reads and rewrites an index    (lock.rs)
//!   images.json          the images and their names                                  (images.rs)
//!   known.json           compressed digests seen before, with their diff ids         (known.rs)
//!   blobs/sha256/HEX     configs and manifests                                       (blobs.rs)
//!   packs/ objects/ tmp/ layers, see layer::pack                                     (layers.rs)
//!   kept/HEX             compressed layers as they came, if that is configured       (kept.rs)
//!   containers/ID/       container.json, upper/ work/ rootfs/                        (containers.rs)
//!   mounts/ID.BOOT.json  what `mica mount` pinned, while the system is up            (mounts.rs)
//! ```
//!
//! # Invariants
//!
//! They hold at every instant, also after SIGKILL or a power cut at any point; `system check` tests them, and these tests do:
//!
//! | | tests |
//! |---|---|
//! | I1 | `store::tests::a_change_that_fails_changes_nothing`, `pack::tests::a_crash_while_publishing_leaves_the_layer_or_only_garbage` |
//! | I2 | `engine::damage_tests::every_stored_file_harmed_in_every_way_is_found_and_brought_back` |
//! | I3, I4 | `engine::tests::a_load_that_fails_at_any_step_leaves_nothing_to_see`, `a_removal_that_fails_at_any_step_..`; `crash store_commands_killed` |
//! | I5 | `engine::tests::an_image_in_use_is_not_removed`, `damage_tests::a_container_record_in_doubt_stops_every_removal` |
//! | I6, I8 | `damage_tests::leftovers_are_told_of_and_removed`, `a_collection_or_repair_cut_at_any_step_..`; `cli side_by_side`, `crash store_commands_killed` |
//! | I1 of mounts | `store::tests::what_a_power_cut_left_of_a_mount_is_never_read` |
//! | I7 | `store::tests::containers_have_unique_names_and_pin_their_image`; what records say: `store::record::tests::every_flipped_bit_of_a_record_is_found` |
//! | I9 | `damage_tests::a_load_brings_back_what_is_missing_or_cut_without_a_repair`, `cli check::damage_is_named_and_repaired` |
//!
//! - **I1** A file with its final name is complete and never changes in place: it was written under a temporary name, synced, and
//!   renamed. (Exceptions: `upper/` and `work/` of a container, which a mount writes; and a mount's record, which is not synced, and not
//!   read by another boot than the one in its name.)
//! - **I2** A blob's name is the SHA-256 of its bytes; a pack's name is the diff id of the layer in it.
//! - **I3** An image in `images.json` has its config blob, its manifest blob if it names one, and a pack for each diff id.
//! - **I4** A name in `images.json` points to an image in `images.json`.
//! - **I5** A container's or mount's layers have their packs, whether or not their image still is in `images.json`.
//! - **I6** What nothing refers to is garbage: it is never shown, and may be removed by whoever holds `lock` exclusively.
//! - **I7** Two containers never have the same name; a container with an id has its directories.
//! - **I8** A temporary name (`.tmp-*`, `.gone-*`, anything in `tmp/`) is dead once nobody else holds `lock`;
//!   beside an index or a record, once nobody holds `index.lock` either.
//! - **I9** What is known to be damaged counts as missing: nothing new relies on it, and a load replaces it.
//!
//! I3 and I5 give the order: **objects, packs, config, manifest, and `images.json` last**; removal is the reverse:
//! `images.json` first, and the rest by a collection under the exclusive lock.
//!
//! # Locks
//!
//! `lock` before `index.lock`, never the other way. Readers take neither: what they read is complete (I1), and what they found
//! in `images.json` may only vanish by a removal that the user asked for; who must rely on it (a new container, a load that skips a
//! layer) holds `lock` shared.

pub mod blobs;
pub mod check;
pub mod containers;
mod error;
mod file;
mod format;
pub mod gc;
pub mod images;
pub mod kept;
pub mod known;
pub mod layers;
mod lock;
pub mod mounts;
mod record;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

pub use error::Error;
pub use error::Result;
pub use lock::Guard;
pub use lock::IndexGuard;

use crate::path::Name;
use crate::sys;
use crate::sys::Errno;

/// The environment variable that names the store.
pub const ROOT_VARIABLE: &str = "MICA_ROOT";
/// The environment variable by which a store that belongs to another user is used all the same.
const ANY_OWNER_VARIABLE: &str = "MICA_ANY_OWNER";
/// Where the store of the super-user lies.
const SYSTEM_ROOT: &str = "/var/lib/mica";

/// The fixed names in a store.
const FORMAT: &[u8] = b"format.json";
const LOCK: &[u8] = b"lock";
const INDEX_LOCK: &[u8] = b"index.lock";
const IMAGES: &[u8] = b"images.json";
const KNOWN: &[u8] = b"known.json";
const BLOBS: &[u8] = b"blobs";
const SHA256: &[u8] = b"sha256";
const CONTAINERS: &[u8] = b"containers";
const MOUNTS: &[u8] = b"mounts";
const KEPT: &[u8] = b"kept";

/// A fixed name, which is one component by being written here.
fn fixed(name: &'static [u8]) -> Result<Name<'static>> {
    Name::new(name).map_err(|why| Error::Name { name: crate::path::Escaped(name).to_string(), why })
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
    containers: OwnedFd,
    mounts: OwnedFd,
    layers: layers::Layers,
    writable: bool,
}

impl Store {
    /// The root that is meant when none is given: `MICA_ROOT`, `/var/lib/mica` for the super-user, else
    /// `$XDG_DATA_HOME/mica` or `~/.local/share/mica`.
    ///
    /// # Errors
    /// [`Error::NoHome`] for a user without a home.
    pub fn default_root() -> Result<PathBuf> {
        if let Some(root) = crate::env::var(ROOT_VARIABLE) {
            return Ok(root.into());
        }
        if sys::process::effective_uid() == 0 {
            return Ok(SYSTEM_ROOT.into());
        }
        match (crate::env::var("XDG_DATA_HOME").map(PathBuf::from), crate::env::var("HOME")) {
            (Some(data), _) if data.is_absolute() => Ok(data.join("mica")),
            (_, Some(home)) => Ok(PathBuf::from(home).join(".local/share/mica")),
            _ => Err(Error::NoHome),
        }
    }

    /// Opens the store at `path`; makes an empty one when there is none.
    ///
    /// A store is its owner's alone, as a repository is for git: what another user, and root above all, read there would be what the owner
    /// likes (which layers an image has, which command it runs), and what they wrote would be lost to the owner. `MICA_ANY_OWNER` in the
    /// environment lets it be, for filesystems on which all belongs to one user.
    ///
    /// # Errors
    /// [`Error::Owner`]; [`Error::Format`] for a store of a version that this program does not know; otherwise the kernel's.
    pub fn open(path: &Path) -> Result<Self> {
        file::make_dirs(path, 0o700)?;
        let root = sys::open::dir_path(path)?;
        let (owner, user) = (sys::attr::fstat(&root)?.uid, sys::process::effective_uid());
        if owner != user && crate::env::var(ANY_OWNER_VARIABLE).is_none() {
            return Err(Error::Owner { owner, user });
        }
        let writable = match format::check(&root)? {
            format::Found::Usable { writable } => writable,
            format::Found::Nothing => {
                Self::lay_out(&root)?;
                true
            }
        };
        Self::of(path, root, writable)
    }

    /// Opens a store to look at it, whoever owns it: that of a mount, which this user found on the way.
    ///
    /// # Errors
    /// As [`Store::open`]; the kernel's when there is none.
    pub fn look(path: &Path) -> Result<Self> {
        let root = sys::open::dir_path(path)?;
        format::check(&root)?;
        Self::of(path, root, false)
    }

    fn of(path: &Path, root: OwnedFd, writable: bool) -> Result<Self> {
        let blobs = sys::open::dir_at(&sys::open::dir_at(&root, fixed(BLOBS)?)?, fixed(SHA256)?)?;
        Ok(Self {
            path: path.to_owned(),
            blobs,
            containers: sys::open::dir_at(&root, fixed(CONTAINERS)?)?,
            mounts: sys::open::dir_at(&root, fixed(MOUNTS)?)?,
            layers: layers::Layers::open(&root)?,
            writable,
            root,
        })
    }

    /// Makes the directories of a new store, and the format file last: a store without it is laid out again.
    fn lay_out(root: &OwnedFd) -> Result<()> {
        for name in [BLOBS, CONTAINERS, MOUNTS] {
            file::make_dir(root, fixed(name)?, 0o700)?;
        }
        file::make_dir(&sys::open::dir_at(root, fixed(BLOBS)?)?, fixed(SHA256)?, 0o700)?;
        layers::Layers::open(root)?;
        sys::data::sync_dir(root)?;
        format::write(root)
    }

    /// Where the store lies, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's root directory, for the parts that live in it.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The layers.
    pub fn layers(&self) -> &layers::Layers {
        &self.layers
    }

    /// Lets this process add to the store: nothing is collected as long as the guard lives. Waits while another process
    /// collects.
    ///
    /// # Errors
    /// The kernel's; [`Error::ReadOnly`] for a store that a newer mica wrote.
    pub fn adding(&self) -> Result<Guard> {
        self.must_be_writable()?;
        Guard::shared(&self.root)
    }

    /// Lets this process collect; `None` when any other process is adding or collecting.
    ///
    /// # Errors
    /// As [`Store::adding`].
    pub fn try_collecting(&self) -> Result<Option<Guard>> {
        self.must_be_writable()?;
        Guard::try_exclusive(&self.root)
    }

    /// Lets this process read and rewrite `images.json`, `known.json` and the names of containers.
    ///
    /// # Errors
    /// As [`Store::adding`].
    pub fn index(&self) -> Result<IndexGuard> {
        self.must_be_writable()?;
        IndexGuard::take(&self.root)
    }

    fn must_be_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::ReadOnly { path: self.path.display().to_string() }) }
    }
}

/// Whether an error of the kernel means that there is no such file.
fn is_absent(e: &sys::Error) -> bool {
    e.errno() == Errno::NOENT
}
