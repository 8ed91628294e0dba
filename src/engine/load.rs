//! Loading the images of an archive into the store.
//!
//! The order keeps the store whole at every instant (its invariant I3): layers, config, manifest, and the index last. Until then
//! nothing of the load can be seen; what a killed one leaves is garbage, and what of it is a whole layer saves the next try work.

use std::collections::BTreeSet;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use crate::digest::Sha256Writer;
use crate::env;
use crate::image::Digest;
use crate::image::archive;
use crate::image::archive::Contents;
use crate::image::archive::ImagePlan;
use crate::image::archive::ImportError;
use crate::image::archive::Importer;
use crate::image::archive::Machine;
use crate::image::archive::Taken;
use crate::image::archive::Wanted;
use crate::image::archive::source::LayoutDir;
use crate::image::archive::source::TarFile;
use crate::image::archive::stream;
use crate::image::limits::Inflated;
use crate::image::limits::Limits;
use crate::image::reference::Reference;
use crate::image::unpack;
use crate::image::unpack::What;
use crate::layer::pack::Prepared;
use crate::store::Store;
use crate::store::kept::Keeping;
use crate::store::known::Known;
use crate::store::known::KnownBlob;
use crate::sys;
use crate::sys::attr::Kind;

use super::Error;
use super::LayerNote;
use super::LayerProgress;
use super::Progress;
use super::Result;
use super::input::Input;
use super::input::InputKind;

/// How many layers are imported at a time. Each keeps three threads busy; more than two gain little, as the largest layer of an image
/// is most of it.
const THREADS: usize = 2;
/// How many bytes of an archive tell whether it is compressed.
const SNIFF: usize = 8;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names that it has now by this load.
    pub names: Vec<Reference>,
}

/// How an archive is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The machine whose images are wanted.
    pub machine: Machine,
    /// Keep the compressed layers of images that have a manifest.
    pub keep_blobs: bool,
    /// What a layer may ask for.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { machine: Machine::Host, keep_blobs: false, limits: Limits::default() }
    }
}

/// Loads all images of an archive.
///
/// Durability: layers, documents and names are on disk when this returns. On an error the store is as it was before, but for
/// garbage.
///
/// # Errors
/// [`Error::Archive`] for one that cannot be read, is no image archive, or does not match its digests.
pub fn load(store: &Store, input: Input, progress: &dyn Progress) -> Result<Vec<Loaded>> {
    load_as(store, input, &Options::default(), progress)
}

/// As [`load`], in another way.
///
/// # Errors
/// As [`load`].
pub fn load_as(store: &Store, input: Input, options: &Options, progress: &dyn Progress) -> Result<Vec<Loaded>> {
    load_with(store, input, options, progress, THREADS)
}

/// As [`load_as`], with so many layers at a time; with one, all is done on this thread.
pub(super) fn load_with(
    store: &Store,
    input: Input,
    options: &Options,
    progress: &dyn Progress,
    threads: usize,
) -> Result<Vec<Loaded>> {
    store.sweep_if_idle()?;
    let _adding = store.adding()?;
    let importer = StoreImporter {
        store,
        progress,
        known: store.known(),
        keep: options.keep_blobs,
        limits: &options.limits,
        inflated: Inflated::default(),
    };
    let Input { label, kind, failure } = input;
    let contents = read(kind, &importer, &options.machine, threads)
        .map_err(|e| failure.take().unwrap_or_else(|| Error::Archive { archive: label, source: Box::new(e) }))?;
    progress.publishing();
    publish(store, contents)
}

fn read(
    input: InputKind,
    importer: &StoreImporter<'_>,
    machine: &Machine,
    threads: usize,
) -> std::result::Result<Contents<Staged>, archive::Error> {
    let mut file = match input {
        InputKind::Directory(dir) => return archive::load(&LayoutDir::new(dir), importer, machine, threads),
        InputKind::Download(body) => return stream::load(body, importer, machine, importer.limits),
        InputKind::File(file) => file,
    };
    if sys::attr::fstat(&file)?.kind() == Kind::File {
        let start = file.stream_position()?;
        let mut magic = [0; SNIFF];
        let n = sys::data::read_at(&file, &mut magic, start)?;
        if n > 0 && !stream::is_compressed(magic.get(..n).unwrap_or_default()) {
            return archive::load(&TarFile::open(file.into(), start)?, importer, machine, threads);
        }
        return stream::load_file(&mut file, importer, machine, importer.limits);
    }
    stream::load(&mut file, importer, machine, importer.limits)
}

/// A layer that is ready to be published: its pack, unless it was there, and its file, if that is to be kept.
struct Staged {
    pack: Option<Prepared>,
    file: Option<Keeping>,
}

fn publish(store: &Store, contents: Contents<Staged>) -> Result<Vec<Loaded>> {
    let learned: Vec<(Digest, KnownBlob)> = contents
        .layers
        .iter()
        .filter_map(|taken| {
            let known = KnownBlob { diff_id: taken.diff_id, size: taken.blob_size };
            taken.blob.filter(|blob| *blob != taken.diff_id).map(|blob| (blob, known))
        })
        .collect();
    let (packs, files): (Vec<_>, Vec<_>) =
        contents.layers.into_iter().map(|taken| (taken.layer.pack, taken.layer.file)).unzip();
    store.layers().publish(packs.into_iter().flatten().collect())?;
    let named = named_by_manifests(&contents.images);
    files.into_iter().flatten().try_for_each(|file| store.publish_kept(file, &named))?;
    let mut manifests = Vec::with_capacity(contents.images.len());
    for image in &contents.images {
        store.put_blob(&image.config_bytes)?;
        manifests.push(image.manifest.as_deref().map(|bytes| store.put_blob(bytes)).transpose()?);
    }
    let index = store.index()?;
    let (now, _) = env::now();
    store.change_images(&index, |images| {
        for (image, manifest) in contents.images.iter().zip(&manifests) {
            images.add(image.id, *manifest, &image.names, now);
        }
        Ok::<_, Error>(())
    })?;
    if let Err(e) = store.learn(&index, learned, |_| true) {
        // A hint that is lost costs time, not correctness.
        log::warn!("cannot remember the compressed digests: {e}");
    }
    let loaded = |image: ImagePlan| Loaded { id: image.id, names: image.names };
    Ok(contents.images.into_iter().map(loaded).collect())
}

/// The compressed layer files that the images' manifests name.
fn named_by_manifests(images: &[ImagePlan]) -> BTreeSet<Digest> {
    let layers = images.iter().filter(|image| image.manifest.is_some()).flat_map(|image| &image.layers);
    layers.filter_map(|layer| layer.blob.map(|(blob, _)| blob).filter(|blob| *blob != layer.diff_id)).collect()
}

/// Puts an archive's layers into the store.
struct StoreImporter<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    known: Known,
    keep: bool,
    limits: &'a Limits,
    /// By all layers together.
    inflated: Inflated,
}

impl StoreImporter<'_> {
    /// Takes only the file of a layer that is there.
    fn take_file(&self, input: &mut dyn Read, wanted: &Wanted<'_>, diff_id: Digest) -> Take {
        let store_error = |e: crate::store::Error| ImportError::Store(Box::new(e));
        let mut file = Sha256Writer::new(self.store.keep().map_err(store_error)?);
        // A full disk cannot be told from a damaged archive here; that it is the store's is the better guess.
        std::io::copy(input, &mut file).map_err(|e| ImportError::Store(Box::new(e)))?;
        let (file, blob, blob_size) = file.finish();
        let layer = Staged { pack: None, file: Some(file) };
        if blob_size != wanted.size {
            return Err(ImportError::Layer(format!("it has {blob_size} of {} bytes", wanted.size).into()));
        }
        Ok(Taken { diff_id, blob: Some(blob), blob_size, layer })
    }
}

type Take = std::result::Result<Taken<Staged>, ImportError>;

fn note(wanted: &Wanted<'_>) -> LayerNote {
    LayerNote {
        number: wanted.plan.map(|plan| (plan.number, plan.count)),
        diff_id: wanted.plan.map(|plan| plan.diff_id),
        size: wanted.size,
    }
}

impl Importer for StoreImporter<'_> {
    type Layer = Staged;

    fn present(&self, diff_id: &Digest) -> bool {
        self.store.layers().has(diff_id).unwrap_or_else(|e| {
            log::warn!("reading layer {diff_id} anew: {e}");
            false
        })
    }

    fn known_blob(&self, blob: &Digest) -> Option<Digest> {
        let diff_id = self.known.blobs.get(blob)?.diff_id;
        self.present(&diff_id).then_some(diff_id)
    }

    fn wants_file(&self, blob: &Digest) -> bool {
        self.keep && !self.store.is_kept(blob).unwrap_or(false)
    }

    fn skipped(&self, wanted: &Wanted<'_>) {
        self.progress.already_here(&note(wanted));
    }

    fn import(&self, input: &mut (dyn Read + Send), wanted: &Wanted<'_>) -> Take {
        let mut input = Counting { input, progress: self.progress.layer(&note(wanted)) };
        if let Some(plan) = wanted.plan.filter(|plan| self.keep && self.present(&plan.diff_id)) {
            return self.take_file(&mut input, wanted, plan.diff_id);
        }
        let file =
            match self.keep && wanted.plan.is_none_or(|plan| plan.blob.is_some_and(|(blob, _)| blob != plan.diff_id)) {
                true => Some(self.store.keep().map_err(|e| ImportError::Store(Box::new(e)))?),
                false => None,
            };
        let mut input = Tee { input, file, failed: None };
        let options = unpack::ImportOptions {
            expected_diff_id: wanted.plan.map(|plan| plan.diff_id),
            expected_blob: wanted.plan.and_then(|plan| plan.blob).map(|(digest, _)| (digest, wanted.size)),
            limits: self.limits.clone(),
            inflated: Some(&self.inflated),
            ..unpack::ImportOptions::default()
        };
        let (imported, pack) =
            unpack::prepare_layer(&mut input, self.store.layers().packs(), &options).map_err(classify)?;
        if let Some(e) = input.failed {
            return Err(ImportError::Store(Box::new(e)));
        }
        let compressed = imported.blob_digest.is_some_and(|blob| blob != imported.diff_id);
        let layer = Staged { pack, file: input.file.filter(|_| compressed) };
        Ok(Taken { diff_id: imported.diff_id, blob: imported.blob_digest, blob_size: wanted.size, layer })
    }
}

/// Writes down what is read.
struct Tee<R> {
    input: R,
    file: Option<Keeping>,
    /// The first failure of writing; nothing is written behind it.
    failed: Option<std::io::Error>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        if let (Some(file), None) = (&mut self.file, &self.failed) {
            self.failed = file.write_all(buf.get(..n).unwrap_or_default()).err();
        }
        Ok(n)
    }
}

/// Whether an import failed because of the bytes or because of the store. The archive says which layer it is.
fn classify(e: unpack::Error) -> ImportError {
    if let What::Store(_) = *e.what {
        return ImportError::Store(Box::new(e));
    }
    match e.entry {
        Some(entry) => ImportError::Layer(format!("entry '{entry}': {}", e.what).into()),
        None => ImportError::Layer(e.what),
    }
}

/// Counts what is read.
struct Counting<'a> {
    input: &'a mut (dyn Read + Send),
    progress: Box<dyn LayerProgress>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buf)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
