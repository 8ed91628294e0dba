//! Removing what is not in use: stopped containers, then images.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Error;
use super::Result;
use super::containers;
use super::images;
use super::remove::Removed;
use super::usage::upper_size;
use crate::image::Digest;
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::containers::State;
use crate::store::images::Images;

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
    // `dangling=false` means all, in docker's words.
    let dangling = if all || filter.dangling == Some(false) { None } else { Some(true) };
    let going = unused(store, &images::Filter { dangling, ..filter.clone() })?;
    let index = store.index()?;
    // Asked again under the lock: a container may have been made meanwhile, or the image been given a name.
    let used: BTreeSet<Digest> = store.containers()?.iter().map(|record| record.image_id).collect();
    let mut removed = store.change_images(&index, |images| Ok::<_, Error>(take(images, going, &used)))?;
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

/// An image that may go, with the names by which it was found.
type Going = (Digest, Vec<Reference>);

/// The images that a filter wants and no container was made of, the newest first.
fn unused(store: &Store, filter: &images::Filter) -> Result<Vec<Going>> {
    let mut order = Vec::new();
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for row in images::list(store, filter)? {
        if row.containers == 0 && row.damage.is_none() {
            let known = names.entry(row.id).or_insert_with(|| {
                order.push(row.id);
                Vec::new()
            });
            known.extend(row.name);
        }
    }
    Ok(order.into_iter().map(|id| (id, names.remove(&id).unwrap_or_default())).collect())
}

/// Takes what still is as it was found: who just gave an image a name wants to keep it.
fn take(images: &mut Images, going: Vec<Going>, used: &BTreeSet<Digest>) -> Vec<Removed> {
    let now: BTreeMap<Digest, Vec<Reference>> =
        images.names_by_image().into_iter().map(|(id, names)| (id, names.into_iter().cloned().collect())).collect();
    let mut removed = Vec::new();
    for (id, mut names) in going {
        names.sort();
        let is_same = now.get(&id).map_or(names.is_empty(), |now| *now == names);
        if used.contains(&id) || !is_same || images.images.remove(&id).is_none() {
            continue;
        }
        for name in &names {
            images.names.remove(name);
        }
        removed.extend(names.into_iter().map(Removed::Untagged));
        removed.push(Removed::Deleted(id));
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the listing and the lock of the index another command may run.
    #[test]
    fn an_image_that_was_just_named_or_used_is_not_pruned() {
        let id = |n: u8| Digest::of(&[n]);
        let name = |text: &str| Reference::parse(text).unwrap();
        let mut images = Images::default();
        images.add(id(1), None, &[], 0);
        images.add(id(2), None, &[name("just-named")], 0);
        images.add(id(3), None, &[name("a"), name("b")], 0);
        images.add(id(4), None, &[name("one-more"), name("c")], 0);
        images.add(id(5), None, &[], 0);
        let going = vec![
            (id(1), vec![]),
            (id(2), vec![]),
            (id(3), vec![name("b"), name("a")]),
            (id(4), vec![name("c")]),
            (id(5), vec![]),
            (id(6), vec![]),
        ];
        let removed = take(&mut images, going, &BTreeSet::from([id(5)]));
        let expected = [
            Removed::Deleted(id(1)),
            Removed::Untagged(name("a")),
            Removed::Untagged(name("b")),
            Removed::Deleted(id(3)),
        ];
        assert_eq!(removed, expected);
        assert_eq!(images.images.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&id(2), &id(4), &id(5)]));
        assert_eq!(images.names.len(), 3);
    }
}
