//! Answers questions about a mount at the socket beside its record ([`super::record`]).
//!
//! One thread waits for callers, and sleeps as long as there is none; each caller has one of its own for as long as it stays. Only
//! root and the owner of the mount are heard: the socket's mode says so to the kernel, and its word on who calls is asked again.
//! What a caller sends is bounded ([`wire`]), it must say soon what it wants, and one that does not read delays only itself.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::record::Kept;
use crate::fuse::Live;
use crate::live::Filter;
use crate::live::hub::LISTENERS_MAX;
use crate::live::wire;
use crate::live::wire::Frame;
use crate::live::wire::What;
use crate::sys;
use crate::sys::process;
use crate::sys::socket;
use crate::sys::socket::Peer;

/// How long a caller may take to say what it wants, and to take a single answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether a listener to whom nothing is told has hung up.
const LOOK: Duration = Duration::from_millis(200);
/// What comes within this time goes out at once: one write for many events.
const GATHER: Duration = Duration::from_millis(4);
/// How many callers are heard at once: those who listen, and some with short questions.
const CALLERS_MAX: usize = LISTENERS_MAX + 8;
/// How many threads one listener's filter may know.
const THREADS_MAX: usize = 1024;

/// A mount that can be asked; dropping it ends that, and returns when nobody uses the union for it any more.
#[derive(Debug)]
pub struct Asked {
    shared: Arc<Shared>,
    listener: UnixListener,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    live: Live,
    callers: Mutex<Callers>,
}

#[derive(Debug, Default)]
struct Callers {
    last: u64,
    /// Each with a copy of its stream, to hang up, and its thread.
    known: Vec<(u64, UnixStream, Option<JoinHandle<()>>)>,
}

impl Asked {
    /// Begins to listen beside the record. A failure is logged, and the mount cannot be asked.
    pub fn start(record: &Kept, live: Live) -> Option<Self> {
        let warn = |e: &dyn std::fmt::Display| log::info!("this mount cannot be asked: {e}");
        let listener = record.listen().inspect_err(|e| warn(e)).ok()?;
        let shared = Arc::new(Shared { live, callers: Mutex::default() });
        let (theirs, heard) = (shared.clone(), listener.try_clone().inspect_err(|e| warn(e)).ok()?);
        let body = move || accept(&theirs, &heard);
        let thread = std::thread::Builder::new().name("mica-asked".to_owned()).spawn(body);
        let thread = thread.inspect_err(|e| warn(e)).ok()?;
        Some(Self { shared, listener, thread: Some(thread) })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.shared.live.hub().end();
        if let Err(e) = socket::stop_listening(&self.listener) {
            log::debug!("{e}");
        }
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread that answers questions panicked");
        }
        let callers = std::mem::take(&mut self.shared.callers.lock().known);
        for (_, stream, thread) in callers {
            // It may be in the middle of a write to somebody who does not read: a moment to take the end, and no more.
            let through = || thread.as_ref().is_none_or(JoinHandle::is_finished);
            for _ in 0..50 {
                if through() {
                    break;
                }
                std::thread::sleep(GATHER);
            }
            stream.shutdown(Shutdown::Both).unwrap_or_else(|e| log::debug!("{e}"));
            if let Some(Err(_)) = thread.map(JoinHandle::join) {
                log::error!("a thread that answered a question panicked");
            }
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &UnixListener) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            // Too many open files, or the like: this caller is lost, the next may be not.
            Err(e) if e.raw_os_error() != Some(sys::Errno::INVAL.raw_os_error()) => {
                log::debug!("a caller was lost: {e}");
                std::thread::sleep(GATHER);
                continue;
            }
            Err(_) => return,
        };
        match may_ask(&stream) {
            Ok(peer) => take_on(shared, stream, peer),
            Err(why) => log::debug!("a caller was turned away: {why}"),
        }
    }
}

fn may_ask(stream: &UnixStream) -> Result<Peer, String> {
    let peer = socket::peer(stream).map_err(|e| e.to_string())?;
    if [0, process::effective_uid()].contains(&peer.uid) { Ok(peer) } else { Err(format!("user {}", peer.uid)) }
}

fn take_on(shared: &Arc<Shared>, stream: UnixStream, peer: Peer) {
    let mut callers = shared.callers.lock();
    callers.known.retain(|(_, _, thread)| thread.as_ref().is_some_and(|thread| !thread.is_finished()));
    if callers.known.len() >= CALLERS_MAX {
        drop(callers);
        return refuse(&stream, "too many ask at once");
    }
    let Ok(copy) = stream.try_clone() else { return };
    callers.last += 1;
    let number = callers.last;
    let live = shared.live.clone();
    let body = move || {
        if let Err(e) = answer(&live, &stream, peer) {
            log::debug!("a caller: {e}");
        }
        // Copies of it may be open elsewhere.
        stream.shutdown(Shutdown::Both).unwrap_or_else(|e| log::debug!("{e}"));
    };
    match std::thread::Builder::new().name("mica-answers".to_owned()).spawn(body) {
        Ok(thread) => callers.known.push((number, copy, Some(thread))),
        Err(e) => log::warn!("no thread for a caller: {e}"),
    }
}

fn refuse(stream: &UnixStream, why: &str) {
    let mut out = Vec::new();
    Frame::Refused(why.to_owned()).encode(&mut out);
    let mut stream = stream;
    let sent = stream.set_write_timeout(Some(LOOK)).and_then(|()| stream.write_all(&out));
    sent.unwrap_or_else(|e| log::debug!("a caller was turned away: {e}"));
}

fn answer(live: &Live, stream: &UnixStream, peer: Peer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = stream;
    let what = match wire::read_ask(&mut reader) {
        Ok(what) => what,
        Err(e) => {
            refuse(stream, &e.to_string());
            return Err(e);
        }
    };
    let json = match what {
        What::Stats => serde_json::to_vec(&live.stats())?,
        What::Node { path } => serde_json::to_vec(&live.known(&path))?,
        What::Trace(filter) => return trace(live, stream, peer, filter),
    };
    let mut out = Vec::new();
    Frame::Json(json).encode(&mut out);
    reader.write_all(&out)
}

fn trace(live: &Live, stream: &UnixStream, peer: Peer, filter: Filter) -> std::io::Result<()> {
    let Some(listener) = live.hub().listen(filter, peer.pid) else {
        refuse(stream, &format!("{LISTENERS_MAX} listen already, or the mount is ending"));
        return Ok(());
    };
    // Events that find no room are counted as lost, so a listener may take its time.
    stream.set_write_timeout(None)?;
    let mut threads = listener.only_pid().map(|of| Threads { of, known: Vec::new() });
    let mut wants = |thread: u32| threads.as_mut().is_some_and(|threads| threads.wants(thread));
    let only_some = listener.only_pid().is_some();
    let mut writer = stream;
    let (mut out, mut spare) = (Vec::new(), Vec::new());
    Frame::Started.encode(&mut out);
    loop {
        writer.write_all(&out)?;
        out.clear();
        let batch = listener.take(LOOK, spare);
        let ended = batch.ended;
        batch.encode(&mut out, only_some.then_some(&mut wants));
        if ended {
            return writer.write_all(&out);
        }
        if socket::is_hung_up(stream) {
            return Ok(());
        }
        if batch.count > 0 {
            std::thread::sleep(GATHER);
        }
        spare = batch.frames;
    }
}

/// Which threads belong to the process that alone is wanted.
struct Threads {
    of: u32,
    known: Vec<(u32, bool)>,
}

impl Threads {
    fn wants(&mut self, asks: u32) -> bool {
        if let Some((_, belongs)) = self.known.iter().find(|(thread, _)| *thread == asks) {
            return *belongs;
        }
        let belongs = asks != 0 && process::is_thread_of(asks, self.of);
        if self.known.len() >= THREADS_MAX {
            self.known.clear();
        }
        self.known.push((asks, belongs));
        belongs
    }
}
