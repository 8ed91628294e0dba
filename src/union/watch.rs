//! What is told of a union while it works: where an object lies, what it holds, and each copy-up.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Entry;
use super::Result;
use super::Union;
use super::copy_up::ORIGIN;
use super::error::Error;
use super::node::Node;
use super::node::ROOT;
use super::node::Real;
use super::observe::Observer;
use super::observe::Sheet;
use crate::env;
use crate::layer::ObjectId;
use crate::layer::handle::FdCache;
use crate::path::Name;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// A copy-up that was made, or failed.
#[derive(Debug)]
pub struct CopiedUp<'a> {
    /// Of what.
    pub node: &'a Node,
    /// The lower layer that it came from.
    pub from: Option<u16>,
    /// Bytes of content that were copied.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// The error number of a failed one.
    pub failed: Option<Errno>,
}

type Hook = Box<dyn Fn(&CopiedUp<'_>) + Send + Sync>;

/// Counts copy-ups, and tells of them.
#[derive(Default)]
pub(super) struct CopyUps {
    files: AtomicU64,
    directories: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
    hook: OnceLock<Hook>,
}

impl std::fmt::Debug for CopyUps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CopyUps")
    }
}

impl CopyUps {
    /// Runs `copy`, which tells how many bytes of content it copied, and counts it.
    pub(super) fn counted(&self, node: &Node, from: Option<u16>, copy: impl FnOnce() -> Result<u64>) -> Result<()> {
        let start = env::monotonic();
        let result = copy();
        let took = start.elapsed();
        let add = |counter: &AtomicU64, n| {
            counter.fetch_add(n, Ordering::Relaxed);
        };
        if let Ok(bytes) = &result {
            add(if node.kind == Kind::Dir { &self.directories } else { &self.files }, 1);
            add(&self.bytes, *bytes);
            add(&self.nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        if let Some(hook) = self.hook.get() {
            let failed = result.as_ref().err().map(Error::errno);
            hook(&CopiedUp { node, from, bytes: *result.as_ref().unwrap_or(&0), took, failed });
        }
        result.map(drop)
    }
}

/// Sums over all copy-ups of a union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Files and other objects, and contents that were left below at first.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The time they took.
    pub took: Duration,
}

/// What a union holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Nodes.
    pub nodes: u64,
    /// References to them that the kernel holds.
    pub references: u64,
    /// Open handles of files.
    pub open_handles: u64,
    /// Backing files that are open for them.
    pub open_files: u64,
    /// Listings of directories.
    pub listings: u64,
}

/// Where an object lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The layer that serves it; of a merged directory the topmost.
    pub sheet: Sheet,
    /// Where it lies there, by what the layer says of it; below the upper directory the path in it. `None` for what lies in upper
    /// without a name.
    pub location: Option<String>,
    /// The lower layer that has the content, and where it lies there, as long as only the attributes were copied up.
    pub content: Option<(u16, String)>,
}

/// What an object in upper was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The lower layer.
    pub layer: u16,
    /// Where it lies there, as far as that is known still.
    pub location: Option<String>,
    /// Its number there.
    pub number: Option<u64>,
}

impl Union {
    /// From now on `hook` is called after each copy-up, with the node's copy lock held: it must not change the union. Only the first
    /// hook counts.
    pub fn on_copy_up(&self, hook: impl Fn(&CopiedUp<'_>) + Send + Sync + 'static) {
        if self.copies.hook.set(Box::new(hook)).is_err() {
            log::debug!("a second listener for copy-ups is ignored");
        }
    }

    /// The same union, which tells of this cache of directory descriptors, that its layers use.
    #[must_use]
    pub fn with_fd_cache(mut self, fds: Arc<FdCache>) -> Self {
        self.fds = Some(fds);
        self
    }

    /// The cache of directory descriptors that its layers use.
    pub fn fd_cache(&self) -> Option<&Arc<FdCache>> {
        self.fds.as_ref()
    }

    /// All copy-ups so far.
    pub fn copies(&self) -> Copies {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let CopyUps { files, directories, bytes, nanos, .. } = &self.copies;
        Copies {
            files: get(files),
            directories: get(directories),
            bytes: get(bytes),
            took: Duration::from_nanos(get(nanos)),
        }
    }

    /// What it holds now. Looks at every node.
    pub fn holdings(&self) -> Holdings {
        let mut held = Holdings::default();
        for node in self.table.all() {
            held.nodes += 1;
            held.references += node.lookups();
            let listed = |kept: &parking_lot::Mutex<Option<_>>| kept.try_lock().is_none_or(|listing| listing.is_some());
            held.listings += u64::from(node.listing().is_ok_and(listed));
            let body = node.body.read();
            held.open_handles += u64::from(body.rare().opens);
            held.open_files += u64::from(body.rare().io.is_some());
        }
        held
    }

    /// Looks one name up, as [`Union::lookup`] does, and tells `observer` what each layer said that was asked.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn lookup_watched(
        &self,
        parent: &Arc<Node>,
        name: Name<'_>,
        observer: &mut impl Observer,
    ) -> Result<Option<Entry>> {
        let _names = parent.names()?.read();
        self.lookup_heard(parent, name, observer)
    }

    /// Where the object of a node lies.
    pub fn seat_of(&self, node: &Node) -> Option<Seat> {
        let sheet = node.sheet()?;
        let (real, data, place) = {
            let body = node.body.read();
            (body.real.clone(), body.rare().data.clone(), body.place.clone())
        };
        let content = data.map(|lower| (lower.layer, lower.obj.location()));
        let location = match real {
            Real::Dir(dirs) => match &dirs.upper {
                Some(handle) => Some(handle.path()),
                None => dirs.lowers.first().map(|lower| lower.obj.location()),
            },
            Real::Lower(lower) => Some(lower.obj.location()),
            Real::Upper { held: Some(_), .. } => None,
            Real::Upper { held: None, .. } => place.and_then(|(parent, name)| {
                let dir = parent.dirs()?.upper?;
                Some(format!("{}/{name}", dir.path()))
            }),
        };
        Some(Seat { sheet, location, content: content.filter(|_| sheet == Sheet::Upper) })
    }

    /// What the object of a node in upper was copied from; `None` where it was made there, or lies in a lower layer.
    ///
    /// # Errors
    /// Those of reading upper.
    pub fn origin_told(&self, node: &Arc<Node>) -> Result<Option<Origin>> {
        if !node.in_upper() {
            return Ok(None);
        }
        if let Some(dirs) = node.dirs() {
            return Ok(dirs.lowers.first().map(|lower| Origin {
                layer: lower.layer,
                location: Some(lower.obj.location()),
                number: None,
            }));
        }
        let data = node.body.read().rare().data.clone();
        if let Some(lower) = data {
            let ObjectId { ino, .. } = lower.obj.id();
            return Ok(Some(Origin { layer: lower.layer, location: Some(lower.obj.location()), number: Some(ino) }));
        }
        let Some(mark) = self.upper()?.mark_name(ORIGIN) else { return Ok(None) };
        let record = crate::sys::xattr::get(&*self.hold(node)?, &mark)?;
        Ok(record.and_then(|record| self.stack.origin_parts(&record)).map(|(layer, number)| Origin {
            layer,
            location: None,
            number: Some(number),
        }))
    }

    /// The node that was found last at `path`, if there is one. Looks at nodes only, never at a layer.
    pub fn known_at(&self, path: &[u8]) -> Option<Arc<Node>> {
        if path == b"/" {
            return self.table.get(ROOT);
        }
        let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let named = |node: &Arc<Node>| node.body.read().place.as_ref().is_some_and(|(_, name)| name.as_bytes() == last);
        let found = self.table.all().into_iter().filter(named);
        found.into_iter().find(|node| node.path().is_some_and(|known| known == path))
    }
}

impl Node {
    /// A path of it, with a leading slash: the one under which it was found last. `None` for what has no name any more.
    pub fn path(&self) -> Option<Vec<u8>> {
        if self.ino == ROOT {
            return Some(b"/".to_vec());
        }
        let mut names = Vec::new();
        let mut place = self.body.read().place.clone();
        loop {
            let (parent, name) = place?;
            names.push(name);
            if parent.ino == ROOT {
                break;
            }
            place = parent.body.read().place.clone();
        }
        let len = names.iter().map(|name| name.as_bytes().len() + 1).sum();
        let mut path = Vec::with_capacity(len);
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
        }
        Some(path)
    }

    /// The layer that serves it; of a merged directory the topmost.
    pub fn sheet(&self) -> Option<Sheet> {
        match &self.body.read().real {
            Real::Upper { .. } => Some(Sheet::Upper),
            Real::Lower(lower) => Some(Sheet::Lower(lower.layer)),
            Real::Dir(dirs) if dirs.upper.is_some() => Some(Sheet::Upper),
            Real::Dir(dirs) => dirs.lowers.first().map(|lower| Sheet::Lower(lower.layer)),
        }
    }

    /// Open handles of it.
    pub fn open_handles(&self) -> u32 {
        self.body.read().rare().opens
    }
}
