//! Backing files that stay open between requests, for mounts whose kernel does not say when a file is opened and closed.
//!
//! Answering OPEN with `ENOSYS` saves two trips for each file that is read, but then nobody counts handles: a node's backing file is
//! opened by the first request that needs it, and stays open until the node is forgotten, or until [`Files`] has too many. A file
//! without a name is held by its node (`Real::Upper`), so closing its backing file loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::node::Node;

/// The backing files that are open without a handle.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Handles are not counted.
    uncounted: AtomicBool,
    /// The most backing files that stay open.
    capacity: AtomicUsize,
    /// Oldest first. One that was used since it was queued gets a second round.
    queue: Mutex<VecDeque<Weak<Node>>>,
}

/// A node's place in the queue.
#[derive(Debug, Default)]
pub(super) struct Queued(AtomicU8);

const IN_QUEUE: u8 = 1;
const USED: u8 = 2;

impl Queued {
    /// The backing file was used.
    pub(super) fn touch(&self) {
        // Read first: a line of memory that all readers of a file write would wander between processors.
        if self.0.load(Ordering::Relaxed) & USED == 0 {
            self.0.fetch_or(USED, Ordering::Relaxed);
        }
    }
}

impl Files {
    /// From now on handles are not counted, and at most `capacity` backing files stay open.
    pub(super) fn stop_counting(&self, capacity: usize) {
        self.capacity.store(capacity.max(8), Ordering::Relaxed);
        self.uncounted.store(true, Ordering::Relaxed);
    }

    /// Whether handles are not counted.
    pub(super) fn are_uncounted(&self) -> bool {
        self.uncounted.load(Ordering::Relaxed)
    }

    /// Takes a node whose backing file was just opened, and closes the one that was unused for longest if there are too many.
    pub(super) fn admit(&self, node: &Arc<Node>) {
        if node.queued.0.fetch_or(IN_QUEUE | USED, Ordering::Relaxed) & IN_QUEUE != 0 {
            return;
        }
        let capacity = self.capacity.load(Ordering::Relaxed);
        let mut closed = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(node));
            let mut rounds = queue.len() * 2;
            while queue.len() > capacity && rounds > 0 {
                rounds -= 1;
                let Some(oldest) = queue.pop_front().and_then(|weak| weak.upgrade()) else { continue };
                if Arc::ptr_eq(&oldest, node) || oldest.queued.0.fetch_and(!USED, Ordering::Relaxed) & USED != 0 {
                    queue.push_back(Arc::downgrade(&oldest));
                } else {
                    oldest.queued.0.store(0, Ordering::Relaxed);
                    closed.push(oldest);
                }
            }
        }
        // Closed, and nodes dropped, with nothing locked. A request that is using a file has a share of its descriptor.
        for node in closed {
            let io = node.body.write().change(|rare| rare.io.take());
            drop(io);
        }
    }
}

#[cfg(test)]
mod tests;
