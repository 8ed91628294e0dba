//! All names of the hard-linked files of a directory layer, for unions that keep links over copy-up on disk (`index=on`).

use std::sync::Arc;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::Error;
use super::ObjectId;
use super::Result;
use super::handle::DirHandle;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys;
use crate::sys::attr::Kind;

type Links = FxHashMap<ObjectId, Vec<RelPath>>;

/// The names of a layer's hard-linked files; found by one walk of the layer, when first asked for.
#[derive(Debug, Default)]
pub(super) struct LinkIndex {
    found: OnceLock<Links>,
}

impl LinkIndex {
    /// The paths of the file `id` in the layer with this root.
    ///
    /// # Errors
    /// When a directory of the layer cannot be read.
    pub(super) fn names(&self, id: ObjectId, root: &Arc<DirHandle>) -> Result<Vec<RelPath>> {
        let links = match self.found.get() {
            Some(links) => links,
            None => {
                let links = walk(root)?;
                self.found.get_or_init(|| links)
            }
        };
        Ok(links.get(&id).cloned().unwrap_or_default())
    }
}

fn walk(root: &Arc<DirHandle>) -> Result<Links> {
    let mut links = Links::default();
    let mut dirs = vec![(root.clone(), RelPath::root())];
    while let Some((handle, path)) = dirs.pop() {
        let fd = handle.fd()?;
        sys::dir::for_each::<Error>(&*fd, |entry| {
            let Ok(name) = Name::new(entry.name) else { return Ok(()) };
            // A name that vanished meanwhile is not there; what lies on another filesystem is no part of the layer.
            let Some(stat) = sys::attr::stat_at(&*fd, name)?.filter(|s| s.dev == handle.id().dev) else {
                return Ok(());
            };
            let id = ObjectId { dev: stat.dev, ino: stat.ino };
            if stat.kind() == Kind::Dir {
                dirs.push((handle.child(name, id), path.child(name)));
            } else if stat.nlink > 1 && !stat.is_whiteout() {
                links.entry(id).or_default().push(path.child(name));
            }
            Ok(())
        })?;
    }
    Ok(links)
}
