//! Saving images to an archive.

use std::io::Read;
use std::io::Write;

use crate::image::archive::Cause;
use crate::image::archive::write::LayerTar;
use crate::image::archive::write::SavedImage;
use crate::image::archive::write::write_docker;
use crate::store::Store;

use super::Result;

/// Writes the images that `words` mean to `out`, in the shape of `docker save`. An image asked for under several names is
/// written once, with these names.
///
/// # Errors
/// When there is no such image, a layer is damaged, or `out` fails; what was written is no whole archive then.
pub fn save(store: &Store, words: &[String], out: impl Write) -> Result<()> {
    let _adding = store.adding()?;
    let index = store.images()?;
    let mut images: Vec<SavedImage> = Vec::new();
    for word in words {
        let found = index.find(word)?;
        if let Some(image) = images.iter_mut().find(|image| image.id == found.id) {
            image.names.extend(found.name);
            continue;
        }
        let config_bytes = store.need_blob(&found.id)?;
        let diff_ids = store.config(&found.id)?.diff_ids().to_vec();
        images.push(SavedImage { id: found.id, config_bytes, diff_ids, names: found.name.into_iter().collect() });
    }
    write_docker(out, &images, |diff_id| {
        let layer = store.layers().get(diff_id).map_err(|e| -> Cause { Box::new(e) })?;
        let size = layer.tar_size();
        let content: Box<dyn Read> = Box::new(layer.tar_stream());
        let tar: LayerTar = (content, size);
        Ok(tar)
    })?;
    Ok(())
}
