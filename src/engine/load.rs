//! Loading the images of an archive into the store.
//!
//! The order keeps the store whole at every instant (its invariant I3): layers, config, manifest, and the index last. Until then
//! nothing of the load can be seen; what a killed one leaves is garbage, and what of it is a whole layer saves the next try work.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::env;
use crate::image::Digest;
use crate::image::archive;
use crate::image::archive::Contents;
use crate::image::archive::ImagePlan;
use crate::image::archive::ImportError;
use crate::image::archive::Importer;
use crate::image::archive::Taken;
use crate::image::archive::Wanted;
use crate::image::archive::source::LayoutDir;
use crate::image::archive::source::TarFile;
use crate::image::archive::stream;
use crate::image::reference::Reference;
use crate::image::unpack;
use crate::image::unpack::What;
use crate::layer::pack::Prepared;
use crate::store::Store;
use crate::store::known::Known;
use crate::store::known::KnownBlob;
use crate::sys;
use crate::sys::attr::Kind;

use super::Error;
use super::LayerNote;
use super::LayerProgress;
use super::Progress;
use super::Result;

/// How many layers are imported at a time. Each keeps one thread busy with its digest; more than two gain little, as the
/// largest layer of an image is most of it.
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

/// An opened archive, and how the user calls it.
#[derive(Debug)]
pub struct Input {
    label: String,
    kind: InputKind,
}

#[derive(Debug)]
enum InputKind {
    File(File),
    Directory(OwnedFd),
}

impl Input {
    /// Opens the file, pipe or layout directory that the user named.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let fail = |source| Error::Open { path: label.clone(), source };
        let file = File::open(path).map_err(fail)?;
        let is_dir = file.metadata().map_err(fail)?.is_dir();
        let kind = if is_dir { InputKind::Directory(file.into()) } else { InputKind::File(file) };
        Ok(Self { label, kind })
    }

    /// An open descriptor, such as standard input.
    pub fn from_fd(fd: OwnedFd, label: impl Into<String>) -> Self {
        Self { label: label.into(), kind: InputKind::File(fd.into()) }
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
    load_with(store, input, progress, THREADS)
}

/// As [`load`], with so many layers at a time; with one, all is done on this thread.
pub(super) fn load_with(store: &Store, input: Input, progress: &dyn Progress, threads: usize) -> Result<Vec<Loaded>> {
    store.sweep_if_idle()?;
    let _adding = store.adding()?;
    let importer = StoreImporter { store, progress, known: store.known() };
    let label = input.label.clone();
    let contents =
        read(input, &importer, threads).map_err(|e| Error::Archive { archive: label, source: Box::new(e) })?;
    progress.publishing();
    publish(store, contents)
}

fn read(
    input: Input,
    importer: &StoreImporter<'_>,
    threads: usize,
) -> std::result::Result<Contents<Option<Prepared>>, archive::Error> {
    let mut file = match input.kind {
        InputKind::Directory(dir) => return archive::load(&LayoutDir::new(dir), importer, threads),
        InputKind::File(file) => file,
    };
    if sys::attr::fstat(&file)?.kind() == Kind::File {
        let start = file.stream_position()?;
        let mut magic = [0; SNIFF];
        let n = sys::data::read_at(&file, &mut magic, start)?;
        if n > 0 && !stream::is_compressed(magic.get(..n).unwrap_or_default()) {
            return archive::load(&TarFile::open(file.into(), start)?, importer, threads);
        }
    }
    stream::load(&mut file, importer)
}

fn publish(store: &Store, contents: Contents<Option<Prepared>>) -> Result<Vec<Loaded>> {
    let learned: Vec<(Digest, KnownBlob)> = contents
        .layers
        .iter()
        .filter_map(|taken| {
            let known = KnownBlob { diff_id: taken.diff_id, size: taken.blob_size };
            taken.blob.filter(|blob| *blob != taken.diff_id).map(|blob| (blob, known))
        })
        .collect();
    store.layers().publish(contents.layers.into_iter().filter_map(|taken| taken.layer).collect())?;
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

/// Puts an archive's layers into the store.
struct StoreImporter<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    known: Known,
}

fn note(wanted: &Wanted<'_>) -> LayerNote {
    LayerNote {
        number: wanted.plan.map(|plan| (plan.number, plan.count)),
        diff_id: wanted.plan.map(|plan| plan.diff_id),
        size: wanted.size,
    }
}

impl Importer for StoreImporter<'_> {
    type Layer = Option<Prepared>;

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

    fn skipped(&self, wanted: &Wanted<'_>) {
        self.progress.already_here(&note(wanted));
    }

    fn import(
        &self,
        input: &mut (dyn Read + Send),
        wanted: &Wanted<'_>,
    ) -> std::result::Result<Taken<Option<Prepared>>, ImportError> {
        let input = Counting { input, progress: self.progress.layer(&note(wanted)) };
        let options = unpack::ImportOptions {
            expected_diff_id: wanted.plan.map(|plan| plan.diff_id),
            expected_blob: wanted.plan.and_then(|plan| plan.blob).map(|(digest, _)| (digest, wanted.size)),
            ..unpack::ImportOptions::default()
        };
        let (imported, layer) =
            unpack::prepare_layer(input, self.store.layers().packs(), &options).map_err(classify)?;
        Ok(Taken { diff_id: imported.diff_id, blob: imported.blob_digest, blob_size: wanted.size, layer })
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
