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

/// The most names of one file that are told: ext4 can hold 65,000 links. A layer is hostile that has more.
const NAMES_MAX: u32 = 65_000;
/// The most bytes that the paths may take together: a hostile layer may have a million names of 4 KiB each.
const BYTES_MAX: usize = 64 << 20;

/// The paths of every file with more than one name, but for those with too many.
///
/// # Errors
/// A damaged index.
pub(super) fn find(index: &Index) -> Result<Links> {
    let mut links = paths(index, NAMES_MAX as usize, |_, node| (2..=NAMES_MAX).contains(&node.nlink))?;
    // All names or none: whoever links only some breaks the file apart.
    links.retain(|position, found| index.node(*position).is_ok_and(|node| node.nlink as usize == found.len()));
    Ok(links)
}

/// The paths of the files (not directories) that are wanted, at most `most` of each, and 64 MiB in all. A directory is entered once,
/// also when a damaged index names it twice.
///
/// # Errors
/// A damaged index.
pub(super) fn paths(index: &Index, most: usize, want: impl Fn(u32, &Node) -> bool) -> Result<Links> {
    let mut links = Links::default();
    let mut left = BYTES_MAX;
    let mut seen = FxHashSet::default();
    // Directories: the position of the node, of the entry that names it, and which of these is the parent. Their paths are put
    // together only where one is needed.
    let mut dirs: Vec<(u32, u32, usize)> = vec![(0, 0, 0)];
    let mut next = 0;
    while let Some(&(position, ..)) = dirs.get(next) {
        let this = next;
        next += 1;
        let dir = index.node(position)?;
        if !seen.insert(position) {
            continue;
        }
        let mut path = None;
        let end = dir.first.saturating_add(dir.count);
        for at in dir.first..end {
            let entry = index.entry(at)?;
            let Some(target) = entry.node else { continue };
            let node = index.node(target)?;
            if node.kind() == Some(Kind::Dir) {
                dirs.push((target, at, this));
                continue;
            }
            if !want(target, &node) {
                continue;
            }
            let (path, cost) = match &path {
                Some(path) => path,
                None => path.insert(path_of(index, &dirs, this)?),
            };
            let found = links.entry(target).or_default();
            let name = name_of(index, at)?;
            if let Some(rest) = left.checked_sub(cost + cost_of(name)).filter(|_| found.len() < most) {
                left = rest;
                found.push(path.child(name));
            }
        }
    }
    Ok(links)
}

fn name_of(index: &Index, entry: u32) -> Result<Name<'_>> {
    Name::new(index.entry(entry)?.name).map_err(|e| index.damaged(format!("entry {entry}: {e}")))
}

/// What one component of a path takes in memory, about.
fn cost_of(name: Name<'_>) -> usize {
    name.as_bytes().len() + 48
}

/// The path of a directory that was found, and what it takes in memory.
fn path_of(index: &Index, dirs: &[(u32, u32, usize)], mut at: usize) -> Result<(RelPath, usize)> {
    let mut names = Vec::new();
    while let Some(&(_, entry, parent)) = dirs.get(at).filter(|_| at != 0) {
        names.push(name_of(index, entry)?);
        at = parent;
    }
    let cost = names.iter().map(|name| cost_of(*name)).sum();
    let parts: Vec<&[u8]> = names.iter().rev().map(|name| name.as_bytes()).collect();
    let path = RelPath::parse(&parts.join(&b'/')).map_err(|e| index.damaged(format!("a path: {e}")))?;
    Ok((path, cost))
}
