//! The planner: makes paths and names of numbers, for the scout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::job::Job;
use super::order;
use super::order::Order;
use super::queue::Next;
use super::seen::Run;
use super::seen::Seen;
use super::seen::Step;
use super::seen::Wants;
use super::walk;
use super::walk::Stop;
use super::walk::Walk;
use crate::fuse::nodeids::Nodeids;
use crate::path::NameBuf;
use crate::sys::attr::Kind;
use crate::union;
use crate::union::Union;
use crate::union::node::Node;
use crate::union::readdir::Listing;

/// The most files of a directory that are read ahead at a time.
const FILES: usize = 256;
/// The most names that are known ahead of a walk.
const NAMES: usize = 1024;
/// The most walks that are followed at a time.
const WALKS: usize = 8;
/// Directories with more than so many names for each that is to be listed are left alone: the server makes their listing as a whole.
const WIDE: usize = 4;
/// The longest path that the kernel takes, with its end.
const PATH_MAX: usize = 4096;
/// After so long without an event walks are forgotten.
const IDLE: Duration = Duration::from_secs(1);

/// What a serving thread noticed.
#[derive(Debug)]
pub(super) enum Event {
    /// Names of `dir` are looked up: at least `most` are to be known.
    List { dir: u64, most: u32 },
    /// Files of `dir` are read.
    Read { dir: u64, run: Run },
    /// A program came to another directory.
    Step(Step),
}

impl Event {
    /// Nothing will be done for it.
    pub(super) fn dropped(&self, seen: &Seen) {
        match self {
            Self::List { dir, .. } | Self::Read { dir, .. } => seen.done(*dir),
            Self::Step(_) => {}
        }
    }
}

/// Works until the queue of events is closed.
pub(super) fn plan(shared: &Shared, union: &Arc<Union>, nodeids: &Nodeids) {
    let mut planner = Planner { shared, union, nodeids, walks: VecDeque::new() };
    loop {
        match shared.events.next((!planner.walks.is_empty()).then_some(IDLE)) {
            Next::Item(event) => {
                let planned = match &event {
                    Event::List { dir, most } => planner.list(*dir, *most),
                    Event::Read { dir, run } => planner.read(*dir, run),
                    Event::Step(step) => {
                        planner.step(step);
                        continue;
                    }
                };
                // A directory that is gone, or cannot be read: who asks for it will hear of it.
                let job = planned.ok().flatten();
                if job.is_none_or(|job| shared.jobs.push(job).is_err()) {
                    event.dropped(&shared.seen);
                }
            }
            // Whoever walked is at an end, or at rest: what is kept for a walk is not kept for nothing.
            Next::Nothing => planner.give_up(),
            Next::Closed => return,
        }
    }
}

struct Planner<'a> {
    shared: &'a Shared,
    union: &'a Arc<Union>,
    nodeids: &'a Nodeids,
    /// By program; the one that came last is the last.
    walks: VecDeque<(u32, Walk)>,
}

impl Planner<'_> {
    fn node(&self, nodeid: u64) -> union::Result<Arc<Node>> {
        self.union.node(self.nodeids.ino(nodeid))
    }

    fn list(&self, dir: u64, most: u32) -> union::Result<Option<Job>> {
        let node = self.node(dir)?;
        let most = most as usize;
        let listing = self.union.glance(&node, most.saturating_mul(WIDE))?;
        let path = listing.and_then(|_| path(&node));
        Ok(path.map(|path| Job { dir, path, list: most, ..Job::default() }))
    }

    /// The files behind those of the run, where these come in an order.
    fn read(&self, dir: u64, run: &Run) -> union::Result<Option<Job>> {
        let node = self.node(dir)?;
        let Some(listing) = self.union.glance(&node, walk::WIDE)? else { return Ok(None) };
        let Some(order) = order::of(&listing.entries, &run.recent) else { return Ok(None) };
        self.shared.seen.in_order(dir);
        let names = files(&listing, order, run.recent.last().copied());
        let path = path(&node).filter(|_| !names.is_empty());
        let list = if run.listed { 0 } else { listing.entries.len() };
        Ok(path.map(|path| Job { dir, path, list, names, asks: run.asks }))
    }

    /// Follows a walk, or finds one.
    fn step(&mut self, step: &Step) {
        let seen = &self.shared.seen;
        let dirs = step.dirs.map(|nodeid| self.nodeids.ino(nodeid));
        let [.., to] = dirs;
        let known = self.walks.iter().position(|(pid, _)| *pid == step.pid).and_then(|at| self.walks.remove(at));
        let walk = match known {
            None => Walk::of(self.union, &dirs),
            Some((_, mut walk)) => walk.comes_to(self.union, to).map(|left| {
                self.leave(&left);
                walk
            }),
        };
        seen.walks(step.pid, walk.is_some());
        let Some(mut walk) = walk else { return };
        self.go_on(&mut walk, step.wants);
        self.walks.push_back((step.pid, walk));
        if self.walks.len() > WALKS
            && let Some((pid, _)) = self.walks.pop_front()
        {
            seen.walks(pid, false);
        }
    }

    fn give_up(&mut self) {
        self.walks.drain(..).for_each(|(pid, _)| self.shared.seen.walks(pid, false));
    }

    /// What was to be done for these directories comes too late.
    fn leave(&self, dirs: &[u64]) {
        self.shared.jobs.retain(|job| {
            let left = dirs.contains(&job.dir);
            if left {
                self.shared.seen.done(job.dir);
            }
            !left
        });
    }

    fn go_on(&self, walk: &mut Walk, wants: Wants) {
        // Who lists is told all with the listing, but content.
        if wants.lists && !wants.reads {
            return;
        }
        while let Some(stop) = walk.next(self.union, NAMES) {
            if let Some(job) = stop_job(&stop, walk.order(), wants)
                && self.shared.seen.begin(job.dir)
            {
                let dir = job.dir;
                if self.shared.jobs.push(job).is_err() {
                    self.shared.seen.done(dir);
                }
            }
        }
    }
}

/// Where a directory is, if the kernel takes paths as long.
fn path(dir: &Node) -> Option<Vec<u8>> {
    dir.path().filter(|path| path.len() < PATH_MAX)
}

fn stop_job(stop: &Stop, order: Order, wants: Wants) -> Option<Job> {
    let names = if wants.reads { files(&stop.listing, order, None) } else { Vec::new() };
    let list = stop.listing.entries.len();
    let path = path(&stop.dir).filter(|_| list > 0 && !(wants.lists && names.is_empty()))?;
    Some(Job { dir: stop.dir.ino, path, list, names, asks: wants.asks })
}

/// The names of the files behind `last`, or of the first ones.
fn files(list: &Listing, order: Order, last: Option<u64>) -> Vec<NameBuf> {
    let files = order::of_kind(&list.entries, Kind::File, order);
    let from = match last {
        None => 0,
        Some(last) => files.iter().position(|entry| entry.ino == last).map_or(files.len(), |at| at + 1),
    };
    files.into_iter().skip(from).take(FILES).map(|entry| entry.name.clone()).collect()
}
