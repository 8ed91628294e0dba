//! Image archives: what `docker save`, `podman save` and `skopeo` write, read in one pass.
//!
//! Three steps, each in its own file:
//! - where the bytes are: a tar file with an index of its entries, or a directory ([`source`]); or a pipe, read once from
//!   front to back ([`stream`]). Both read the outer tar by [`outer`];
//! - what the documents say: [`docker`] and [`oci`] turn `manifest.json` or `index.json` into [`ImagePlan`]s, from nothing but
//!   documents;
//! - the layers of the plans are given to an [`Importer`], which checks them and puts them away.
//!
//! The names in an archive are keys of a table. None is ever opened as a path, except, one checked component at a time, in a
//! layout directory that the user named.

pub mod docker;
pub mod oci;
pub mod outer;
pub mod source;
pub mod stream;
pub mod write;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::Digest;
use super::config::ImageConfig;
use super::limits::Exceeded;
use super::manifest::BadDocument;
use super::manifest::Platform;
use super::reference::BadReference;
use super::reference::Reference;
use source::Blobs;

/// The most that may be read of documents for the plans of an archive, in bytes. A real image's take some tens of KiB; parsed, a hostile
/// one takes 16 times its size.
const RESOLVED_MAX: u64 = 32 << 20;
/// The most images one archive may hold.
const IMAGES_MAX: usize = 256;

/// An error of another part of mica, of whatever type it is.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an importer did not take a layer.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bytes are no layer, or not the right one.
    #[error("{0}")]
    Layer(Cause),
    /// The layer could not be stored; no other could be either.
    #[error("{0}")]
    Store(Cause),
}

impl From<Cause> for ImportError {
    fn from(why: Cause) -> Self {
        ImportError::Layer(why)
    }
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive cannot be read.
    #[error("cannot read it: {0}")]
    Io(std::io::Error),
    /// It grows too much when it is decompressed.
    #[error("{}{source}", if .entry.is_empty() { String::new() } else { format!("entry {entry:?}: ") })]
    Limit {
        /// The entry at which it was met; empty when none is known.
        entry: String,
        /// The limit.
        source: Exceeded,
    },
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] crate::sys::Error),
    /// It is no image archive at all.
    #[error("not an image archive: {0}")]
    NotAnImage(String),
    /// It is a tar, but not of an image.
    #[error("not an image archive: it has neither a manifest.json (docker save) nor an index.json (OCI layout)")]
    NoDocuments,
    /// The archive ends too early.
    #[error("the archive is truncated: {0}")]
    Truncated(String),
    /// A file that the archive's documents name is not in it.
    #[error("{what} {name:?} is not in the archive")]
    Missing {
        /// What the file would be.
        what: String,
        /// Its name.
        name: String,
    },
    /// A document is malformed.
    #[error("{name}: {source}")]
    Document {
        /// The document's name in the archive.
        name: String,
        /// What is wrong.
        source: BadDocument,
    },
    /// A document does not have the digest by which it is named.
    #[error("{what} {name} does not match its digest: expected {expected}, found {found}")]
    Mismatch {
        /// Which document.
        what: &'static str,
        /// Its name in the archive.
        name: String,
        /// The digest that names it.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// The archive gives an image an impossible name.
    #[error("the archive names the image {name:?}: {source}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: BadReference,
    },
    /// The config and the list of layers do not fit.
    #[error("the image has {layers} layers, but its config names {diff_ids} of them")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
    /// No image of a multi-platform archive is for this machine.
    #[error("no image for {host} in the archive, only for {found}")]
    Platform {
        /// This machine.
        host: String,
        /// What there is.
        found: String,
    },
    /// A layer could not be taken.
    #[error("layer {number} of {count} ({diff_id}): {source}")]
    Layer {
        /// Which one, from 1, lowest first.
        number: usize,
        /// Of how many.
        count: usize,
        /// Its diff id, as the config names it.
        diff_id: Digest,
        /// Why.
        source: Cause,
    },
    /// What was read could not be stored.
    #[error("{0}")]
    Store(Cause),
    /// Another worker failed first; never reported.
    #[error("stopped")]
    Stopped,
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<Exceeded>()) {
            Some(limit) => Error::Limit { entry: String::new(), source: limit.clone() },
            None => Error::Io(e),
        }
    }
}

/// A layer as an image's documents describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    /// Which layer of its image, from 1, lowest first.
    pub number: usize,
    /// How many layers the image has.
    pub count: usize,
    /// The layer's file in the archive, links not yet followed.
    pub name: String,
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Digest and size in bytes of its file, where a document or its name tells them.
    pub blob: Option<(Digest, Option<u64>)>,
}

impl LayerPlan {
    fn failed(&self, source: impl Into<Cause>) -> Error {
        Error::Layer { number: self.number, count: self.count, diff_id: self.diff_id, source: source.into() }
    }
}

/// An image as its documents describe it.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// The digest of the config's bytes: the image's id.
    pub id: Digest,
    /// The manifest's bytes, for archives that have one.
    pub manifest: Option<Vec<u8>>,
    /// The layers, lowest first.
    pub layers: Vec<LayerPlan>,
}

/// What is known of a layer when its import starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The plan; a pipe's layers come before it is known.
    pub plan: Option<&'a LayerPlan>,
    /// The layer's file in the archive.
    pub name: &'a str,
    /// The file's size in bytes.
    pub size: u64,
}

/// An imported layer, not yet visible to anyone.
#[derive(Debug)]
pub struct Taken<L> {
    /// The digest of its uncompressed tar, computed.
    pub diff_id: Digest,
    /// The digest of its file, computed; `None` when the importer did not need to read it.
    pub blob: Option<Digest>,
    /// The size of its file in bytes.
    pub blob_size: u64,
    /// What the importer needs to publish it; dropping it leaves no trace.
    pub layer: L,
}

/// Takes layers out of an archive.
pub trait Importer: Sync {
    /// A layer that is prepared but not published.
    type Layer: Send;

    /// Whether the layer is there already, so that its bytes need not be read.
    fn present(&self, diff_id: &Digest) -> bool;

    /// The diff id of a layer file that was seen before and whose layer is there already.
    fn known_blob(&self, blob: &Digest) -> Option<Digest>;

    /// Whether this layer file shall be read even when the layer in it is there already: its bytes are to be kept.
    fn wants_file(&self, _blob: &Digest) -> bool {
        false
    }

    /// Is told that a layer was skipped because it is there already.
    fn skipped(&self, wanted: &Wanted<'_>);

    /// Reads one layer, maybe compressed, to its end, and checks it against the plan where there is one.
    ///
    /// # Errors
    /// When it is no layer, does not match the plan, or cannot be stored.
    fn import(&self, input: &mut (dyn Read + Send), wanted: &Wanted<'_>) -> Result<Taken<Self::Layer>, ImportError>;
}

/// What an archive held.
#[derive(Debug)]
pub struct Contents<L> {
    /// The images.
    pub images: Vec<ImagePlan>,
    /// The layers that were not there before, each once.
    pub layers: Vec<Taken<L>>,
}

/// The machine whose images are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// This one; where an archive has only one image to choose from, whatever it is for.
    Host,
    /// One that the user named; images for others are passed over.
    Named(Platform),
}

impl Machine {
    fn platform(&self) -> Platform {
        match self {
            Machine::Host => Platform::host(),
            Machine::Named(platform) => platform.clone(),
        }
    }
}

/// Reads all images of a source that can be read at any place, `threads` layers at a time.
///
/// # Errors
/// [`Error`]; no layer that was taken is published then.
pub fn load<I: Importer>(
    source: &dyn Blobs,
    importer: &I,
    machine: &Machine,
    threads: usize,
) -> Result<Contents<I::Layer>, Error> {
    let images = resolve(source, machine)?;
    let mut wanted: Vec<(&LayerPlan, u64)> = Vec::new();
    let mut seen = rustc_hash::FxHashSet::default();
    for plan in images.iter().flat_map(|image| &image.layers) {
        if !seen.insert(plan.diff_id) {
            continue;
        }
        if importer.present(&plan.diff_id) && !wants_file(importer, plan) {
            importer.skipped(&Wanted { plan: Some(plan), name: &plan.name, size: 0 });
            continue;
        }
        wanted.push((plan, source.size(&plan.name).ok_or_else(|| missing_layer(plan))?));
    }
    // The largest first, so that two workers end at about the same time.
    wanted.sort_by_key(|&(_, size)| std::cmp::Reverse(size));
    let layers = take_all(source, importer, &wanted, threads)?;
    Ok(Contents { images, layers })
}

/// A file that is not compressed is in the pack.
fn wants_file<I: Importer>(importer: &I, plan: &LayerPlan) -> bool {
    plan.blob.is_some_and(|(blob, _)| blob != plan.diff_id && importer.wants_file(&blob))
}

fn missing_layer(plan: &LayerPlan) -> Error {
    plan.failed(Box::new(Error::Missing { what: "the file".to_owned(), name: plan.name.clone() }))
}

/// Takes the layers, by this thread alone or by `threads` workers; the first error stops them all.
fn take_all<I: Importer>(
    source: &dyn Blobs,
    importer: &I,
    wanted: &[(&LayerPlan, u64)],
    threads: usize,
) -> Result<Vec<Taken<I::Layer>>, Error> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let taken = Mutex::new(Vec::with_capacity(wanted.len()));
    let failed = Mutex::new(None);
    let work = || {
        while let Some(&(plan, size)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match take_one(source, importer, plan, size, &stop) {
                Ok(layer) => taken.lock().push(layer),
                Err(e) => {
                    // A worker that was stopped says nothing; the one that failed was first.
                    if !stop.swap(true, Ordering::Relaxed) {
                        failed.lock().get_or_insert(e);
                    }
                    return;
                }
            }
        }
    };
    let threads = threads.min(wanted.len());
    if threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(taken.into_inner()),
    }
}

fn take_one<I: Importer>(
    source: &dyn Blobs,
    importer: &I,
    plan: &LayerPlan,
    size: u64,
    stop: &AtomicBool,
) -> Result<Taken<I::Layer>, Error> {
    check_file_size(plan, size)?;
    let input = source.open(&plan.name)?.ok_or_else(|| missing_layer(plan))?;
    let mut input = Stoppable { input, stop };
    let taken =
        importer.import(&mut input, &Wanted { plan: Some(plan), name: &plan.name, size }).map_err(|e| match e {
            ImportError::Layer(why) => plan.failed(why),
            ImportError::Store(why) => Error::Store(why),
        })?;
    check_taken(plan, &taken)?;
    Ok(taken)
}

/// Compares the size of a layer's file with what the manifest says.
fn check_file_size(plan: &LayerPlan, size: u64) -> Result<(), Error> {
    match plan.blob {
        Some((_, Some(expected))) if expected != size => {
            Err(plan.failed(format!("{} has {size} bytes, the manifest says {expected}", plan.name)))
        }
        _ => Ok(()),
    }
}

/// Compares what was computed with what the documents say.
fn check_taken<L>(plan: &LayerPlan, taken: &Taken<L>) -> Result<(), Error> {
    if let (Some((expected, _)), Some(blob)) = (plan.blob, taken.blob)
        && expected != blob
    {
        return Err(plan.failed(format!("the digest of {} is {blob}, expected {expected}", plan.name)));
    }
    if plan.diff_id != taken.diff_id {
        return Err(plan.failed(format!("the digest of the layer is {}, expected {}", taken.diff_id, plan.diff_id)));
    }
    Ok(())
}

/// A reader that fails as soon as another worker has failed.
struct Stoppable<'a> {
    input: Box<dyn Read + Send + 'a>,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other(Error::Stopped));
        }
        self.input.read(buf)
    }
}

/// Where documents are looked up by their names in the archive.
pub trait Documents {
    /// The bytes of the document `name`; `None` when there is none.
    ///
    /// # Errors
    /// When it is larger than `limit` bytes, or cannot be read.
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error>;
}

/// Documents, until too much of them was read: one config of some megabytes may be named by as many images as a manifest has
/// room for, and each would hold it.
struct Budget<'a, D: ?Sized> {
    documents: &'a D,
    left: Cell<u64>,
}

impl<D: Documents + ?Sized> Documents for Budget<'_, D> {
    fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = self.documents.document(name, limit)?;
        let len = found.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match self.left.get().checked_sub(len) {
            Some(left) => self.left.set(left),
            None => {
                return Err(Error::NotAnImage(format!("its documents take more than {} MiB", RESOLVED_MAX >> 20)));
            }
        }
        Ok(found)
    }
}

/// The images that the documents describe.
///
/// # Errors
/// [`Error`], also when there is neither `manifest.json` nor `index.json`.
pub fn resolve<D: Documents + ?Sized>(documents: &D, machine: &Machine) -> Result<Vec<ImagePlan>, Error> {
    let documents = &Budget { documents, left: Cell::new(RESOLVED_MAX) };
    let images = match docker::resolve(documents)? {
        Some(mut images) => {
            oci::adopt(documents, machine, &mut images)?;
            images
        }
        None => oci::resolve(documents, machine)?.ok_or(Error::NoDocuments)?,
    };
    let Machine::Named(wanted) = machine else { return Ok(images) };
    let (fitting, others): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|image| platform_of(&image.config).runs_on(wanted));
    if fitting.is_empty() {
        let mut found: Vec<String> = others.iter().map(|image| platform_of(&image.config).to_string()).collect();
        found.dedup();
        return Err(Error::Platform { host: wanted.to_string(), found: found.join(", ") });
    }
    Ok(fitting)
}

fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
        extra: std::collections::BTreeMap::new(),
    }
}

/// Reads and checks the config of an image: its digest where its name is one, its form.
fn read_config<D: Documents + ?Sized>(
    documents: &D,
    name: &str,
    expected: Option<Digest>,
) -> Result<(Vec<u8>, ImageConfig, Digest), Error> {
    let bytes = read_named(documents, "the image config", name, super::config::CONFIG_MAX, expected)?;
    let config = ImageConfig::parse(&bytes).map_err(|source| Error::Document { name: name.to_owned(), source })?;
    let id = Digest::of(&bytes);
    Ok((bytes, config, id))
}

/// Reads a document that must be there and, where `expected` is given, have that digest.
fn read_named<D: Documents + ?Sized>(
    documents: &D,
    what: &'static str,
    name: &str,
    limit: u64,
    expected: Option<Digest>,
) -> Result<Vec<u8>, Error> {
    let bytes = documents
        .document(name, limit)?
        .ok_or_else(|| Error::Missing { what: what.to_owned(), name: name.to_owned() })?;
    let found = Digest::of(&bytes);
    match expected {
        Some(expected) if expected != found => Err(Error::Mismatch { what, name: name.to_owned(), expected, found }),
        _ => Ok(bytes),
    }
}

/// The name of a blob in an OCI layout.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest in the name of a blob of an OCI layout, if `name` is one.
fn digest_of_blob_name(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix("blobs/sha256/")?).ok()
}

/// Refuses an image whose layers and diff ids differ in number.
fn check_count(layers: usize, config: &ImageConfig) -> Result<(), Error> {
    let diff_ids = config.diff_ids().len();
    if layers == diff_ids { Ok(()) } else { Err(Error::LayerCount { layers, diff_ids }) }
}
