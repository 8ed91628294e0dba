//! Which compressed layer has which diff id: `known.json`. A hint that saves work; it may be lost without harm.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::IndexGuard;
use super::KNOWN;
use super::Result;
use super::Store;
use super::file;
use super::fixed;
use crate::image::Digest;

/// The most that the file may take, in bytes.
const LIMIT: u64 = 64 << 20;

/// Layer files whose content was verified once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// By the digest of the file, compressed or not.
    pub blobs: BTreeMap<Digest, KnownBlob>,
}

/// One layer file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBlob {
    /// The diff id of the layer in it.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Store {
    /// What is known; nothing when the file is missing or damaged.
    pub fn known(&self) -> Known {
        let read = fixed(KNOWN).and_then(|name| file::read_json(&self.root, name, LIMIT));
        read.unwrap_or_else(|e| {
            log::warn!("starting known.json anew: {e}");
            None
        })
        .unwrap_or_default()
    }

    /// Whether the file is one that can be read; a missing one is.
    pub(super) fn known_is_whole(&self) -> Result<()> {
        file::read_json::<Known>(&self.root, fixed(KNOWN)?, LIMIT).map(drop)
    }

    /// Forgets everything.
    pub(super) fn forget_known(&self, _held: &IndexGuard) -> Result<()> {
        Ok(crate::sys::name::remove_all(&self.root, fixed(KNOWN)?)?)
    }

    /// Adds what was learned, and forgets what `keep` does not want.
    ///
    /// # Errors
    /// The kernel's.
    pub fn learn(
        &self,
        _held: &IndexGuard,
        learned: impl IntoIterator<Item = (Digest, KnownBlob)>,
        keep: impl Fn(&KnownBlob) -> bool,
    ) -> Result<()> {
        let before = self.known();
        let mut known = before.clone();
        known.blobs.extend(learned);
        known.blobs.retain(|_, blob| keep(blob));
        if known == before { Ok(()) } else { file::write_json(&self.root, fixed(KNOWN)?, &known) }
    }
}
