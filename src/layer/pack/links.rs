//! The names of a pack's inodes, found by one walk of its index.

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::format::Index;
use super::format::Node;
use crate::layer::Result;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// By inode position: all its paths.
pub(super) type Links = FxHashMap<u32, Vec<RelPath>>;

/// The paths of every file with more than one name.
///
/// # Errors
/// A damaged index.
pub(super) fn find(index: &Index) -> Result<Links> {
    paths(index, |_, node| node.nlink > 1)
}

/// The paths of the files (not directories) that are wanted. A directory is entered once, also when a damaged index names it
/// twice.
///
/// # Errors
/// A damaged index.
pub(super) fn paths(index: &Index, want: impl Fn(u32, &Node) -> bool) -> Result<Links> {
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
            if !is_dir && !want(target, &node) {
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
