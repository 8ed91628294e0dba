//! The images and their names: `images.json`.
//!
//! One file, replaced whole, so that a name can never point to an image that is not there (I4).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use super::Error;
use super::IMAGES;
use super::IndexGuard;
use super::Result;
use super::Store;
use super::file;
use super::fixed;
use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;

/// The most that the index may take, in bytes.
pub(super) const LIMIT: u64 = 256 << 20;

/// The images of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// By id, which is the digest of the config.
    pub images: BTreeMap<Digest, ImageEntry>,
    /// By name: the image that it means. Names are complete: registry, path, and a tag or a digest.
    pub names: BTreeMap<Reference, Digest>,
}

/// What the index keeps of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// When it came to the store, in seconds since 1970.
    pub added: i64,
    /// When a name was last given to it, in seconds since 1970; unknown for what was named before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<i64>,
    /// The manifest by which it came, if it came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
}

/// What a user's word for an image means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The image's id.
    pub id: Digest,
    /// The name by which it was found; `None` when it was an id.
    pub name: Option<Reference>,
}

/// The index as it is stored, with a sum over all the rest: what names mean is said nowhere else.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    #[serde(flatten)]
    images: T,
    #[serde(default)]
    check: Option<Digest>,
}

fn sum_of(images: &Images) -> Result<Digest> {
    let bad = |e: serde_json::Error| Error::Damaged { file: "images.json".to_owned(), why: e.to_string() };
    serde_json::to_vec(images).map(|bytes| Digest::of(&bytes)).map_err(bad)
}

impl Images {
    /// The image that `word` means: a name (with the tag `latest` when it has none), an id, or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Ambiguous`] for the beginning of several ids.
    pub fn find(&self, word: &str) -> Result<Found> {
        if let Ok(name) = Reference::parse(word)
            && let Some(id) = self.names.get(&name)
        {
            return Ok(Found { id: *id, name: Some(name) });
        }
        let digits = word.strip_prefix("sha256:").unwrap_or(word);
        let is_id = (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let mut matches = self.images.keys().filter(|id| is_id && id.hex().starts_with(digits));
        match (matches.next(), matches.next()) {
            (Some(id), None) => Ok(Found { id: *id, name: None }),
            (Some(_), Some(_)) => Err(Error::Ambiguous { what: "image", name: word.to_owned() }),
            (None, _) => {
                // As docker says it: the name that was looked for.
                let name = Reference::parse(word).map_or_else(|_| word.to_owned(), |name| name.to_string());
                Err(Error::NotFound { what: "image", name })
            }
        }
    }

    /// The names of an image, sorted.
    pub fn names_of(&self, id: &Digest) -> impl Iterator<Item = &Reference> {
        self.names.iter().filter(move |(_, named)| *named == id).map(|(name, _)| name)
    }

    /// The names of every image that has any, sorted.
    pub fn names_by_image(&self) -> BTreeMap<Digest, Vec<&Reference>> {
        let mut all: BTreeMap<Digest, Vec<&Reference>> = BTreeMap::new();
        for (name, id) in &self.names {
            all.entry(*id).or_default().push(name);
        }
        all
    }

    /// Adds an image, or gives one that is there more names. A name that meant another image means this one now.
    pub fn add(&mut self, id: Digest, manifest: Option<Digest>, names: &[Reference], now: i64) {
        let entry = self.images.entry(id).or_insert(ImageEntry { added: now, tagged: None, manifest });
        entry.manifest = manifest.or(entry.manifest);
        if !names.is_empty() {
            entry.tagged = Some(now);
        }
        self.names.extend(names.iter().map(|name| (name.clone(), id)));
    }
}

impl Store {
    /// The images as they are now.
    ///
    /// # Errors
    /// The kernel's; [`Error::Damaged`].
    pub fn images(&self) -> Result<Images> {
        let Some(stored) = file::read_json::<Stored<Images>>(&self.root, fixed(IMAGES)?, LIMIT)? else {
            return Ok(Images::default());
        };
        match stored.check {
            Some(check) if check != sum_of(&stored.images)? => {
                Err(Error::Damaged { file: "images.json".to_owned(), why: "its checksum is another".to_owned() })
            }
            _ => Ok(stored.images),
        }
    }

    /// Changes the images in one step: `change` is given what they are and leaves what they shall be.
    ///
    /// Durability: on disk when this returns. On an error of `change` nothing is written.
    ///
    /// # Errors
    /// As [`Store::images`], and those of `change`.
    pub fn change_images<T, E: From<Error>>(
        &self,
        _held: &IndexGuard,
        change: impl FnOnce(&mut Images) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let before = self.images()?;
        let mut images = before.clone();
        let result = change(&mut images)?;
        if images != before {
            self.write_images(&images)?;
        }
        Ok(result)
    }

    /// Writes the index whole.
    pub(super) fn write_images(&self, images: &Images) -> Result<()> {
        let check = Some(sum_of(images)?);
        file::write_json(&self.root, fixed(IMAGES)?, &Stored { images, check })
    }

    /// The config of an image.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn config(&self, id: &Digest) -> Result<ImageConfig> {
        let bytes = self.need_blob(id)?;
        ImageConfig::parse(&bytes)
            .map_err(|e| Error::Damaged { file: format!("blobs/sha256/{}", id.hex()), why: e.to_string() })
    }
}
