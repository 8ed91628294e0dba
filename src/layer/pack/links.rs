//! All names of the hard-linked files of a pack.

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::format::Index;
use crate::layer::Result;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// By inode position: the paths of every file with more than one name.
pub(super) type Links = FxHashMap<u32, Vec<RelPath>>;

/// Walks the whole index once. A directory is entered once, also when a damaged index names it twice.
///
/// # Errors
/// A damaged index.
pub(super) fn find(index: &Index) -> Result<Links> {
    let mut links = Links::default();
    let mut seen = FxHashSet::default();
    let mut dirs = vec![(0, RelPath::root())];
    while let Some((position, path)) = dirs.pop() {
        let dir = index.node(position)?;
        if !seen.insert(position) {
            continue;
        }
        let end = dir.first.saturating_add(dir.count);
        for at in dir.first..end {
            let entry = index.entry(at)?;
            let Some(target) = entry.node else { continue };
            let node = index.node(target)?;
            let is_dir = node.kind() == Some(Kind::Dir);
            if !is_dir && node.nlink < 2 {
                continue;
            }
            let name = Name::new(entry.name).map_err(|e| index.damaged(format!("entry {at}: {e}")))?;
            if is_dir {
                dirs.push((target, path.child(name)));
            } else {
                links.entry(target).or_default().push(path.child(name));
            }
        }
    }
    Ok(links)
}
