//! The server's side: who listens, and what was done so far.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;
use parking_lot::RwLock;

use super::event::Event;
use super::filter::Filter;
use super::names::Names;
use super::op::COUNT;
use super::op::Op;
use super::op::Ops;
use super::stats::OpCount;
use super::wire;
use super::wire::Frame;

/// How many may listen at once.
pub const LISTENERS_MAX: usize = 8;
/// How many events wait for a listener at most; with paths of usual length some megabytes.
const QUEUE_MAX: usize = 16 * 1024;
/// And how many bytes of frames.
const QUEUE_BYTES: usize = 8 << 20;

/// Where operations are counted, and told to who listens.
#[derive(Debug)]
pub struct Hub {
    /// The operations that somebody wants: the one word that every request looks at.
    wanted: AtomicU64,
    listeners: RwLock<Vec<Arc<Queue>>>,
    counts: [Count; COUNT],
    ended: AtomicBool,
    names: Names,
}

#[derive(Debug, Default)]
struct Count {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            wanted: AtomicU64::new(0),
            listeners: RwLock::default(),
            counts: std::array::from_fn(|_| Count::default()),
            ended: AtomicBool::new(false),
            names: Names::default(),
        }
    }
}

impl Hub {
    /// The operations that somebody wants to be told of.
    #[inline]
    pub fn wanted(&self) -> Ops {
        Ops(self.wanted.load(Ordering::Relaxed))
    }

    /// Counts an operation.
    #[inline]
    pub fn count(&self, op: Op) {
        if let Some(count) = self.counts.get(op as usize) {
            count.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts its failure, beside [`Hub::count`].
    pub fn count_error(&self, op: Op) {
        if let Some(count) = self.counts.get(op as usize) {
            count.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The operations that were done at all.
    pub fn counts(&self) -> Vec<OpCount> {
        let count = |(op, count): (&Op, &Count)| OpCount {
            op: op.name().to_owned(),
            count: count.done.load(Ordering::Relaxed),
            errors: count.failed.load(Ordering::Relaxed),
        };
        Op::ALL.iter().zip(&self.counts).map(count).filter(|c| c.count > 0).collect()
    }

    /// The name of a process that waits for an answer, raw; `now` spares a look at the clock.
    pub fn name_of(&self, pid: u32, now: Instant) -> Vec<u8> {
        self.names.of(pid, now)
    }

    /// Tells everybody who wants to know. Never waits for a listener.
    pub fn tell(&self, event: &Event) {
        for queue in self.listeners.read().iter() {
            if queue.peer != event.pid && queue.filter.wants(event) {
                queue.push(event);
            }
        }
    }

    /// One more listener, which is the process `peer`: what it does itself is not told to it. `None` when there are too many, or the
    /// mount has ended.
    pub fn listen(self: &Arc<Self>, filter: Filter, peer: u32) -> Option<Listener> {
        let mut listeners = self.listeners.write();
        if listeners.len() >= LISTENERS_MAX || self.ended.load(Ordering::Acquire) {
            return None;
        }
        let queue = Arc::new(Queue { filter, peer, waiting: Mutex::default(), changed: Condvar::new() });
        listeners.push(queue.clone());
        self.renew(&listeners);
        Some(Listener { hub: self.clone(), queue })
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.listeners.read().len()
    }

    /// The mount has ended: listeners are told, and nobody new comes.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        for queue in self.listeners.read().iter() {
            queue.waiting.lock().ended = true;
            queue.changed.notify_all();
        }
    }

    fn renew(&self, listeners: &[Arc<Queue>]) {
        let all = listeners.iter().fold(0, |all, queue| all | queue.filter.ops);
        self.wanted.store(all, Ordering::Relaxed);
    }
}

/// Events on their way to one listener.
#[derive(Debug)]
struct Queue {
    filter: Filter,
    peer: u32,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// Events are frames already: what is told is copied into one buffer, and freed by nobody else.
#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    count: usize,
    /// Events that came behind those that wait and found no room.
    lost: u64,
    ended: bool,
}

impl Queue {
    fn push(&self, event: &Event) {
        let mut waiting = self.waiting.lock();
        // What is lost is lost in one piece: nothing is let in before the listener has seen that.
        if waiting.lost > 0 || waiting.count >= QUEUE_MAX || waiting.frames.len() >= QUEUE_BYTES {
            waiting.lost += 1;
            return;
        }
        waiting.count += 1;
        wire::put_event(event, &mut waiting.frames);
        drop(waiting);
        self.changed.notify_one();
    }
}

/// What came for a listener since it last looked.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events as frames, in order.
    pub frames: Vec<u8>,
    /// How many they are.
    pub count: usize,
    /// How many were lost behind these.
    pub lost: u64,
    /// The mount has ended, and nothing comes any more.
    pub ended: bool,
}

impl Batch {
    /// Appends everything as frames, events only of threads that are wanted.
    pub fn encode(&self, out: &mut Vec<u8>, only: Option<&mut dyn FnMut(u32) -> bool>) {
        match only {
            None => out.extend_from_slice(&self.frames),
            Some(wants) => {
                let wanted = wire::events(&self.frames).filter(|(_, pid)| wants(*pid));
                wanted.for_each(|(frame, _)| out.extend_from_slice(frame));
            }
        }
        if self.lost > 0 {
            Frame::Lost(self.lost).encode(out);
        }
        if self.ended {
            Frame::End.encode(out);
        }
    }
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
}

impl Listener {
    /// Waits for something to come, at most for `limit`, and takes all of it. `spare` is a buffer to go on with.
    pub fn take(&self, limit: Duration, mut spare: Vec<u8>) -> Batch {
        spare.clear();
        let mut waiting = self.queue.waiting.lock();
        if waiting.count == 0 && waiting.lost == 0 && !waiting.ended {
            self.queue.changed.wait_for(&mut waiting, limit);
        }
        Batch {
            frames: std::mem::replace(&mut waiting.frames, spare),
            count: std::mem::take(&mut waiting.count),
            lost: std::mem::take(&mut waiting.lost),
            ended: waiting.ended,
        }
    }

    /// The process whose events alone are wanted.
    pub fn only_pid(&self) -> Option<u32> {
        self.queue.filter.pid
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.hub.listeners.write();
        listeners.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.hub.renew(&listeners);
    }
}
