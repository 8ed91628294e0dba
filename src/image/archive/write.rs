//! Writing an archive or a layout directory: blobs by digest, and the documents that tell what they are.
//!
//! One shape serves everybody. It is an OCI image layout; as a docker archive it has `manifest.json` and `repositories` beside,
//! with the paths of the same blobs, as docker writes it since version 25. Docker 20.10 and podman take the layers from where
//! `manifest.json` says they are, so they read it, too. The documents come after the blobs, in the order of their names.
//!
//! The bytes depend only on the images, their names and the format: times and owners are zero.
//!
//! Source: OCI image specification, `image-layout.md`, `manifest.md`, `image-index.md`, `annotations.md`; docker's "image
//! specification v1.2".

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::Cause;
use super::blob_name;
use super::docker;
use super::oci;
use crate::digest::Mismatch;
use crate::digest::VerifyingReader;
use crate::image::Digest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Index;
use crate::image::manifest::Manifest;
use crate::image::manifest::media_type;
use crate::image::reference::Reference;
use crate::path::Name;
use crate::sys;
use crate::sys::data::Appender;

/// How much is written at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// The file that says which version of the layout it is.
const LAYOUT: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The document by which docker before 1.10 found names.
const REPOSITORIES: &str = "repositories";

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output failed.
    #[error("cannot write the archive: {0}")]
    Write(std::io::Error),
    /// A file of the layout directory could not be made.
    #[error("cannot write the archive: {0}")]
    Sys(#[from] sys::Error),
    /// A layer could not be read, or is damaged.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The digest of its file.
        layer: Digest,
        /// Why.
        source: Cause,
    },
}

/// A layer's file as it shall be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedLayer {
    /// The digest of the file; the diff id for one that is not compressed.
    pub blob: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// Its id.
    pub id: Digest,
    /// Its config.
    pub config_bytes: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<SavedLayer>,
    /// The manifest by which it came, if its layers are written as they were then.
    pub manifest: Option<Vec<u8>>,
    /// The names that it shall have where the archive is loaded.
    pub names: Vec<Reference>,
}

impl SavedImage {
    /// The manifest's bytes: those by which it came, or new ones.
    fn manifest(&self) -> Result<Vec<u8>, WriteError> {
        if let Some(bytes) = &self.manifest {
            return Ok(bytes.clone());
        }
        let layer = |layer: &SavedLayer| descriptor(&layer.media_type, layer.blob, layer.size);
        json(&Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config: descriptor(media_type::OCI_CONFIG, self.id, self.config_bytes.len() as u64),
            layers: self.layers.iter().map(layer).collect(),
            annotations: None,
            extra: BTreeMap::new(),
        })
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest, size, platform: None, annotations: None, extra: BTreeMap::new() }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(value).map_err(|e| WriteError::Write(e.into()))
}

/// Where files go: a tar, or a directory.
pub trait Sink {
    /// Makes a directory; its parent was made before.
    ///
    /// # Errors
    /// [`WriteError`]
    fn directory(&mut self, name: &str) -> Result<(), WriteError>;

    /// Makes a file of `size` bytes; its directory was made before. Errors of `content` come as [`WriteError::Write`].
    ///
    /// # Errors
    /// [`WriteError`]
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), WriteError>;

    /// Ends it.
    ///
    /// # Errors
    /// [`WriteError`]
    fn finish(self) -> Result<(), WriteError>;
}

/// A tar.
pub struct TarSink<W: Write>(tar::Builder<W>);

impl<W: Write> std::fmt::Debug for TarSink<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSink").finish_non_exhaustive()
    }
}

impl<W: Write> TarSink<W> {
    /// A tar to be written to `out`.
    pub fn new(out: W) -> Self {
        Self(tar::Builder::new(out))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

impl<W: Write> Sink for TarSink<W> {
    fn directory(&mut self, name: &str) -> Result<(), WriteError> {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        self.0.append_data(&mut header, format!("{name}/"), std::io::empty()).map_err(WriteError::Write)
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), WriteError> {
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        self.0.append_data(&mut header, name, content).map_err(WriteError::Write)
    }

    fn finish(self) -> Result<(), WriteError> {
        self.0.into_inner().and_then(|mut out| out.flush()).map_err(WriteError::Write)
    }
}

/// An empty directory that becomes a layout.
#[derive(Debug)]
pub struct DirSink<'a>(pub &'a OwnedFd);

impl DirSink<'_> {
    /// Opens the directory of `name`, whose parts are ours; the last part.
    fn parent<'n>(&self, name: &'n str) -> Result<(OwnedFd, Name<'n>), WriteError> {
        let mut dir = sys::open::duplicate(self.0)?;
        let mut parts = name.split('/').map(|part| Name::new(part.as_bytes())).peekable();
        while let Some(part) = parts.next() {
            let part = part.map_err(|e| WriteError::Write(std::io::Error::other(e)))?;
            if parts.peek().is_none() {
                return Ok((dir, part));
            }
            dir = sys::open::dir_at(&dir, part)?;
        }
        Err(WriteError::Write(std::io::ErrorKind::InvalidInput.into()))
    }
}

impl Sink for DirSink<'_> {
    fn directory(&mut self, name: &str) -> Result<(), WriteError> {
        let (dir, last) = self.parent(name)?;
        Ok(sys::name::mkdir(dir, last, 0o755)?)
    }

    fn file(&mut self, name: &str, _: u64, content: &mut dyn Read) -> Result<(), WriteError> {
        let (dir, last) = self.parent(name)?;
        let fd = sys::open::create_at(dir, last, 0o644)?;
        let mut out = BufWriter::with_capacity(BUFFER, Appender::new(&fd));
        std::io::copy(content, &mut out).and_then(|_| out.flush()).map_err(WriteError::Write)?;
        Ok(sys::data::sync(&fd, true)?)
    }

    fn finish(self) -> Result<(), WriteError> {
        let (blobs, last) = self.parent("blobs/sha256")?;
        sys::data::sync_dir(&sys::open::dir_at(&blobs, last)?)?;
        sys::data::sync_dir(&blobs)?;
        Ok(sys::data::sync_dir(self.0)?)
    }
}

/// What an archive is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An OCI image layout.
    Oci,
    /// The same with docker's documents beside.
    Docker,
}

/// One image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes the images to `sink`; `open` gives a layer's file, each of which is written once.
///
/// # Errors
/// [`WriteError`]; what was written until then is no whole archive.
pub fn write<'a, S: Sink>(
    mut sink: S,
    shape: Shape,
    images: &[SavedImage],
    mut open: impl FnMut(&SavedLayer) -> Result<Box<dyn Read + 'a>, Cause>,
) -> Result<(), WriteError> {
    sink.directory("blobs")?;
    sink.directory("blobs/sha256")?;
    let mut written = FxHashSet::default();
    let mut entries = Vec::new();
    for image in images {
        for layer in image.layers.iter().filter(|layer| written.insert(layer.blob)) {
            let content = open(layer).map_err(|source| WriteError::Layer { layer: layer.blob, source })?;
            write_layer(&mut sink, layer, content)?;
        }
        let manifest = image.manifest()?;
        let digest = Digest::of(&manifest);
        for (blob, bytes) in [(image.id, &image.config_bytes), (digest, &manifest)] {
            if written.insert(blob) {
                document(&mut sink, &blob_name(&blob), bytes)?;
            }
        }
        entries.extend(index_entries(image, shape, digest, manifest.len() as u64));
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: entries,
        annotations: None,
        extra: BTreeMap::new(),
    };
    document(&mut sink, oci::INDEX, &json(&index)?)?;
    if shape == Shape::Docker {
        document(&mut sink, docker::MANIFEST, &json(&images.iter().map(item).collect::<Vec<_>>())?)?;
    }
    document(&mut sink, LAYOUT.0, LAYOUT.1)?;
    let names = repositories(images);
    if shape == Shape::Docker && !names.is_empty() {
        document(&mut sink, REPOSITORIES, &json(&names)?)?;
    }
    sink.finish()
}

/// The entries of an image in the index: one for each name, or one without. They name no platform: these are different images,
/// and not the same for different machines, of which a reader would take only its own.
fn index_entries(image: &SavedImage, shape: Shape, digest: Digest, size: u64) -> Vec<Descriptor> {
    let plain = descriptor(media_type::OCI_MANIFEST, digest, size);
    if image.names.is_empty() {
        return vec![plain];
    }
    let named = |name: &Reference| {
        // Docker and containerd write the tag alone, as the specification's grammar would have it. What `skopeo copy
        // oci:DIR:NAME` and `umoci --image DIR:NAME` look for is the same text, and only a whole name is unique.
        let short = match shape {
            Shape::Docker => name.tag().map_or_else(|| name.to_string(), str::to_owned),
            Shape::Oci => name.to_string(),
        };
        let notes = [(oci::REF_NAME, short), (oci::CONTAINERD_NAME, name.canonical())];
        let annotations = notes.map(|(key, value)| (key.to_owned(), value)).into();
        Descriptor { annotations: Some(annotations), ..plain.clone() }
    };
    image.names.iter().map(named).collect()
}

fn item(image: &SavedImage) -> Item {
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    Item {
        config: blob_name(&image.id),
        repo_tags: Some(names).filter(|names| !names.is_empty()),
        layers: image.layers.iter().map(|layer| blob_name(&layer.blob)).collect(),
    }
}

/// By repository and tag: the topmost layer.
fn repositories(images: &[SavedImage]) -> BTreeMap<String, BTreeMap<&str, String>> {
    let mut found: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    for image in images {
        let top = image.layers.last().map_or_else(|| image.id.hex(), |layer| layer.blob.hex());
        for name in &image.names {
            let tags = found.entry(name.familiar_repository()).or_default();
            tags.extend(name.tag().map(|tag| (tag, top.clone())));
        }
    }
    found
}

fn document(sink: &mut impl Sink, name: &str, mut bytes: &[u8]) -> Result<(), WriteError> {
    sink.file(name, bytes.len() as u64, &mut bytes)
}

/// Writes a layer, and checks on the way that it still is what its name says.
fn write_layer(sink: &mut impl Sink, layer: &SavedLayer, content: Box<dyn Read + '_>) -> Result<(), WriteError> {
    let mut content = VerifyingReader::new(content, layer.blob, layer.size);
    sink.file(&blob_name(&layer.blob), layer.size, &mut content).map_err(|e| match e {
        WriteError::Write(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>()) {
            Some(mismatch) => WriteError::Layer { layer: layer.blob, source: Box::new(mismatch.clone()) },
            None => WriteError::Write(e),
        },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(layer: Digest) -> SavedImage {
        SavedImage {
            id: Digest::of(b"c"),
            config_bytes: b"c".to_vec(),
            layers: vec![SavedLayer { blob: layer, size: 5, media_type: media_type::OCI_LAYER.to_owned() }],
            manifest: None,
            names: vec![Reference::parse("a:1").unwrap(), Reference::parse("a:2").unwrap()],
        }
    }

    #[test]
    fn a_damaged_layer_is_not_passed_on() {
        let image = image(Digest::of(b"right"));
        let write = |bytes: &'static [u8]| {
            let sink = TarSink::new(Vec::new());
            write(sink, Shape::Docker, std::slice::from_ref(&image), |_| Ok(Box::new(bytes)))
        };
        assert!(write(b"right").is_ok());
        for wrong in [&b"wrong"[..], b"righ", b"", b"right!"] {
            assert!(matches!(write(wrong), Err(WriteError::Layer { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn files_come_in_one_order_and_documents_last() {
        let image = image(Digest::of(b"right"));
        let names = |shape| {
            let mut bytes = Vec::new();
            let open = |_: &SavedLayer| -> Result<Box<dyn Read>, Cause> { Ok(Box::new(&b"right"[..])) };
            write(TarSink::new(&mut bytes), shape, &[image.clone(), image.clone()], open).unwrap();
            let mut tar = tar::Archive::new(&bytes[..]);
            let paths = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
            paths.filter(|path| !path.starts_with("blobs/sha256/") || path.len() == 13).collect::<Vec<_>>()
        };
        assert_eq!(names(Shape::Oci), ["blobs/", "blobs/sha256/", "index.json", "oci-layout"]);
        let docker = ["blobs/", "blobs/sha256/", "index.json", "manifest.json", "oci-layout", "repositories"];
        assert_eq!(names(Shape::Docker), docker);
    }
}
