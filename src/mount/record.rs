//! What each serving daemon tells others of its mount: one small file for each mount.
//!
//! ```text
//! /run/mica/mounts/MAJOR:MINOR.json              root's mounts; the name is the device number of the mount
//! $XDG_RUNTIME_DIR/mica/mounts/MAJOR:MINOR.json  a user's
//! .../MAJOR:MINOR.sock                           where its server can be asked ([`super::live`]); only its owner and root connect
//! ```
//! The mount table says where a mount is, but not what it is made of; this does. A record is written in one step before the first
//! request is answered and removed when serving ends. One whose process is gone (by number and start time) is stale: whoever
//! finds it ignores and removes it. Nothing depends on a record but those who look: without a place to write, a mount has none.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::mounted::Mounted;
use super::request::Request;
use super::source::Source;
use super::source::Upper;
use crate::digest::Digest;
use crate::digest::hex_of;
use crate::env;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::name::RenameMode;
use crate::sys::open::Access;
use crate::union::stack::Stack;

#[cfg(test)]
mod tests;

/// The directory for files of running programs.
const SYSTEM: &str = "/run";
/// The variable that names a user's own.
const USER: &str = "XDG_RUNTIME_DIR";
/// Below it.
const DIRS: [&[u8]; 2] = [b"mica", b"mounts"];
/// The largest record that is read, in bytes.
const LIMIT: u64 = 32 << 20;
/// The beginning of the names of unfinished records.
const TEMPORARY: &str = ".tmp-";

/// What a daemon tells of its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process that serves it.
    pub pid: u32,
    /// When that process started, in the kernel's clock ticks since boot.
    pub start_time: u64,
    /// Where it was mounted.
    pub target: HostPath,
    /// What was mounted.
    pub source: RecordSource,
    /// The read-only layers, top first.
    pub layers: Vec<LayerPlace>,
    /// The store that holds the packs, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<HostPath>,
    /// How file data travels, as the kernel agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<RecordIo>,
    /// The directory that takes the changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<HostPath>,
    /// Its work directory, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<HostPath>,
}

/// What was mounted, in the user's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum RecordSource {
    /// An image.
    Image(String),
    /// A container.
    Container(String),
    /// Directories.
    Dirs,
}

/// How file data travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordIo {
    /// Through the cache; the server is not told of openings.
    NoOpen,
    /// Through the cache; the server takes part in openings.
    Cache,
    /// The kernel reads and writes the files itself.
    Passthrough,
}

/// Where a layer lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerPlace {
    /// A directory.
    Dir(HostPath),
    /// The pack of this diff id, in the store.
    Pack(Digest),
}

/// A path on the host. In JSON a text, or, if it is not UTF-8, a list of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathText", into = "PathText")]
pub struct HostPath(pub PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<PathText> for HostPath {
    fn from(text: PathText) -> Self {
        match text {
            PathText::Text(text) => HostPath(text.into()),
            PathText::Bytes(bytes) => HostPath(OsString::from_vec(bytes).into()),
        }
    }
}

impl From<HostPath> for PathText {
    fn from(path: HostPath) -> Self {
        match path.0.into_os_string().into_string() {
            Ok(text) => PathText::Text(text),
            Err(bytes) => PathText::Bytes(bytes.as_bytes().to_vec()),
        }
    }
}

/// Prepared before the mount is made, so that writing the record never leads through the mount: the directory is open, and the paths
/// that the caller gave are absolute.
#[derive(Debug)]
pub struct Recorder {
    /// Tried one after the other: root in a user namespace may not write to root's.
    dirs: Vec<OwnedFd>,
    name: Option<NameBuf>,
    dev: Option<(u32, u32)>,
    target: PathBuf,
    source: RecordSource,
    lower: Vec<PathBuf>,
    root: Option<PathBuf>,
    work: Option<PathBuf>,
}

impl Recorder {
    /// Opens the place of records, and notes what the request says. The caller still is in the directory of its caller.
    pub fn prepare(request: &Request) -> Self {
        let skip = usize::from(sys::process::effective_uid() != 0);
        let open = |place: PathBuf| open_or_make(&place).inspect_err(|e| log::debug!("no place for records: {e}")).ok();
        let dirs = places().into_iter().skip(skip).filter_map(open).collect();
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let (source, lower, root, upper) = match &request.source {
            Source::Image { reference, root, upper } => {
                (RecordSource::Image(reference.clone()), Vec::new(), root.as_ref(), Some(upper))
            }
            Source::Container { id, root } => (RecordSource::Container(id.clone()), Vec::new(), root.as_ref(), None),
            Source::Dirs { lower, upper, .. } => (RecordSource::Dirs, lower.clone(), None, Some(upper)),
        };
        let work = match upper {
            Some(Upper::At { work, .. }) => Some(absolute(work)),
            _ => None,
        };
        let lower = lower.iter().map(absolute).collect();
        Self {
            dirs,
            name: None,
            dev: None,
            target: request.target.clone(),
            source,
            lower,
            root: root.map(absolute),
            work,
        }
    }

    /// Notes where the mount was made.
    pub(super) fn mounted(&mut self, mounted: &Mounted) {
        let Some((target, dev)) = mounted.place() else { return };
        self.target = target.to_owned();
        (self.dev, self.name) = (Some(dev), file_name(dev).ok());
    }

    /// Writes the record of a mount of `stack`; dropping what is returned removes it. A failure is logged, and the mount has none.
    pub fn keep(&self, stack: &Stack, io: RecordIo) -> Option<Kept> {
        let name = self.name.as_ref()?;
        let record = self.record(stack, io).inspect_err(|e| log::warn!("this mount has no record: {e}")).ok()?;
        let write = |dir: &OwnedFd| -> sys::Result<Kept> {
            write(dir, name.as_name(), &record)?;
            Ok(Kept { dir: sys::open::duplicate(dir)?, name: name.clone(), record: record.clone() })
        };
        let kept = self.dirs.iter().find_map(|dir| write(dir).inspect_err(|e| log::info!("a record: {e}")).ok());
        if kept.is_none() {
            log::info!("this mount has no record: there is no place for it");
        }
        kept
    }

    /// The device number of the mount; `None` when the caller made it, or without `/proc`.
    pub fn dev(&self) -> Option<(u32, u32)> {
        self.dev
    }

    /// Where the mount was made.
    pub fn target(&self) -> &Path {
        &self.target
    }

    fn record(&self, stack: &Stack, io: RecordIo) -> sys::Result<Record> {
        let pid = std::process::id();
        let gone = || sys::Error::new("read", format!("/proc/{pid}/stat"), Errno::NOENT);
        let layer = |(i, layer): (usize, &std::sync::Arc<dyn crate::layer::Layer>)| match layer.key().parse() {
            Ok(diff_id) => LayerPlace::Pack(diff_id),
            Err(_) => LayerPlace::Dir(HostPath(self.lower.get(i).cloned().unwrap_or_else(|| layer.label().into()))),
        };
        let upper = stack.upper.as_ref().and_then(|upper| upper.root.fd().ok()).map(sys::open::path_of).transpose()?;
        Ok(Record {
            pid,
            start_time: sys::process::start_time(pid)?.ok_or_else(gone)?,
            target: HostPath(self.target.clone()),
            source: self.source.clone(),
            layers: stack.layers.iter().enumerate().map(layer).collect(),
            root: self.root.clone().map(HostPath),
            io: Some(io),
            upper: upper.map(HostPath),
            work: self.work.clone().map(HostPath),
        })
    }
}

/// A written record; dropping it removes the file, unless another mount got the same device number and wrote its own.
#[derive(Debug)]
pub struct Kept {
    dir: OwnedFd,
    name: NameBuf,
    record: Record,
}

impl Kept {
    /// Listens beside the record, in place of a server that is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn listen(&self) -> sys::Result<UnixListener> {
        let name = socket_name(self.name.as_name())?;
        remove(&self.dir, name.as_name());
        sys::socket::listen(&self.dir, name.as_name())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let ours = read_one(&self.dir, self.name.as_name()).ok().flatten().is_none_or(|found| found == self.record);
        if ours {
            remove_both(&self.dir, self.name.as_name());
        }
    }
}

/// The record of the mount with this device number, if its process still runs.
pub fn of_device(dev: (u32, u32)) -> Option<Record> {
    let name = file_name(dev).ok()?;
    places().iter().find_map(|place| {
        let dir = sys::open::dir_path(place).ok()?;
        live(&dir, name.as_name())
    })
}

/// Connects to the server of the mount with this device number. `None` when there is no record of it.
///
/// # Errors
/// The kernel's: `ENOENT` and `ECONNREFUSED` for a server that cannot be asked; `EACCES` for another user's; `EPERM` when somebody
/// else listens there.
pub fn connect(dev: (u32, u32)) -> Option<sys::Result<UnixStream>> {
    let name = file_name(dev).ok()?;
    places().iter().find_map(|place| {
        let dir = sys::open::dir_path(place).ok()?;
        let record = live(&dir, name.as_name())?;
        Some(connect_in(&dir, name.as_name(), &record))
    })
}

fn connect_in(dir: &OwnedFd, name: Name<'_>, record: &Record) -> sys::Result<UnixStream> {
    let name = socket_name(name)?;
    let stream = sys::socket::connect(dir, name.as_name())?;
    let peer = sys::socket::peer(&stream)?;
    // From another PID namespace its number does not show.
    if peer.pid != 0 && peer.pid != record.pid {
        return Err(sys::Error::new("connect", format!("{name}: process {} listens there", peer.pid), Errno::PERM));
    }
    Ok(stream)
}

/// The records of all mounts whose process still runs, by device number. Stale ones are removed where that is allowed.
pub fn all() -> Vec<((u32, u32), Record)> {
    places().iter().flat_map(|place| all_in(place)).collect()
}

fn all_in(place: &Path) -> Vec<((u32, u32), Record)> {
    let Ok(dir) = sys::open::dir_path(place) else { return Vec::new() };
    let mut names = Vec::new();
    let listed = sys::dir::for_each::<sys::Error>(&dir, |entry| {
        names.extend(device_of(entry.name).zip(NameBuf::new(entry.name).ok()));
        Ok(())
    });
    if let Err(e) = listed {
        log::debug!("{}: {e}", place.display());
    }
    names.into_iter().filter_map(|(dev, name)| Some((dev, live(&dir, name.as_name())?))).collect()
}

/// Where records lie: root's, which everybody can read, and this user's.
fn places() -> Vec<PathBuf> {
    let below = |top: PathBuf| DIRS.iter().fold(top, |path, name| path.join(std::ffi::OsStr::from_bytes(name)));
    let own = env::var(USER).map(PathBuf::from).filter(|path| path.is_absolute());
    [Some(PathBuf::from(SYSTEM)), own].into_iter().flatten().map(below).collect()
}

/// Opens the directory of records, made where it is missing; the directory above the two of [`DIRS`] must be there.
fn open_or_make(place: &Path) -> sys::Result<OwnedFd> {
    let top = place.parent().and_then(Path::parent).unwrap_or(place);
    let mut dir = sys::open::dir_path(top)?;
    for name in DIRS {
        let name = Name::new(name).map_err(|e| sys::Error::new("mkdirat", e.to_string(), Errno::INVAL))?;
        match sys::name::mkdir(&dir, name, 0o755) {
            Err(e) if e.errno() != Errno::EXIST => return Err(e),
            _ => dir = sys::open::dir_at(&dir, name)?,
        }
    }
    Ok(dir)
}

fn file_name((major, minor): (u32, u32)) -> sys::Result<NameBuf> {
    let name = format!("{major}:{minor}.json");
    NameBuf::new(name.as_bytes()).map_err(|e| sys::Error::new("openat", e.to_string(), Errno::INVAL))
}

/// The name of the socket beside a record.
fn socket_name(record: Name<'_>) -> sys::Result<NameBuf> {
    let stem = record.as_bytes().strip_suffix(b".json").unwrap_or(record.as_bytes());
    NameBuf::new(&[stem, b".sock"].concat()).map_err(|e| sys::Error::new("bind", e.to_string(), Errno::INVAL))
}

/// The device number that a file name of [`file_name`] is of.
fn device_of(name: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(name).ok()?.strip_suffix(".json")?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Replaces the file in one step. Not synced: a mount does not outlive the system.
fn write(dir: &OwnedFd, name: Name<'_>, record: &Record) -> sys::Result<()> {
    let wrong = |what: String| sys::Error::new("write", what, Errno::INVAL);
    let bytes = serde_json::to_vec_pretty(record).map_err(|e| wrong(e.to_string()))?;
    let random: [u8; 8] = env::random().map_err(|e| wrong(e.to_string()))?;
    let temporary =
        NameBuf::new(format!("{TEMPORARY}{}", hex_of(&random)).as_bytes()).map_err(|e| wrong(e.to_string()))?;
    let temporary = temporary.as_name();
    let fd = sys::open::create_at(dir, temporary, 0o644)?;
    let written = sys::data::write_all_at(&fd, &bytes, 0)
        .and_then(|()| sys::name::rename(dir, temporary, dir, name, RenameMode::Replace));
    if written.is_err() {
        remove(dir, temporary);
    }
    written
}

/// The record under this name if its process runs; a stale one is removed.
fn live(dir: &OwnedFd, name: Name<'_>) -> Option<Record> {
    match read_one(dir, name) {
        Ok(Some(record)) if sys::process::is_running(record.pid, record.start_time) => Some(record),
        Ok(Some(_)) => {
            remove_both(dir, name);
            None
        }
        Ok(None) => None,
        Err(e) => {
            log::warn!("record {name}: {e}");
            None
        }
    }
}

fn read_one(dir: &OwnedFd, name: Name<'_>) -> sys::Result<Option<Record>> {
    let fd = match sys::open::file_at(dir, name, Access::Read) {
        Err(e) if e.errno() == Errno::NOENT => return Ok(None),
        other => other?,
    };
    let wrong = |what: String| sys::Error::new("read", what, Errno::INVAL);
    let size = sys::attr::fstat(&fd)?.size;
    if size > LIMIT {
        return Err(wrong(format!("{size} bytes are too many")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let n = sys::data::read_at(&fd, &mut bytes, 0)?;
    bytes.truncate(n);
    serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(e.to_string()))
}

fn remove(dir: &OwnedFd, name: Name<'_>) {
    match sys::name::unlink(dir, name) {
        Err(e) if e.errno() != Errno::NOENT => log::debug!("{name} stays: {e}"),
        _ => {}
    }
}

/// Removes a record and the socket beside it.
fn remove_both(dir: &OwnedFd, record: Name<'_>) {
    remove(dir, record);
    if let Ok(socket) = socket_name(record) {
        remove(dir, socket.as_name());
    }
}
