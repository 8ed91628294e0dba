//! Listing images.

use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::images::Images;

use super::Error;
use super::Result;

/// One image under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The name; `None` for an image without one.
    pub name: Option<Reference>,
    /// The image's id.
    pub id: Digest,
    /// The manifest by which it came.
    pub manifest: Option<Digest>,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// Bytes of content in all its layers.
    pub size: u64,
    /// Why the image cannot be used, if it is damaged.
    pub damage: Option<String>,
}

/// Which images are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only images of this repository, or with this tag when the name has one.
    pub name: Option<Reference>,
}

impl Filter {
    /// The filter that a user's word means.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn parse(word: Option<&str>) -> Result<Self> {
        let name = word.map(|word| {
            Reference::parse_untagged(word).map_err(|source| Error::Name { name: word.to_owned(), source })
        });
        Ok(Self { name: name.transpose()? })
    }

    fn wants(&self, name: Option<&Reference>) -> bool {
        let Some(wanted) = &self.name else { return true };
        name.is_some_and(|name| {
            name.domain() == wanted.domain()
                && name.path() == wanted.path()
                && wanted.tag().is_none_or(|tag| name.tag() == Some(tag))
        })
    }
}

/// The images of a store, the newest first, each once for each of its names.
///
/// # Errors
/// When the index cannot be read. A damaged image is listed with its damage.
pub fn list(store: &Store, filter: &Filter) -> Result<Vec<ImageRow>> {
    let images = store.images()?;
    let mut rows = Vec::new();
    for (id, entry) in &images.images {
        let names = names_or_none(&images, id);
        let wanted: Vec<_> = names.into_iter().filter(|name| filter.wants(name.as_ref())).collect();
        if wanted.is_empty() {
            continue;
        }
        let measured = measure(store, id);
        for name in wanted {
            let (created, size, damage) = match &measured {
                Ok((created, size)) => (*created, *size, None),
                Err(e) => (None, 0, Some(e.to_string())),
            };
            rows.push(ImageRow { name, id: *id, manifest: entry.manifest, created, size, damage });
        }
    }
    rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    Ok(rows)
}

fn names_or_none(images: &Images, id: &Digest) -> Vec<Option<Reference>> {
    let names: Vec<_> = images.names_of(id).cloned().map(Some).collect();
    if names.is_empty() { vec![None] } else { names }
}

fn measure(store: &Store, id: &Digest) -> Result<(Option<i64>, u64)> {
    let config = store.config(id)?;
    Ok((created_secs(config.created.as_deref()), size_of(store, &config)?))
}

/// Bytes of content in all layers of an image.
///
/// # Errors
/// When a layer is missing or damaged.
pub fn size_of(store: &Store, config: &ImageConfig) -> Result<u64> {
    let mut size = 0u64;
    for diff_id in config.diff_ids() {
        size = size.saturating_add(store.layers().info(diff_id)?.content);
    }
    Ok(size)
}

/// An RFC 3339 time of a document in seconds since 1970; `None` when it is absent or malformed.
pub fn created_secs(text: Option<&str>) -> Option<i64> {
    text.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second)
}
