//! Everything about one image, as a document in docker's shape.

use serde_json::Value;
use serde_json::json;

use crate::image::reference::Reference;
use crate::store::Error as StoreError;
use crate::store::Store;

use super::Result;
use super::images::size_of;

/// The image that `word` means, with docker's field names; `Layers` tells what lies where.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn inspect_image(store: &Store, word: &str) -> Result<Value> {
    let images = store.images()?;
    let id = images.find(word)?.id;
    let names: Vec<&Reference> = images.names_of(&id).collect();
    let manifest = images.images.get(&id).and_then(|entry| entry.manifest);
    let config = store.config(&id)?;
    let raw: Value = serde_json::from_slice(&store.need_blob(&id)?)
        .map_err(|e| StoreError::Damaged { file: format!("blobs/sha256/{}", id.hex()), why: e.to_string() })?;
    let field = |name: &str| raw.get(name).cloned().unwrap_or(Value::Null);
    let mut layers = Vec::new();
    for diff_id in config.diff_ids() {
        let info = store.layers().info(diff_id)?;
        layers.push(json!({
            "DiffId": diff_id,
            "Size": info.content,
            "Stored": info.stored,
            "TarSize": info.tar_size,
            "Entries": info.entries,
        }));
    }
    let digests: Vec<String> = match manifest {
        Some(digest) => names.iter().map(|name| format!("{}@{digest}", name.familiar_repository())).collect(),
        None => Vec::new(),
    };
    Ok(json!({
        "Id": id,
        "RepoTags": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": config.history.as_deref().and_then(<[_]>::last).and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": size_of(store, &config)?,
        "Config": field("config"),
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.diff_ids() },
        "Layers": layers,
        "Store": store.path().display().to_string(),
    }))
}
