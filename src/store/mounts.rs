//! What `mica mount` pinned: one record for each mount, so that no layer of a mounted image is collected.

use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Error;
use super::Result;
use super::Store;
use super::file;
use super::record;
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
    /// Writes a mount's record. The caller holds [`Store::adding`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_mount(&self, record: &MountRecord) -> Result<()> {
        record::write(&self.mounts, file_name(&record.id)?.as_name(), record)
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
        match sys::name::unlink(&self.mounts, file_name(id)?.as_name()) {
            Err(e) if !super::is_absent(&e) => Err(e.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn mount_names(&self) -> Result<Vec<NameBuf>> {
        file::names(&self.mounts, |name| name.ends_with(b".json") && !file::is_dead(name))
    }

    pub(super) fn read_mount(&self, name: &NameBuf) -> Result<Option<MountRecord>> {
        record::read(&self.mounts, name.as_name(), LIMIT)
    }

    pub(super) fn mounts_dir(&self) -> &OwnedFd {
        &self.mounts
    }
}

fn file_name(id: &str) -> Result<NameBuf> {
    let name = format!("{id}.json");
    NameBuf::new(name.as_bytes()).map_err(|why| Error::Name { name, why })
}
