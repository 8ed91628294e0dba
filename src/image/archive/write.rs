//! Writing an archive in the shape of `docker save`: configs and layers named by their digests, `manifest.json` last.
//!
//! The bytes depend only on the images and their names: times and owners are zero.

use std::io::Read;
use std::io::Write;

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::Cause;
use crate::digest::Mismatch;
use crate::digest::VerifyingReader;
use crate::image::Digest;
use crate::image::reference::Reference;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output failed.
    #[error("cannot write the archive: {0}")]
    Write(std::io::Error),
    /// A layer could not be read, or is damaged.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its diff id.
        layer: Digest,
        /// Why.
        source: Cause,
    },
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// Its id.
    pub id: Digest,
    /// Its config.
    pub config_bytes: Vec<u8>,
    /// Its layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The names that it shall have where the archive is loaded.
    pub names: Vec<Reference>,
}

/// The uncompressed tar of a layer, and its size in bytes.
pub type LayerTar = (Box<dyn Read>, u64);

/// One image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes the images to `out`; `open` gives the layers, each of which is written once.
///
/// # Errors
/// [`WriteError`]; what was written until then is no whole archive.
pub fn write_docker<W: Write>(
    out: W,
    images: &[SavedImage],
    mut open: impl FnMut(&Digest) -> Result<LayerTar, Cause>,
) -> Result<(), WriteError> {
    let mut tar = tar::Builder::new(out);
    let mut written = FxHashSet::default();
    let mut items = Vec::with_capacity(images.len());
    for image in images {
        for layer in image.diff_ids.iter().filter(|layer| written.insert(**layer)) {
            let (content, size) = open(layer).map_err(|source| WriteError::Layer { layer: *layer, source })?;
            write_layer(&mut tar, layer, content, size)?;
        }
        let config = format!("{}.json", image.id.hex());
        if written.insert(image.id) {
            write_document(&mut tar, &config, &image.config_bytes)?;
        }
        let names: Vec<String> = image.names.iter().map(|name| name.to_string()).collect();
        let repo_tags = Some(names).filter(|names| !names.is_empty());
        items.push(Item { config, repo_tags, layers: image.diff_ids.iter().map(layer_name).collect() });
    }
    let manifest = serde_json::to_vec(&items).map_err(|e| WriteError::Write(e.into()))?;
    write_document(&mut tar, super::docker::MANIFEST, &manifest)?;
    tar.into_inner().and_then(|mut out| out.flush()).map_err(WriteError::Write)
}

fn layer_name(layer: &Digest) -> String {
    format!("{}.tar", layer.hex())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn write_document<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes).map_err(WriteError::Write)
}

/// Writes a layer, and checks on the way that it still is what its name says.
fn write_layer<W: Write>(
    tar: &mut tar::Builder<W>,
    layer: &Digest,
    content: Box<dyn Read>,
    size: u64,
) -> Result<(), WriteError> {
    let content = VerifyingReader::new(content, *layer, size);
    tar.append_data(&mut header(size), layer_name(layer), content).map_err(|e| {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>()) {
            Some(mismatch) => WriteError::Layer { layer: *layer, source: Box::new(mismatch.clone()) },
            None => WriteError::Write(e),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_layer_is_not_passed_on() {
        let layer = Digest::of(b"right");
        let image =
            SavedImage { id: Digest::of(b"c"), config_bytes: b"c".to_vec(), diff_ids: vec![layer], names: vec![] };
        let write =
            |bytes: &'static [u8]| write_docker(Vec::new(), std::slice::from_ref(&image), |_| Ok((Box::new(bytes), 5)));
        assert!(write(b"right").is_ok());
        for wrong in [&b"wrong"[..], b"righ", b"", b"right!"] {
            assert!(matches!(write(wrong), Err(WriteError::Layer { .. })), "{wrong:?}");
        }
    }
}
