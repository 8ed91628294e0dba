//! Operations on names: create, mkdir, mknod, symlink, link, unlink, rmdir.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Entry;
use super::Result;
use super::Union;
use super::acl;
use super::copy_up;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::exec::Dress;
use super::exec::Exec;
use super::exec::Site;
use super::lookup;
use super::lookup::Dirs;
use super::lookup::Target;
use super::node::Io;
use super::node::Node;
use super::node::OpenFor;
use super::node::Real;
use super::plan;
use super::plan::Observed;
use super::plan::UpperSeen;
use super::plan::What;
use crate::layer::ObjectId;
use crate::layer::dir;
use crate::layer::handle::DirHandle;
use crate::layer::handle::Probe;
use crate::layer::marks::AUFS_PREFIX;
use crate::layer::override_stat;
use crate::path::Name;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::S_ISGID;
use crate::sys::attr::S_ISUID;

/// Who asks for a new object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller {
    /// The owner of what is made.
    pub uid: u32,
    /// Its group, unless the directory hands on its own.
    pub gid: u32,
    /// The bits that are not set in the mode, unless the directory has a default ACL.
    pub umask: u32,
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub enum MakeKind<'a> {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink with this text.
    Symlink(&'a [u8]),
    /// A FIFO, socket or device with this number.
    Node(Kind, u64),
}

/// A name in a locked directory that lies in upper, and what is there.
pub(super) struct Spot {
    pub site: Site,
    pub seen: Observed,
    /// What the union shows there.
    pub target: Option<Target>,
}

impl Union {
    /// Makes something new under a name that does not show, and opens a regular file for reading and writing (a handle is
    /// counted as by [`Union::open`] when `open` is set).
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`; `EINVAL` for a name that starts with `.wh.`, which no image layer can hold; `EPERM` for a device
    /// 0:0, which is a whiteout; those of the upper filesystem.
    pub fn make(
        &self,
        parent: &Arc<Node>,
        name: Name<'_>,
        kind: MakeKind<'_>,
        mode: u32,
        caller: Caller,
        open: bool,
    ) -> Result<Entry> {
        check_new_name(name)?;
        let (what, text) = match kind {
            MakeKind::File => (What::File, &b""[..]),
            MakeKind::Dir => (What::Dir, &b""[..]),
            MakeKind::Symlink(text) => (What::Symlink, text),
            MakeKind::Node(Kind::Char, 0) => return refused(Errno::PERM),
            MakeKind::Node(Kind::File, _) => (What::File, &b""[..]),
            MakeKind::Node(kind, rdev) => (What::Node(kind, rdev), &b""[..]),
        };
        self.copy_up(parent, Copy::All)?;
        let _names = parent.names()?.write();
        let spot = self.spot(parent, name)?;
        if spot.target.is_some() {
            return refused(Errno::EXIST);
        }
        let dress = dress_for(&spot.site.dir, mode, self.stored_caller(caller), what == What::Dir)?;
        let made = self.build(&spot, what, text, &dress)?;
        let stat = match &made {
            Some(fd) => self.upper()?.stat(fd)?,
            None => override_stat::stat_at(&spot.site.dir, name)?.ok_or(Error::Refused(Errno::NOENT))?,
        };
        let id = ObjectId { dev: stat.dev, ino: stat.ino };
        let upper = match what {
            What::Dir => {
                let handle = spot.site.dir.child(name, id);
                if spot.seen == (Observed { upper: UpperSeen::Absent, below: false }) {
                    // Else it may have marks that hide what is below.
                    dir::is_new(&handle, dress.acl.is_some());
                }
                lookup::InUpper::Dir(handle)
            }
            _ => lookup::InUpper::New,
        };
        changed(parent);
        // Nothing lies below what was just made: a whiteout or an opaque mark saw to that.
        let entry = self.intern(parent, name, Target { stat, upper: Some(upper), lowers: Vec::new() })?;
        entry.node.mark_fresh();
        if let (What::File, Ok(ticket)) = (what, entry.node.no_caps.ask()) {
            // Nobody knows it yet, so nobody has given it any.
            entry.node.no_caps.note(ticket);
        }
        let file = made.filter(|_| what == What::File && open);
        if let Some(fd) = file {
            if !self.files.are_uncounted() {
                entry.node.body.write().change(|rare| rare.opens += 1);
            }
            self.keep_open(&entry.node, Io::Upper(Arc::new(fd), OpenFor::Writing));
        }
        Ok(entry)
    }

    /// Builds in place where that is complete in one call, else in work.
    fn build(&self, spot: &Spot, what: What, text: &[u8], dress: &Dress) -> Result<Option<OwnedFd>> {
        let upper = self.upper()?;
        let run = |direct| {
            let mut exec = Exec::new(upper, None, Some(spot.site.clone()));
            exec.symlink = text;
            exec.dress = dress.clone();
            exec.run(&plan::create(spot.seen, what, direct, upper.abilities))
        };
        let made = match run(!upper.keeps_apart()) {
            // The owner may lack a right on the upper filesystem that the mount itself has.
            Err(e) if matches!(e.errno(), Errno::ACCESS | Errno::PERM) => run(false),
            other => other,
        };
        Ok(made?.map(|made| made.fd))
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a directory; those of the copy-up and of upper.
    pub fn link(&self, node: &Arc<Node>, parent: &Arc<Node>, name: Name<'_>) -> Result<Entry> {
        check_new_name(name)?;
        if node.kind == Kind::Dir {
            return refused(Errno::PERM);
        }
        self.copy_up(node, Copy::All)?;
        self.copy_up(parent, Copy::All)?;
        let _names = parent.names()?.write();
        let spot = self.spot(parent, name)?;
        if spot.target.is_some() {
            return refused(Errno::EXIST);
        }
        let upper = self.upper()?;
        let fd = self.hold(node)?;
        if self.has_origin(node) {
            copy_up::set_impure(&spot.site.dir, upper)?;
        }
        self.link_to(&fd, &spot)?;
        changed(parent);
        let stat = self.upper()?.stat(&fd)?;
        {
            let mut body = node.body.write();
            node.mark_fresh();
            if body.place.is_none() {
                body.place = Some((parent.clone(), name.to_buf()));
                if let Real::Upper { held, .. } = &mut body.real {
                    *held = None;
                }
            }
        }
        self.table().refer(node);
        Ok(Entry { node: node.clone(), attr: self.show(node, stat) })
    }

    /// Gives the object of upper that is open as `fd` one more name. Not by a name that it has: somebody may move another object there
    /// at this moment.
    pub(super) fn link_to(&self, fd: &OwnedFd, spot: &Spot) -> Result<()> {
        let mut exec = Exec::new(self.upper()?, None, Some(spot.site.clone()));
        exec.held = Some(fd);
        exec.run(&plan::link(spot.seen))?;
        Ok(())
    }

    /// Removes the name of something that is no directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`; those of upper.
    pub fn unlink(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        self.remove(parent, name, false)
    }

    /// Removes a directory that is empty in the union.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`; those of upper.
    pub fn rmdir(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<()> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: &Arc<Node>, name: Name<'_>, want_dir: bool) -> Result<()> {
        let upper = self.upper()?;
        if !parent.in_upper() {
            // Looked at before the copy-up of the parent, so that a failed removal changes nothing.
            let _names = parent.names()?.read();
            let dirs = self.dirs_of(parent)?;
            removable(lookup::walk(&dirs, &self.stack().roots, name, &mut ())?, want_dir)?;
        }
        self.copy_up(parent, Copy::All)?;
        let _names = parent.names()?.write();
        let Spot { site, seen, target } = self.spot(parent, name)?;
        let target = removable(target, want_dir)?;
        let held = Held::new(self, self.intern(parent, name, target)?);
        let victim = held.node()?;
        // Nobody may make a name in a directory that is about to go.
        let inside = want_dir.then(|| victim.names()).transpose()?;
        let _inside = inside.map(|names| names.write());
        if want_dir && !self.shows_nothing(&self.dirs_of(victim)?)? {
            return refused(Errno::NOTEMPTY);
        }
        self.detach(victim)?;
        match Exec::new(upper, None, Some(site)).run(&plan::remove(seen, upper.abilities)) {
            Ok(_) => self.lost_name(victim, parent, name, seen.upper),
            Err(e) => {
                self.reattach(victim);
                return Err(e);
            }
        }
        changed(parent);
        Ok(())
    }

    /// Keeps an object of upper usable for those who have it open, before its name goes.
    pub(super) fn detach(&self, node: &Node) -> Result<()> {
        if let Some(handle) = node.dirs().and_then(|dirs| dirs.upper) {
            return Ok(handle.pin()?);
        }
        if !node.in_upper() {
            return Ok(());
        }
        let fd = self.hold(node)?;
        if let Real::Upper { held, .. } = &mut node.body.write().real {
            *held = Some(fd);
        }
        Ok(())
    }

    /// Undoes [`Union::detach`]: the name did not go after all.
    pub(super) fn reattach(&self, node: &Node) {
        let mut body = node.body.write();
        let place = body.place.clone();
        match (&mut body.real, place) {
            (Real::Dir(Dirs { upper: Some(handle), .. }), Some((parent, name))) => {
                if let Some(above) = parent.dirs().and_then(|d| d.upper) {
                    handle.moved(&above, name.as_name());
                }
            }
            (Real::Upper { held, .. }, Some(_)) => *held = None,
            _ => {}
        }
    }

    /// A name of a node is gone, at which upper had `was`.
    pub(super) fn lost_name(&self, node: &Node, parent: &Arc<Node>, name: Name<'_>, was: UpperSeen) {
        let mut body = node.body.write();
        let here = body.place.as_ref().is_some_and(|(p, n)| Arc::ptr_eq(p, parent) && n.as_name() == name);
        // In upper the filesystem counts the names; of a lower object, and of a lower name of a copied one, we do. Where the node is found says
        // nothing of that: somebody may have looked another of its names up meanwhile.
        if was != UpperSeen::File {
            body.change(|rare| rare.nlink_shift -= 1);
        }
        if here {
            body.place = None;
        }
    }

    /// Looks at a name in a locked directory that lies in upper.
    pub(super) fn spot(&self, parent: &Arc<Node>, name: Name<'_>) -> Result<Spot> {
        let dirs = self.dirs_of(parent)?;
        if super::is_removed(parent) {
            return refused(Errno::NOENT);
        }
        let handle = dirs.upper.clone().ok_or(Error::Refused(Errno::ROFS))?;
        let looked = dir::look(&handle, name)?;
        let upper = match &looked {
            dir::Found::Miss => UpperSeen::Absent,
            dir::Found::Whiteout(form) => UpperSeen::Whiteout(*form),
            dir::Found::Other(_) => UpperSeen::File,
            dir::Found::Dir(dir, _, _) => UpperSeen::Dir { empty: sys::dir::is_empty(&*dir.fd()?)? },
        };
        let below = match dirs.lowers.is_empty() {
            true => None,
            false => {
                let lowers = Dirs { upper: None, lowers: dirs.lowers.clone() };
                lookup::walk(&lowers, &self.stack().roots, name, &mut ())?
            }
        };
        let seen = Observed { upper, below: below.is_some() };
        // Where upper has nothing to say, what lies below is what shows; and below a whiteout, nothing is.
        let target = match upper {
            UpperSeen::Absent => below,
            UpperSeen::Whiteout(_) => None,
            UpperSeen::File | UpperSeen::Dir { .. } => lookup::walk_on(&dirs, &self.stack().roots, name, looked)?,
        };
        Ok(Spot { site: Site::new(&handle, name), seen, target })
    }

    fn has_origin(&self, node: &Node) -> bool {
        match &node.body.read().real {
            Real::Upper { id, .. } => self.stack().upper_ino(*id) != Some(node.ino),
            _ => false,
        }
    }
}

/// A node with the reference that an inner lookup took; gives both back, the node first.
pub(super) struct Held<'a> {
    union: &'a Union,
    node: Option<Arc<Node>>,
    ino: u64,
}

impl<'a> Held<'a> {
    pub(super) fn new(union: &'a Union, entry: Entry) -> Self {
        Self { union, ino: entry.node.ino, node: Some(entry.node) }
    }

    pub(super) fn node(&self) -> Result<&Arc<Node>> {
        self.node.as_ref().ok_or(Error::Refused(Errno::STALE))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // A node that somebody still refers to is not removed from the table.
        self.node = None;
        self.union.forget(self.ino, 1);
    }
}

/// What shows at a name, if it can be removed by this call.
fn removable(target: Option<Target>, want_dir: bool) -> Result<Target> {
    match target {
        None => refused(Errno::NOENT),
        Some(target) => match (target.kind() == Kind::Dir, want_dir) {
            (true, false) => refused(Errno::ISDIR),
            (false, true) => refused(Errno::NOTDIR),
            _ => Ok(target),
        },
    }
}

/// The names of a directory changed.
pub(super) fn changed(dir: &Node) {
    outdate_listing(dir);
    dir.is_changed();
}

/// What a directory's names stand for changed: a listing that was cached is out of date.
pub(super) fn outdate_listing(dir: &Node) {
    if let Ok(listing) = dir.listing()
        && let Some(listing) = &*listing.lock()
    {
        listing.outdate();
    }
}

/// Refuses names that an image layer cannot hold: there they are whiteouts.
pub(super) fn check_new_name(name: Name<'_>) -> Result<()> {
    if name.as_bytes().starts_with(AUFS_PREFIX) { refused(Errno::INVAL) } else { Ok(()) }
}

/// Owner and mode of something new in `parent`.
pub(super) fn dress_for(parent: &Arc<DirHandle>, mode: u32, caller: Caller, is_dir: bool) -> Result<Dress> {
    let fd = parent.fd()?;
    let stat = override_stat::stat(parent.overrides(), &fd)?;
    let default_acl =
        parent.remember(Probe::DefaultAcl, || Ok::<_, Error>(sys::xattr::get(&*fd, acl::DEFAULT)?.is_some()))?;
    let acl = if default_acl { sys::xattr::get(&*fd, acl::DEFAULT)? } else { None };
    let mode = if default_acl { mode } else { mode & !caller.umask };
    // As the kernel: a new directory takes no set-id bits but its parent's.
    let mode = mode & if is_dir { PERM_MASK & !(S_ISUID | S_ISGID) } else { PERM_MASK };
    let (gid, mode) = copy_up::inherit(&stat, caller.gid, mode, is_dir);
    Ok(Dress { uid: caller.uid, gid, mode, acl })
}

#[cfg(test)]
mod tests;
