//! What a container changed: its upper directory, read beside the layers below.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Result;
use super::containers;
use super::target;
use crate::explain::changes::Rules;
use crate::explain::changes::each_change;
pub use crate::explain::compare::Change;
use crate::layer;
use crate::layer::Item;
use crate::layer::ItemKind;
use crate::layer::Layer;
use crate::layer::dir;
use crate::layer::dir::DirLayer;
use crate::layer::handle::DirHandle;
use crate::layer::handle::FdCache;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::store::Store;
use crate::store::containers::ContainerRecord;
use crate::sys;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::lookup;
use crate::union::lookup::Dirs;
use crate::union::lookup::Roots;
use crate::union::stack::Stack;

/// Directory descriptors kept open during a walk.
const FDS: usize = 256;

/// Files that running a container puts there, empty, to mount the host's over them: no change of the container's.
const RUNTIME_FILES: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];

/// The changes of a container against its image, sorted by path; a directory comes before what is in it.
///
/// The cost is that of the changes, not of the image; where a directory was renamed, also of what is in it.
///
/// # Errors
/// A missing container; those of reading its layers.
pub fn changes(store: &Store, record: &ContainerRecord) -> Result<Vec<(RelPath, Change)>> {
    let path = containers::dir(store, &record.id).join("upper");
    let fds = FdCache::new(FDS);
    let upper = DirLayer::open(&path, fds).map_err(crate::union::Error::from)?;
    let stack = Stack::new(None, layers(store, record)?)?;
    let walk = Walk { roots: stack.roots(), redirects: Cell::new(false) };
    let mut out = BTreeMap::new();
    let lowers = lookup::merged_roots(&stack)?;
    walk.run((upper.handle().clone(), RelPath::root(), Dirs { upper: None, lowers }), &mut out)?;
    if walk.redirects.get() {
        return through_union(store, record);
    }
    Ok(sorted(out))
}

/// The same where directories were renamed: what is in them lies in layers, so two unions are compared.
fn through_union(store: &Store, record: &ContainerRecord) -> Result<Vec<(RelPath, Change)>> {
    let after = target::stored(store, &record.id)?;
    let before = after.first(record.layers.len())?;
    let mut out: Vec<(RelPath, Change)> = Vec::new();
    let mut bare_parent = None;
    each_change((&before, &after), &RelPath::root(), Rules::default(), &mut |found| {
        let empty = found.after.as_ref().is_some_and(|item| item.stat.kind() == Kind::File && item.stat.size == 0);
        if found.change == Change::Added && empty && RUNTIME_FILES.contains(&found.path.to_bytes().as_slice()) {
            return Ok(());
        }
        if holds_runtime_files(&found.path) && found.change == Change::Changed && found.differences.is_empty() {
            bare_parent = Some(out.len());
        }
        out.push((found.path, found.change));
        Ok(())
    })?;
    // A directory that was only copied up on the way to a runtime file is no change.
    if let Some(at) = bare_parent
        && out.get(at + 1).is_none_or(|(path, _)| path.split_last().is_none_or(|(dir, _)| !holds_runtime_files(&dir)))
    {
        out.remove(at);
    }
    Ok(out)
}

/// The layers of a container, top first.
///
/// # Errors
/// A layer that is missing or damaged.
pub fn layers(store: &Store, record: &ContainerRecord) -> Result<Vec<Arc<dyn Layer>>> {
    let open = |diff_id| -> Result<Arc<dyn Layer>> { Ok(Arc::new(store.layers().get(diff_id)?)) };
    record.layers.iter().rev().map(open).collect()
}

/// Byte order of the components, so that `a/b` stands right behind `a`.
fn sorted(changes: BTreeMap<RelPath, Change>) -> Vec<(RelPath, Change)> {
    changes.into_iter().collect()
}

struct Walk {
    roots: Roots,
    /// A directory leads to another name below.
    redirects: Cell<bool>,
}

/// A directory of upper, its path, and what lies below it.
type Inside = (Arc<DirHandle>, RelPath, Dirs);

/// What is left to do, the next thing last. Not by recursion: a container makes directories as deep as it likes.
enum Todo {
    List(Inside),
    Enter(Subdirectory),
    Leave(Left),
}

/// A directory that was listed in `upper`.
struct Subdirectory {
    upper: Arc<DirHandle>,
    name: NameBuf,
    path: RelPath,
    lower: Option<lookup::Target>,
}

/// A directory whose content was looked at.
struct Left {
    handle: Arc<DirHandle>,
    path: RelPath,
    stat: Stat,
    opaque: bool,
    lower: Option<lookup::Target>,
    /// How many changes there were before those in it.
    before: usize,
}

impl Walk {
    fn run(&self, top: Inside, out: &mut BTreeMap<RelPath, Change>) -> Result<()> {
        let mut todo = vec![Todo::List(top)];
        while let Some(next) = todo.pop() {
            match next {
                Todo::List(inside) => self.list(&inside, out, &mut todo)?,
                Todo::Enter(found) => self.enter(found, out.len(), &mut todo)?,
                Todo::Leave(left) => self.leave(left, out)?,
            }
        }
        Ok(())
    }

    fn list(
        &self,
        (upper, at, below): &Inside,
        out: &mut BTreeMap<RelPath, Change>,
        todo: &mut Vec<Todo>,
    ) -> Result<()> {
        let mut items: Vec<(NameBuf, ItemKind)> = Vec::new();
        dir::list(upper, &mut |item: Item<'_>| {
            items.push((item.name.to_buf(), item.what));
            Ok(())
        })
        .map_err(crate::union::Error::from)?;
        for (name, what) in items {
            let path = at.child(name.as_name());
            let lower = lookup::walk(below, &self.roots, name.as_name(), &mut ())?;
            match what {
                ItemKind::Whiteout => {
                    if lower.is_some() {
                        out.insert(path, Change::Deleted);
                    }
                }
                ItemKind::Object(_, Kind::Dir) => {
                    todo.push(Todo::Enter(Subdirectory { upper: upper.clone(), name, path, lower }));
                }
                ItemKind::Object(..) if lower.is_none() && is_runtime_file(upper, &name, &path)? => {}
                ItemKind::Object(..) => {
                    out.insert(path, if lower.is_some() { Change::Changed } else { Change::Added });
                }
            }
        }
        Ok(())
    }

    fn enter(&self, found: Subdirectory, before: usize, todo: &mut Vec<Todo>) -> Result<()> {
        let Subdirectory { upper, name, path, lower } = found;
        let found = dir::look(&upper, name.as_name()).map_err(crate::union::Error::from)?;
        let dir::Found::Dir(handle, stat, beside) = found else { return Ok(()) };
        let marks = dir::dir_marks(&handle, beside).map_err(crate::union::Error::from)?;
        self.redirects.set(self.redirects.get() || marks.redirect.is_some());
        let opaque = marks.opaque;
        let lowers = match lower.as_ref().filter(|target| target.kind() == Kind::Dir) {
            Some(target) if !opaque => target.lowers.clone().into(),
            _ => lookup::Lowers::default(),
        };
        let inside = (handle.clone(), path.clone(), Dirs { upper: None, lowers });
        todo.push(Todo::Leave(Left { handle, path, stat, opaque, lower, before }));
        todo.push(Todo::List(inside));
        Ok(())
    }

    fn leave(&self, left: Left, out: &mut BTreeMap<RelPath, Change>) -> Result<()> {
        let Left { handle, path, stat, opaque, lower, before } = left;
        let was_dir = lower.as_ref().filter(|target| target.kind() == Kind::Dir);
        if let (Some(target), true) = (was_dir, opaque) {
            self.hidden_children(&handle, &path, target, out)?;
        }
        // A directory that was only copied up on the way to a runtime file is no change.
        let untouched = was_dir.is_some_and(|target| {
            let s = &target.stat;
            (s.mode, s.uid, s.gid) == (stat.mode, stat.uid, stat.gid)
        });
        if !(untouched && !opaque && out.len() == before && holds_runtime_files(&path)) {
            out.insert(path, if lower.is_some() { Change::Changed } else { Change::Added });
        }
        Ok(())
    }

    /// What an opaque directory hides and does not have itself is deleted; what it has, is changed and not added.
    fn hidden_children(
        &self,
        handle: &Arc<DirHandle>,
        path: &RelPath,
        lower: &lookup::Target,
        out: &mut BTreeMap<RelPath, Change>,
    ) -> Result<()> {
        let below = Dirs { upper: None, lowers: lower.lowers.clone().into() };
        let mut names = Vec::new();
        for lower in below.lowers.iter() {
            lower
                .obj
                .list(&mut |item| {
                    names.push(item.name.to_buf());
                    Ok::<(), layer::Error>(())
                })
                .map_err(crate::union::Error::from)?;
        }
        for name in names {
            if lookup::walk(&below, &self.roots, name.as_name(), &mut ())?.is_none() {
                continue;
            }
            let here = matches!(
                dir::look(handle, name.as_name()).map_err(crate::union::Error::from)?,
                dir::Found::Dir(..) | dir::Found::Other(_)
            );
            out.insert(path.child(name.as_name()), if here { Change::Changed } else { Change::Deleted });
        }
        Ok(())
    }
}

fn is_runtime_file(dir: &Arc<DirHandle>, name: &NameBuf, path: &RelPath) -> Result<bool> {
    if !RUNTIME_FILES.contains(&path.to_bytes().as_slice()) {
        return Ok(false);
    }
    let fd = dir.fd().map_err(crate::union::Error::from)?;
    let stat = sys::attr::stat_at(&*fd, name.as_name())?;
    Ok(stat.is_some_and(|s| s.kind() == Kind::File && s.size == 0))
}

fn holds_runtime_files(path: &RelPath) -> bool {
    path.to_bytes() == b"etc"
}

/// The paths in a container's upper directory that are no change of the container's, for a commit to leave out.
///
/// # Errors
/// As [`changes`].
pub fn runtime_paths(store: &Store, record: &ContainerRecord) -> Result<Vec<RelPath>> {
    let changed: Vec<RelPath> = changes(store, record)?.into_iter().map(|(path, _)| path).collect();
    let all = RUNTIME_FILES.iter().copied().chain([&b"etc"[..]]).filter_map(|p| RelPath::parse(p).ok());
    Ok(all.filter(|path| !changed.contains(path)).collect())
}
