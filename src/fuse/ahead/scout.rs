//! The scout: the one who asks ahead, as any program would.
//!
//! What it fails at is left: whoever asks the same will be told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Place;
use super::Shared;
use super::queue::Next;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::look::Small;
use crate::sys::look::Tree;

/// Larger files are not read ahead: within them the kernel does that itself.
const SMALL: u64 = 256 << 10;
/// The most bytes that are read for one job.
const BYTES: u64 = 4 << 20;
/// How many files are under way at a time.
const BATCH: usize = 16;
/// How long the copy of the mount is kept when there is nothing to do. As long as it is there, a mount that was taken away lives on.
const LINGER: Duration = Duration::from_millis(20);
/// After so many times in a row that the mount was not found where it was made, it is not looked for any more.
const PATIENCE: u32 = 8;

/// What is to be asked for, with the number of the directory and its path.
#[derive(Debug)]
pub(super) enum Job {
    /// At least `most` of its names, with attributes.
    List { dir: u64, path: Vec<u8>, most: usize },
    /// The content of these files; `asks`: and their attributes after that; `list`: and the names of the directory before.
    Read { dir: u64, path: Vec<u8>, names: Vec<NameBuf>, asks: bool, list: bool },
}

impl Job {
    fn dir(&self) -> u64 {
        match self {
            Self::List { dir, .. } | Self::Read { dir, .. } => *dir,
        }
    }
}

/// Starts the scout, which works until the queue of jobs is closed.
///
/// # Errors
/// Those of starting a thread.
pub(super) fn start(place: Place, shared: Arc<Shared>) -> std::io::Result<()> {
    sys::apart::spawn("mica-ahead", move |apart| {
        let served = apart.and_then(|tid| {
            shared.scout.tid.store(tid, Ordering::Relaxed);
            serve(&place, &shared)
        });
        if let Err(e) = served {
            log::debug!("nothing is looked up ahead any more: {e}");
        }
        shared.close();
    })
}

fn serve(place: &Place, shared: &Shared) -> sys::Result<()> {
    let mut misses = 0;
    loop {
        let Next::Item(job) = shared.jobs.next(None) else { return Ok(()) };
        let Some(tree) = enter(place, shared)? else {
            shared.seen.done(job.dir());
            misses += 1;
            if misses == PATIENCE {
                log::debug!("{}: the mount is not to be found any more", place.target.display());
                return Ok(());
            }
            continue;
        };
        misses = 0;
        let mut next = Next::Item(job);
        while let Next::Item(job) = next {
            if let Err(e) = work(&tree, &job, shared) {
                log::trace!("looking ahead: {e}");
            }
            shared.seen.done(job.dir());
            next = shared.jobs.next(Some(LINGER));
        }
        if matches!(next, Next::Closed) {
            return Ok(());
        }
    }
}

/// The mount, to be looked at. The server must tell our requests from others' before the first real one: else it would see a program that
/// goes through directories, and look ahead of it.
fn enter(place: &Place, shared: &Shared) -> sys::Result<Option<Tree>> {
    let Some(tree) = Tree::of(&place.target, place.dev)? else { return Ok(None) };
    let known = &shared.scout.known;
    if !known.load(Ordering::Acquire) {
        let knocked = tree.knock();
        if knocked.is_err() || !known.load(Ordering::Acquire) {
            return Err(sys::Error::new("statfs", "our own mount", knocked.err().unwrap_or(Errno::SRCH)));
        }
    }
    Ok(Some(tree))
}

fn work(tree: &Tree, job: &Job, shared: &Shared) -> Result<(), Errno> {
    match job {
        Job::List { path, most, .. } => {
            let names = tree.list(path, *most)?;
            shared.done.names.fetch_add(names as u64, Ordering::Relaxed);
        }
        Job::Read { path, names, asks, list, .. } => {
            if *list {
                tree.list(path, names.len())?;
            }
            let dir = tree.dir(path)?;
            let mut left = BYTES;
            for batch in names.chunks(BATCH) {
                // One that is gone, or may not be read, leaves the others as they are.
                let files: Vec<Small> = batch.iter().filter_map(|n| dir.open(n.as_name(), SMALL).ok()?).collect();
                files.iter().try_for_each(Small::fetch)?;
                if *asks {
                    files.iter().try_for_each(Small::settle)?;
                }
                shared.done.files.fetch_add(files.len() as u64, Ordering::Relaxed);
                left = left.saturating_sub(files.iter().map(Small::len).sum());
                if left == 0 {
                    break;
                }
            }
        }
    }
    Ok(())
}
