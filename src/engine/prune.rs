//! Removing what is not in use: stopped containers, then images.

use super::Error;
use super::Result;
use super::containers;
use super::images;
use super::remove::Removed;
use super::usage::upper_size;
use crate::image::Digest;
use crate::store::Store;
use crate::store::containers::State;

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names and images, and the layers that nothing needs any more.
    pub images: Vec<Removed>,
    /// Bytes that are free now.
    pub reclaimed: u64,
}

/// Removes the containers that do not run and that the filter wants.
///
/// # Errors
/// Those of the store. A container that is mounted somewhere stays.
pub fn containers(store: &Store, filter: &containers::Filter) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let all = containers::Filter { all: true, ..filter.clone() };
    for record in containers::select(store, &all)? {
        if matches!(record.state, State::Running { .. }) {
            continue;
        }
        // Another prune may just be taking it, directory by directory.
        let size = upper_size(store, &record).unwrap_or(0);
        match containers::remove(store, &record.id, false) {
            Ok(layers) => {
                pruned.containers.push(record.id);
                pruned.reclaimed = pruned.reclaimed.saturating_add(size).saturating_add(layers);
            }
            // In use by now, or gone: neither is a prune's business.
            Err(Error::Conflict(_) | Error::Store(crate::store::Error::NotFound { .. })) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(pruned)
}

/// Removes the images that no container was made of: those without a name, or with `all` also the others.
///
/// # Errors
/// Those of the store.
pub fn images(store: &Store, all: bool, filter: &images::Filter) -> Result<Pruned> {
    let wanted = images::Filter { dangling: if all { filter.dangling } else { Some(true) }, ..filter.clone() };
    let mut going: Vec<Digest> = Vec::new();
    for row in images::list(store, &wanted)? {
        if row.containers == 0 && row.damage.is_none() && !going.contains(&row.id) {
            going.push(row.id);
        }
    }
    let index = store.index()?;
    // Asked again under the lock: a container may have been made meanwhile.
    let used: Vec<Digest> = store.containers()?.iter().map(|record| record.image_id).collect();
    going.retain(|id| !used.contains(id));
    let mut removed = store.change_images(&index, |images| {
        let mut removed = Vec::new();
        for id in &going {
            let names: Vec<_> = images.names_of(id).cloned().collect();
            images.names.retain(|_, named| named != id);
            if images.images.remove(id).is_some() {
                removed.extend(names.into_iter().map(Removed::Untagged));
                removed.push(Removed::Deleted(*id));
            }
        }
        Ok::<_, Error>(removed)
    })?;
    drop(index);
    let mut reclaimed = 0;
    // Also without images to remove: what earlier removals had to leave behind is collected now.
    if let Some(guard) = store.try_collecting()? {
        let collected = store.collect(&guard)?;
        reclaimed = collected.bytes;
        removed.extend(collected.layers.into_iter().map(Removed::Deleted));
    }
    Ok(Pruned { containers: Vec::new(), images: removed, reclaimed })
}
