//! The documents of `docker save` and of `podman save --format docker-archive`.
//!
//! Source: docker's "image specification v1.2", section "Combined image JSON + filesystem changeset format". Three shapes
//! are about: docker up to 24 (`ID/layer.tar`, equal layers as symlinks), podman (`HEX.tar`), docker from 25 on (an OCI layout
//! with a `manifest.json` beside).

use serde::Deserialize;

use super::Documents;
use super::Error;
use super::IMAGES_MAX;
use super::ImagePlan;
use super::LayerPlan;
use super::check_count;
use super::digest_of_blob_name;
use super::read_config;
use crate::image::Digest;
use crate::image::manifest::DOCUMENT_MAX;
use crate::image::manifest::from_json;
use crate::image::reference::Reference;

/// The name of the document that makes a docker archive.
pub const MANIFEST: &str = "manifest.json";

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The images of a docker archive; `None` when it has no `manifest.json`.
///
/// # Errors
/// [`Error`], for the first document that is missing, malformed, or does not match its digest.
pub fn resolve<D: Documents + ?Sized>(documents: &D) -> Result<Option<Vec<ImagePlan>>, Error> {
    let Some(bytes) = documents.document(MANIFEST, DOCUMENT_MAX)? else { return Ok(None) };
    let items: Vec<Item> =
        from_json("the list of images", &bytes).map_err(|source| Error::Document { name: MANIFEST.into(), source })?;
    if items.is_empty() {
        return Err(Error::NotAnImage("its manifest.json lists no image".to_owned()));
    }
    if items.len() > IMAGES_MAX {
        let why = format!("its manifest.json lists {} images, more than {IMAGES_MAX}", items.len());
        return Err(Error::NotAnImage(why));
    }
    items.iter().map(|item| image(documents, item)).collect::<Result<_, _>>().map(Some)
}

fn image<D: Documents + ?Sized>(documents: &D, item: &Item) -> Result<ImagePlan, Error> {
    let (config_bytes, config, id) = read_config(documents, &item.config, digest_of_config_name(&item.config))?;
    let layers = item.layers.as_deref().unwrap_or_default();
    check_count(layers.len(), &config)?;
    let layers = layers
        .iter()
        .zip(config.diff_ids())
        .enumerate()
        .map(|(at, (name, diff_id))| LayerPlan {
            number: at + 1,
            count: layers.len(),
            name: name.clone(),
            diff_id: *diff_id,
            blob: digest_of_blob_name(name).map(|digest| (digest, None)),
        })
        .collect();
    let names = item
        .repo_tags
        .iter()
        .flatten()
        .map(|name| Reference::parse(name).map_err(|source| Error::Name { name: name.clone(), source }));
    Ok(ImagePlan { names: names.collect::<Result<_, _>>()?, config_bytes, config, id, manifest: None, layers })
}

/// The digest in the name of a config: `HEX.json` or `blobs/sha256/HEX`.
fn digest_of_config_name(name: &str) -> Option<Digest> {
    digest_of_blob_name(name).or_else(|| Digest::from_hex(name.strip_suffix(".json")?).ok())
}
