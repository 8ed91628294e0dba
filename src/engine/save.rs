//! Saving images to an archive or a layout directory.

use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustc_hash::FxHashMap;

use crate::digest::VerifyingReader;
use crate::image::Digest;
use crate::image::archive::Cause;
use crate::image::archive::write::DirSink;
use crate::image::archive::write::SavedImage;
use crate::image::archive::write::SavedLayer;
use crate::image::archive::write::Shape;
use crate::image::archive::write::Sink;
use crate::image::archive::write::TarSink;
use crate::image::archive::write::write;
use crate::image::manifest::Document;
use crate::image::manifest::Manifest;
use crate::image::manifest::media_type;
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::images::Images;
use crate::store::known::KnownBlob;

use super::Result;
pub use super::spool::Compress;
use super::spool::Spool;
use super::spool::Spooled;

/// What shall be saved, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The images: names, ids, or repositories with all their tags.
    pub words: &'a [String],
    /// Docker's documents beside, or a plain OCI layout.
    pub shape: Shape,
    /// How layers are compressed; as they are when this is `None`.
    pub compress: Option<Compress>,
}

/// Writes a docker archive of the images to `out`.
///
/// # Errors
/// As [`save_as`].
pub fn save(store: &Store, words: &[String], out: &mut dyn Write) -> Result<()> {
    save_as(store, &Request { words, shape: Shape::Docker, compress: None }, out)
}

/// Writes the images to `out`, as a tar. An image asked for under several names is written once, with these names.
///
/// In an OCI layout, an image whose layers are still had as they came keeps its manifest, and its manifest's digest.
///
/// # Errors
/// When there is no such image, a layer is damaged, or `out` fails; what was written is no whole archive then.
pub fn save_as(store: &Store, request: &Request<'_>, out: &mut dyn Write) -> Result<()> {
    save_to(store, request, || TarSink::new(out))
}

/// As [`save_as`], but into the empty directory `dir`.
///
/// # Errors
/// As [`save_as`].
pub fn save_dir(store: &Store, request: &Request<'_>, dir: &OwnedFd) -> Result<()> {
    save_to(store, request, || DirSink(dir))
}

fn save_to<S: Sink>(store: &Store, request: &Request<'_>, sink: impl FnOnce() -> S) -> Result<()> {
    let _adding = store.adding()?;
    let mut plan = Plan { store, request, sources: FxHashMap::default(), squeezed: FxHashMap::default(), spool: None };
    let images = images(&store.images()?, request.words)?;
    let saved = images.into_iter().map(|(id, names)| plan.image(id, names)).collect::<Result<Vec<_>>>()?;
    plan.remember()?;
    let Plan { sources, spool, .. } = plan;
    let spool = spool.map(Spool::into_fd);
    Ok(write(sink(), request.shape, &saved, |layer| open(store, spool.as_ref(), sources.get(&layer.blob)))?)
}

/// The images that the words mean, each once, with the names by which they were asked for.
fn images(index: &Images, words: &[String]) -> Result<Vec<(Digest, Vec<Reference>)>> {
    let mut images: Vec<(Digest, Vec<Reference>)> = Vec::new();
    let mut add = |id: Digest, name: Option<Reference>| {
        let known = images.iter().position(|(other, _)| *other == id);
        let at = known.unwrap_or_else(|| {
            images.push((id, Vec::new()));
            images.len() - 1
        });
        let Some((_, names)) = images.get_mut(at) else { return };
        // A digest is no name that an archive can give.
        names.extend(name.filter(|name| name.tag().is_some() && !names.contains(name)));
    };
    for word in words {
        let tags = tags_of(index, word);
        if tags.is_empty() {
            let found = index.find(word)?;
            add(found.id, found.name);
        }
        for (name, id) in tags {
            add(id, Some(name));
        }
    }
    Ok(images)
}

/// All tags of a repository, when the word is one: as docker does.
fn tags_of(index: &Images, word: &str) -> Vec<(Reference, Digest)> {
    let Ok(wanted) = Reference::parse_untagged(word) else { return Vec::new() };
    if wanted.tag().is_some() || wanted.digest().is_some() {
        return Vec::new();
    }
    let same =
        |name: &Reference| name.tag().is_some() && name.domain() == wanted.domain() && name.path() == wanted.path();
    index.names.iter().filter(|(name, _)| same(name)).map(|(name, id)| (name.clone(), *id)).collect()
}

/// Where a layer's file comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The pack of this diff id: its tar.
    Pack(Digest),
    /// The file as it came, by its digest.
    Kept(Digest),
    /// It was compressed just now.
    Spooled(Spooled),
}

struct Plan<'a> {
    store: &'a Store,
    request: &'a Request<'a>,
    /// By the digests of the files.
    sources: FxHashMap<Digest, Source>,
    /// By diff id.
    squeezed: FxHashMap<Digest, Spooled>,
    spool: Option<Spool>,
}

impl Plan<'_> {
    fn image(&mut self, id: Digest, names: Vec<Reference>) -> Result<SavedImage> {
        let config_bytes = self.store.need_blob(&id)?;
        let diff_ids = self.store.config(&id)?.rootfs.diff_ids;
        if let Some((manifest, layers)) = self.as_it_came(&id, &diff_ids)? {
            return Ok(SavedImage { id, config_bytes, layers, manifest: Some(manifest), names });
        }
        let layers = diff_ids.iter().map(|diff_id| self.layer(diff_id)).collect::<Result<_>>()?;
        Ok(SavedImage { id, config_bytes, layers, manifest: None, names })
    }

    /// The image's own manifest, when each of its layers can be written as it says.
    fn as_it_came(&mut self, id: &Digest, diff_ids: &[Digest]) -> Result<Option<(Vec<u8>, Vec<SavedLayer>)>> {
        if self.request.shape != Shape::Oci || self.request.compress.is_some() {
            return Ok(None);
        }
        let known = self.store.images()?.images.get(id).and_then(|entry| entry.manifest);
        let Some(bytes) = known.map(|digest| self.store.need_blob(&digest)).transpose()? else { return Ok(None) };
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, Some(media_type::OCI_MANIFEST)) else {
            return Ok(None);
        };
        if !is_oci(&manifest) || manifest.config.digest != *id || manifest.layers.len() != diff_ids.len() {
            return Ok(None);
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        let mut sources = Vec::with_capacity(diff_ids.len());
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let source = match layer.digest == *diff_id {
                true => Source::Pack(*diff_id),
                false if self.store.has_kept(&layer.digest, layer.size)? => Source::Kept(layer.digest),
                false => return Ok(None),
            };
            sources.push((layer.digest, source));
            layers.push(SavedLayer { blob: layer.digest, size: layer.size, media_type: layer.media_type.clone() });
        }
        self.sources.extend(sources);
        Ok(Some((bytes, layers)))
    }

    fn layer(&mut self, diff_id: &Digest) -> Result<SavedLayer> {
        let Some(how) = self.request.compress else {
            self.sources.insert(*diff_id, Source::Pack(*diff_id));
            let size = self.store.layers().get(diff_id)?.tar_size();
            return Ok(SavedLayer { blob: *diff_id, size, media_type: media_type::OCI_LAYER.to_owned() });
        };
        let spooled = match self.squeezed.get(diff_id) {
            Some(known) => *known,
            None => self.squeeze(how, diff_id)?,
        };
        Ok(SavedLayer { blob: spooled.blob, size: spooled.size, media_type: how.media_type().to_owned() })
    }

    fn squeeze(&mut self, how: Compress, diff_id: &Digest) -> Result<Spooled> {
        let layer = self.store.layers().get(diff_id)?;
        let mut tar = VerifyingReader::new(layer.tar_stream(), *diff_id, layer.tar_size());
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(Spool::new(self.store)?),
        };
        let spooled = spool.add(how, &mut tar)?;
        self.squeezed.insert(*diff_id, spooled);
        self.sources.insert(spooled.blob, Source::Spooled(spooled));
        Ok(spooled)
    }

    /// Remembers which compressed digest is which layer: loading the archive again need not read it.
    fn remember(&self) -> Result<()> {
        if self.squeezed.is_empty() {
            return Ok(());
        }
        let pair = |(diff_id, spooled): (&Digest, &Spooled)| {
            (spooled.blob, KnownBlob { diff_id: *diff_id, size: spooled.size })
        };
        let index = self.store.index()?;
        Ok(self.store.learn(&index, self.squeezed.iter().map(pair), |_| true)?)
    }
}

/// Whether nothing in a manifest is of docker's own types, which not every reader of a layout knows.
fn is_oci(manifest: &Manifest) -> bool {
    let layers = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    let own = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
    own == media_type::OCI_MANIFEST
        && layers.chain([manifest.config.media_type.as_str()]).all(|t| !t.contains("docker"))
}

fn open<'a>(
    store: &Store,
    spool: Option<&'a OwnedFd>,
    source: Option<&Source>,
) -> std::result::Result<Box<dyn Read + 'a>, Cause> {
    match (source, spool) {
        (Some(Source::Pack(diff_id)), _) => Ok(Box::new(store.layers().get(diff_id)?.tar_stream())),
        (Some(Source::Kept(blob)), _) => Ok(Box::new(store.open_kept(blob)?)),
        (Some(Source::Spooled(spooled)), Some(spool)) => Ok(Box::new(spooled.read(spool))),
        _ => Err("it was not planned".into()),
    }
}
