//! Collecting what nothing refers to (I6), under the exclusive lock.

use std::collections::BTreeSet;

use super::Error;
use super::Guard;
use super::Result;
use super::Store;
use super::file;
use crate::image::Digest;
use crate::sys::Errno;

/// What a collection removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Layers, by diff id.
    pub layers: Vec<Digest>,
    /// Configs, manifests, and kept layer files.
    pub blobs: usize,
    /// What killed processes left behind.
    pub leftovers: usize,
    /// Bytes of layers that are free now.
    pub bytes: u64,
}

/// Everything that must stay.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) blobs: BTreeSet<Digest>,
    pub(super) layers: BTreeSet<Digest>,
}

impl Store {
    /// Removes everything that no image, container or mount needs. `guard` must be the exclusive one.
    ///
    /// # Errors
    /// The kernel's. When any record cannot be read, nothing is removed: what it needs is not known.
    pub fn collect(&self, _guard: &Guard) -> Result<Collected> {
        let needed = self.needed()?;
        let mut collected = Collected { leftovers: self.sweep()?, ..Collected::default() };
        for digest in self.blob_digests()? {
            if !needed.blobs.contains(&digest) {
                self.remove_blob(&digest)?;
                collected.blobs += 1;
            }
        }
        collected.blobs += self.collect_kept()?;
        (collected.layers, collected.bytes) = self.layers().collect(&needed.layers)?;
        if !collected.layers.is_empty() {
            let index = self.index()?;
            self.learn(&index, [], |known| needed.layers.contains(&known.diff_id))?;
        }
        Ok(collected)
    }

    /// Removes what killed processes left of layers, documents and records, if no other process is at work. Cheap: it lists a few
    /// directories and reads nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sweep_if_idle(&self) -> Result<()> {
        let Some(_guard) = self.try_collecting()? else { return Ok(()) };
        match self.sweep() {
            // Immutable, perhaps: one file must not keep the whole store from being used.
            Err(Error::Sys(e)) if e.errno() == Errno::PERM => {
                log::warn!("what was left half done cannot be removed: {e}");
                Ok(())
            }
            swept => swept.map(drop),
        }
    }

    /// What images, containers and mounts need.
    pub(super) fn needed(&self) -> Result<Needed> {
        let mut needed = Needed::default();
        for (id, entry) in &self.images()?.images {
            needed.blobs.insert(*id);
            needed.blobs.extend(entry.manifest);
            needed.layers.extend(self.config(id)?.diff_ids());
        }
        for container in self.containers()? {
            // The image of a container stays readable even when it was removed by force: its config is small.
            needed.blobs.insert(container.image_id);
            needed.layers.extend(container.layers);
        }
        for mount in self.mounts()? {
            needed.blobs.insert(mount.image_id);
            needed.layers.extend(mount.layers);
        }
        Ok(needed)
    }

    /// Removes what killed processes left half done. Only under the exclusive lock, and never with the index's in hand.
    fn sweep(&self) -> Result<usize> {
        let mut swept = self.sweep_blobs()? + self.layers().sweep()? + self.sweep_kept()?;
        // Who rewrites an index or a record may hold nothing but this.
        let _index = self.index()?;
        for dir in [self.root(), self.containers_dir(), self.mounts_dir()] {
            swept += file::sweep(dir)?;
        }
        swept += self.sweep_mounts()?;
        Ok(swept)
    }
}
