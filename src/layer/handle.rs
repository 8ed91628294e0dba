//! Directories of a directory layer, held without holding a descriptor for each.
//!
//! Hard limits of 4096 open files exist, so a union of a million inodes cannot keep one descriptor an inode. A [`DirHandle`] is a
//! directory that was seen once: it knows its parent handle, its name there and its identity. Its `O_PATH` descriptor lives in
//! a bounded [`FdCache`]; when it was dropped, the handle opens it again, one name below its parent, and checks that it still is
//! the same directory.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use parking_lot::RwLock;

use super::Error;
use super::ObjectId;
use super::Result;
use super::dir_links::LinkIndex;
use super::marks;
use super::override_stat;
use super::override_stat::Form;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;

/// A bound on the directory descriptors that all layers of one union keep open.
#[derive(Debug)]
pub struct FdCache {
    /// Oldest first. A handle that was used since it was queued gets a second round before its descriptor is closed.
    queue: Mutex<VecDeque<Weak<DirHandle>>>,
    capacity: usize,
    /// Nothing is remembered: directories may be changed from outside at any time.
    unsteady: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a cache was used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdCacheUse {
    /// How many descriptors it keeps open at most.
    pub capacity: usize,
    /// How often the descriptor that was asked for was open.
    pub hits: u64,
    /// How often a directory had to be opened.
    pub misses: u64,
}

impl FdCache {
    /// A cache of at most `capacity` descriptors.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            capacity: capacity.max(8),
            unsteady: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// How it was used so far.
    pub fn usage(&self) -> FdCacheUse {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FdCacheUse { capacity: self.capacity, hits: get(&self.hits), misses: get(&self.misses) }
    }

    /// From now on, nothing that was learnt of a directory is remembered: it may be changed from outside at any time.
    pub fn remember_nothing(&self) {
        self.unsteady.store(true, Ordering::Relaxed);
    }

    fn is_unsteady(&self) -> bool {
        self.unsteady.load(Ordering::Relaxed)
    }

    fn admit(&self, handle: &Arc<DirHandle>) {
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(handle));
        let mut rounds = queue.len();
        while queue.len() > self.capacity && rounds > 0 {
            rounds -= 1;
            let Some(oldest) = queue.pop_front().and_then(|weak| weak.upgrade()) else { continue };
            if Arc::ptr_eq(&oldest, handle) || oldest.used.swap(false, Ordering::Relaxed) {
                queue.push_back(Arc::downgrade(&oldest));
            } else {
                oldest.fd.lock().take();
            }
        }
    }
}

/// How often a directory that is not where it was is looked for again.
const RETRIES: usize = 8;

/// Where a directory is found again.
#[derive(Debug, Clone)]
enum Place {
    /// The layer's root or a removed directory: its descriptor stays open as long as the handle lives.
    Pinned(Arc<OwnedFd>),
    /// Under this name in that directory.
    At(Arc<DirHandle>, NameBuf),
    /// While it is dropped.
    Nowhere,
}

/// A property of a directory that costs a look at the disk, and is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Any name here starts with `.wh.`.
    AufsNames,
    /// Whiteouts here may be empty files with a xattr (`opaque` is `x`).
    XattrWhiteouts,
    /// Objects here may carry the number of a lower object (upper only).
    Impure,
    /// The directory has a default ACL (upper only).
    DefaultAcl,
}

/// An answer that may not be known yet.
#[derive(Debug, Default)]
struct Lazy(AtomicU8);

impl Lazy {
    const NO: u8 = 1;
    const YES: u8 = 2;

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            Self::NO => Some(false),
            Self::YES => Some(true),
            _ => None,
        }
    }

    fn set(&self, answer: bool) {
        self.0.store(if answer { Self::YES } else { Self::NO }, Ordering::Relaxed);
    }
}

/// One directory of a layer on disk.
pub struct DirHandle {
    fds: Arc<FdCache>,
    place: RwLock<Place>,
    id: ObjectId,
    overrides: Option<Form>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    used: AtomicBool,
    /// By [`Probe`].
    facts: [Lazy; 4],
    links: Option<Arc<LinkIndex>>,
}

impl std::fmt::Debug for DirHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirHandle({})", self.path())
    }
}

impl DirHandle {
    /// The root of a layer: `fd` stays open as long as the handle lives.
    ///
    /// # Errors
    /// The kernel's.
    pub fn root(fd: OwnedFd, fds: Arc<FdCache>) -> Result<Arc<Self>> {
        let stat = sys::attr::fstat(&fd)?;
        let id = ObjectId { dev: stat.dev, ino: stat.ino };
        let overrides = Form::detect(&fd)?;
        Ok(Self::make(fds, Place::Pinned(Arc::new(fd)), id, overrides, None))
    }

    /// The directory `name` below this one, known to be `id`. Nothing is opened yet.
    pub fn child(self: &Arc<Self>, name: Name<'_>, id: ObjectId) -> Arc<Self> {
        Self::make(self.fds.clone(), Place::At(self.clone(), name.to_buf()), id, self.overrides, self.links.clone())
    }

    /// This root again, for a layer whose files can tell all their names.
    pub(super) fn with_links(&self, links: Arc<LinkIndex>) -> Arc<Self> {
        let place = self.place.read().clone();
        Self::make(self.fds.clone(), place, self.id, self.overrides, Some(links))
    }

    /// The index of the names of the layer's files, if it is to be made.
    pub(super) fn links(&self) -> Option<&LinkIndex> {
        self.links.as_deref()
    }

    /// The root of the layer.
    pub(super) fn top(self: &Arc<Self>) -> Arc<Self> {
        let mut at = self.clone();
        loop {
            let above = match &*at.place.read() {
                Place::At(parent, _) => parent.clone(),
                Place::Pinned(_) | Place::Nowhere => break,
            };
            at = above;
        }
        at
    }

    fn make(
        fds: Arc<FdCache>,
        place: Place,
        id: ObjectId,
        overrides: Option<Form>,
        links: Option<Arc<LinkIndex>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            fds,
            place: RwLock::new(place),
            id,
            overrides,
            fd: Mutex::new(None),
            used: AtomicBool::new(false),
            facts: Default::default(),
            links,
        })
    }

    /// The attribute in which the layer of this directory keeps owners and modes, as its root says.
    pub fn overrides(&self) -> Option<Form> {
        self.overrides
    }

    /// Whether the directory may be changed from outside at any time.
    pub fn is_unsteady(&self) -> bool {
        self.fds.is_unsteady()
    }

    /// The directory's identity.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// An `O_PATH` descriptor of the directory.
    ///
    /// # Errors
    /// [`Error::Stale`] when another directory stands in its place now, else the kernel's.
    pub fn fd(self: &Arc<Self>) -> Result<Arc<OwnedFd>> {
        for _ in 0..RETRIES {
            match self.try_fd() {
                // One of us may be renaming it, or a directory above: that one is pinned before it moves.
                Err(e) if matches!(e, Error::Stale(_)) || matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => {}
                other => return other,
            }
        }
        self.try_fd()
    }

    fn try_fd(self: &Arc<Self>) -> Result<Arc<OwnedFd>> {
        // Up to the first directory that is open, then down again; not recursive, since depth is in the hands of users.
        let mut closed = Vec::new();
        let mut at = self.clone();
        let mut fd = loop {
            if let Some(fd) = at.open_fd() {
                break fd;
            }
            let place = at.place.read().clone();
            let (parent, name) = match place {
                Place::Pinned(fd) => break fd,
                Place::At(parent, name) => (parent, name),
                Place::Nowhere => return Err(Error::Stale(String::new())),
            };
            closed.push((std::mem::replace(&mut at, parent), name));
        };
        for (handle, name) in closed.into_iter().rev() {
            fd = handle.open_below(&fd, name.as_name())?;
        }
        Ok(fd)
    }

    /// The descriptor, if it is in the cache.
    fn open_fd(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.fd.lock().clone()?;
        self.used.store(true, Ordering::Relaxed);
        self.fds.hits.fetch_add(1, Ordering::Relaxed);
        Some(fd)
    }

    fn open_below(self: &Arc<Self>, parent: &OwnedFd, name: Name<'_>) -> Result<Arc<OwnedFd>> {
        self.fds.misses.fetch_add(1, Ordering::Relaxed);
        let fd = sys::open::dir_at(parent, name)?;
        let stat = sys::attr::fstat(&fd)?;
        if (ObjectId { dev: stat.dev, ino: stat.ino }) != self.id {
            return Err(Error::Stale(self.path()));
        }
        let fd = Arc::new(fd);
        *self.fd.lock() = Some(fd.clone());
        self.fds.admit(self);
        Ok(fd)
    }

    /// Says that the directory now is `name` below `parent`: it was renamed by us.
    pub fn moved(&self, parent: &Arc<DirHandle>, name: Name<'_>) {
        *self.place.write() = Place::At(parent.clone(), name.to_buf());
    }

    /// Keeps the directory's descriptor for good, before its name is removed.
    ///
    /// # Errors
    /// As [`DirHandle::fd`].
    pub fn pin(self: &Arc<Self>) -> Result<()> {
        let fd = self.fd()?;
        *self.place.write() = Place::Pinned(fd);
        Ok(())
    }

    fn fact(&self, probe: Probe) -> &Lazy {
        let [aufs, xattr, impure, acl] = &self.facts;
        match probe {
            Probe::AufsNames => aufs,
            Probe::XattrWhiteouts => xattr,
            Probe::Impure => impure,
            Probe::DefaultAcl => acl,
        }
    }

    /// The known answer to `probe`, or that of `find`, which is then remembered.
    ///
    /// # Errors
    /// That of `find`.
    pub fn remember<E>(
        &self,
        probe: Probe,
        find: impl FnOnce() -> std::result::Result<bool, E>,
    ) -> std::result::Result<bool, E> {
        match self.fact(probe).get() {
            Some(answer) if !self.fds.is_unsteady() => Ok(answer),
            _ => {
                let answer = find()?;
                self.learn(probe, answer);
                Ok(answer)
            }
        }
    }

    /// Forgets every answer: the directory may have been changed from outside.
    pub fn forget_facts(&self) {
        self.facts.iter().for_each(Lazy::clear);
    }

    /// Notes the answer to `probe`, because it was just changed or read.
    pub fn learn(&self, probe: Probe, answer: bool) {
        self.fact(probe).set(answer);
    }

    /// Whether any name here starts with `.wh.`; reads the directory once and remembers the answer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_aufs_names(self: &Arc<Self>) -> Result<bool> {
        if self.fds.is_unsteady() {
            // Cheaper to look for the one name than to read the directory each time.
            return Ok(true);
        }
        self.remember(Probe::AufsNames, || {
            let mut found = false;
            sys::dir::for_each::<Error>(&*self.fd()?, |e| {
                found |= e.name.starts_with(marks::AUFS_PREFIX);
                Ok(())
            })?;
            Ok(found)
        })
    }

    /// The path from the layer's root, for people.
    pub fn path(&self) -> String {
        let mut names = Vec::new();
        let mut place = self.place.read().clone();
        while let Place::At(parent, name) = place {
            names.push(name);
            place = parent.place.read().clone();
        }
        names.iter().rev().map(|name| format!("/{name}")).collect()
    }

    /// Whether `name` here is still the object `id`; `ENOENT` turned into [`Error::Stale`].
    ///
    /// # Errors
    /// [`Error::Stale`] when it is not, else the kernel's.
    pub(super) fn check(self: &Arc<Self>, name: Name<'_>, id: ObjectId) -> Result<sys::attr::Stat> {
        match override_stat::stat_at(self, name)? {
            Some(s) if (ObjectId { dev: s.dev, ino: s.ino }) == id => Ok(s),
            _ => Err(Error::Stale(format!("{}/{name}", self.path()))),
        }
    }
}

impl Drop for DirHandle {
    /// Drops the handles above that nobody else holds in a loop: the drop of one inside another would overflow the stack of a
    /// deep tree.
    fn drop(&mut self) {
        let mut place = std::mem::replace(self.place.get_mut(), Place::Nowhere);
        while let Place::At(parent, _) = place {
            let Some(mut parent) = Arc::into_inner(parent) else { break };
            place = std::mem::replace(parent.place.get_mut(), Place::Nowhere);
        }
    }
}

/// Errors of `fd` calls that mean "the name vanished".
pub(super) fn is_gone(e: &Error) -> bool {
    e.errno() == Errno::NOENT
}
