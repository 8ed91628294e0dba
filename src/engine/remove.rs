//! Removing images: names first, then what nobody needs any more.

use crate::image::Digest;
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::store::containers::State;
use crate::store::images::Images;

use super::Error;
use super::Result;

/// One thing that a removal did, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(Reference),
    /// An image or a layer is gone.
    Deleted(Digest),
}

/// Removes the name or the image that `word` means, as docker does: a name that is not the image's last is only untagged.
///
/// The space comes back at once, or, when another process is adding to the store, with the next removal.
///
/// # Errors
/// [`Error::Conflict`] when a container uses the image, or when an id has names in several repositories; `force` overrides
/// both, but an image of a running container only loses its name.
pub fn remove(store: &Store, word: &str, force: bool) -> Result<Vec<Removed>> {
    let index = store.index()?;
    let containers = store.containers()?;
    let mut removed = store.change_images(&index, |images| change(images, &containers, word, force))?;
    drop(index);
    if removed.iter().any(|r| matches!(r, Removed::Deleted(_)))
        && let Some(guard) = store.try_collecting()?
    {
        let collected = store.collect(&guard)?;
        removed.extend(collected.layers.into_iter().map(Removed::Deleted));
    }
    Ok(removed)
}

fn change(images: &mut Images, containers: &[ContainerRecord], word: &str, force: bool) -> Result<Vec<Removed>> {
    let found = images.find(word)?;
    let names: Vec<Reference> = images.names_of(&found.id).cloned().collect();
    let users: Vec<&ContainerRecord> = containers.iter().filter(|c| c.image_id == found.id).collect();
    let running = users.iter().find(|c| matches!(c.state, State::Running { .. }));
    let going = match found.name {
        Some(name) if names.len() > 1 => {
            images.names.remove(&name);
            return Ok(vec![Removed::Untagged(name)]);
        }
        Some(name) => {
            if let (Some(container), false) = (users.first(), force) {
                return Err(Error::Conflict(format!(
                    "unable to remove repository reference \"{word}\" (must force) - container {} is using its referenced image {}",
                    short(&container.id),
                    found.id.short()
                )));
            }
            if running.is_some() {
                // As docker does: the name goes, the image stays as long as it runs.
                images.names.remove(&name);
                return Ok(vec![Removed::Untagged(name)]);
            }
            vec![name]
        }
        None => {
            if let Some(container) = running {
                let why = format!("image is being used by running container {}", short(&container.id));
                return Err(cannot_delete(&found.id, "cannot be forced", &why));
            }
            let first = names.first().map(Reference::familiar_repository);
            if !force && names.iter().any(|name| Some(name.familiar_repository()) != first) {
                return Err(cannot_delete(&found.id, "must be forced", "image is referenced in multiple repositories"));
            }
            if let (Some(container), false) = (users.first(), force) {
                let why = format!("image is being used by stopped container {}", short(&container.id));
                return Err(cannot_delete(&found.id, "must be forced", &why));
            }
            names
        }
    };
    images.names.retain(|_, id| *id != found.id);
    images.images.remove(&found.id);
    let mut removed: Vec<Removed> = going.into_iter().map(Removed::Untagged).collect();
    removed.push(Removed::Deleted(found.id));
    Ok(removed)
}

fn cannot_delete(id: &Digest, how: &str, why: &str) -> Error {
    Error::Conflict(format!("unable to delete {} ({how}) - {why}", id.short()))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
