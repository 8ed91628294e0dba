//! Numbers that the protocol gives to nodes: the node's own, unless it had to move.
//!
//! The kernel holds on to the file that was lent to it for a node as long as a handle is open. A node that was copied up meanwhile gets
//! another number in the protocol: to the kernel a new inode, to the union and to `stat` the same node.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use crate::union::Union;

/// The nodes that moved.
#[derive(Debug, Default)]
pub(super) struct Nodeids {
    any: AtomicBool,
    moved: RwLock<Moved>,
}

#[derive(Debug, Default)]
struct Moved {
    /// By node: its number in the protocol.
    now: FxHashMap<u64, u64>,
    /// The other way round.
    node: FxHashMap<u64, u64>,
}

impl Nodeids {
    fn are_all_own(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The node that the protocol's number means.
    pub(super) fn ino(&self, nodeid: u64) -> u64 {
        if self.are_all_own() {
            return nodeid;
        }
        self.moved.read().node.get(&nodeid).copied().unwrap_or(nodeid)
    }

    /// The number under which the kernel is to know a node from now on.
    pub(super) fn nodeid(&self, ino: u64) -> u64 {
        self.other(ino).unwrap_or(ino)
    }

    /// The second number of a node that moved.
    pub(super) fn other(&self, ino: u64) -> Option<u64> {
        if self.are_all_own() {
            return None;
        }
        self.moved.read().now.get(&ino).copied()
    }

    /// The node moves away from `nodeid`, unless it already did.
    pub(super) fn leave(&self, nodeid: u64, ino: u64, union: &Union) {
        let mut moved = self.moved.write();
        if moved.now.get(&ino).copied().unwrap_or(ino) != nodeid {
            return;
        }
        // Forgotten ones of which nobody said so: they were waiting for an operation at that moment.
        moved.now.retain(|ino, _| union.table().get(*ino).is_some());
        let Moved { now, node } = &mut *moved;
        node.retain(|_, ino| now.contains_key(ino));
        let new = union.table().fresh_ino();
        if let Some(old) = now.insert(ino, new) {
            node.remove(&old);
        }
        node.insert(new, ino);
        self.any.store(true, Ordering::Release);
    }

    /// The kernel forgot something of a node: when nothing is left, its numbers are.
    ///
    /// A lookup that makes the node anew is told its number after that, so it waits here and gets the one that stays.
    pub(super) fn forgotten(&self, ino: u64, union: &Union) {
        if self.other(ino).is_none() {
            return;
        }
        let mut moved = self.moved.write();
        if union.table().get(ino).is_none()
            && let Some(nodeid) = moved.now.remove(&ino)
        {
            moved.node.remove(&nodeid);
            if moved.now.is_empty() {
                self.any.store(false, Ordering::Release);
            }
        }
    }
}
