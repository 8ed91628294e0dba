//! The layers of a store: its packs, in the words of the rest of the store.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustc_hash::FxHashSet;

use super::Error;
use super::Result;
use crate::image::Digest;
use crate::layer::pack::PackInfo;
use crate::layer::pack::PackLayer;
use crate::layer::pack::PackStore;
use crate::layer::pack::Prepared;

/// The layers of a store.
#[derive(Debug, Clone)]
pub struct Layers {
    packs: PackStore,
}

impl Layers {
    /// Opens the layers below the store's root; their directories are made where they are missing.
    pub(super) fn open(root: &OwnedFd) -> Result<Self> {
        Ok(Self { packs: PackStore::open_at(root)? })
    }

    /// The packs themselves: to import into, and to mount from.
    pub fn packs(&self) -> &PackStore {
        &self.packs
    }

    /// Whether the layer is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has(&self, diff_id: &Digest) -> Result<bool> {
        Ok(self.packs.has(diff_id)?)
    }

    /// Opens a layer for reading.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn get(&self, diff_id: &Digest) -> Result<PackLayer> {
        Ok(self.packs.open(diff_id)?)
    }

    /// Sizes and counts of a layer.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn info(&self, diff_id: &Digest) -> Result<PackInfo> {
        Ok(self.packs.info(diff_id)?)
    }

    /// Makes prepared layers be there, all of them durable before the first is seen.
    ///
    /// # Errors
    /// The kernel's.
    pub fn publish(&self, layers: Vec<Prepared>) -> Result<()> {
        Ok(self.packs.publish(layers)?)
    }

    /// The diff ids of all layers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self) -> Result<FxHashSet<Digest>> {
        Ok(self.packs.list()?.into_iter().collect())
    }

    /// Removes what killed writers left unfinished; how many files.
    pub(super) fn sweep(&self) -> Result<usize> {
        Ok(usize::try_from(self.packs.sweep()?).unwrap_or(usize::MAX))
    }

    /// Removes every layer but those to `keep`, then the objects that none of these uses, then unfinished files: the layers, and
    /// bytes freed. Only under the exclusive lock.
    pub(super) fn collect(&self, keep: &BTreeSet<Digest>) -> Result<(Vec<Digest>, u64)> {
        let before = self.packs.list()?;
        let collected = self.packs.collect_garbage(keep)?;
        let gone = before.into_iter().filter(|id| !collected.busy && !keep.contains(id));
        Ok((gone.collect(), collected.bytes))
    }
}

impl From<crate::layer::Error> for Error {
    fn from(e: crate::layer::Error) -> Self {
        match e {
            crate::layer::Error::Sys(e) => Error::Sys(e),
            other => Error::Layers(Box::new(other)),
        }
    }
}
