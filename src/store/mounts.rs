//! What `mica mount` pinned: one record for each mount, so that no layer of a mounted image is collected.
//!
//! A mount ends with the system, so its record need not outlast it, and nobody waits for a disk to write it. Its file's name has the
//! number of the boot: after a power cut, which may leave it empty or torn, it is a leftover by its name, and never read.

use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Error;
use super::Result;
use super::Store;
use super::file;
use super::file::Lasting;
use super::record;
use crate::env;
use crate::image::Digest;
use crate::path::NameBuf;
use crate::sys;

/// The most that one record may take, in bytes.
const LIMIT: u64 = 1 << 20;

/// Behind an image's name: not the image, but each of its layers as a directory of its own.
pub const EACH_LAYER: &str = "@*";

/// A mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The record's id: hex digits, the record's file name.
    pub id: String,
    /// The mountpoint, as the kernel names it.
    pub target: String,
    /// The image, as it was named.
    pub image_name: String,
    /// The image.
    pub image_id: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<Digest>,
    /// The process that serves the mount.
    pub pid: u32,
    /// When that process started, in the kernel's clock ticks since boot: a recycled pid has another one.
    pub start_time: u64,
    /// When it was mounted, in seconds since 1970.
    pub created: i64,
    /// Whatever else the mount wants to remember.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Store {
    /// Writes a mount's record. The caller holds [`Store::adding`]. It lasts as long as the system is up, as the mount does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_mount(&self, record: &MountRecord) -> Result<()> {
        match env::boot_id() {
            Some(boot) => {
                record::write(&self.mounts, file_name(&record.id, Some(&boot))?.as_name(), record, Lasting::No)
            }
            None => record::write(&self.mounts, file_name(&record.id, None)?.as_name(), record, Lasting::Now),
        }
    }

    /// All mounts, also those whose process is gone.
    ///
    /// # Errors
    /// The kernel's; [`Error::Damaged`].
    pub fn mounts(&self) -> Result<Vec<MountRecord>> {
        let names = self.mount_names()?;
        let records = names.iter().map(|name| self.read_mount(name));
        // One that vanished since the listing was unmounted meanwhile.
        records.filter_map(Result::transpose).collect()
    }

    /// Forgets a mount.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_mount(&self, id: &str) -> Result<()> {
        for boot in [env::boot_id(), None] {
            match sys::name::unlink(&self.mounts, file_name(id, boot.as_deref())?.as_name()) {
                Err(e) if !super::is_absent(&e) => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The records of mounts that may be there still.
    pub(super) fn mount_names(&self) -> Result<Vec<NameBuf>> {
        let boot = env::boot_id();
        file::names(&self.mounts, |name| {
            name.ends_with(SUFFIX) && !file::is_dead(name) && !is_of_another_boot(name, boot.as_deref())
        })
    }

    /// Removes the records of mounts that ended with an earlier boot; how many there were.
    pub(super) fn sweep_mounts(&self) -> Result<usize> {
        let dead = self.ended_mounts()?;
        dead.iter().try_for_each(|name| sys::name::unlink(&self.mounts, name.as_name()))?;
        Ok(dead.len())
    }

    /// The names of such records.
    pub(super) fn ended_mounts(&self) -> Result<Vec<NameBuf>> {
        let boot = env::boot_id();
        file::names(&self.mounts, |name| is_of_another_boot(name, boot.as_deref()))
    }

    pub(super) fn read_mount(&self, name: &NameBuf) -> Result<Option<MountRecord>> {
        record::read(&self.mounts, name.as_name(), LIMIT)
    }

    pub(super) fn mounts_dir(&self) -> &OwnedFd {
        &self.mounts
    }
}

const SUFFIX: &[u8] = b".json";

/// `ID.BOOT.json`; without a number of the boot, as by a mica that did not note it, `ID.json`.
fn file_name(id: &str, boot: Option<&str>) -> Result<NameBuf> {
    let name = boot.map_or_else(|| format!("{id}.json"), |boot| format!("{id}.{boot}.json"));
    NameBuf::new(name.as_bytes()).map_err(|why| Error::Name { name, why })
}

/// Whether a record is of a mount that another boot than `now` saw.
fn is_of_another_boot(name: &[u8], now: Option<&str>) -> bool {
    let (Some(stem), Some(now)) = (name.strip_suffix(SUFFIX), now) else { return false };
    let mut parts = stem.split(|byte| *byte == b'.');
    parts.next().is_some_and(|id| !id.is_empty()) && parts.next().is_some_and(|boot| boot != now.as_bytes())
}
