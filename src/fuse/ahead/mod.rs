//! Looking ahead: what a program that goes through directories will ask for next is brought into the kernel's caches before it asks.
//!
//! The kernel reads ahead within a file; between files nobody does. A trip to a server costs more than what is asked for, so a program
//! that looks at a hundred names, or reads a hundred small files, waits a hundred trips. It need not: this server asks its own mount.
//!
//! ```text
//! serving thread   counts, after the answer, what was asked of a directory and by whom      [`seen`]
//!       │ an event
//! planner          finds the directory's path and names, and where the program is in them   [`order`]
//!       │ paths and names
//! scout            lists the directory, reads the files, through a copy of the mount        [`scout`], [`crate::sys::look`]
//!       │ requests like any other program's
//! serving thread   answers; the kernel keeps what comes
//! ```
//!
//! The kernel lets no server put names into its cache, and content only over what is just being written (`FUSE_NOTIFY_STORE`). A program
//! that lists and reads goes the way of all others, so nothing here can show anything but what is there.
//!
//! The scout has no descriptor of the connection ([`crate::sys::apart`]), so a server that is killed while the scout waits for it is gone
//! all the same. It touches neither the union nor its nodes, whose descriptors it does not have.

mod order;
mod planner;
mod queue;
mod scout;
mod seen;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use self::planner::Event;
use self::queue::Queue;
use self::scout::Job;
use self::seen::Seen;
use super::nodeids::Nodeids;
use super::reply::Answer;
use super::request::Op;
use super::request::Request;
use crate::union::Union;

/// Where the mount is, so that it can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mount point.
    pub target: PathBuf,
    /// The number of its device.
    pub dev: (u32, u32),
}

/// What was done ahead so far.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Requests of the scout.
    pub requests: AtomicU64,
    /// Names that were listed.
    pub names: AtomicU64,
    /// Files that were read.
    pub files: AtomicU64,
}

/// Who the scout is.
#[derive(Debug, Default)]
struct Scout {
    /// The number of its thread; 0 as long as there is none.
    tid: AtomicU32,
    /// Whether a request of it came, so that its requests can be told from others'.
    known: std::sync::atomic::AtomicBool,
}

/// What is shared by all who take part.
#[derive(Debug, Default)]
struct Shared {
    seen: Seen,
    scout: Scout,
    events: Queue<Event>,
    jobs: Queue<Job>,
    done: Arc<Done>,
}

/// Looks ahead for one mount, until it is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    planner: Option<std::thread::JoinHandle<()>>,
    /// Whether content is read ahead, too.
    files: bool,
}

impl Ahead {
    /// Starts it; `files` says whether content is to be read ahead, too. `None` where there is no second processor to do it, or no thread.
    pub(super) fn start(place: Place, union: &Arc<Union>, nodeids: &Arc<Nodeids>, files: bool) -> Option<Self> {
        std::thread::available_parallelism().ok().filter(|n| n.get() > 1)?;
        let shared = Arc::<Shared>::default();
        let started = scout::start(place, shared.clone()).and_then(|()| {
            let (shared, union, nodeids) = (shared.clone(), union.clone(), nodeids.clone());
            let plan = move || planner::plan(&shared, &union, &nodeids);
            std::thread::Builder::new().name("mica-plan".to_owned()).spawn(plan)
        });
        match started {
            Ok(planner) => Some(Self { shared, planner: Some(planner), files }),
            Err(e) => {
                shared.close();
                log::debug!("nothing is looked up ahead: {e}");
                None
            }
        }
    }

    /// What was done so far.
    pub(super) fn done(&self) -> Arc<Done> {
        self.shared.done.clone()
    }

    /// Whether a request is the scout's own. Must be asked of every request, before it is answered.
    pub(super) fn is_own(&self, pid: u32) -> bool {
        let scout = &self.shared.scout;
        let own = pid != 0 && pid == scout.tid.load(Ordering::Relaxed);
        if own {
            self.shared.done.requests.fetch_add(1, Ordering::Relaxed);
            scout.known.store(true, Ordering::Release);
        }
        own
    }

    /// Takes note of a request that was answered. `parent` finds the directory of a file. Nothing here waits.
    pub(super) fn answered(&self, request: &Request<'_>, answer: &Answer<'_>, parent: impl FnOnce(u64) -> Option<u64>) {
        let (seen, at, pid) = (&self.shared.seen, request.header.nodeid, request.header.pid);
        let event = match (&request.op, answer) {
            (Op::Lookup { .. }, Answer::Entry(_)) => seen.looked_up(at).map(|most| Event::List { dir: at, most }),
            (Op::Read { offset: 0, .. }, Answer::Data(data)) if self.files && !data.is_empty() => parent(at)
                .and_then(|dir| Some(Event::Read { dir, run: seen.read(pid, dir, at)? })),
            (Op::Getattr, Answer::Attributes(..)) if self.files => {
                seen.asked(pid, at);
                None
            }
            (Op::Readdir(part) | Op::Readdirplus(part), _) if self.files && part.offset == 0 => {
                seen.listed(pid, at).map(|run| Event::Listed { dir: at, run })
            }
            _ => None,
        };
        if let Some(Err(event)) = event.map(|event| self.shared.events.push(event)) {
            seen.done(event.dir());
        }
    }
}

impl Shared {
    fn close(&self) {
        self.events.close();
        self.jobs.close();
    }
}

impl Drop for Ahead {
    /// The planner is waited for, since it holds nodes; the scout ends by itself, as it may wait for a server that is gone.
    fn drop(&mut self) {
        self.shared.close();
        if let Some(planner) = self.planner.take()
            && planner.join().is_err()
        {
            log::error!("the planner of what is looked up ahead panicked");
        }
    }
}
