//! Giving an image one more name.

use crate::env;
use crate::image::reference::Reference;
use crate::store::Store;

use super::Error;
use super::Result;

/// Makes `target` a name of the image that `source` means; if it meant another image, it means this one now.
///
/// Durability: on disk when this returns.
///
/// # Errors
/// [`Error::Name`], [`Error::TagIsDigest`]; no such image.
pub fn tag(store: &Store, source: &str, target: &str) -> Result<()> {
    let name = new_name(target)?;
    if name.digest().is_some() {
        return Err(Error::TagIsDigest);
    }
    let index = store.index()?;
    store.change_images(&index, |images| {
        let found = images.find(source)?;
        images.add(found.id, None, &[name], env::now().0);
        Ok(())
    })
}

/// Reads the name that a new image is to have.
///
/// # Errors
/// [`Error::Name`] when it is none.
pub fn new_name(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|source| Error::Name { name: text.to_owned(), source })
}
