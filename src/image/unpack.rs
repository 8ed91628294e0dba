//! From a layer's stream to a pack, in one pass: compressed digest, decompression, diff id, entries, bodies.
//!
//! Three threads share the work, chunk by chunk ([`crate::image::ahead`]): one reads the stream, digests and inflates it; one computes the
//! diff id; the caller's takes the tar apart and writes. Inflating takes longer than the rest together, and alone bounds the time.
//!
//! Sources: OCI image specification `layer.md`; POSIX `pax`; the GNU tar manual, "Tar Internals". Where tars in the wild
//! differ from these, what Go's `archive/tar` reads decides, since docker, containerd and podman read layers with it: two
//! readers that see different entries in one tar are a hole (CVE-2025-62518).
//!
//! No name of a layer touches the host: entries become records of an index ([`crate::layer::pack`]).

mod error;
mod header;
mod pax;
mod reader;
mod source;

#[cfg(test)]
mod tests;

use std::io::Read;

pub use error::Error;
pub use error::What;

use crate::digest::Digest;
use crate::image::limits::Inflated;
use crate::image::limits::Limits;
use crate::layer::pack::PackStore;
use crate::layer::pack::Prepared;

/// What is expected of a layer, and how it is taken.
#[derive(Default)]
pub struct ImportOptions<'a> {
    /// The digest that the uncompressed tar must have. When the store has that layer already, the stream is not read.
    pub expected_diff_id: Option<Digest>,
    /// Digest and size that the stream itself must have.
    pub expected_blob: Option<(Digest, u64)>,
    /// What the layer may ask for.
    pub limits: Limits,
    /// What it and others that belong to it may grow to together.
    pub inflated: Option<&'a Inflated>,
    /// Is told how many bytes of the stream have been read, from time to time.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

impl std::fmt::Debug for ImportOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportOptions")
            .field("expected_diff_id", &self.expected_diff_id)
            .field("expected_blob", &self.expected_blob)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The digest of the stream as it came; the expected one when the stream was not read.
    pub blob_digest: Option<Digest>,
    /// The size of the stream in bytes; the expected one when it was not read.
    pub blob_size: u64,
    /// The size of the uncompressed tar in bytes.
    pub tar_size: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// The store had the layer already.
    pub already_there: bool,
}

/// Takes a layer, possibly compressed with gzip or zstd, into the store.
///
/// # Errors
/// [`Error`] says which layer, which entry and what. Nothing is left in the store then.
///
/// # Durability
/// The layer, when it returns.
pub fn import_layer(
    stream: impl Read + Send,
    store: &PackStore,
    options: &ImportOptions<'_>,
) -> Result<Imported, Error> {
    let (imported, prepared) = prepare_layer(stream, store, options)?;
    let publish = store.publish(prepared.into_iter().collect());
    publish.map_err(|e| Error::new(options, e))?;
    Ok(imported)
}

/// As [`import_layer`], but the layer is not there before the caller passes what it gets to [`PackStore::publish`]: one
/// wait for the disk does for several layers. There is nothing to publish when the store has the layer already.
///
/// # Errors
/// As [`import_layer`].
pub fn prepare_layer(
    stream: impl Read + Send,
    store: &PackStore,
    options: &ImportOptions<'_>,
) -> Result<(Imported, Option<Prepared>), Error> {
    if let Some(diff_id) = options.expected_diff_id
        && store.has(&diff_id).map_err(|e| Error::new(options, e))?
    {
        return already_there(store, diff_id, options).map(|imported| (imported, None));
    }
    let read = reader::read(stream, store, options)?;
    if store.has(&read.imported.diff_id).map_err(|e| Error::new(options, e))? {
        return Ok((Imported { already_there: true, ..read.imported }, None));
    }
    let prepared = read.writer.finish(read.imported.diff_id, &read.tree).map_err(|e| Error::new(options, e))?;
    Ok((read.imported, Some(prepared)))
}

fn already_there(store: &PackStore, diff_id: Digest, options: &ImportOptions<'_>) -> Result<Imported, Error> {
    let info = store.info(&diff_id).map_err(|e| Error::new(options, e))?;
    let (blob_digest, blob_size) = options.expected_blob.unzip();
    Ok(Imported {
        diff_id,
        blob_digest,
        blob_size: blob_size.unwrap_or(0),
        tar_size: info.tar_size,
        entries: info.entries,
        already_there: true,
    })
}
