//! One method per request of the protocol.

#![allow(clippy::too_many_arguments, reason = "the protocol's")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;

use fuser::BsdFileFlags;
use fuser::CopyFileRangeFlags;
use fuser::FileHandle;
use fuser::Filesystem;
use fuser::FopenFlags;
use fuser::Generation;
use fuser::INodeNo;
use fuser::InitFlags;
use fuser::KernelConfig;
use fuser::LockOwner;
use fuser::Notifier;
use fuser::OpenAccMode;
use fuser::OpenFlags;
use fuser::RenameFlags;
use fuser::ReplyAttr;
use fuser::ReplyCreate;
use fuser::ReplyData;
use fuser::ReplyDirectory;
use fuser::ReplyDirectoryPlus;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyIoctl;
use fuser::ReplyLseek;
use fuser::ReplyOpen;
use fuser::ReplyStatfs;
use fuser::ReplyWrite;
use fuser::ReplyXattr;
use fuser::Request;
use fuser::TimeOrNow;
use fuser::WriteFlags;

use super::Config;
use super::SETTLE;
use super::convert;
use super::readers::Readers;
use super::refresh::Refresher;
use crate::path::BadName;
use crate::path::Name;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::S_IFMT;
use crate::sys::attr::S_ISGID;
use crate::sys::xattr::SetMode;
use crate::union;
use crate::union::Caller;
use crate::union::Entry;
use crate::union::Error;
use crate::union::MakeKind;
use crate::union::Union;
use crate::union::Whence;
use crate::union::attr::SetAttr;
use crate::union::node::Node;
use crate::union::node::ROOT;

const NO_GENERATION: Generation = Generation(0);
const NO_HANDLE: FileHandle = FileHandle(0);

pub(super) struct Server {
    union: Arc<Union>,
    config: Config,
    readers: Readers,
    notifier: Arc<OnceLock<Notifier>>,
    refresher: Arc<Refresher>,
    /// The kernel does not tell when files are opened and closed: it was answered `ENOSYS`.
    unopened: bool,
}

impl Server {
    /// `notifier` is filled in once the session is there.
    pub(super) fn new(union: Arc<Union>, config: Config, notifier: Arc<OnceLock<Notifier>>) -> Self {
        Self { union, config, readers: Readers::default(), notifier, refresher: Arc::default(), unopened: false }
    }

    pub(super) fn refresher(&self) -> Arc<Refresher> {
        self.refresher.clone()
    }

    /// What the kernel may keep of an opened file: everything, as it changes only through this mount and the kernel sees those
    /// changes itself; nothing, where layers may be changed from outside.
    fn kept(&self, flags: FopenFlags) -> FopenFlags {
        if self.union.manners().unsteady { FopenFlags::empty() } else { flags }
    }

    /// Runs one request. A panic in it (a bug) answers that request: the reply, dropped unsent, sends `EIO`, and the thread
    /// lives on.
    fn guard(&self, op: &'static str, body: impl FnOnce()) {
        if std::panic::catch_unwind(AssertUnwindSafe(body)).is_err() {
            log::error!("{op}: panicked; answered EIO");
        }
    }

    fn ttl(&self) -> &Duration {
        &self.config.timeout
    }

    fn node(&self, ino: INodeNo) -> union::Result<Arc<Node>> {
        self.union.node(ino.0)
    }

    fn entry(&self, op: &'static str, result: union::Result<Entry>, reply: ReplyEntry) {
        match result {
            Ok(entry) => reply.entry(self.ttl(), &convert::attr(&entry.attr), NO_GENERATION),
            Err(e) => reply.error(errno(op, &e)),
        }
    }

    fn open_file(&self, node: &Arc<Node>, write: bool, truncate: bool, flags: OpenFlags) -> union::Result<()> {
        self.union.open(node, write, truncate)?;
        // The kernel does not know which files of a FUSE mount are append-only, so it lets every open through.
        if write && flags.0 & O_APPEND == 0 && self.union.is_append_only(node) {
            self.union.release(node);
            return Err(Error::Refused(Errno::PERM));
        }
        Ok(())
    }

    fn make(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        kind: MakeKind<'_>,
        mode: u32,
        umask: u32,
        open: bool,
    ) -> union::Result<Entry> {
        let caller = Caller { uid: req.uid(), gid: req.gid(), umask };
        self.union.make(&self.node(parent)?, checked(name)?, kind, mode & !S_IFMT, caller, open)
    }
}

/// A name out of a request.
fn checked(name: &OsStr) -> union::Result<Name<'_>> {
    Name::new(name.as_bytes()).map_err(|e| match e {
        BadName::TooLong => Error::Refused(Errno::NAMETOOLONG),
        _ => Error::Refused(Errno::INVAL),
    })
}

/// The error number of a failed operation; faults of what lies below are logged.
fn errno(op: &'static str, e: &Error) -> fuser::Errno {
    if e.is_fault() {
        log::warn!("{op}: {e}");
    }
    fuser::Errno::from_i32(e.errno().raw_os_error())
}

fn empty(op: &'static str, result: union::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(op, &e)),
    }
}

/// Answers one of the calls that ask for a size first and for the bytes then.
fn sized(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match (size, u32::try_from(bytes.len())) {
        (0, Ok(len)) => reply.size(len),
        (_, Ok(len)) if len <= size => reply.data(bytes),
        _ => reply.error(fuser::Errno::ERANGE),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HAS_IOCTL_DIR
            // Set-id bits and capabilities are dropped here: else the kernel asks for capabilities before every single write.
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        if self.union.manners().unsteady {
            // Data is read again when size or time of a file are not as before.
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
            wanted &= !InitFlags::FUSE_CACHE_SYMLINKS;
        }
        if self.config.acl {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        if let Some(capacity) = self.config.unopened
            && !self.union.manners().unsteady
            && config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT)
        {
            // Who is not told of an opening cannot cut the file: the kernel sends that as a change of size.
            wanted &= !InitFlags::FUSE_ATOMIC_O_TRUNC;
            self.union.stop_counting_handles(capacity);
            self.unopened = true;
        }
        // Old kernels offer less; nothing here depends on any of it.
        let offered = wanted & config.capabilities();
        if let Err(refused) = config.add_capabilities(offered) {
            log::warn!("the kernel took back {refused:?}");
        }
        if let Err(nearest) = config.set_max_write(self.config.max_write) {
            let _ = config.set_max_write(nearest);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard("lookup", || {
            let found = self.node(parent).and_then(|parent| self.union.lookup(&parent, checked(name)?));
            match found {
                Ok(Some(entry)) => reply.entry(self.ttl(), &convert::attr(&entry.attr), NO_GENERATION),
                Ok(None) => reply.entry(self.ttl(), &convert::absent(), NO_GENERATION),
                Err(e) => reply.error(errno("lookup", &e)),
            }
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.guard("forget", || self.union.forget(ino.0, count));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.guard("getattr", || match self.node(ino).and_then(|node| self.union.getattr(&node)) {
            Ok(stat) => reply.attr(self.ttl(), &convert::attr(&stat)),
            Err(e) => reply.error(errno("getattr", &e)),
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(convert::set_time), mtime.map(convert::set_time));
        let change = SetAttr { mode: mode.map(|m| m & !S_IFMT), uid, gid, size, atime, mtime };
        let set = || {
            let node = self.node(ino)?;
            if size.is_some() {
                self.changed_by(req, &node)?;
            }
            self.union.setattr(&node, &change)
        };
        self.guard("setattr", || match set() {
            Ok(stat) => reply.attr(self.ttl(), &convert::attr(&stat)),
            Err(e) => reply.error(errno("setattr", &e)),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.guard("readlink", || match self.node(ino).and_then(|node| self.union.readlink(&node)) {
            Ok(text) => reply.data(&text),
            Err(e) => reply.error(errno("readlink", &e)),
        });
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        self.guard("mknod", || {
            let kind = Kind::of_mode(mode).unwrap_or(Kind::File);
            let kind = MakeKind::Node(kind, convert::device_of(rdev));
            self.entry("mknod", self.make(req, parent, name, kind, mode, umask, false), reply);
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.guard("mkdir", || {
            self.entry("mkdir", self.make(req, parent, name, MakeKind::Dir, mode, umask, false), reply);
        });
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.guard("symlink", || {
            let kind = MakeKind::Symlink(target.as_os_str().as_bytes());
            self.entry("symlink", self.make(req, parent, name, kind, 0o777, 0, false), reply);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard("unlink", || {
            empty("unlink", self.node(parent).and_then(|p| self.union.unlink(&p, checked(name)?)), reply);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard("rmdir", || {
            empty("rmdir", self.node(parent).and_then(|p| self.union.rmdir(&p, checked(name)?)), reply);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.guard("rename", || {
            let known = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
            // As the kernel's overlayfs: a whiteout made by a user would be a deletion.
            if !(flags & !known).is_empty() {
                return reply.error(fuser::Errno::EINVAL);
            }
            let flags = union::RenameFlags {
                no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
                exchange: flags.contains(RenameFlags::RENAME_EXCHANGE),
            };
            let rename = || {
                let (old, new) = (self.node(parent)?, self.node(new_parent)?);
                self.union.rename(&old, checked(name)?, &new, checked(new_name)?, flags)
            };
            empty("rename", rename(), reply);
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard("link", || {
            let link = || self.union.link(&self.node(ino)?, &self.node(parent)?, checked(name)?);
            self.entry("link", link(), reply);
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.unopened {
            return reply.error(fuser::Errno::ENOSYS);
        }
        self.guard("open", || {
            let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
            let truncate = flags.0 & O_TRUNC != 0;
            let open = || {
                let node = self.node(ino)?;
                self.open_file(&node, write, truncate, flags)?;
                if truncate { self.changed_by(req, &node) } else { Ok(()) }
            };
            match open() {
                Ok(()) => reply.opened(NO_HANDLE, self.kept(FopenFlags::FOPEN_KEEP_CACHE)),
                Err(e) => reply.error(errno("open", &e)),
            }
        });
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        self.guard("create", || match self.make(req, parent, name, MakeKind::File, mode, umask, true) {
            Ok(entry) => {
                let attr = convert::attr(&entry.attr);
                reply.created(self.ttl(), &attr, NO_GENERATION, NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(e) => reply.error(errno("create", &e)),
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.guard("read", || {
            with_buffer(size as usize, |buf| {
                match self.node(ino).and_then(|node| self.union.read(&node, buf, offset)) {
                    Ok(n) => reply.data(buf.get(..n).unwrap_or_default()),
                    Err(e) => reply.error(errno("read", &e)),
                }
            });
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        opened: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || {
            let node = self.node(ino)?;
            if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                self.drop_set_id(&node)?;
            }
            if self.unopened {
                self.union.write_unopened(&node, data, offset, opened.0 & O_APPEND != 0)
            } else {
                self.union.write(&node, data, offset)
            }
        };
        self.guard("write", || match write() {
            Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
            Err(e) => reply.error(errno("write", &e)),
        });
    }

    /// Writes are passed on at once, so there is nothing to flush; after this answer the kernel asks no more.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.guard("release", || {
            if let Ok(node) = self.node(ino) {
                self.union.release(&node);
            }
            reply.ok();
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.guard("fsync", || {
            if self.union.never_syncs() {
                // The kernel asks no more then.
                return reply.error(fuser::Errno::ENOSYS);
            }
            empty("fsync", self.node(ino).and_then(|node| self.union.fsync(&node, datasync)), reply);
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.guard("opendir", || match self.node(ino) {
            Ok(node) => {
                self.union.open_dir(&node);
                let (handle, alone) = self.readers.open(ino.0);
                let cache = self.kept(FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
                reply.opened(handle, if alone { cache } else { FopenFlags::empty() });
            }
            Err(e) => reply.error(errno("opendir", &e)),
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.guard("readdir", || {
            let mut list = || {
                let node = self.node(ino)?;
                let listing = self.union.list(&node, offset)?;
                for (at, name, number) in dots(&node, offset) {
                    if reply.add(INodeNo(number), at, fuser::FileType::Directory, name) {
                        return Ok(());
                    }
                }
                for item in self.readers.rest(fh, &listing, offset) {
                    let name = OsStr::from_bytes(item.name.as_bytes());
                    if reply.add(INodeNo(item.ino), item.cookie, convert::kind(item.kind), name) {
                        break;
                    }
                }
                Ok(())
            };
            match list() {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(errno("readdir", &e)),
            }
        });
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.guard("readdirplus", || match self.list_plus(ino, fh, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno("readdirplus", &e)),
        });
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.guard("releasedir", || {
            self.readers.close(fh);
            if let Ok(node) = self.node(ino) {
                self.union.close_dir(&node);
            }
            reply.ok();
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.guard("fsyncdir", || {
            if self.union.never_syncs() {
                return reply.error(fuser::Errno::ENOSYS);
            }
            empty("fsyncdir", self.node(ino).and_then(|node| self.union.fsync(&node, datasync)), reply);
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.guard("statfs", || match self.union.statfs() {
            Ok(s) => {
                let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                let (bsize, frsize) = (narrow(s.bsize), narrow(s.frsize));
                reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, bsize, narrow(s.namelen.min(255)), frsize);
            }
            Err(e) => reply.error(errno("statfs", &e)),
        });
    }

    fn setxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        self.guard("setxattr", || {
            if !self.config.xattrs {
                return reply.error(fuser::Errno::ENOSYS);
            }
            if name.as_bytes() == SETTLE && ino.0 == ROOT {
                return empty("settle", self.union.settle(), reply);
            }
            let mode = match flags {
                XATTR_CREATE => SetMode::Create,
                XATTR_REPLACE => SetMode::Replace,
                _ => SetMode::Any,
            };
            let set = || self.union.setxattr(&self.node(ino)?, name.as_bytes(), value, mode);
            empty("setxattr", set(), reply);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.guard("getxattr", || {
            if !self.config.xattrs {
                return reply.error(fuser::Errno::ENOSYS);
            }
            match self.node(ino).and_then(|node| self.union.getxattr(&node, name.as_bytes())) {
                Ok(Some(value)) => sized(&value, size, reply),
                Ok(None) => reply.error(fuser::Errno::ENODATA),
                Err(e) => reply.error(errno("getxattr", &e)),
            }
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.guard("listxattr", || {
            if !self.config.xattrs {
                return reply.error(fuser::Errno::ENOSYS);
            }
            match self.node(ino).and_then(|node| self.union.listxattr(&node)) {
                Ok(names) => {
                    let bytes: Vec<u8> = names.iter().flat_map(|n| n.iter().copied().chain([0])).collect();
                    sized(&bytes, size, reply);
                }
                Err(e) => reply.error(errno("listxattr", &e)),
            }
        });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard("removexattr", || {
            if !self.config.xattrs {
                return reply.error(fuser::Errno::ENOSYS);
            }
            let remove = || self.union.removexattr(&self.node(ino)?, name.as_bytes());
            empty("removexattr", remove(), reply);
        });
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: fuser::IoctlFlags,
        number: u32,
        given: &[u8],
        room: u32,
        reply: ReplyIoctl,
    ) {
        self.guard("ioctl", || {
            if number == crate::sys::control::REFRESH {
                return match self.node(ino) {
                    Ok(node) => self.refresher.start(&self.union, node, request, reply),
                    Err(e) => reply.error(errno("refresh", &e)),
                };
            }
            match self.node(ino).and_then(|node| super::ioctl::answer(&self.union, &node, number, given, room)) {
                Ok(bytes) => reply.ioctl(0, &bytes),
                Err(e) => reply.error(errno("ioctl", &e)),
            }
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.guard("fallocate", || {
            let mode = u32::try_from(mode).unwrap_or(u32::MAX);
            let allocate = || {
                let node = self.node(ino)?;
                self.changed_by(req, &node)?;
                self.union.fallocate(&node, mode, offset, length)
            };
            empty("fallocate", allocate(), reply);
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.guard("lseek", || {
            let (Ok(at), Some(whence)) = (u64::try_from(offset), whence_of(whence)) else {
                return reply.error(fuser::Errno::EINVAL);
            };
            match self.node(ino).and_then(|node| self.union.seek(&node, at, whence)) {
                Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
                Err(e) => reply.error(errno("lseek", &e)),
            }
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        from: INodeNo,
        _: FileHandle,
        from_at: u64,
        to: INodeNo,
        _: FileHandle,
        to_at: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.guard("copy_file_range", || {
            let copy = || {
                let to = self.node(to)?;
                self.changed_by(req, &to)?;
                self.union.copy_range(&self.node(from)?, from_at, &to, to_at, len)
            };
            match copy() {
                Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
                Err(e) => reply.error(errno("copy_file_range", &e)),
            }
        });
    }
}

impl Server {
    /// The data of a file is changed by a request that does not say whether set-id bits stay: only root's changes keep them.
    fn changed_by(&self, req: &Request, node: &Arc<Node>) -> union::Result<()> {
        if req.uid() == 0 { Ok(()) } else { self.drop_set_id(node) }
    }

    /// Clears the set-id bits of a file that somebody without privilege changes; capabilities go with the change itself, on the
    /// upper filesystem. The kernel leaves this to us and goes on believing in the mode that it knows: so it is told, before the
    /// request is answered.
    fn drop_set_id(&self, node: &Arc<Node>) -> union::Result<()> {
        if node.kind != Kind::File {
            return Ok(());
        }
        let mode = self.union.getattr(node)?.mode & PERM_MASK;
        // Without the right to execute, the set-group-id bit is a mark of mandatory locking, and stays.
        let dropped = S_ISUID | if mode & S_IXGRP != 0 { S_ISGID } else { 0 };
        if mode & dropped == 0 {
            return Ok(());
        }
        self.union.setattr(node, &SetAttr { mode: Some(mode & !dropped), ..SetAttr::default() })?;
        // A negative offset: attributes only, no data, so that no lock of the file is taken.
        if let Some(Err(e)) = self.notifier.get().map(|n| n.inval_inode(INodeNo(node.ino), -1, 0)) {
            log::warn!("the kernel could not be told of a changed mode: {e}");
        }
        Ok(())
    }

    /// Fills a listing whose entries are looked up, too. An entry that does not fit gives its reference back; `.` and `..` take
    /// none.
    fn list_plus(
        &self,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> union::Result<()> {
        let node = self.node(ino)?;
        let listing = self.union.list(&node, offset)?;
        let nothing = convert::absent();
        for (at, name, number) in dots(&node, offset) {
            let attr = fuser::FileAttr { kind: fuser::FileType::Directory, ..nothing };
            if reply.add(INodeNo(number), at, name, self.ttl(), &attr, NO_GENERATION) {
                return Ok(());
            }
        }
        for item in self.readers.rest(fh, &listing, offset) {
            let name = OsStr::from_bytes(item.name.as_bytes());
            // A name that went since it was listed, or cannot be read now, is listed without attributes: the kernel asks.
            let entry = self.union.lookup(&node, item.name.as_name()).ok().flatten();
            let attr = match &entry {
                Some(entry) => convert::attr(&entry.attr),
                None => fuser::FileAttr { kind: convert::kind(item.kind), ..nothing },
            };
            let number = entry.as_ref().map_or(item.ino, |e| e.attr.ino);
            if reply.add(INodeNo(number), item.cookie, name, self.ttl(), &attr, NO_GENERATION) {
                if let Some(entry) = entry {
                    self.union.forget(entry.node.ino, 1);
                }
                break;
            }
        }
        Ok(())
    }
}

/// `.` and `..` as far as they come behind `offset`: cookie, name, number.
fn dots(node: &Node, offset: u64) -> impl Iterator<Item = (u64, &'static str, u64)> {
    [(1, ".", node.ino), (2, "..", node.parent_ino())].into_iter().filter(move |(at, ..)| *at > offset)
}

fn whence_of(whence: i32) -> Option<Whence> {
    match whence {
        3 => Some(Whence::Data),
        4 => Some(Whence::Hole),
        _ => None,
    }
}

// The kernel's numbers, which the protocol carries as they are.
const O_TRUNC: i32 = 0o1000;
const S_ISUID: u32 = 0o4000;
const S_IXGRP: u32 = 0o010;
const O_APPEND: i32 = 0o2000;
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;

/// Lends this thread's read buffer: it grows to the largest request once and is reused.
fn with_buffer(size: usize, body: impl FnOnce(&mut [u8])) {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BUFFER.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        body(buffer.get_mut(..size).unwrap_or_default());
    });
}
