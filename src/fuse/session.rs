//! Threads that take requests, as many as are needed.
//!
//! One begins. Whoever takes a request sees to it that somebody else waits for the next, up to a maximum: so a long copy-up delays
//! nobody, and a lone client is served by two threads that take turns. Where more than one other waited all the time while many
//! requests went by, one ends. Where requests come over io_uring ([`super::ring`]), these take what still comes over the device.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Condvar;
use parking_lot::Mutex;

use super::device::End;
use super::ring::Lane;
use super::ring::Lanes;
use super::server::Server;
use super::server::caught;
use super::way::Way;
use crate::sys::Errno;
use crate::sys::ring::Ring;

/// After how many requests it is looked whether there are too many threads.
const ROUND: usize = 4096;

/// The threads of one mount.
pub(super) struct Pool {
    server: Server,
    max: usize,
    /// Threads that wait for a request.
    waiting: AtomicUsize,
    /// Threads there are, with the one that started it all.
    threads: AtomicUsize,
    /// Requests in this round.
    requests: AtomicUsize,
    /// The fewest that waited in this round, right after a request was taken.
    spare: AtomicUsize,
    refused: AtomicBool,
    lanes: Option<Lanes>,
    ended: Arc<Ended>,
}

/// What is waited for at the end.
#[derive(Default)]
struct Ended {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that were started and are not through yet.
    running: usize,
    /// Why taking requests failed, if it did.
    failure: Option<Errno>,
}

impl Pool {
    pub(super) fn new(server: Server, max: usize, lanes: Option<Lanes>) -> Self {
        Self {
            server,
            max,
            waiting: AtomicUsize::new(1),
            threads: AtomicUsize::new(1),
            requests: AtomicUsize::new(0),
            spare: AtomicUsize::new(usize::MAX),
            refused: AtomicBool::new(false),
            lanes,
            ended: Arc::default(),
        }
    }

    /// Serves, with this thread and others, until the mount is gone; when it returns no other thread is left, unless it failed.
    pub(super) fn run(self) -> Result<(), Errno> {
        Arc::new(self).serve()
    }

    fn serve(self: Arc<Self>) -> Result<(), Errno> {
        let ended = self.ended.clone();
        match self.lanes.as_ref().map(Lanes::take) {
            None => self.work(false),
            Some(lanes) => self.start_lanes(lanes)?,
        }
        drop(self);
        let mut state = ended.state.lock();
        while state.running > 0 && state.failure.is_none() {
            ended.changed.wait(&mut state);
        }
        state.failure.map_or(Ok(()), Err)
    }

    /// Takes requests until there are no more, or until this thread is one too many and `may_end`. It was counted as one that waits.
    fn work(self: &Arc<Self>, may_end: bool) {
        // Zeroed memory that is not touched costs nothing.
        let mut message = vec![0; self.server.agreed.buffer()];
        let mut buffer = vec![0; self.server.agreed.payload()];
        loop {
            let n = match self.server.device.read(&mut message) {
                Ok(n) => n,
                Err(end) => return self.stop(end),
            };
            let left = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
            if left == 0 {
                self.one_more();
            }
            let message = message.get(..n).unwrap_or_default();
            self.server.serve([message, b""], Way::Device(&self.server.device), &mut buffer);
            if may_end && self.is_one_too_many(left) {
                self.threads.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            self.waiting.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether two others, at least, waited whenever somebody took a request, during a whole round.
    fn is_one_too_many(&self, left: usize) -> bool {
        if left < self.spare.load(Ordering::Relaxed) {
            self.spare.store(left, Ordering::Relaxed);
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) % ROUND != ROUND - 1 {
            return false;
        }
        self.spare.swap(usize::MAX, Ordering::Relaxed) >= 2
    }

    fn one_more(self: &Arc<Self>) {
        let count = |n| (n < self.max).then_some(n + 1);
        if self.threads.fetch_update(Ordering::AcqRel, Ordering::Relaxed, count).is_err() {
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(e) = self.spawn(|pool| pool.work(true)) {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.threads.fetch_sub(1, Ordering::AcqRel);
            self.warn_of_refusal(&e);
        }
    }

    /// Starts a thread that is waited for at the end.
    fn spawn(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> std::io::Result<()> {
        self.ended.state.lock().running += 1;
        let (pool, ended) = (self.clone(), self.ended.clone());
        let body = move || {
            /// Also when the thread panics.
            struct Through(Arc<Ended>);
            impl Drop for Through {
                fn drop(&mut self) {
                    self.0.state.lock().running -= 1;
                    self.0.changed.notify_all();
                }
            }
            let _through = Through(ended);
            work(&pool);
            // Whoever waits for the end may count on the union being free then.
            drop(pool);
        };
        let started = std::thread::Builder::new().name("mica-fuse".to_owned()).spawn(body);
        started.map(drop).inspect_err(|_| self.ended.state.lock().running -= 1)
    }

    fn warn_of_refusal(&self, e: &dyn std::fmt::Display) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            log::warn!("no further thread could be started, so requests wait for each other: {e}");
        }
    }

    /// Starts the first thread of each lane, and one at the device. The kernel waits for all lanes, so it is all or nothing.
    fn start_lanes(self: &Arc<Self>, lanes: Vec<(Arc<Lane>, Ring)>) -> Result<(), Errno> {
        let device = self.spawn(|pool| pool.work(false));
        let lanes = lanes.into_iter().map(|(lane, ring)| self.spawn(move |pool| pool.work_at(&lane, ring)));
        [device].into_iter().chain(lanes).collect::<Result<(), _>>().map_err(|e| {
            log::error!("no thread could be started: {e}");
            Errno::from_io_error(&e).unwrap_or(Errno::AGAIN)
        })
    }

    fn work_at(self: &Arc<Self>, lane: &Arc<Lane>, ring: Ring) {
        // A lane that nobody serves is one at which somebody waits for ever: so whatever happens here ends the mount.
        let worked = caught(|| lane.work(&self.server, ring, || self.one_more_at(lane)));
        if let Err(e) = worked.unwrap_or(Err(Errno::IO)) {
            self.stop(End::Failed(e));
        }
    }

    fn one_more_at(self: &Arc<Self>, lane: &Arc<Lane>) {
        let Some(lanes) = self.lanes.as_ref().filter(|_| lane.begin()) else { return };
        let started = lanes.ring().map_err(std::io::Error::from).and_then(|ring| {
            let lane = lane.clone();
            self.spawn(move |pool| pool.work_at(&lane, ring))
        });
        if let Err(e) = started {
            lane.failed();
            self.warn_of_refusal(&e);
        }
    }

    fn stop(&self, end: End) {
        if let End::Failed(e) = end {
            log::error!("requests cannot be read: {e}");
            self.ended.state.lock().failure = Some(e);
            self.ended.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
