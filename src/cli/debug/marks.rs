//! Whiteouts and opaque directories, which are no entries of a union and what people look for.

use crate::explain::layers::Entry;
use crate::explain::layers::Folder;
use crate::explain::layers::Has;
use crate::path::RelPath;

/// A whiteout or an opaque directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub path: RelPath,
    /// In which layer, by its position.
    pub layer: usize,
    /// `whiteout` or `opaque`.
    pub word: &'static str,
}

/// The marks under one name, top layer first.
pub fn marks(folder: &Folder, entry: &Entry) -> Vec<Mark> {
    let word = |has: &Has| match has {
        Has::Whiteout => Some("whiteout"),
        Has::Object { marks, .. } if marks.opaque => Some("opaque"),
        Has::Object { .. } => None,
    };
    let marks = entry.versions.iter().filter_map(|version| {
        let path = folder.path.child(entry.name.as_name());
        word(&version.has).map(|word| Mark { path, layer: version.layer, word })
    });
    marks.collect()
}
