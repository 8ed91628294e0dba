//! The scout: a process that asks ahead, as any program would.
//!
//! What it fails at is left: whoever asks the same will be told.

use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use std::time::Instant;

use super::Place;
use super::job::Job;
use super::job::LARGEST;
use super::job::Report;
use crate::env;
use crate::sys;
use crate::sys::Errno;
use crate::sys::apart;
use crate::sys::apart::Beside;
use crate::sys::channel;
use crate::sys::look::Small;
use crate::sys::look::Tree;

/// Larger files are not read ahead: within them the kernel does that itself.
const SMALL: u64 = 256 << 10;
/// The most bytes that are read for one job.
const BYTES: u64 = 4 << 20;
/// How many files are under way at a time.
const BATCH: usize = 16;
/// How long the copy of the mount is kept when there is nothing to do, and when there is. As long as it is there, a mount that was taken away
/// lives on; so it also goes when the table of mounts changes.
const LINGER: Duration = Duration::from_millis(20);
const STAY: Duration = Duration::from_millis(100);
/// How long one job may take; what is slow is not read much faster ahead.
const LONGEST: Duration = Duration::from_millis(500);

/// The scout, as the server sees it. It ends when this is dropped.
#[derive(Debug)]
pub struct Scout(Beside);

impl Scout {
    /// Starts the scout of a mount that is to be made; this process must have one thread. `None` where it could do nothing: with one
    /// processor, or without the right to copy a mount (`CAP_SYS_ADMIN`).
    pub fn start() -> Option<Self> {
        let is_of_use = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) && sys::capability::may_mount();
        let started = is_of_use.then(|| apart::start(c"mica-ahead", work))?;
        started.inspect_err(|e| log::debug!("nothing is looked up ahead: {e}")).ok().map(Self)
    }

    /// The number of its process, which comes with its requests.
    pub(super) fn pid(&self) -> u32 {
        self.0.pid.number()
    }

    /// Tells where the mount is.
    pub(super) fn send_to(&self, place: &Place) -> sys::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let (major, minor) = place.dev;
        let message = [&major.to_le_bytes(), &minor.to_le_bytes(), place.target.as_os_str().as_bytes()].concat();
        channel::send(&self.0.channel, &message, None)
    }

    /// Has a job done; `None` when the scout is gone. A job that no message takes is done.
    pub(super) fn ask(&self, job: &Job) -> sys::Result<Option<Report>> {
        match channel::send(&self.0.channel, &job.encode(), None) {
            Err(e) if e.errno() == Errno::MSGSIZE => return Ok(Some(Report { found: true, ..Report::default() })),
            sent => sent?,
        }
        let mut room = [0; 64];
        let n = channel::receive_into(&self.0.channel, &mut room)?;
        Ok(room.get(..n).and_then(Report::decode))
    }

    /// Whether it ended, and that was taken note of.
    pub(super) fn is_buried(&self) -> bool {
        !matches!(sys::child::wait(self.0.pid, false), Ok(None))
    }

    /// Ends it, also for who waits for it.
    pub(super) fn end(&self) {
        if let Err(e) = channel::end(&self.0.channel) {
            log::debug!("the scout: {e}");
        }
    }
}

impl Drop for Scout {
    /// It is not waited for: it may wait itself, for a server that is about to end.
    fn drop(&mut self) {
        self.end();
        // If it ended before, nobody else takes note of it.
        let _ = sys::child::wait(self.0.pid, false);
    }
}

/// What the scout does all its life.
fn work(orders: &OwnedFd) {
    let mut room = vec![0; LARGEST];
    let place = channel::receive_into(orders, &mut room).ok().and_then(|n| place(room.get(..n)?));
    let Some(place) = place else { return };
    let Some((settler, helper)) = settler() else { return };
    let mut tree: Option<(Tree, Instant)> = None;
    loop {
        let is_fresh = |since: Instant| since.elapsed() < STAY;
        tree = tree.filter(|(tree, since)| is_fresh(*since) && tree.until(orders, LINGER));
        let job = match channel::receive_into(orders, &mut room) {
            Ok(n) if n > 0 => room.get(..n).and_then(Job::decode),
            _ => return,
        };
        if tree.is_none() {
            tree = enter(&place).map(|tree| (tree, env::monotonic()));
        }
        let report = match (&tree, job) {
            (Some((tree, _)), Some(job)) => look(tree, &job, &settler),
            _ => Report::default(),
        };
        let report = Report { helper, ..report };
        if channel::send(orders, &report.encode(), None).is_err() {
            return;
        }
    }
}

fn place(message: &[u8]) -> Option<Place> {
    use std::os::unix::ffi::OsStrExt;
    let (major, rest) = message.split_first_chunk()?;
    let (minor, target) = rest.split_first_chunk()?;
    let dev = (u32::from_le_bytes(*major), u32::from_le_bytes(*minor));
    Some(Place { target: std::ffi::OsStr::from_bytes(target).into(), dev })
}

/// The mount, to be looked at. The server must be able to tell our requests from others' before the first real one: else it would see a
/// program that goes through directories, and look ahead of it.
fn enter(place: &Place) -> Option<Tree> {
    let tree = Tree::of(&place.target, place.dev).ok().flatten()?;
    tree.knock().is_ok().then_some(tree)
}

/// A thread that asks for the attributes of files, which means waiting for each, while the next files are read.
/// Its number comes with its requests.
fn settler() -> Option<(SyncSender<Vec<Small>>, u32)> {
    let (sender, batches) = std::sync::mpsc::sync_channel::<Vec<Small>>(2);
    let (tell, told) = std::sync::mpsc::channel();
    let settle = move || {
        // Nobody listens any more if the scout ends at this moment.
        let _ = tell.send(sys::process::thread_number());
        for files in batches {
            // What fails is left, as everywhere here.
            let _ = files.iter().try_for_each(Small::settle);
        }
    };
    std::thread::Builder::new().name("mica-settle".to_owned()).spawn(settle).ok()?;
    Some((sender, told.recv().ok()?))
}

fn look(tree: &Tree, job: &Job, settler: &SyncSender<Vec<Small>>) -> Report {
    let mut report = Report { found: true, ..Report::default() };
    // What was done before something failed counts.
    let _ = list(tree, job, &mut report).and_then(|()| read(tree, job, settler, &mut report));
    report
}

/// Whether a job that began at this moment is to go on.
fn goes_on(tree: &Tree, begun: Instant) -> bool {
    begun.elapsed() < LONGEST && !tree.may_be_gone()
}

fn list(tree: &Tree, job: &Job, report: &mut Report) -> Result<(), Errno> {
    if job.list > 0 {
        let begun = env::monotonic();
        report.names = tree.list(&job.path, job.list, || goes_on(tree, begun))? as u64;
    }
    Ok(())
}

fn read(tree: &Tree, job: &Job, settler: &SyncSender<Vec<Small>>, report: &mut Report) -> Result<(), Errno> {
    if job.names.is_empty() {
        return Ok(());
    }
    let dir = tree.dir(&job.path)?;
    let begun = env::monotonic();
    let mut left = BYTES;
    // From the end: whoever reads from the front meanwhile is met in the middle, and nothing is read twice.
    for batch in job.names.rchunks(BATCH) {
        // One that is gone, or may not be read, leaves the others as they are.
        let files: Vec<Small> = batch.iter().rev().filter_map(|name| dir.open(name.as_name(), SMALL).ok()?).collect();
        let met = files.last().is_some_and(Small::is_known);
        files.iter().try_for_each(Small::fetch)?;
        report.files += files.len() as u64;
        left = left.saturating_sub(files.iter().map(Small::size).sum());
        if job.asks {
            settler.send(files).map_err(|_| Errno::PIPE)?;
        }
        if left == 0 || met || !goes_on(tree, begun) {
            break;
        }
    }
    Ok(())
}
