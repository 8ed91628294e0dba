//! How an image came to be, step by step.

use crate::image::Digest;
use crate::image::config::History;
use crate::store::Store;

use super::Result;
use super::images::created_secs;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The image, at its last step; the steps before are not images of their own.
    pub image: Option<Digest>,
    /// The layer that the step made.
    pub layer: Option<Digest>,
    /// Bytes of content in that layer.
    pub size: u64,
    /// When, in seconds since 1970.
    pub created: Option<i64>,
    /// What the config says of the step.
    pub history: History,
}

/// The steps of the image that `word` means, the last first. Layers that no step speaks of come as steps without words.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn history(store: &Store, word: &str) -> Result<Vec<Step>> {
    let id = store.images()?.find(word)?.id;
    let config = store.config(&id)?;
    let mut pairs: Vec<(History, Option<Digest>)> =
        config.history_with_layers().map(|(step, layer)| (step.clone(), layer)).collect();
    let told = pairs.iter().filter(|(_, layer)| layer.is_some()).count();
    let untold = config.diff_ids().iter().skip(told);
    pairs.extend(untold.map(|layer| (History::default(), Some(*layer))));
    let mut steps = Vec::with_capacity(pairs.len());
    for (history, layer) in pairs {
        let size = layer.map_or(Ok(0), |layer| store.layers().info(&layer).map(|info| info.content))?;
        steps.push(Step { image: None, layer, size, created: created_secs(history.created.as_deref()), history });
    }
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.image = Some(id);
    }
    Ok(steps)
}
