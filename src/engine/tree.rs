//! Which images have which layers in common: chains of layers that begin alike are one branch.

use std::collections::BTreeMap;

use super::Result;
use super::images::Sizes;
use crate::image::Digest;
use crate::store::Store;

/// A layer on top of those above it in the tree, and the images that end with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branch {
    /// The images whose topmost layer this is, with their names in the short form.
    pub images: Vec<(Digest, Vec<String>)>,
    /// What stands on it, by diff id, with bytes of content.
    pub next: BTreeMap<Digest, (u64, Branch)>,
}

/// The tree of all images' layers. The root is the empty chain.
///
/// # Errors
/// When the index cannot be read; a layer that is missing counts no bytes, a damaged image is left out.
pub fn tree(store: &Store) -> Result<Branch> {
    let images = store.images()?;
    let mut root = Branch::default();
    let mut sizes = Sizes::new(store);
    for id in images.images.keys() {
        let Ok(config) = store.config(id) else { continue };
        let mut at = &mut root;
        for layer in config.diff_ids() {
            let size = sizes.layer(layer).map_or(0, |info| info.content);
            at = &mut at.next.entry(*layer).or_insert_with(|| (size, Branch::default())).1;
        }
        at.images.push((*id, images.names_of(id).map(ToString::to_string).collect()));
    }
    Ok(root)
}
