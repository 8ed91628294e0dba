//! Copy-up: moving a node's object from a lower layer into upper before its first change.
//!
//! The parents first, from the top down; then the object itself: built in work, with data, owner, mode, xattrs and times, synced
//! unless the mount is volatile, and published by one rename. The node stays the same node, and its number the same number: the
//! copy notes where it came from. Only the node's own lock is held while data is copied.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use super::Union;
use super::error::Error;
use super::error::refused;
use super::exec;
use super::exec::Exec;
use super::exec::Site;
use super::inode_flags;
use super::lookup::Dirs;
use super::lookup::Lower;
use super::lookup::face;
use super::node::Io;
use super::node::Node;
use super::node::OpenFor;
use super::node::Rare;
use super::node::Real;
use super::plan;
use super::plan::What;
use super::work::Upper;
use super::xattr;
use crate::layer::Obj;
use crate::layer::ObjectId;
use crate::layer::PACK_DEV;
use crate::layer::dir;
use crate::layer::handle::DirHandle;
use crate::layer::handle::Probe;
use crate::layer::marks::Family;
use crate::layer::parts;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::S_ISGID;
use crate::sys::attr::SetTime;
use crate::sys::attr::Stat;
use crate::sys::name::RenameMode;
use crate::sys::xattr::SetMode;

/// The mark that holds a copy's origin record.
pub(super) const ORIGIN: &str = "mica.origin";
/// The record on an object of upper of what it was copied from, `LAYER KEY:NUMBER`, for explaining.
///
/// # Errors
/// The kernel's.
pub fn origin_record(object: &OwnedFd) -> Result<Option<Vec<u8>>> {
    for family in [Family::Trusted, Family::User] {
        if let Some(record) = sys::xattr::get(object, &family.name(ORIGIN))? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The mark of a directory that holds objects with an origin; the kernel's overlayfs uses the same.
pub(super) const IMPURE: &str = "impure";
/// The mark of a file that has only attributes in upper; the kernel's overlayfs uses the same.
pub(super) const METACOPY: &str = "metacopy";
/// On a mount that syncs nothing, files up to this size, in bytes, are copied whole: reading the mark at every later lookup costs more
/// than their data. Elsewhere their sync costs most, so only what is empty is.
const METACOPY_MIN_VOLATILE: u64 = 16 * 1024;

/// The xattr that holds a file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// How much data a copy-up must copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// All of it.
    All,
    /// None where the mount allows that: only the attributes are about to change.
    Attributes,
    /// None where the mount allows that: who writes brings each block before he does ([`Union::bring`]).
    Blocks,
    /// This many bytes at most: the file is about to be cut to that size.
    Prefix(u64),
}

impl Copy {
    /// How many bytes of the content of a file that is.
    fn bytes(self, stat: &Stat) -> u64 {
        match (stat.kind(), self) {
            (Kind::File, Copy::All) => stat.size,
            (Kind::File, Copy::Prefix(len)) => len.min(stat.size),
            _ => 0,
        }
    }
}

/// What is copied.
pub(super) struct Source<'a> {
    obj: &'a Obj,
    /// Where the content lies.
    content: &'a Obj,
    stat: Stat,
    copy: Copy,
    origin: Option<Vec<u8>>,
}

impl Source<'_> {
    /// Copies everything into `made`, a new object in work with the attributes `own`: for a file open for writing, else `O_PATH`. Tells whether the copy carries
    /// a record of its origin.
    pub(super) fn fill(&self, made: &OwnedFd, own: &Stat, upper: &Upper) -> Result<bool> {
        let s = &self.stat;
        let (mut open, mut data) = (None, false);
        match (s.kind(), self.copy) {
            (Kind::File, Copy::Attributes) => {
                sys::data::set_len(made, s.size)?;
                let mark = upper.mark_name(METACOPY).ok_or(Error::Refused(Errno::OPNOTSUPP))?;
                sys::xattr::set(made, &mark, b"", SetMode::Any)?;
                // Opened for its attributes and flags only; a pack has both in its index.
                let on_disk = self.content.id() == self.obj.id() && self.obj.id().dev != PACK_DEV;
                open = on_disk.then(|| self.content.open()).transpose()?;
            }
            (Kind::File, Copy::All | Copy::Prefix(_)) => {
                let len = if let Copy::Prefix(len) = self.copy { len } else { u64::MAX };
                let content = self.content.open()?;
                data = len.min(content.len()) > 0;
                if data {
                    content.copy_to(made, len, upper.write_back())?;
                }
                // Opened once for all that is asked of it, unless the content is another object's.
                open = Some(content).filter(|_| self.content.id() == self.obj.id());
            }
            _ => {}
        }
        upper.dress(made, s, own)?;
        xattr::copy(self.obj, open.as_ref(), made, upper)?;
        inode_flags::carry(self.obj, open.as_ref(), made)?;
        let mut recorded = false;
        if let (Some(origin), Some(name)) = (&self.origin, upper.mark_name(ORIGIN)) {
            // A filesystem may refuse user xattrs on symlinks and devices: then the number does not outlive the mount.
            match sys::xattr::set(made, &name, origin, SetMode::Any) {
                Err(e) if !matches!(e.errno(), Errno::PERM | Errno::OPNOTSUPP | Errno::NODATA) => return Err(e.into()),
                result => recorded = result.is_ok(),
            }
        }
        sys::attr::set_times(made, SetTime::At(s.atime), SetTime::At(s.mtime))?;
        // As the kernel's overlayfs: without data there is nothing that could be written after the name. Changes of attributes and
        // names reach the disk in their order.
        if data && !upper.volatile {
            sys::data::sync(made, true)?;
        }
        Ok(recorded)
    }
}

/// Notes that a directory of upper holds an object with an origin record.
pub(super) fn set_impure(dir: &Arc<DirHandle>, upper: &Upper) -> Result<()> {
    let Some(name) = upper.mark_name(IMPURE) else { return Ok(()) };
    if dir::is_impure(dir)? {
        return Ok(());
    }
    sys::xattr::set(&*dir.fd()?, &name, b"y", SetMode::Any)?;
    dir.learn(Probe::Impure, true);
    Ok(())
}

impl Union {
    /// Brings a node into upper, its ancestors first. Nothing to do when it is there.
    ///
    /// # Errors
    /// `EROFS` without an upper; errors of reading the layer and of writing upper. The node is unchanged then.
    ///
    /// # Durability
    /// Data and attributes of a file are on disk before its name is, unless the mount is volatile.
    pub(super) fn copy_up(&self, node: &Arc<Node>, copy: Copy) -> Result<()> {
        self.upper()?;
        let mut chain = Vec::new();
        let mut at = node.clone();
        while !at.in_upper() {
            let parent = at.body.read().place.as_ref().map(|(parent, _)| parent.clone());
            chain.push(at);
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for (i, node) in chain.iter().enumerate().rev() {
            self.copy_up_one(node, if i == 0 { copy } else { Copy::All })?;
        }
        if copy != Copy::Attributes && !(copy == Copy::Blocks && self.stays_in_parts(node)?) {
            self.complete(node, copy)?;
        }
        self.link_seen(node)
    }

    /// Copies the content of a file of which only the attributes were copied up, and some blocks.
    ///
    /// Until the mark goes, the content below is the file's but for these blocks: a crash leaves the file of before.
    fn complete(&self, node: &Arc<Node>, copy: Copy) -> Result<()> {
        let done = {
            let body = node.body.read();
            body.rare().data.is_none() || matches!(body.real, Real::Lower(_))
        };
        if done {
            return Ok(());
        }
        let _copying = node.copy.lock();
        let Some(lower) = node.body.read().rare().data.clone() else { return Ok(()) };
        self.copies.counted(node, Some(lower.layer), || self.copy_content(node, &lower, copy))
    }

    /// Returns how many bytes were copied.
    fn copy_content(&self, node: &Arc<Node>, lower: &Lower, copy: Copy) -> Result<u64> {
        let most = if let Copy::Prefix(len) = copy { len } else { u64::MAX };
        let (fd, bytes) = self.copy_unsynced(node, lower, most)?;
        if !self.upper()?.volatile {
            sys::data::sync(&fd, true)?;
        }
        self.say_whole(node, &fd)?;
        Ok(bytes)
    }

    /// Copies what is left below, its first `most` bytes at most, so that the file can be said to be whole once that is on disk. Returns the
    /// file, and how many bytes that were.
    pub(super) fn copy_unsynced(&self, node: &Arc<Node>, lower: &Lower, most: u64) -> Result<(OwnedFd, u64)> {
        let held = self.hold(node)?;
        let fd = sys::open::reopen(&*held, sys::open::Access::ReadWrite)?;
        let here = || node.body.read().rare().here.clone();
        if let Some(here) = here() {
            here.watch_writes();
        }
        let before = sys::attr::fstat(&fd)?;
        // A write takes the capabilities away.
        let caps = sys::xattr::get(&fd, CAPABILITY)?;
        let bytes = self.copy_rest(node, lower, (&fd, before.size), most)?;
        // Somebody else's write, to a block that is here, does so, too, and changes the time.
        if here().is_some_and(|here| here.was_written()) {
            return Ok((fd, bytes));
        }
        if let Some(caps) = caps {
            sys::xattr::set(&fd, CAPABILITY, &caps, SetMode::Any)?;
        }
        sys::attr::set_times(&fd, SetTime::At(before.atime), SetTime::At(before.mtime))?;
        Ok((fd, bytes))
    }

    /// Takes the marks away that say that content lies below: all of it is in upper, and on disk. The next sync of the file writes that, too.
    pub(super) fn say_whole(&self, node: &Node, file: &OwnedFd) -> Result<()> {
        let mut lists = Vec::new();
        for family in [Family::Trusted, Family::User] {
            let (mark, list) = (family.name(METACOPY), family.name(parts::MARK));
            if sys::xattr::get(file, &mark)?.is_some() {
                sys::xattr::remove(file, &mark)?;
            }
            lists.push(list);
        }
        node.mark_fresh();
        // Without that mark the list of blocks means nothing: what fails here only leaves a name behind.
        for list in lists {
            let there = sys::xattr::get(file, &list).is_ok_and(|list| list.is_some());
            if let Err(e) = if there { sys::xattr::remove(file, &list) } else { Ok(()) } {
                log::warn!("a list of blocks is left: {e}");
            }
        }
        let closed = node.body.write().change(Rare::all_copied);
        drop(closed);
        Ok(())
    }

    /// Whether a copy-up of a file may leave its content below.
    fn may_leave_data(&self, stat: &Stat, copy: Copy, origin: Option<&Vec<u8>>) -> bool {
        let upper = self.stack().upper.as_ref();
        let small = if upper.is_some_and(|u| u.volatile) { METACOPY_MIN_VOLATILE } else { 0 };
        let allowed = match copy {
            Copy::Attributes => self.options().metacopy && stat.size > small,
            Copy::Blocks => self.goes_in_parts(stat.size),
            Copy::All | Copy::Prefix(_) => false,
        };
        allowed && stat.kind() == Kind::File && origin.is_some() && upper.is_some_and(|u| u.abilities.marks.is_some())
    }

    fn copy_up_one(&self, node: &Arc<Node>, copy: Copy) -> Result<()> {
        let _copying = node.copy.lock();
        if node.in_upper() {
            return Ok(());
        }
        // Not in the `match` itself: its guard would be held over the whole copy-up.
        let real = node.body.read().real.clone();
        match real {
            Real::Dir(dirs) => {
                let from = face(&dirs.lowers).map(|lower| lower.layer);
                self.copies.counted(node, from, || self.copy_up_dir(node, dirs).map(|()| 0))
            }
            Real::Lower(lower) => {
                self.copies.counted(node, Some(lower.layer), || self.copy_up_file(node, &lower, copy))
            }
            Real::Upper { .. } => Ok(()),
        }
    }

    fn copy_up_dir(&self, node: &Arc<Node>, dirs: Dirs) -> Result<()> {
        let Some(lower) = face(&dirs.lowers) else { return refused(Errno::IO) };
        let obj = &lower.obj;
        let source = Source { obj, content: obj, stat: obj.stat()?, copy: Copy::All, origin: None };
        let (parent, name) = node.body.read().place.clone().ok_or(Error::Refused(Errno::NOENT))?;
        let _names = parent.names()?.write();
        let site = self.site_of(node)?.ok_or(Error::Refused(Errno::NOENT))?;
        let id = self.publish(&source, What::Dir, &parent, &site)?;
        let handle = site.dir.child(name.as_name(), id);
        {
            let mut body = node.body.write();
            body.real = Real::Dir(Dirs { upper: Some(handle), ..dirs });
        }
        node.mark_fresh();
        self.tell_aside(node.ino);
        Ok(())
    }

    /// Returns how many bytes of content were copied.
    fn copy_up_file(&self, node: &Arc<Node>, lower: &Lower, copy: Copy) -> Result<u64> {
        let stat = lower.obj.stat()?;
        let what = match stat.kind() {
            Kind::File => What::File,
            Kind::Symlink => What::Symlink,
            kind => What::Node(kind, stat.rdev),
        };
        // A file with several lower names keeps its number over a remount only if all of them move to upper with it.
        let others = if stat.nlink > 1 { lower.obj.names()? } else { Some(Vec::new()) };
        let origin = others.as_ref().and_then(|_| self.stack().origin_record(lower.layer, lower.obj.id()));
        let attributes = self.may_leave_data(&stat, copy, origin.as_ref());
        let asked = copy;
        let copy = match copy {
            Copy::Attributes | Copy::Blocks if attributes => Copy::Attributes,
            Copy::Attributes | Copy::Blocks => Copy::All,
            _ => copy,
        };
        let bytes = copy.bytes(&stat);
        // The lower file may itself be a copy of attributes, made by another union.
        let content = node.body.read().rare().data.clone().unwrap_or_else(|| lower.clone());
        let data = attributes.then(|| content.clone());
        let source = Source { obj: &lower.obj, content: &content.obj, stat, copy, origin };
        let upper = self.upper()?;
        // Data is copied with no directory locked; then the name is looked at again, which may have moved or gone.
        let mut built = Built::make(upper, &source, what)?;
        let names = others.as_ref().map(|paths| self.link_others(lower, &built, paths, node)).transpose()?;
        let place = node.body.read().place.clone();
        let Some((parent, _)) = place else {
            return self.adopt_orphan(node, &mut built, stat, data).map(|()| bytes);
        };
        let locked = parent.names()?.write();
        let Some(site) = self.site_of(node)?.filter(|_| still_there(node, &parent)) else {
            drop(locked);
            return self.adopt_orphan(node, &mut built, stat, data).map(|()| bytes);
        };
        let before = Self::before_change(&parent, &site)?;
        if built.recorded {
            set_impure(&site.dir, upper)?;
        }
        built.publish(&site)?;
        self.hide_change(&parent, &site, &before);
        self.take_over(node, built.id, None, stat, data);
        if let (What::File, false, true) = (what, attributes, upper.form().is_none()) {
            // Who copies up is about to write, or to change attributes: the copy is open for both.
            self.keep_open(node, Io::Upper(built.made.clone(), OpenFor::Writing));
        }
        if names.is_some() {
            // Every name that shows is one of the copy now, and the filesystem counts them.
            node.body.write().change(|rare| rare.nlink_shift = 0);
        }
        // Who changes attributes is answered with all of them.
        if asked != Copy::Attributes {
            self.tell_aside(node.ino);
        }
        Ok(bytes)
    }

    /// Where a node's object will lie in upper; `None` when it has no name any more.
    fn site_of(&self, node: &Node) -> Result<Option<Site>> {
        let place = node.body.read().place.clone();
        let Some((parent, name)) = place else { return Ok(None) };
        let dir = parent.dirs().and_then(|d| d.upper).ok_or(Error::Refused(Errno::STALE))?;
        Ok(Some(Site::new(&dir, name.as_name())))
    }

    /// Builds and publishes a directory under the locked names of its parent.
    fn publish(&self, source: &Source<'_>, what: What, parent: &Node, site: &Site) -> Result<ObjectId> {
        let upper = self.upper()?;
        let before = Self::before_change(parent, site)?;
        let mut exec = Exec::new(upper, None, Some(site.clone()));
        exec.source = Some(source);
        let made = exec.run(&plan::copy_up(what))?.ok_or(Error::Refused(Errno::IO))?;
        self.hide_change(parent, site, &before);
        // Known since before the commit: behind it nothing may fail.
        made.id.ok_or(Error::Refused(Errno::IO))
    }

    /// The file lost its last name while it was copied: the copy lives on without one.
    fn adopt_orphan(&self, node: &Node, built: &mut Built<'_>, stat: Stat, data: Option<Lower>) -> Result<()> {
        let fd = built.keep_without_name();
        self.take_over(node, built.id, Some(fd), stat, data);
        Ok(())
    }

    /// Makes the copy in upper the node's object, also for handles that are open.
    fn take_over(&self, node: &Node, id: ObjectId, held: Option<Arc<OwnedFd>>, lower: Stat, data: Option<Lower>) {
        self.table().note_copy(id, node.ino);
        let mut body = node.body.write();
        // The lower file's other names keep showing this node while it is known.
        body.change(|rare| {
            rare.nlink_shift += i64::from(lower.nlink) - i64::from(held.is_none());
            // The next read or write opens the copy; handles are the node's, so they all see it.
            if data.is_none() {
                rare.io.take_if(|io| matches!(io, Io::Lower(_)));
            }
            rare.data = data;
        });
        body.real = Real::Upper { id, held };
        node.mark_fresh();
    }
}

fn still_there(node: &Node, parent: &Arc<Node>) -> bool {
    node.body.read().place.as_ref().is_some_and(|(p, _)| Arc::ptr_eq(p, parent))
}

/// A copy-up must not change its parent's times: image diffs would list it.
pub(super) fn restore_times(site: &Site, times: &Stat) {
    let restored = site
        .dir
        .fd()
        .map_err(Error::from)
        .and_then(|fd| Ok(sys::attr::set_times(&*fd, SetTime::At(times.atime), SetTime::At(times.mtime))?));
    if let Err(e) = restored {
        log::warn!("the times of {} could not be restored after a copy-up: {e}", site.dir.path());
    }
}

/// A complete copy in the work directory, removed again unless it is published. A file has no name there where that is possible: nothing is
/// left behind when the process dies.
pub(super) struct Built<'a> {
    upper: &'a Upper,
    /// Its name in work, if it has one, until it is published.
    name: Option<NameBuf>,
    made: Arc<OwnedFd>,
    id: ObjectId,
    /// The copy carries a record of its origin.
    pub(super) recorded: bool,
}

impl<'a> Built<'a> {
    fn make(upper: &'a Upper, source: &Source<'_>, what: What) -> Result<Self> {
        let (made, stat, name) = match Self::begin_nameless(upper, what)? {
            Some((made, stat)) => (made, stat, None),
            None => {
                let name = upper.fresh_name()?;
                let (made, stat) = Self::begin(upper, source, what, name.as_name()).inspect_err(|_| {
                    if let Err(e) = sys::name::remove_all(&*upper.work, name.as_name()) {
                        log::warn!("left {name} in the work directory: {e}");
                    }
                })?;
                (made, stat, Some(name))
            }
        };
        let id = ObjectId { dev: stat.dev, ino: stat.ino };
        let mut built = Self { upper, name, made: Arc::new(made), id, recorded: false };
        built.recorded = source.fill(&built.made, &stat, upper)?;
        Ok(built)
    }

    /// A file without a name; `None` for anything else, and where there are none.
    fn begin_nameless(upper: &Upper, what: What) -> Result<Option<(OwnedFd, Stat)>> {
        if !matches!(what, What::File) || !upper.abilities.nameless {
            return Ok(None);
        }
        let Some(made) = sys::open::tmpfile(&*upper.work, 0o600)? else { return Ok(None) };
        let stat = sys::attr::fstat(&made)?;
        Ok(Some((made, stat)))
    }

    /// Makes the object in work, with nothing in it yet; of a failure it may be left there.
    fn begin(upper: &Upper, source: &Source<'_>, what: What, name: Name<'_>) -> Result<(OwnedFd, Stat)> {
        let work = &*upper.work;
        let made = match what {
            What::File => sys::open::create_at(work, name, 0o600)?,
            What::Symlink => {
                sys::name::symlink(&source.obj.readlink()?, work, name)?;
                sys::open::path_at(work, name)?
            }
            What::Node(kind, rdev) => {
                sys::name::mknod(work, name, upper.inode_kind(kind), 0o600, rdev)?;
                sys::open::path_at(work, name)?
            }
            What::Dir | What::Whiteout | What::Mark => return refused(Errno::INVAL),
        };
        let stat = sys::attr::fstat(&made)?;
        Ok((made, stat))
    }

    fn publish(&mut self, site: &Site) -> Result<()> {
        let dir = site.dir.fd()?;
        let to = site.name.as_name();
        match &self.name {
            Some(name) => {
                exec::rename((&*self.upper.work, name.as_name()), (&*dir, to), RenameMode::NoReplace)?;
                self.name = None;
            }
            None => sys::name::link_fd(&*self.made, &*dir, to)?,
        }
        Ok(())
    }

    /// Gives it one more name, before it is published.
    pub(super) fn link(&self, dir: &OwnedFd, name: Name<'_>) -> Result<()> {
        match &self.name {
            Some(temp) => Ok(sys::name::link(&*self.upper.work, temp.as_name(), dir, name)?),
            None => Ok(sys::name::link_fd(&*self.made, dir, name)?),
        }
    }

    fn keep_without_name(&mut self) -> Arc<OwnedFd> {
        self.remove();
        self.made.clone()
    }

    fn remove(&mut self) {
        if let Some(name) = self.name.take()
            && let Err(e) = sys::name::unlink(&*self.upper.work, name.as_name())
        {
            log::warn!("left {name} in the work directory: {e}");
        }
    }
}

impl Drop for Built<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The group and set-group-id bit that a new object takes from its parent directory.
pub(super) fn inherit(parent: &Stat, gid: u32, mode: u32, is_dir: bool) -> (u32, u32) {
    match (parent.mode & S_ISGID != 0, is_dir) {
        (false, _) => (gid, mode),
        (true, false) => (parent.gid, mode),
        (true, true) => (parent.gid, mode | S_ISGID),
    }
}

#[cfg(test)]
mod tests;
