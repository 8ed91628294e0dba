//! Layers that are changed from outside, behind the union's back.
//!
//! Two ways: a union that is [`Manners::unsteady`](super::manners::Manners) keeps nothing of a layer from one request to the next;
//! any other is told by [`Union::refresh`] to look again, and says what the kernel must forget.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Result;
use super::Union;
use super::lookup::Dirs;
use super::node;
use super::node::Node;
use super::node::Real;
use crate::path::NameBuf;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// Something that the kernel may have kept, and that is not so any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The attributes, the data and the listing of the node with this number.
    Inode(u64),
    /// What this name is in the directory with this number.
    Entry(u64, NameBuf),
    /// Answers about this directory that are under way have arrived in the kernel when this notice has: what it remembers of a name may
    /// be older than what the union has told somebody else, who has not put it there yet.
    Arrived(u64),
}

impl Union {
    /// Looks again at everything known at and below `node`, and tells in `notices` what the kernel should forget. A name that still means
    /// the same object keeps its place there, so what is mounted on it stays.
    ///
    /// # Errors
    /// The first of the layers'; all else is looked at, and told, all the same.
    pub fn refresh(&self, node: &Arc<Node>, notices: &mut Vec<Notice>) -> Result<()> {
        let known = self.outdated_below(node)?;
        let mut result = Ok(());
        let mut note = |failed: Result<()>| {
            if result.is_ok() {
                result = failed;
            }
        };
        // What somebody was told of before it is looked at here must have arrived, or it would arrive behind what is told of it below.
        let dirs = || known.iter().filter(|(_, node)| node.kind == Kind::Dir).map(|(_, dir)| dir);
        notices.extend(dirs().map(|dir| Notice::Arrived(dir.ino)));
        let mut named = HashSet::new();
        // Before anything is looked up: a new file that got the number of a removed one would else take that one's node along, and nobody
        // would be told that the old name is gone.
        let places: Vec<_> = known.iter().map(|(_, node)| node.body.read().place.clone()).collect();
        // From the top down: what lies below is looked up in directories that are up to date.
        for ((_, node), place) in known.iter().zip(places) {
            notices.push(Notice::Inode(node.ino));
            let Some((parent, name)) = place else { continue };
            named.insert((parent.ino, name.clone()));
            let same = match self.lookup_again(&parent, &name) {
                // What the kernel was not told of is known here all the same while somebody looks it up for himself.
                Ok(found) => found.is_some_and(|entry| {
                    self.forget(entry.node.ino, 1);
                    entry.node.ino == node.ino && node.is_told()
                }),
                // Nobody knows: what is mounted there stays, and who asks is told the same.
                Err(e) => {
                    note(Err(e));
                    true
                }
            };
            if !same {
                notices.push(Notice::Entry(parent.ino, name));
            }
        }
        dirs().for_each(|dir| note(self.new_names(dir, &named, notices)));
        result
    }

    /// The known nodes at and below `top`, ancestors first, when nothing is remembered of them any more.
    fn outdated_below(&self, top: &Arc<Node>) -> Result<Vec<(usize, Arc<Node>)>> {
        let mut done = HashSet::new();
        loop {
            let known = self.known_below(top);
            // Also what was looked up by who was in a directory until just now: each round looks one directory deeper.
            let new: Vec<_> = known.iter().filter(|(_, node)| done.insert(node.ino)).collect();
            if new.is_empty() {
                return Ok(known);
            }
            new.into_iter().try_for_each(|(_, node)| self.outdate(node))?;
        }
    }

    /// The names of a directory that are not `named`: the kernel may remember of any that it is not there.
    fn new_names(&self, dir: &Arc<Node>, named: &HashSet<(u64, NameBuf)>, notices: &mut Vec<Notice>) -> Result<()> {
        let listing = match self.list(dir, 0) {
            Err(e) if is_gone(&e) => return Ok(()),
            other => other?,
        };
        let unknown = listing.entries.iter().map(|e| (dir.ino, e.name.clone())).filter(|at| !named.contains(at));
        notices.extend(unknown.map(|(ino, name)| Notice::Entry(ino, name)));
        // Locked before it is asked: a reader who comes meanwhile must not lose the listing that he begins.
        let mut kept = dir.listing()?.lock();
        if dir.body.read().rare().opens == 0 {
            *kept = None;
        }
        Ok(())
    }

    /// A lookup in a directory that may itself be gone: then nothing is in it.
    fn lookup_again(&self, parent: &Arc<Node>, name: &NameBuf) -> Result<Option<super::Entry>> {
        match self.lookup(parent, name.as_name()) {
            Err(e) if is_gone(&e) => Ok(None),
            other => other,
        }
    }

    /// The known nodes at and below `top`, with their depth below it, ancestors first.
    fn known_below(&self, top: &Arc<Node>) -> Vec<(usize, Arc<Node>)> {
        let mut found: Vec<_> =
            self.table().all().into_iter().filter_map(|node| Some((depth_below(&node, top)?, node))).collect();
        found.sort_by_key(|(depth, node)| (*depth, node.ino));
        found
    }

    /// Drops what is remembered of a node's objects.
    fn outdate(&self, node: &Node) -> Result<()> {
        // Whoever lists the directory or looks into it now may have read a layer before it changed, and would keep that afterwards.
        let _nobody_inside = (node.kind == Kind::Dir).then(|| node.names()).transpose()?.map(|names| names.write());
        node.outdated.store(true, Ordering::Relaxed);
        node.no_caps.forget();
        if let Some(dirs) = node.dirs() {
            forget_facts(&dirs);
        }
        if let Ok(listing) = node.listing()
            && let Some(listing) = &*listing.lock()
        {
            listing.outdate();
        }
        Ok(())
    }

    /// Brings a known node up to date with what a walk just found in its place, where layers may have changed. Always true.
    pub(super) fn renew(&self, node: &Node, found: &Real) -> bool {
        if node.outdated.swap(false, Ordering::Relaxed) || self.manners.unsteady {
            let mut body = node.body.write();
            match (&mut body.real, found) {
                (Real::Dir(known), Real::Dir(new)) => known.lowers = new.lowers.clone(),
                (Real::Lower(known), Real::Lower(new)) => *known = new.clone(),
                _ => {}
            }
        }
        true
    }
}

fn is_gone(error: &super::Error) -> bool {
    matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::STALE)
}

/// What is remembered of directories on disk: whether they hold whiteouts of a kind, and the like.
fn forget_facts(dirs: &Dirs) {
    if let Some(upper) = &dirs.upper {
        upper.forget_facts();
    }
    dirs.lowers.forget_names();
    dirs.lowers.iter().for_each(|lower| lower.obj.refresh());
}

/// How far `node` lies below `top`; `None` when it does not.
fn depth_below(node: &Arc<Node>, top: &Arc<Node>) -> Option<usize> {
    let mut at = node.clone();
    let mut depth = 0;
    while !Arc::ptr_eq(&at, top) {
        if at.ino == node::ROOT {
            return None;
        }
        let parent = at.body.read().place.as_ref().map(|(parent, _)| parent.clone());
        at = parent?;
        depth += 1;
    }
    Some(depth)
}

#[cfg(test)]
mod tests;
