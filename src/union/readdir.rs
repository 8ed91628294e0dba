//! Listing directories: the names of all layers merged, each once, under cookies that stay.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::Result;
use super::Union;
use super::lookup::Dirs;
use super::node::Node;
use crate::layer;
use crate::layer::Item;
use crate::layer::ItemKind;
use crate::layer::ObjectId;
use crate::layer::dir;
use crate::path::NameBuf;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// One name of a merged directory.
#[derive(Debug, Clone)]
pub struct ListEntry {
    /// The name.
    pub name: NameBuf,
    /// The number that `stat` shows for it.
    pub ino: u64,
    /// The type.
    pub kind: Kind,
    /// Where a reader goes on after this entry; larger than those of all entries before it.
    pub cookie: u64,
}

/// A merged directory. Entries are in the order of their cookies; a name keeps its cookie when the listing is made anew, so a
/// reader that goes on in a newer listing sees every name that stayed exactly once.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<ListEntry>,
    next_cookie: u64,
    outdated: AtomicBool,
}

impl Listing {
    /// The entries behind `cookie`; 0 is the start.
    pub fn after(&self, cookie: u64) -> &[ListEntry] {
        let from = self.entries.partition_point(|e| e.cookie <= cookie);
        self.entries.get(from..).unwrap_or_default()
    }

    /// The cookie that the next new name will get: all entries are below it.
    pub fn end(&self) -> u64 {
        self.next_cookie
    }

    pub(super) fn outdate(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }
}

/// The first cookie; `.` and `..` have 1 and 2.
pub const FIRST_COOKIE: u64 = 3;

impl Union {
    /// The merged listing of a directory. From the start (`cookie` 0) it is made anew if names changed; a reader that is under way
    /// goes on in the one that is there.
    ///
    /// # Errors
    /// `ENOTDIR`; those of the layers: a directory that cannot be read in one layer is not shown without it.
    pub fn list(&self, node: &Arc<Node>, cookie: u64) -> Result<Arc<Listing>> {
        let is_good = |listing: &Listing| !self.manners.unsteady && !listing.outdated.load(Ordering::Relaxed);
        let known = node.listing()?.lock().clone();
        if let Some(listing) = &known
            && (cookie > 0 || is_good(listing))
        {
            return Ok(listing.clone());
        }
        let _names = node.names()?.read();
        let dirs = self.dirs_of(node)?;
        loop {
            // Somebody else may have made it meanwhile, or make it at the same time, and another reader be under way in it: there is one.
            let known = node.listing()?.lock().clone();
            if let Some(listing) = known.as_ref().filter(|listing| is_good(listing)) {
                return Ok(listing.clone());
            }
            let fresh =
                if super::is_removed(node) { Listing::default() } else { self.merge(node, &dirs, known.as_deref())? };
            let fresh = Arc::new(fresh);
            let mut kept = node.listing()?.lock();
            if is_same(kept.as_ref(), known.as_ref()) {
                *kept = Some(fresh.clone());
                return Ok(fresh);
            }
        }
    }

    /// The names of a directory for somebody who is no reader of it: those of the listing that is being read, or of a new one that is not
    /// kept. `None` where there are more than `most`; looks at about as many only.
    ///
    /// # Errors
    /// As [`Union::list`].
    pub fn glance(&self, node: &Arc<Node>, most: usize) -> Result<Option<Arc<Listing>>> {
        let known = node.listing()?.lock().clone();
        if let Some(listing) = known {
            return Ok((listing.entries.len() <= most).then_some(listing));
        }
        let _names = node.names()?.read();
        let dirs = self.dirs_of(node)?;
        if super::is_removed(node) {
            return Ok(None);
        }
        let names = self.gather(&dirs, most)?;
        names.map(|names| Ok(Arc::new(self.in_order(node, names, None)?))).transpose()
    }

    /// Counts one more reader of a directory.
    pub fn open_dir(&self, node: &Node) {
        node.body.write().change(|rare| rare.opens += 1);
    }

    /// Takes back one reader; with the last one the cached listing goes.
    pub fn close_dir(&self, node: &Node) {
        let Ok(listing) = node.listing() else { return };
        // Locked before it is counted: a reader who comes meanwhile must not lose the listing that he begins.
        let mut listing = listing.lock();
        let readers = node.body.write().change(|rare| {
            rare.opens = rare.opens.saturating_sub(1);
            rare.opens
        });
        if readers == 0 {
            *listing = None;
        }
    }

    /// Whether a directory is empty in the union; whiteouts do not count. Ends at the first name that shows.
    pub(super) fn shows_nothing(&self, dirs: &Dirs) -> Result<bool> {
        let mut hidden = FxHashSet::default();
        if let Some(upper) = &dirs.upper
            && !hides_all(&mut hidden, |each| dir::list(upper, each))?
        {
            return Ok(false);
        }
        for lower in dirs.lowers.iter() {
            if !hides_all(&mut hidden, |each| lower.obj.list(each))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn merge(&self, node: &Arc<Node>, dirs: &Dirs, known: Option<&Listing>) -> Result<Listing> {
        let names = self.gather(dirs, usize::MAX)?.unwrap_or_default();
        self.in_order(node, names, known)
    }

    fn in_order(&self, node: &Arc<Node>, names: Names, known: Option<&Listing>) -> Result<Listing> {
        let mut found: Vec<(NameBuf, Seen)> = names.0.into_iter().collect();
        found.sort_unstable_by_key(|(_, seen)| seen.order);
        let cookies: FxHashMap<&NameBuf, u64> =
            known.map(|k| k.entries.iter().map(|e| (&e.name, e.cookie)).collect()).unwrap_or_default();
        let mut next_cookie = known.map_or(FIRST_COOKIE, |k| k.next_cookie);
        let mut entries = Vec::with_capacity(found.len());
        for (name, seen) in found {
            let Some((mut ino, kind)) = seen.object else { continue };
            if (seen.ask && !self.manners.fast_ino) || ino == 0 {
                let Some(entry) = self.lookup_locked(node, name.as_name())? else { continue };
                ino = entry.node.ino;
                self.forget(ino, 1);
            }
            let cookie = cookies.get(&name).copied().unwrap_or_else(|| {
                next_cookie += 1;
                next_cookie - 1
            });
            entries.push(ListEntry { name, ino, kind, cookie });
        }
        entries.sort_by_key(|e| e.cookie);
        Ok(Listing { entries, next_cookie, outdated: AtomicBool::new(false) })
    }

    /// The names of all layers: of each the topmost that has it, as an object or as a whiteout, decides. `None` where there are more than
    /// `most`.
    fn gather(&self, dirs: &Dirs, most: usize) -> Result<Option<Names>> {
        let mut names = Names::default();
        if let Some(upper) = &dirs.upper {
            let impure = self.may_hold_copies(upper)?;
            let ino = |id| self.table().copy_of(id).or(self.stack().upper_ino(id));
            if !names.add_layer((true, impure), most, ino, |each| dir::list(upper, each))? {
                return Ok(None);
            }
        }
        for lower in dirs.lowers.iter() {
            let ino = |id| self.stack().lower_ino(lower.layer, id);
            if !names.add_layer((false, false), most, ino, |each| lower.obj.list(each))? {
                return Ok(None);
            }
        }
        Ok(Some(names))
    }
}

fn is_same(a: Option<&Arc<Listing>>, b: Option<&Arc<Listing>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Whether the layers above hide every name of a layer; adds what this one hides of those below.
fn hides_all(hidden: &mut FxHashSet<NameBuf>, list: impl FnOnce(Each<'_>) -> layer::Result<()>) -> Result<bool> {
    let mut whiteouts = Vec::new();
    let mut shows = false;
    let listed = list(&mut |item| match item.what {
        ItemKind::Whiteout => {
            whiteouts.push(item.name.to_buf());
            Ok(())
        }
        ItemKind::Object(..) if hidden.contains(item.name.as_bytes()) => Ok(()),
        ItemKind::Object(..) => {
            shows = true;
            // Ends the listing; nobody sees this.
            Err(layer::Error::WrongKind(Errno::NOTEMPTY))
        }
    });
    match listed {
        _ if shows => Ok(false),
        Err(e) => Err(e.into()),
        Ok(()) => {
            hidden.extend(whiteouts);
            Ok(true)
        }
    }
}

/// A name found in some layer while merging.
struct Seen {
    /// Its number and kind; `None` for a whiteout.
    object: Option<(u64, Kind)>,
    in_upper: bool,
    /// The number must be looked up: it may be that of a lower object (copied up, or a directory moved by a redirect).
    ask: bool,
    /// The order in which names were first seen.
    order: usize,
}

#[derive(Default)]
struct Names(FxHashMap<NameBuf, Seen>);

type Each<'a> = &'a mut dyn FnMut(Item<'_>) -> layer::Result<()>;

impl Names {
    /// Adds what one layer has below those added before. An AUFS whiteout speaks only for the layers below its own, whatever stands
    /// beside it: so whiteouts count after the objects of their layer. `false`, and the rest is left out, where there are more than `most`.
    fn add_layer(
        &mut self,
        (in_upper, impure): (bool, bool),
        most: usize,
        number: impl Fn(ObjectId) -> Option<u64>,
        list: impl FnOnce(Each<'_>) -> layer::Result<()>,
    ) -> Result<bool> {
        let mut whiteouts = Vec::new();
        let mut too_many = false;
        let listed = list(&mut |item| {
            if self.0.len().saturating_add(whiteouts.len()) >= most {
                too_many = true;
                // Ends the listing; nobody sees this.
                return Err(layer::Error::WrongKind(Errno::OVERFLOW));
            }
            match item.what {
                ItemKind::Whiteout => whiteouts.push(item.name.to_buf()),
                ItemKind::Object(id, kind) => {
                    let ask = in_upper && impure;
                    self.add_object(item.name.to_buf(), (number(id).unwrap_or(0), kind), in_upper, ask);
                }
            }
            Ok(())
        });
        if too_many {
            return Ok(false);
        }
        listed?;
        for name in whiteouts {
            let order = self.0.len();
            self.0.entry(name).or_insert(Seen { object: None, in_upper, ask: false, order });
        }
        Ok(true)
    }

    fn add_object(&mut self, name: NameBuf, object: (u64, Kind), in_upper: bool, ask: bool) {
        let order = self.0.len();
        let new = Seen { object: Some(object), in_upper, ask, order };
        match self.0.entry(name) {
            Entry::Vacant(slot) => {
                slot.insert(new);
            }
            Entry::Occupied(mut slot) => {
                // A directory of upper that may be merged with this one shows this one's number.
                let seen = slot.get_mut();
                let both_dirs = object.1 == Kind::Dir && matches!(seen.object, Some((_, Kind::Dir)));
                seen.ask |= both_dirs && seen.in_upper;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::manners::Manners;
    use crate::union::node::ROOT;
    use crate::union::testing::Area;

    fn names(listing: &Listing) -> Vec<String> {
        let mut names: Vec<_> =
            listing.entries.iter().map(|e| String::from_utf8(e.name.as_bytes().to_vec()).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_glance_shows_what_a_listing_does_and_nothing_of_what_is_too_wide() {
        let area = Area::new();
        (0..20).for_each(|n| area.put(&format!("low/f{n:02}"), ""));
        area.put("upper/new", "");
        let union = area.union(Manners::default());
        let root = union.node(ROOT).unwrap();
        let glance = |most| union.glance(&root, most).unwrap().map(|listing| names(&listing));
        let all = names(&union.list(&root, 0).unwrap());
        // That is the one that a reader has now; without readers it is made, and not kept.
        assert_eq!((all.len(), glance(21), glance(20)), (21, Some(all.clone()), None));
        union.open_dir(&root);
        union.close_dir(&root);
        assert!(root.listing().unwrap().lock().is_none());
        assert_eq!((glance(21), glance(20)), (Some(all), None));
        assert!(root.listing().unwrap().lock().is_none(), "nobody would take it away");
    }

    /// Whoever begins to read while the last other reader leaves keeps his listing.
    #[test]
    fn a_listing_goes_with_its_last_reader_only() {
        let area = Area::new();
        area.put("low/file", "");
        let union = area.union(Manners::default());
        let root = union.node(ROOT).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        union.open_dir(&root);
                        let first = union.list(&root, 0).unwrap();
                        let again = union.list(&root, 3).unwrap();
                        assert!(Arc::ptr_eq(&first, &again), "the reader is under way in it");
                        union.close_dir(&root);
                    }
                });
            }
        });
        assert!(root.listing().unwrap().lock().is_none());
    }
}
