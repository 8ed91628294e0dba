//! Looking ahead: what a program that goes through directories will ask for next is brought into the kernel's caches before it asks.
//!
//! The kernel reads ahead within a file; between files nobody does. A trip to a server costs more than what is asked for, so a program
//! that looks at a hundred names, or reads a hundred small files, waits a hundred trips. It need not: this server asks its own mount.
//!
//! ```text
//! serving thread   counts, before it answers, what was asked of a directory and by whom     [`seen`]
//!       │ an event
//! planner          finds paths and names, where the program is, and where it goes         [`planner`], [`order`], [`walk`]
//!       │ jobs: paths and names                                                            [`job`]
//! scout            lists directories, reads files, through a copy of the mount              [`scout`], [`crate::sys::look`]
//!       │ requests like any other program's
//! serving thread   answers; the kernel keeps what comes
//! ```
//!
//! The kernel lets no server put names into its cache, and content only over what is just being written (`FUSE_NOTIFY_STORE`). A program
//! that lists and reads goes the way of all others, so nothing here can show anything but what is there.
//!
//! The scout is a process of its own ([`crate::sys::apart`]): a server that is killed while it waits for an answer of its own is gone
//! all the same.

mod job;
mod order;
mod planner;
mod queue;
mod scout;
mod seen;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::scout::Scout;

use self::job::Job;
use self::job::Report;
use self::planner::Event;
use self::queue::Next;
use self::queue::Queue;
use self::seen::Seen;
use super::nodeids::Nodeids;
use super::reply::Answer;
use super::request::Op;
use super::request::Request;
use crate::sys::attr::Kind;
use crate::sys::attr::S_IFMT;
use crate::union::Union;

/// After so many times in a row that the mount was not found where it was made, it is not looked for any more.
const PATIENCE: u32 = 8;

/// Where the mount is, so that it can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mount point.
    pub target: PathBuf,
    /// The number of its device.
    pub dev: (u32, u32),
}

/// What it takes to look ahead.
#[derive(Debug, Clone)]
pub struct Means {
    /// The scout.
    pub scout: Arc<Scout>,
    /// Where it is sent to.
    pub place: Place,
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

/// What is shared by all who take part.
#[derive(Debug, Default)]
struct Shared {
    seen: Seen,
    /// Whether a request of the scout came, so that its requests can be told from others'.
    known: AtomicBool,
    /// The number of the scout's second thread, which comes with its requests.
    helper: AtomicU32,
    events: Queue<Event>,
    jobs: Queue<Job>,
    done: Arc<Done>,
}

/// Looks ahead for one mount, until it is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    scout: Arc<Scout>,
    threads: Vec<JoinHandle<()>>,
    /// Whether content is read ahead, too.
    files: bool,
}

impl Ahead {
    /// Starts it; `files` says whether content is to be read ahead, too. `None` where that cannot be.
    pub(super) fn start(means: Means, union: &Arc<Union>, nodeids: &Arc<Nodeids>, files: bool) -> Option<Self> {
        let Means { scout, place } = means;
        let shared = Arc::<Shared>::default();
        let mut this = Self { shared: shared.clone(), scout: scout.clone(), threads: Vec::new(), files };
        let (union, nodeids) = (union.clone(), nodeids.clone());
        let plan = {
            let shared = shared.clone();
            move || planner::plan(&shared, &union, &nodeids)
        };
        let send = move || {
            send(&scout, &place, &shared);
            scout.end();
            bury(&scout, &shared);
            shared.close();
        };
        let started = this.spawn("mica-plan", plan).and_then(|()| this.spawn("mica-send", send));
        started.inspect_err(|e| log::debug!("nothing is looked up ahead: {e}")).is_ok().then_some(this)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    /// What was done so far.
    pub(super) fn done(&self) -> Arc<Done> {
        self.shared.done.clone()
    }

    /// Whether a request is the scout's own. Must be asked of every request, before it is answered.
    pub(super) fn is_own(&self, pid: u32) -> bool {
        let own = pid == self.scout.pid() || (pid != 0 && pid == self.shared.helper.load(Ordering::Relaxed));
        if own {
            self.shared.done.requests.fetch_add(1, Ordering::Relaxed);
            self.shared.known.store(true, Ordering::Release);
        }
        own
    }

    /// Takes note of an answer before it is sent, as who gets it goes on at once: what is noted later would be noted in another order.
    /// `parent` finds the directory of a file. Nothing here waits.
    pub(super) fn note(
        &self,
        request: &Request<'_>,
        answer: &Answer<'_>,
        parent: impl FnOnce(u64) -> Option<u64>,
    ) -> Noted {
        let (seen, at, pid) = (&self.shared.seen, request.header.nodeid, request.header.pid);
        if pid == 0 {
            // Somebody in another pid namespace, like all others there.
            return Noted::default();
        }
        match (&request.op, answer) {
            (Op::Lookup { .. }, Answer::Entry(known)) if known.stat.mode & S_IFMT != Kind::Dir.mode_bits() => {
                let list = seen.looked_up(at).map(|most| Event::List { dir: at, most });
                Noted([list, seen.used(pid, at).map(Event::Step)])
            }
            (Op::Read { offset: 0, .. }, Answer::Data(data)) if self.files && !data.is_empty() => {
                let Some(dir) = parent(at) else { return Noted::default() };
                let run = seen.read(pid, dir, at).map(|run| Event::Read { dir, run });
                Noted([run, seen.used(pid, dir).map(Event::Step)])
            }
            (Op::Getattr, Answer::Attributes(..)) if self.files => {
                seen.asked(pid, at);
                Noted::default()
            }
            (Op::Readdir(part) | Op::Readdirplus(part), _) if part.offset == 0 => {
                Noted([seen.listed(pid, at).map(Event::Step), None])
            }
            _ => Noted::default(),
        }
    }

    /// Begins what comes of it. Others may have to be woken for that, so the answer goes first.
    pub(super) fn begin(&self, noted: Noted) {
        for event in noted.0.into_iter().flatten() {
            if let Err(event) = self.shared.events.push(event) {
                event.dropped(&self.shared.seen);
            }
        }
    }
}

/// What came of a request for those who look ahead.
#[derive(Debug, Default)]
pub(super) struct Noted([Option<Event>; 2]);

impl Shared {
    fn close(&self) {
        self.events.close();
        self.jobs.close();
    }
}

/// Hands jobs to the scout, one after the other, until there are no more or it is of no use.
fn send(scout: &Scout, place: &Place, shared: &Shared) {
    if let Err(e) = scout.send_to(place) {
        return log::debug!("nothing is looked up ahead: {e}");
    }
    let mut missed = 0;
    while let Next::Item(job) = shared.jobs.next(None) {
        let is_known = || shared.known.load(Ordering::Acquire);
        // Before its first job it only goes there, to be known.
        if !is_known()
            && let Ok(Some(report)) = scout.ask(&Job::nothing())
        {
            shared.helper.store(report.helper, Ordering::Relaxed);
            if report.found && !is_known() {
                return log::debug!("requests of the scout cannot be told from others'");
            }
        }
        let asked = if is_known() { scout.ask(&job) } else { Ok(Some(Report::default())) };
        shared.seen.done(job.dir);
        let Ok(Some(report)) = asked else { return log::debug!("the scout is gone") };
        missed = if report.found { 0 } else { missed + 1 };
        if missed > 0 {
            // It was taken away, perhaps: nothing that waits is of use then.
            shared.jobs.retain(|job| {
                shared.seen.done(job.dir);
                false
            });
        }
        if missed == PATIENCE {
            return log::debug!("{}: the mount is not to be found any more", place.target.display());
        }
        shared.done.names.fetch_add(report.names, Ordering::Relaxed);
        shared.done.files.fetch_add(report.files, Ordering::Relaxed);
    }
}

/// Takes note of a scout's end, which follows that of its channel after a moment. Not when all is at an end: it may wait for a server that
/// is gone. What comes meanwhile is left.
fn bury(scout: &Scout, shared: &Shared) {
    while !scout.is_buried() {
        match shared.jobs.next(Some(Duration::from_millis(10))) {
            Next::Item(job) => shared.seen.done(job.dir),
            Next::Nothing => {}
            Next::Closed => return,
        }
    }
}

impl Drop for Ahead {
    /// The threads are waited for, since one holds nodes. The scout ends by itself: it may wait for a server that is gone.
    fn drop(&mut self) {
        self.shared.close();
        self.scout.end();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread that looks ahead panicked");
            }
        }
    }
}
