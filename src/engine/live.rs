//! Asking a serving mount about itself: the caller's side of [`crate::live::wire`].

use std::ffi::OsStr;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::Result;
use super::containers;
use super::target::find_mount;
use crate::live::Event;
use crate::live::Filter;
use crate::live::stats::Known;
use crate::live::stats::Stats;
use crate::live::wire;
use crate::live::wire::Frame;
use crate::live::wire::What;
use crate::mount::record;
use crate::mount::table::Entry;
use crate::store::Error as StoreError;
use crate::store::Store;
use crate::sys::Errno;
use crate::sys::socket;

/// How long a server may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// A mount that can be asked.
#[derive(Debug, Clone)]
pub struct Target {
    entry: Entry,
    /// The part of the mount that was named, from its root with a leading slash; `/` for all of it.
    pub inside: Vec<u8>,
}

impl Target {
    /// What a word means: a mountpoint, a path on a mount, or (asked for only then) a container of the store that is mounted.
    ///
    /// # Errors
    /// [`Error::NoMount`]; those of the store.
    pub fn find(word: &OsStr, store: impl FnOnce() -> Option<Store>) -> Result<Self> {
        let of = |(entry, inside): (Entry, PathBuf)| {
            let mut path = b"/".to_vec();
            path.extend_from_slice(inside.as_os_str().as_bytes());
            Target { entry, inside: path }
        };
        let is_path = word.as_bytes().contains(&b'/');
        let container = if is_path { None } else { store() };
        if let (Some(store), Some(name)) = (container, word.to_str()) {
            match store.find_container(name) {
                Ok(found) => {
                    let place = containers::mount_of(&store, &found)?;
                    let mount = place.map(|place| find_mount(&place, false)).transpose()?.flatten();
                    let why = || format!("container {} is not mounted: it does not run", found.name);
                    return mount.map(of).ok_or_else(|| Error::NotServed(why()));
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        find_mount(Path::new(word), true)?.map(of).ok_or_else(|| Error::NoMount(PathBuf::from(word)))
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.entry.target
    }

    fn ask(&self, what: What) -> Result<UnixStream> {
        let place = self.entry.target.display();
        let no_socket = || Error::NoSocket(self.entry.target.clone());
        let stream = match record::connect(self.entry.dev) {
            None => return Err(no_socket()),
            Some(Err(e)) if e.errno() == Errno::NOENT => return Err(no_socket()),
            // A killed server leaves its socket behind.
            Some(Err(e)) if e.errno() == Errno::CONNREFUSED => {
                return Err(gone(&self.entry.target));
            }
            Some(Err(e)) => return Err(Error::NotServed(format!("the server of {place} cannot be asked: {e}"))),
            Some(Ok(stream)) => stream,
        };
        let failed = |e: io::Error| Error::NotServed(format!("the server of {place} cannot be asked: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut writer = &stream;
        wire::send_ask(&mut writer, what).map_err(failed)?;
        Ok(stream)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: What) -> Result<T> {
        let mut incoming = Incoming::new(self.ask(what)?);
        match incoming.next().map_err(|e| self.failed(&e))? {
            Some(Frame::Json(bytes)) => serde_json::from_slice(&bytes).map_err(|e| self.failed(&e)),
            Some(Frame::Refused(why)) => Err(self.failed(&why)),
            _ => Err(self.failed(&"it hung up")),
        }
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Error {
        Error::NotServed(format!("the server of {} does not answer: {why}", self.entry.target.display()))
    }

    /// Counters, and what it holds.
    ///
    /// # Errors
    /// [`Error::NoSocket`]; [`Error::NotServed`].
    pub fn stats(&self) -> Result<Stats> {
        self.json(What::Stats)
    }

    /// What the server knows of a path from the root of the mount, and so what the kernel may keep.
    ///
    /// # Errors
    /// [`Error::NoSocket`]; [`Error::NotServed`].
    pub fn known(&self, path: &[u8]) -> Result<Known> {
        self.json(What::Node { path: path.to_vec() })
    }

    /// Begins to listen to its operations; when this returns, everything that comes later is told. Of a part of a mount, only what
    /// concerns it.
    ///
    /// # Errors
    /// [`Error::NoSocket`]; [`Error::NotServed`].
    pub fn listen(&self, filter: &Filter) -> Result<Listener> {
        let below = (self.inside != b"/").then(|| self.inside.clone());
        let filter = Filter { below: below.or_else(|| filter.below.clone()), ..filter.clone() };
        let mut incoming = Incoming::new(self.ask(What::Trace(filter))?);
        match incoming.next().map_err(|e| self.failed(&e))? {
            Some(Frame::Started) => Ok(Listener { incoming }),
            Some(Frame::Refused(why)) => Err(self.failed(&why)),
            _ => Err(self.failed(&"it hung up")),
        }
    }
}

/// The error of a mount whose server was killed.
pub(super) fn gone(mountpoint: &Path) -> Error {
    let place = mountpoint.display();
    Error::NotServed(format!("the server of {place} is gone; 'mica umount {place}' clears it"))
}

/// What comes to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An operation was done, or refused.
    Event(Box<Event>),
    /// So many events were lost here, since this listener did not keep up.
    Lost(u64),
    /// Nothing came for as long as was waited.
    Quiet,
    /// The mount has ended.
    Ended,
    /// The server is gone without a word: killed, or it failed.
    Gone,
}

/// Operations of a mount, as they are done. Dropping it ends the listening.
#[derive(Debug)]
pub struct Listener {
    incoming: Incoming,
}

impl Listener {
    /// What comes next; waits for it, at most for `limit`.
    ///
    /// # Errors
    /// [`Error::NotServed`] for what no server sends.
    pub fn next(&mut self, limit: Duration) -> Result<News> {
        let wrong = |e: io::Error| Error::NotServed(format!("the server's words cannot be read: {e}"));
        if let Some(frame) = self.incoming.buffered().map_err(wrong)? {
            return Ok(news(frame));
        }
        if !socket::wait_readable(&self.incoming.stream, limit) {
            return Ok(News::Quiet);
        }
        match self.incoming.fill() {
            Ok(0) => return Ok(News::Gone),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(News::Gone),
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(e) => return Err(wrong(e)),
            Ok(_) => {}
        }
        Ok(self.incoming.buffered().map_err(wrong)?.map_or(News::Quiet, news))
    }

    /// Whether something can be taken without waiting.
    pub fn has_more(&self) -> bool {
        self.incoming.at < self.incoming.bytes.len()
    }

    /// The connection, to be waited for together with others.
    pub fn stream(&self) -> &UnixStream {
        &self.incoming.stream
    }
}

fn news(frame: Frame) -> News {
    match frame {
        Frame::Event(event) => News::Event(event),
        Frame::Lost(count) => News::Lost(count),
        Frame::End => News::Ended,
        Frame::Started | Frame::Json(_) | Frame::Refused(_) => News::Quiet,
    }
}

/// Frames out of a stream.
#[derive(Debug)]
struct Incoming {
    stream: UnixStream,
    bytes: Vec<u8>,
    /// What of them was taken.
    at: usize,
}

impl Incoming {
    fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), at: 0 }
    }

    /// A frame that is there as a whole.
    fn buffered(&mut self) -> io::Result<Option<Frame>> {
        let Some((frame, used)) = Frame::take(self.bytes.get(self.at..).unwrap_or_default())? else { return Ok(None) };
        self.at += used;
        Ok(Some(frame))
    }

    /// Reads more; 0 at the end. What is kept is bounded: one frame that is not whole, and one chunk.
    fn fill(&mut self) -> io::Result<usize> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let old = self.bytes.len();
        self.bytes.resize(old + CHUNK, 0);
        let read = self.stream.read(self.bytes.get_mut(old..).unwrap_or_default());
        self.bytes.truncate(old + read.as_ref().map_or(0, |n| *n));
        read
    }

    fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            match self.fill() {
                Ok(0) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => drop(other?),
            }
        }
    }
}
