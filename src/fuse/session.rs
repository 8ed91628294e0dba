//! Threads that take requests, as many as are needed.
//!
//! One begins. Whoever takes a request sees to it that somebody else waits for the next, up to a maximum: so a long copy-up delays
//! nobody, and a lone client is served by two threads that take turns. Where more than one other waited all the time while many
//! requests went by, one ends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Condvar;
use parking_lot::Mutex;

use super::device::End;
use super::server::Server;
use crate::sys::Errno;

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
    ended: Arc<Ended>,
}

/// Counts the threads that were started and are not through yet.
#[derive(Default)]
struct Ended {
    running: Mutex<usize>,
    changed: Condvar,
    /// Why reading failed, if it did.
    failure: Mutex<Option<Errno>>,
}

impl Pool {
    pub(super) fn new(server: Server, max: usize) -> Self {
        Self {
            server,
            max,
            waiting: AtomicUsize::new(1),
            threads: AtomicUsize::new(1),
            requests: AtomicUsize::new(0),
            spare: AtomicUsize::new(usize::MAX),
            refused: AtomicBool::new(false),
            ended: Arc::default(),
        }
    }

    /// Serves, with this thread and others, until the mount is gone; when it returns no other thread is left.
    pub(super) fn run(self) -> Result<(), Errno> {
        Arc::new(self).serve()
    }

    fn serve(self: Arc<Self>) -> Result<(), Errno> {
        let ended = self.ended.clone();
        self.work(false);
        drop(self);
        let mut running = ended.running.lock();
        while *running > 0 {
            ended.changed.wait(&mut running);
        }
        drop(running);
        let failure = ended.failure.lock().take();
        failure.map_or(Ok(()), Err)
    }

    /// Takes requests until there are no more, or until this thread is one too many and `may_end`. It was counted as one that waits.
    fn work(self: &Arc<Self>, may_end: bool) {
        // Zeroed memory that is not touched costs nothing.
        let mut message = vec![0; self.server.agreed.buffer()];
        let mut buffer = Vec::new();
        loop {
            let n = match self.server.device.read(&mut message) {
                Ok(n) => n,
                Err(end) => return self.stop(end),
            };
            let left = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
            if left == 0 {
                self.one_more();
            }
            self.server.serve(message.get(..n).unwrap_or_default(), &mut buffer);
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
        *self.ended.running.lock() += 1;
        let (pool, ended) = (self.clone(), self.ended.clone());
        let body = move || {
            /// Also when the thread panics.
            struct Through(Arc<Ended>);
            impl Drop for Through {
                fn drop(&mut self) {
                    *self.0.running.lock() -= 1;
                    self.0.changed.notify_all();
                }
            }
            let _through = Through(ended);
            pool.work(true);
            // Whoever waits for the end may count on the union being free then.
            drop(pool);
        };
        if let Err(e) = std::thread::Builder::new().name("mica-fuse".to_owned()).spawn(body) {
            *self.ended.running.lock() -= 1;
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.threads.fetch_sub(1, Ordering::AcqRel);
            if !self.refused.swap(true, Ordering::Relaxed) {
                log::warn!("no further thread could be started, so requests wait for each other: {e}");
            }
        }
    }

    fn stop(&self, end: End) {
        if let End::Failed(e) = end {
            log::error!("requests cannot be read: {e}");
            *self.ended.failure.lock() = Some(e);
        }
    }
}

#[cfg(test)]
mod tests;
