//! A directory with, for each entry, the layer that it is from: `mica blame`.

use super::Result;
use super::layers::walk;
use super::subject::Subject;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// One entry that shows.
#[derive(Debug)]
pub struct Line {
    /// Its path.
    pub path: RelPath,
    /// The layer that gave it its present form, by its position: of a directory the last one that has anything in it or
    /// lists it.
    pub layer: usize,
    /// The attributes that show.
    pub stat: Stat,
    /// The text of a symlink.
    pub link: Option<Vec<u8>>,
}

/// Calls `each` for the entries of the directory `at`, in the order of their names; with `recursive` for everything below it. If `at`
/// is no directory, for itself.
///
/// # Errors
/// When a layer cannot be read; the first error of `each`.
pub fn blame(subject: &Subject, at: &RelPath, recursive: bool, each: &mut dyn FnMut(Line) -> Result<()>) -> Result<()> {
    walk(subject, at, &mut |folder, entry| {
        let path = folder.path.child(entry.name.as_name());
        let (Some(stat), Some(served)) = (entry.stat, entry.served()) else { return Ok(false) };
        let is_top = path == *at;
        if is_top && stat.kind() == Kind::Dir {
            return Ok(true);
        }
        let link = match served.object() {
            Some((obj, stat)) if stat.kind() == Kind::Symlink => Some(obj.readlink()?),
            _ => None,
        };
        each(Line { path, layer: served.layer, stat, link })?;
        Ok(recursive)
    })
}
