//! A shared object of a layer, as the union keeps one for every name that the kernel knows.
//!
//! What makes up nearly all of them, an inode of a pack and a file in a directory, is kept in place: no allocation for each, and
//! no second copy of the name.

use std::ops::Deref;
use std::sync::Arc;

use super::Object;
use super::dir::FileObject;
use super::pack::PackObject;
use crate::path::NameBuf;

/// An object of some layer. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Obj(Kept);

#[derive(Debug, Clone)]
enum Kept {
    Pack(PackObject),
    File(FileObject),
    Shared(Arc<dyn Object>),
}

impl Obj {
    /// Takes any object.
    pub fn new(object: impl Object + 'static) -> Self {
        Self(Kept::Shared(Arc::new(object)))
    }

    /// The name under which a file in a directory was found, if the object keeps it: to be shared.
    pub fn own_name(&self) -> Option<&NameBuf> {
        match &self.0 {
            Kept::File(file) => Some(file.name()),
            Kept::Pack(_) | Kept::Shared(_) => None,
        }
    }
}

impl Deref for Obj {
    type Target = dyn Object;

    fn deref(&self) -> &(dyn Object + 'static) {
        match &self.0 {
            Kept::Pack(object) => object,
            Kept::File(object) => object,
            Kept::Shared(object) => &**object,
        }
    }
}

impl From<PackObject> for Obj {
    fn from(object: PackObject) -> Self {
        Self(Kept::Pack(object))
    }
}

impl From<FileObject> for Obj {
    fn from(object: FileObject) -> Self {
        Self(Kept::File(object))
    }
}

impl<T: Object + 'static> From<Arc<T>> for Obj {
    fn from(object: Arc<T>) -> Self {
        Self(Kept::Shared(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_small() {
        assert!(size_of::<Obj>() <= 40, "{} bytes", size_of::<Obj>());
    }
}
