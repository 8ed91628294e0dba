//! The planner: makes paths and names of numbers, for the scout.

use std::sync::Arc;

use super::Shared;
use super::order;
use super::order::Order;
use super::queue::Next;
use super::scout::Job;
use super::seen::Run;
use crate::fuse::nodeids::Nodeids;
use crate::path::NameBuf;
use crate::union;
use crate::union::Union;
use crate::union::node::Node;
use crate::union::readdir::Listing;

/// The most files that are read ahead at a time.
const FILES: usize = 128;
/// So many files behind the last one will be read before this could be.
const PASSED: usize = 3;
/// Directories that take more than so many names for each that was asked for are not listed for it: their listing is made as a whole.
const WIDE: u64 = 64;
/// About how many bytes a name takes in a directory's size, on the disk and as a pack says it.
const NAME: u64 = 24;

/// What a serving thread noticed.
#[derive(Debug)]
pub(super) enum Event {
    /// Names of `dir` are looked up: at least `most` are to be known.
    List { dir: u64, most: u32 },
    /// Files of `dir` are read.
    Read { dir: u64, run: Run },
    /// `dir` is being listed by a program that will read its files.
    Listed { dir: u64, run: Run },
}

impl Event {
    /// The directory that it is about.
    pub(super) fn dir(&self) -> u64 {
        match self {
            Self::List { dir, .. } | Self::Read { dir, .. } | Self::Listed { dir, .. } => *dir,
        }
    }
}

/// Works until the queue of events is closed.
pub(super) fn plan(shared: &Shared, union: &Arc<Union>, nodeids: &Nodeids) {
    loop {
        match shared.events.next(None) {
            Next::Item(event) => {
                let dir = event.dir();
                let planned = union.node(nodeids.ino(dir)).and_then(|node| job(shared, union, &node, &event));
                let handed_over = match planned {
                    Ok(Some(job)) => shared.jobs.push(job).is_ok(),
                    // A directory that is gone, or cannot be read: who asks for it will hear of it.
                    Ok(None) | Err(_) => false,
                };
                if !handed_over {
                    shared.seen.done(dir);
                }
            }
            Next::Nothing => {}
            Next::Closed => return,
        }
    }
}

fn job(shared: &Shared, union: &Arc<Union>, node: &Arc<Node>, event: &Event) -> union::Result<Option<Job>> {
    let Some(path) = node.path() else { return Ok(None) };
    let dir = event.dir();
    Ok(match event {
        Event::List { most, .. } => {
            let wide = union.getattr(node)?.size / NAME > u64::from(*most).saturating_mul(WIDE);
            (!wide).then_some(Job::List { dir, path, most: *most as usize })
        }
        Event::Listed { run, .. } => {
            let names = listed(union, node, |list| run.order.map(|order| names(list, order, None)))?;
            names.and_then(|names| read(dir, path, names, run))
        }
        Event::Read { run, .. } => {
            let found = listed(union, node, |list| next(shared, list, run))?;
            found.and_then(|names| read(dir, path, names, run))
        }
    })
}

fn read(dir: u64, path: Vec<u8>, names: Vec<NameBuf>, run: &Run) -> Option<Job> {
    (!names.is_empty()).then_some(Job::Read { dir, path, names, asks: run.asks, list: !run.listed })
}

/// Looks at the listing of a directory: the one that somebody reads, or a new one.
fn listed<T>(union: &Union, node: &Arc<Node>, look: impl FnOnce(&Listing) -> T) -> union::Result<T> {
    union.open_dir(node);
    // Not from the start, which would make it anew for who reads it now.
    let listing = union.list(node, 1);
    let looked = listing.map(|listing| look(&listing));
    union.close_dir(node);
    looked
}

/// The names behind the last file of a run; `None` where the files come in no order.
fn next(shared: &Shared, list: &Listing, run: &Run) -> Option<Vec<NameBuf>> {
    let Some(order) = run.order.or_else(|| order::of(&list.entries, &run.recent)) else {
        shared.seen.distrust(run.pid);
        return None;
    };
    if run.order.is_none() {
        shared.seen.trust(run.pid, order);
    }
    Some(names(list, order, run.recent.last().copied()))
}

/// The names of the files behind `last`, or of the first ones.
fn names(list: &Listing, order: Order, last: Option<u64>) -> Vec<NameBuf> {
    let files = order::files(&list.entries, order);
    let from = match last {
        None => 0,
        Some(last) => files.iter().position(|entry| entry.ino == last).map_or(files.len(), |at| at + 1 + PASSED),
    };
    files.into_iter().skip(from).take(FILES).map(|entry| entry.name.clone()).collect()
}
