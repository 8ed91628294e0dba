//! Carries out a [`Plan`].

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::acl;
use super::copy_up::Source;
use super::error::Error;
use super::error::Result;
use super::plan::At;
use super::plan::Plan;
use super::plan::Step;
use super::plan::What;
use super::work::Upper;
use crate::layer::ObjectId;
use crate::layer::handle::DirHandle;
use crate::layer::handle::Probe;
use crate::layer::marks;
use crate::layer::marks::AufsName;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::sys::name::RenameMode;
use crate::sys::xattr::SetMode;

/// A name in an upper directory.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub dir: Arc<DirHandle>,
    pub name: NameBuf,
}

impl Site {
    pub(super) fn new(dir: &Arc<DirHandle>, name: Name<'_>) -> Self {
        Self { dir: dir.clone(), name: name.to_buf() }
    }
}

/// Owner and mode of what is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Dress {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// The default ACL of the directory it will lie in.
    pub acl: Option<Vec<u8>>,
}

/// What a plan made.
pub(super) struct Made {
    /// A file is open for reading and writing, anything else as `O_PATH`.
    pub fd: OwnedFd,
    /// Its identity, where a copy was made.
    pub id: Option<ObjectId>,
}

/// Everything that the steps of one plan act on.
pub(super) struct Exec<'a> {
    pub upper: &'a Upper,
    pub old: Option<Site>,
    pub new: Option<Site>,
    /// Text of a new symlink.
    pub symlink: &'a [u8],
    /// Owner and mode of what is made.
    pub dress: Dress,
    /// What a copy-up copies.
    pub source: Option<&'a Source<'a>>,
    /// What gets one more name.
    pub held: Option<&'a OwnedFd>,
    /// What a redirect says, per place: old, new.
    pub redirects: [Option<Vec<u8>>; 2],
    work: [Option<NameBuf>; 2],
    /// The last object made: for a file open for reading and writing, for anything else as `O_PATH`.
    made: Option<OwnedFd>,
    /// Its identity, as far as it was asked for before the commit.
    id: Option<ObjectId>,
    what: Option<What>,
}

impl<'a> Exec<'a> {
    pub(super) fn new(upper: &'a Upper, old: Option<Site>, new: Option<Site>) -> Self {
        Self {
            upper,
            old,
            new,
            symlink: b"",
            dress: Dress::default(),
            source: None,
            held: None,
            redirects: [None, None],
            work: [None, None],
            made: None,
            id: None,
            what: None,
        }
    }

    /// Runs the plan and returns the last object that it made, open.
    ///
    /// # Errors
    /// The error of the step that failed; the commit was not reached then, and what was built in work is removed. An error behind
    /// the commit is logged: the operation has happened, and what is left lies in work, or hides nothing.
    pub(super) fn run(mut self, plan: &Plan) -> Result<Option<Made>> {
        for (i, step) in plan.steps.iter().enumerate() {
            match self.step(*step) {
                Ok(()) => {}
                Err(e) if i > plan.commit => log::warn!("after the commit of {plan:?}: {e}"),
                Err(e) => {
                    self.clean_work();
                    return Err(e);
                }
            }
        }
        Ok(self.made.map(|fd| Made { fd, id: self.id }))
    }

    fn clean_work(&mut self) {
        for name in self.work.iter().flatten() {
            if let Err(e) = sys::name::remove_all(&*self.upper.work, name.as_name()) {
                log::warn!("left {name} in the work directory: {e}");
            }
        }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Make(at, what) => self.make(at, what),
            Step::Link(at) => {
                let held = self.held.ok_or_else(misplaced)?;
                let (dir, name) = self.at(at)?;
                Ok(sys::name::link_fd(held, &*dir, name.as_name())?)
            }
            Step::Dress => self.put_on(),
            Step::Fill => {
                let (Some(source), Some(made)) = (self.source, &self.made) else { return Err(misplaced()) };
                let own = sys::attr::fstat(made)?;
                self.id = Some(ObjectId { dev: own.dev, ino: own.ino });
                source.fill(made, &own, self.upper).map(drop)
            }
            Step::Opaque(at) => self.mark_opaque(at),
            Step::Empty(at) => {
                let (dir, name) = self.at(at)?;
                Ok(sys::name::clear(sys::open::dir_at(&*dir, name.as_name())?)?)
            }
            Step::Redirect(at) => self.redirect(at),
            Step::Rename(from, to, mode) => {
                let (a, b) = (self.at(from)?, self.at(to)?);
                rename((&a.0, a.1.as_name()), (&b.0, b.1.as_name()), mode)
            }
            Step::Unlink(at) => {
                let (dir, name) = self.at(at)?;
                match sys::name::unlink(&*dir, name.as_name()) {
                    Err(e) if e.errno() == Errno::NOENT && matches!(at, At::OldMark | At::NewMark) => Ok(()),
                    other => Ok(other?),
                }
            }
            Step::Rmdir(at) => {
                let (dir, name) = self.at(at)?;
                Ok(sys::name::rmdir(&*dir, name.as_name())?)
            }
            Step::Discard(at) => {
                let (dir, name) = self.at(at)?;
                Ok(sys::name::remove_all(&*dir, name.as_name())?)
            }
        }
    }

    fn at(&mut self, at: At) -> Result<(Arc<OwnedFd>, NameBuf)> {
        let mark = |site: &Site| AufsName::whiteout_of(site.name.as_name()).ok_or(Error::Refused(Errno::NAMETOOLONG));
        let (old, new) = (self.old.as_ref(), self.new.as_ref());
        match at {
            At::Old => old.map(|s| Ok((s.dir.fd()?, s.name.clone()))).ok_or_else(misplaced)?,
            At::New => new.map(|s| Ok((s.dir.fd()?, s.name.clone()))).ok_or_else(misplaced)?,
            At::OldMark => old.map(|s| Ok((s.dir.fd()?, mark(s)?))).ok_or_else(misplaced)?,
            At::NewMark => new.map(|s| Ok((s.dir.fd()?, mark(s)?))).ok_or_else(misplaced)?,
            At::Work(i) => {
                let slot = self.work.get_mut(usize::from(i)).ok_or_else(misplaced)?;
                let name = match slot {
                    Some(name) => name.clone(),
                    None => slot.insert(self.upper.fresh_name()?).clone(),
                };
                Ok((self.upper.work.clone(), name))
            }
        }
    }

    fn make(&mut self, at: At, what: What) -> Result<()> {
        self.what = Some(what);
        let (dir, name) = self.at(at)?;
        let name = name.as_name();
        if matches!(at, At::New) && !matches!(what, What::Whiteout) {
            self.made = self.make_owned(&dir, name, what)?;
            return Ok(());
        }
        match what {
            What::Whiteout => return self.upper.make_whiteout(&dir, name),
            What::Mark => {
                match sys::name::mknod(&*dir, name, Kind::File, 0, 0) {
                    Err(e) if e.errno() != Errno::EXIST => return Err(e.into()),
                    _ => {}
                }
                for site in [&self.old, &self.new].into_iter().flatten() {
                    site.dir.learn(Probe::AufsNames, true);
                }
                return Ok(());
            }
            What::File => {
                self.made = Some(sys::open::create_at(&*dir, name, 0o600)?);
                return Ok(());
            }
            What::Dir => sys::name::mkdir(&*dir, name, 0o700)?,
            What::Symlink => sys::name::symlink(self.symlink, &*dir, name)?,
            What::Node(kind, rdev) => sys::name::mknod(&*dir, name, self.upper.inode_kind(kind), 0o600, rdev)?,
        }
        self.made = Some(sys::open::path_at(&*dir, name)?);
        Ok(())
    }

    /// Makes an object at its final name, complete with owner and mode in one call.
    fn make_owned(&self, dir: &OwnedFd, name: Name<'_>, what: What) -> Result<Option<OwnedFd>> {
        let mode = self.dress.mode;
        let make = || -> sys::Result<Option<OwnedFd>> {
            match what {
                What::File => return sys::open::create_at(dir, name, mode).map(Some),
                What::Dir => sys::name::mkdir(dir, name, mode)?,
                What::Symlink => sys::name::symlink(self.symlink, dir, name)?,
                What::Node(kind, rdev) => sys::name::mknod(dir, name, kind, mode, rdev)?,
                What::Whiteout | What::Mark => {}
            }
            Ok(None)
        };
        let (uid, gid) = (self.dress.uid, self.dress.gid);
        let own = (sys::process::effective_uid(), sys::process::effective_gid()) == (uid, gid);
        Ok(if own { make() } else { sys::identity::as_owner(uid, gid, make) }?)
    }

    fn put_on(&mut self) -> Result<()> {
        let Some(made) = &self.made else { return Err(misplaced()) };
        let (kind, rdev) = match self.what {
            Some(What::Node(kind, rdev)) => (kind, rdev),
            _ => (sys::attr::fstat(made)?.kind(), 0),
        };
        put_on(self.upper, &self.dress, made, kind, rdev)
    }

    fn mark_opaque(&mut self, at: At) -> Result<()> {
        let (dir, name) = self.at(at)?;
        let fd = sys::open::path_at(&*dir, name.as_name())?;
        self.set_opaque(&fd)?;
        Ok(())
    }

    fn set_opaque(&self, dir: &OwnedFd) -> Result<()> {
        if let Some(xattr) = self.upper.mark_name("opaque") {
            return Ok(sys::xattr::set(dir, &xattr, b"y", SetMode::Any)?);
        }
        let name = Name::new(marks::AUFS_OPAQUE).map_err(|_| misplaced())?;
        match sys::name::mknod(dir, name, Kind::File, 0, 0) {
            Err(e) if e.errno() != Errno::EXIST => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn redirect(&mut self, at: At) -> Result<()> {
        let (dir, name) = self.at(at)?;
        let [old, new] = &self.redirects;
        let value = if at == At::New { new } else { old };
        let (Some(value), Some(xattr)) = (value, self.upper.mark_name("redirect")) else { return Err(misplaced()) };
        let fd = sys::open::path_at(&*dir, name.as_name())?;
        Ok(sys::xattr::set(&fd, &xattr, value, SetMode::Any)?)
    }
}

/// Gives a new object, which nobody sees yet, its owner and mode, and what the default ACL of its directory asks for.
pub(super) fn put_on(upper: &Upper, dress: &Dress, made: &OwnedFd, kind: Kind, rdev: u64) -> Result<()> {
    let Dress { uid, gid, mut mode, .. } = *dress;
    if let Some(default) = dress.acl.as_ref().filter(|_| kind != Kind::Symlink) {
        if let Some((access, cut)) = acl::inherit(default, mode) {
            sys::xattr::set(made, acl::ACCESS, &access, SetMode::Any)?;
            mode = cut;
        }
        if kind == Kind::Dir {
            sys::xattr::set(made, acl::DEFAULT, default, SetMode::Any)?;
        }
    }
    let own = sys::attr::fstat(made)?;
    Ok(upper.dress(made, &Stat { uid, gid, mode: kind.mode_bits() | mode, rdev, ..Stat::default() }, &own)?)
}

/// Renames. Where the kernel or the filesystem has no `RENAME_NOREPLACE` (Linux 3.10, and many a network filesystem) the target is
/// looked at first: nothing else writes to upper, and the caller has the names locked.
///
/// # Errors
/// The kernel's; `EEXIST` when the target is there and may not be replaced.
pub(super) fn rename(from: (&OwnedFd, Name<'_>), to: (&OwnedFd, Name<'_>), mode: RenameMode) -> Result<()> {
    match sys::name::rename(from.0, from.1, to.0, to.1, mode) {
        Err(e) if mode == RenameMode::NoReplace && sys::is_unsupported(e.errno()) => {
            if sys::attr::stat_at(to.0, to.1)?.is_some() {
                return Err(Error::Refused(Errno::EXIST));
            }
            Ok(sys::name::rename(from.0, from.1, to.0, to.1, RenameMode::Replace)?)
        }
        other => Ok(other?),
    }
}

/// A plan that asks for what its executor was not given; cannot happen with the planners of [`super::plan`].
fn misplaced() -> Error {
    log::error!("a plan's step has no place to act on");
    Error::Refused(Errno::IO)
}
