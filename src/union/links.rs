//! Hard links over copy-up.
//!
//! A lower file with several names is one file: a change through one name must show through all. When a layer can tell the
//! names (a pack can), the copy in upper gets all of them that still show, before its first change. So the links are kept on disk,
//! in plain overlay form that every reader understands, and a commit holds them. (The kernel's overlayfs needs its `index` directory
//! for this, and breaks the links without it.)
//!
//! A plain directory cannot tell the names without being searched as a whole. There the copy gets those names under which the file was
//! seen through this mount: whoever changes a file has looked up the name by which he does.

use std::sync::Arc;

use super::Entry;
use super::Result;
use super::Union;
use super::copy_up;
use super::copy_up::Built;
use super::copy_up::Copy;
use super::exec::Site;
use super::lookup;
use super::lookup::Lower;
use super::names::Held;
use super::names::outdate_listing;
use super::node;
use super::node::Node;
use super::node::SeenName;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

impl Union {
    /// Gives the copy that was built in work every other name of `lower` that shows, and leaves the name of `node`'s place to the
    /// caller.
    ///
    /// A crash in between leaves names of the copy and names of the lower file, with the same content: nothing was changed yet.
    ///
    /// # Errors
    /// Those of upper. Names that were linked already stay; they show what they showed before.
    pub(super) fn link_others(
        &self,
        lower: &Lower,
        built: &Built<'_>,
        paths: &[RelPath],
        node: &Arc<Node>,
    ) -> Result<()> {
        for path in paths {
            let Some((dir, name)) = path.split_last() else { continue };
            let Some(held) = self.directory_at(&dir)? else { continue };
            let parent = held.node()?;
            let own =
                node.body.read().place.as_ref().is_some_and(|(p, n)| Arc::ptr_eq(p, parent) && n.as_name() == name);
            if own || !self.shows_lower(parent, name, lower)? {
                continue;
            }
            self.copy_up(parent, Copy::All)?;
            let _names = parent.names()?.write();
            // Somebody may have changed the name before it was locked.
            if !self.shows_lower(parent, name, lower)? {
                continue;
            }
            self.link_one(built, parent, name)?;
        }
        Ok(())
    }

    /// Gives a copy every lower name under which it was seen, and where it is not yet.
    ///
    /// # Errors
    /// Those of upper; what was not linked is tried again before the next change.
    ///
    /// # Durability
    /// The names are on disk, unless the mount is volatile.
    pub(super) fn link_seen(&self, node: &Arc<Node>) -> Result<()> {
        if node.body.read().rare().seen.is_empty() || node.kind == Kind::Dir {
            return Ok(());
        }
        let mut seen = node.body.write().change(|rare| std::mem::take(&mut rare.seen));
        while let Some(one) = seen.pop() {
            if let Err(e) = self.link_seen_at(node, &one) {
                // As many links as the filesystem can hold: this name keeps what is below.
                if e.errno() == Errno::MLINK {
                    log::warn!("{} is not linked to its copy: {e}", one.name);
                    continue;
                }
                seen.push(one);
                node.body.write().change(|rare| rare.seen.append(&mut seen));
                return Err(e);
            }
        }
        Ok(())
    }

    fn link_seen_at(&self, node: &Arc<Node>, seen: &SeenName) -> Result<()> {
        let SeenName { parent, name, lower } = seen;
        if super::is_removed(parent) || !self.shows_lower(parent, name.as_name(), lower)? {
            return Ok(());
        }
        self.copy_up(parent, Copy::All)?;
        let names = parent.names()?.write();
        // Somebody may have changed the name before it was locked.
        if super::is_removed(parent) || !self.shows_lower(parent, name.as_name(), lower)? {
            return Ok(());
        }
        let fd = self.hold(node)?;
        if sys::attr::fstat(&*fd)?.nlink == 0 {
            // No name can be given to what has none left.
            return Ok(());
        }
        let spot = self.spot(parent, name.as_name())?;
        let before = Self::before_change(parent, &spot.site)?;
        // What keeps its content below is looked at only where the directory says that it may hold such.
        copy_up::set_impure(&spot.site.dir, self.upper()?)?;
        self.link_to(&fd, &spot)?;
        outdate_listing(parent);
        self.hide_change(parent, &spot.site, &before);
        node.body.write().change(|rare| rare.nlink_shift -= 1);
        node.mark_fresh();
        drop(names);
        // A sync of the file writes the way to one name only.
        self.fsync(parent, false)
    }

    fn link_one(&self, built: &Built<'_>, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        let Some(handle) = self.dirs_of(parent)?.upper else { return Ok(()) };
        let upper = self.upper()?;
        let site = Site::new(&handle, name);
        let dir = handle.fd()?;
        let before = Self::before_change(parent, &site)?;
        if built.recorded {
            copy_up::set_impure(&handle, upper)?;
        }
        built.link(&dir, name)?;
        outdate_listing(parent);
        self.hide_change(parent, &site, &before);
        Ok(())
    }

    /// Whether the union shows `lower` at a name.
    fn shows_lower(&self, parent: &Arc<Node>, name: Name<'_>, lower: &Lower) -> Result<bool> {
        let found = lookup::walk(&self.dirs_of(parent)?, &self.stack().roots, name, &mut ())?;
        Ok(found.is_some_and(|target| {
            let first = target.lowers.first();
            target.upper.is_none() && first.is_some_and(|l| l.layer == lower.layer && l.obj.id() == lower.obj.id())
        }))
    }

    /// The directory at a path; `None` when there is none. Symlinks are not followed: the paths are those of the layer's own
    /// directories.
    fn directory_at(&self, path: &RelPath) -> Result<Option<Held<'_>>> {
        // The root's references are not counted, so it can be held like any other.
        let mut at = Held::new(self, Entry { node: self.node(node::ROOT)?, attr: Stat::default() });
        for name in path.components() {
            let Some(entry) = self.lookup(at.node()?, name)? else { return Ok(None) };
            let next = Held::new(self, entry);
            if next.node()?.kind != Kind::Dir {
                return Ok(None);
            }
            at = next;
        }
        Ok(Some(at))
    }
}
