//! The index of images, made from everything else in the store.

use crate::env;
use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;
use crate::store::Result;
use crate::store::Store;
use crate::store::images::Images;

/// Every document that is the config of an image whose layers are all there is an image again.
pub(super) fn rebuilt(store: &Store) -> Result<Images> {
    let mut images = Images::default();
    let mut others = Vec::new();
    let (now, _) = env::now();
    for digest in store.blob_digests()? {
        let Ok(Some(bytes)) = store.blob(&digest) else { continue };
        match ImageConfig::parse(&bytes) {
            Ok(config) if has_layers(store, config.diff_ids())? => images.add(digest, None, &[], now),
            Ok(_) => {}
            Err(_) => others.push((digest, bytes)),
        }
    }
    for (manifest, bytes) in others {
        if let Some(entry) = config_of(&bytes).and_then(|id| images.images.get_mut(&id)) {
            entry.manifest = Some(manifest);
        }
    }
    let containers = store.containers().unwrap_or_default();
    let mounts = store.mounts().unwrap_or_default();
    let named = containers.into_iter().map(|container| (container.image_name, container.image_id));
    for (name, id) in named.chain(mounts.into_iter().map(|mount| (mount.image_name, mount.image_id))) {
        let is_id = id.hex().starts_with(name.trim_start_matches("sha256:"));
        if let Ok(name) = Reference::parse(&name)
            && !is_id
            && images.images.contains_key(&id)
        {
            images.names.insert(name, id);
        }
    }
    Ok(images)
}

fn has_layers(store: &Store, layers: &[Digest]) -> Result<bool> {
    for layer in layers {
        if !store.layers().has(layer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The config that a document names, if it is a manifest.
fn config_of(bytes: &[u8]) -> Option<Digest> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    document.get("config")?.get("digest")?.as_str()?.parse().ok()
}
