//! The writable top of a stack: the upper directory, its work directory, and what their filesystem can do.
//!
//! Everything new is built in the work directory and published by one rename or link, so a crash leaves nothing half-done
//! in upper. Work is locked (a second mount of the same upper is refused) and emptied when it is opened: what lies there is
//! what an earlier mount was building when it died.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::Error;
use super::error::Result;
use super::whiteout::Shared;
use crate::env;
use crate::layer::handle::DirHandle;
use crate::layer::handle::FdCache;
use crate::layer::marks::AufsName;
use crate::layer::marks::Family;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::lock::Held;
use crate::sys::lock::LockKind;
use crate::sys::name::RenameMode;
use crate::sys::writeback::WriteBack;
use crate::sys::xattr::SetMode;

/// What the upper filesystem and this process's privileges allow, found out by trying it in the work directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whiteouts can be character devices 0:0; else they are `.wh.` files.
    pub device_whiteouts: bool,
    /// `RENAME_EXCHANGE` works.
    pub exchange: bool,
    /// `RENAME_WHITEOUT` works.
    pub rename_whiteout: bool,
    /// The xattr family for opaque marks; `None` where neither can be set: then `.wh..wh..opq` is written.
    pub marks: Option<Family>,
    /// Files without a name (`O_TMPFILE`) work.
    pub tmpfile: bool,
    /// Copies can be built as such, and are on disk before their first name is.
    pub nameless: bool,
}

/// The writable top of a stack.
#[derive(Debug)]
pub struct Upper {
    /// The upper directory.
    pub root: Arc<DirHandle>,
    /// The work directory's inner folder, where new objects are built.
    pub(super) work: Arc<OwnedFd>,
    /// What can be done here.
    pub abilities: Abilities,
    /// Skip syncs: after a crash of the system the upper is not to be trusted.
    pub volatile: bool,
    /// A refused change of an owner is no error: owners are squashed.
    pub owners_may_fail: bool,
    /// `volatile` was asked for by that name, and the work directory says so.
    pub(super) marked: bool,
    /// Others than mica may have changed the upper directory: they move and link copies, but do not mark the directories for it.
    pub(super) foreign: bool,
    /// Data was lost on a volatile mount: all syncs fail from then on.
    pub(super) lost: AtomicBool,
    pub(super) whiteout: Shared,
    prefix: String,
    counter: AtomicU64,
    /// Held as long as the mount lives.
    _locks: [Held; 2],
}

/// The folder inside the work directory that is mica's to empty; the kernel's overlayfs uses the same name.
pub(super) const INNER: &[u8] = b"work";

/// The mark of a work directory whose upper was changed by mica alone.
const OWN: &str = "mica.own";

impl Upper {
    /// How the data of a copy gets to the disk.
    pub(super) fn write_back(&self) -> WriteBack {
        if self.volatile { WriteBack::Later } else { WriteBack::Behind }
    }

    /// Opens and locks an upper and a work directory on the same filesystem, empties work, and finds out what works there.
    ///
    /// # Errors
    /// [`Error::Setup`] when another mount uses them, or they lie on different filesystems; else the kernel's.
    pub fn open(upper: &Path, work: &Path, fds: Arc<FdCache>, volatile: bool) -> Result<Self> {
        let work_path = work;
        let upper_fd = sys::open::dir_path(upper)?;
        let work_fd = sys::open::dir_path(work)?;
        if sys::attr::fstat(&upper_fd)?.dev != sys::attr::fstat(&work_fd)?.dev {
            return Err(Error::Setup(format!(
                "upperdir {} and workdir {} must lie on the same filesystem",
                upper.display(),
                work.display()
            )));
        }
        let locks = [take_lock(&upper_fd, upper)?, take_lock(&work_fd, work)?];
        let inner = Name::new(INNER).map_err(|e| Error::Setup(e.to_string()))?;
        match sys::name::mkdir(&work_fd, inner, 0o700) {
            Err(e) if e.errno() != Errno::EXIST => return Err(e.into()),
            _ => {}
        }
        let work = sys::open::dir_at(&work_fd, inner)?;
        super::volatile::check(&work, work_path, volatile)?;
        sys::name::clear(&work)?;
        let random: [u8; 8] = env::random().map_err(|e| Error::Setup(format!("no random numbers: {e}")))?;
        let mut this = Self {
            root: DirHandle::root(upper_fd, fds)?,
            work: Arc::new(work),
            abilities: Abilities {
                device_whiteouts: false,
                exchange: false,
                rename_whiteout: false,
                marks: None,
                tmpfile: false,
                nameless: false,
            },
            volatile,
            owners_may_fail: false,
            marked: false,
            foreign: false,
            lost: AtomicBool::new(false),
            whiteout: Shared::new(work_fd),
            prefix: format!("#{:016x}-", u64::from_ne_bytes(random)),
            counter: AtomicU64::new(0),
            _locks: locks,
        };
        this.abilities = this.probe(upper)?;
        this.foreign = this.is_foreign()?;
        Ok(this)
    }

    /// Whether others may have changed the upper directory. The inner folder of work is marked while upper is still empty; the
    /// kernel's overlayfs makes that folder anew with every mount. A mark that cannot be set is never missed: then no copy has a
    /// record, or, at worst, each is looked for.
    fn is_foreign(&self) -> Result<bool> {
        let Some(mark) = self.mark_name(OWN) else { return Ok(false) };
        if sys::xattr::get(&*self.work, &mark)?.is_some() {
            return Ok(false);
        }
        if !sys::dir::is_empty(&*self.root.fd()?)? {
            return Ok(true);
        }
        Ok(sys::xattr::set(&*self.work, &mark, b"y", SetMode::Any).is_err())
    }

    /// A name in the work directory that was never used and that nobody can guess.
    pub(super) fn fresh_name(&self) -> Result<NameBuf> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        NameBuf::new(format!("{}{n:x}", self.prefix).as_bytes()).map_err(|e| Error::Setup(e.to_string()))
    }

    /// The full name of an opaque mark and the like in the family that works here.
    pub(super) fn mark_name(&self, mark: &str) -> Option<Vec<u8>> {
        self.abilities.marks.map(|family| family.name(mark))
    }

    /// How deletions can be kept. Tried in a directory of its own: fuse-overlayfs 1.10 loses the other names beside a device 0:0.
    ///
    /// # Errors
    /// [`Error::Setup`] where none can: then what is deleted in the union would not stay so.
    fn probe_whiteouts(&self, upper: &Path) -> Result<bool> {
        let (work, at) = (&*self.work, self.fresh_name()?);
        sys::name::mkdir(work, at.as_name(), 0o700)?;
        let tried = self.try_whiteouts(&sys::open::dir_at(work, at.as_name())?);
        match sys::name::remove_all(work, at.as_name()) {
            Err(e) if !matches!(tried, Ok(Kept::AsDevices)) => log::debug!("left in the work directory: {e}"),
            other => other?,
        }
        let why = match tried? {
            Kept::AsDevices => return Ok(true),
            Kept::AsMarks => return Ok(false),
            Kept::ForTheUnionBelow => {
                "it lies on another union, which takes them for its own: they would come back with its next mount"
            }
            Kept::Nowhere => "neither a device 0:0 nor a file .wh.NAME can be made there, as on a mount of mica",
        };
        let what = format!("upperdir {} holds no deletions: {why}", upper.display());
        Err(Error::Setup(format!(
            "{what}; put upperdir and workdir on a filesystem of their own (in a container: a volume)"
        )))
    }

    fn try_whiteouts(&self, dir: &OwnedFd) -> Result<Kept> {
        let name = self.fresh_name()?;
        match sys::name::mknod(dir, name.as_name(), Kind::Char, 0, 0) {
            Ok(()) => match sys::attr::stat_at(dir, name.as_name())? {
                Some(stat) if stat.is_whiteout() => return Ok(Kept::AsDevices),
                Some(_) => {}
                None => return Ok(Kept::ForTheUnionBelow),
            },
            // It was made, and then there was none.
            Err(e) if e.errno() == Errno::NOENT => return Ok(Kept::ForTheUnionBelow),
            Err(_) => {}
        }
        let mark = AufsName::whiteout_of(name.as_name()).ok_or(Error::Refused(Errno::NAMETOOLONG))?;
        match sys::name::mknod(dir, mark.as_name(), Kind::File, 0, 0) {
            Ok(()) if sys::attr::stat_at(dir, mark.as_name())?.is_some() => Ok(Kept::AsMarks),
            Ok(()) => Ok(Kept::ForTheUnionBelow),
            Err(e) if matches!(e.errno(), Errno::INVAL | Errno::PERM | Errno::NOENT) => Ok(Kept::Nowhere),
            Err(e) => Err(e.into()),
        }
    }

    fn probe(&self, upper: &Path) -> Result<Abilities> {
        let work = &*self.work;
        let device = self.probe_whiteouts(upper)?;
        let (a, b) = (self.fresh_name()?, self.fresh_name()?);
        let (a, b) = (a.as_name(), b.as_name());
        drop(sys::open::create_at(work, a, 0o600)?);
        sys::name::mkdir(work, b, 0o700)?;
        // A whiteout must be able to replace a file, and an exchange to swap a file and a directory.
        let exchange = sys::name::rename(work, a, work, b, RenameMode::Exchange).is_ok();
        let dir = if exchange { a } else { b };
        let marks = [Family::Trusted, Family::User].into_iter().find(|family| {
            sys::open::path_at(work, dir).is_ok_and(|fd| {
                let name = family.name("opaque");
                sys::xattr::set(&fd, &name, b"n", SetMode::Any).is_ok()
                    && sys::xattr::get(&fd, &name).is_ok_and(|v| v.is_some())
            })
        });
        let c = self.fresh_name()?;
        let rename_whiteout = device
            && sys::name::rename(work, dir, work, c.as_name(), RenameMode::Whiteout).is_ok()
            && sys::attr::stat_at(work, dir)?.is_some_and(|s| s.is_whiteout());
        for name in [a, b, c.as_name()] {
            sys::name::remove_all(work, name)?;
        }
        let tmpfile = sys::open::tmpfile(work, 0o600)?.is_some();
        let nameless = tmpfile && sys::open::syncs_nameless(work)?;
        Ok(Abilities { device_whiteouts: device, exchange, rename_whiteout, marks, tmpfile, nameless })
    }
}

/// Where a filesystem keeps whiteouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// As devices 0:0.
    AsDevices,
    /// As `.wh.` files.
    AsMarks,
    /// It is a union itself, and takes one for a deletion of its own.
    ForTheUnionBelow,
    /// It takes none.
    Nowhere,
}

/// How long a directory may be in use by a mount that has just been taken away. An engine that stops a container and starts it
/// again unmounts and mounts at once, while the old server still writes out what the kernel had kept.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

fn take_lock(dir: &OwnedFd, path: &Path) -> Result<Held> {
    let fd = sys::open::list_dir(dir)?;
    if lock_within(&fd, LOCK_PATIENCE)? {
        return Ok(Held::taken(fd));
    }
    Err(Error::Setup(format!("{} is in use by another mica mount", path.display())))
}

/// Locks a directory that may be in use for a moment yet; `false` when it still is after `patience`.
pub(super) fn lock_within(fd: &OwnedFd, patience: Duration) -> Result<bool> {
    let start = env::monotonic();
    while !sys::lock::try_lock(fd, LockKind::Exclusive)? {
        if start.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a child process holds one between fork and exec.
    #[test]
    fn an_upper_can_be_opened_again_while_a_copy_of_its_lock_is_open() {
        let base = std::env::temp_dir().join(format!("mica-work-{}", std::process::id()));
        let (upper, work) = (base.join("upper"), base.join("work"));
        [&upper, &work].iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        let open = || Upper::open(&upper, &work, FdCache::new(8), true);
        let first = open().unwrap();
        assert!(matches!(open(), Err(Error::Setup(_))), "in use");
        let copy = sys::open::duplicate(&first._locks[0]).unwrap();
        drop(first);
        assert!(open().is_ok());
        drop(copy);
        std::fs::remove_dir_all(base).unwrap();
    }
}
