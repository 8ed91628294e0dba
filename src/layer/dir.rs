//! A layer that is a directory on disk.
//!
//! It may come from anywhere: the kernel's overlayfs, fuse-overlayfs, docker's or podman's unpacker, or plain `cp`. So all
//! encodings of whiteouts and opaque marks are read here (the list is in [`super::marks`]); what mica writes is the kernel's form.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Content;
use super::Error;
use super::Item;
use super::ItemKind;
use super::Layer;
use super::Marks;
use super::Obj;
use super::Object;
use super::ObjectId;
use super::Parts;
use super::Result;
use super::Seen;
use super::handle::DirHandle;
use super::handle::FdCache;
use super::handle::Probe;
use super::handle::is_gone;
use super::marks;
use super::marks::AufsName;
use super::marks::Opaque;
use super::marks::Redirect;
use super::override_stat;
use super::parts;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// A directory on disk as a layer.
#[derive(Debug)]
pub struct DirLayer {
    path: PathBuf,
    root: Arc<DirHandle>,
}

impl DirLayer {
    /// Opens the directory `path`, following symlinks in it, as the user named it.
    ///
    /// # Errors
    /// The kernel's; `ENOTDIR` when it is no directory.
    pub fn open(path: &Path, fds: Arc<FdCache>) -> Result<Self> {
        Self::from_fd(sys::open::dir_path(path)?, path, fds)
    }

    /// Takes an open directory; `path` is shown to people only.
    ///
    /// # Errors
    /// The kernel's.
    pub fn from_fd(fd: OwnedFd, path: &Path, fds: Arc<FdCache>) -> Result<Self> {
        Ok(Self { path: path.to_owned(), root: DirHandle::root(fd, fds)? })
    }

    /// Lets files tell all their names ([`Object::names`]): the first that is asked walks the whole layer.
    #[must_use]
    pub fn with_link_index(mut self) -> Self {
        self.root = self.root.with_links(Arc::default());
        self
    }

    /// The root directory.
    pub fn handle(&self) -> &Arc<DirHandle> {
        &self.root
    }
}

impl Layer for DirLayer {
    fn root(&self) -> Result<Obj> {
        Ok(Obj::new(DirObject { handle: self.root.clone(), beside_whiteout: false }))
    }

    fn label(&self) -> String {
        self.path.display().to_string()
    }

    fn key(&self) -> String {
        // The device number changes from boot to boot; the inode of the root does not.
        format!("dir:{}", self.root.id().ino)
    }

    fn fs_stat(&self) -> Result<FsStat> {
        Ok(sys::attr::fs_stat(&*self.root.fd()?)?)
    }
}

/// What a directory on disk says about a name, in the concrete types that an upper layer needs.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Miss,
    /// The name is deleted.
    Whiteout(Form),
    /// A directory; the flag tells that an AUFS whiteout of the same name stands beside it.
    Dir(Arc<DirHandle>, Stat, bool),
    /// Anything else.
    Other(Stat),
}

/// How a whiteout is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Under the deleted name itself: a character device 0:0, or an empty file with the whiteout xattr.
    Named,
    /// As the file `.wh.NAME` beside it.
    Aufs,
}

/// Looks `name` up in one directory on disk.
///
/// # Errors
/// Every error but "no such name".
pub fn look(dir: &Arc<DirHandle>, name: Name<'_>) -> Result<Found> {
    if !matches!(AufsName::parse(name), AufsName::Plain(_)) {
        return Ok(Found::Miss);
    }
    let Some(stat) = override_stat::stat_at(dir, name)? else {
        return Ok(if aufs_whiteout(dir, name)? { Found::Whiteout(Form::Aufs) } else { Found::Miss });
    };
    if stat.is_whiteout() || is_xattr_whiteout(dir, name, &stat)? {
        return Ok(Found::Whiteout(Form::Named));
    }
    if stat.kind() != Kind::Dir {
        return Ok(Found::Other(stat));
    }
    let handle = dir.child(name, ObjectId { dev: stat.dev, ino: stat.ino });
    Ok(Found::Dir(handle, stat, aufs_whiteout(dir, name)?))
}

fn aufs_whiteout(dir: &Arc<DirHandle>, name: Name<'_>) -> Result<bool> {
    if !dir.has_aufs_names()? {
        return Ok(false);
    }
    let Some(wh) = AufsName::whiteout_of(name) else { return Ok(false) };
    Ok(sys::attr::stat_at(&*dir.fd()?, wh.as_name())?.is_some())
}

/// The kernel's whiteout since 6.7: an empty file with the `whiteout` xattr, in a directory whose `opaque` is `x`.
fn is_xattr_whiteout(dir: &Arc<DirHandle>, name: Name<'_>, stat: &Stat) -> Result<bool> {
    if stat.kind() != Kind::File || stat.size != 0 || !has_xattr_whiteouts(dir)? {
        return Ok(false);
    }
    let fd = sys::open::path_at(&*dir.fd()?, name)?;
    for xattr in [&b"trusted.overlay.whiteout"[..], b"user.overlay.whiteout"] {
        if sys::xattr::get(&fd, xattr)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_xattr_whiteouts(dir: &Arc<DirHandle>) -> Result<bool> {
    dir.remember(Probe::XattrWhiteouts, || {
        let fd = dir.fd()?;
        Ok(opaque_value(&Xattrs::of(&fd))? == Opaque::XattrWhiteouts)
    })
}

/// The marks of an object by their names: nearly always it has none at all, and one call says so of every name.
struct Xattrs<'a> {
    fd: &'a OwnedFd,
    /// `None` where they cannot be listed: then each is asked for.
    names: Option<Vec<Vec<u8>>>,
}

impl<'a> Xattrs<'a> {
    fn of(fd: &'a OwnedFd) -> Self {
        let names = sys::xattr::list(fd);
        Self { fd, names: names.inspect_err(|e| log::debug!("xattrs are asked for one by one: {e}")).ok() }
    }

    fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        match &self.names {
            Some(names) if !names.iter().any(|there| there == name) => Ok(None),
            _ => Ok(sys::xattr::get(self.fd, name)?),
        }
    }
}

fn opaque_value(xattrs: &Xattrs<'_>) -> Result<Opaque> {
    for name in marks::OPAQUE_NAMES {
        match xattrs.get(name)?.as_deref().map(Opaque::parse) {
            None | Some(Opaque::No) => {}
            Some(mark) => return Ok(mark),
        }
    }
    Ok(Opaque::No)
}

fn redirect_value(xattrs: &Xattrs<'_>) -> Result<Option<Redirect>> {
    for name in [&b"trusted.overlay.redirect"[..], b"user.overlay.redirect"] {
        if let Some(value) = xattrs.get(name)? {
            return Ok(Redirect::parse(&value));
        }
    }
    Ok(None)
}

fn impure_value(xattrs: &Xattrs<'_>) -> Result<bool> {
    for family in [marks::Family::Trusted, marks::Family::User] {
        if xattrs.get(&family.name("impure"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a directory may hold copied or moved objects, whose numbers or lower parts lie elsewhere.
///
/// # Errors
/// The kernel's.
pub fn is_impure(dir: &Arc<DirHandle>) -> Result<bool> {
    dir.remember(Probe::Impure, || {
        let fd = dir.fd()?;
        impure_value(&Xattrs::of(&fd))
    })
}

/// Notes of a directory that was just made that it holds nothing and has no marks. `acl`: it took over a default ACL.
pub fn is_new(dir: &DirHandle, acl: bool) {
    for probe in [Probe::AufsNames, Probe::XattrWhiteouts, Probe::Impure] {
        dir.learn(probe, false);
    }
    dir.learn(Probe::DefaultAcl, acl);
}

/// What the directory says about the layers below it.
///
/// # Errors
/// The kernel's.
pub fn dir_marks(dir: &Arc<DirHandle>, beside_whiteout: bool) -> Result<Marks> {
    let fd = dir.fd()?;
    let xattrs = Xattrs::of(&fd);
    let value = opaque_value(&xattrs)?;
    dir.learn(Probe::XattrWhiteouts, value == Opaque::XattrWhiteouts);
    dir.learn(Probe::Impure, impure_value(&xattrs)?);
    let mut opaque = beside_whiteout || value == Opaque::Yes;
    if !opaque && dir.has_aufs_names()? {
        for name in [marks::AUFS_OPAQUE, marks::AUFS_OPAQUE_OLD] {
            if let Ok(name) = Name::new(name) {
                opaque |= sys::attr::stat_at(&*fd, name)?.is_some();
            }
        }
    }
    let redirect = if opaque { None } else { redirect_value(&xattrs)? };
    Ok(Marks { opaque, redirect, metacopy: None })
}

/// What a file in a directory on disk says about the layers below it.
///
/// # Errors
/// The kernel's.
pub fn file_marks(dir: &Arc<DirHandle>, name: Name<'_>, stat: &Stat) -> Result<Marks> {
    FileObject::new(dir, name, stat).marks()
}

/// What a file says of content that lies below.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Nothing: it is whole.
    Whole,
    /// All but these blocks lies below; the marks are of this family.
    Below(marks::Family, Parts),
    /// Marks that nobody has defined.
    Unread,
}

fn blocks_said(xattrs: &Xattrs<'_>) -> Result<Said> {
    for family in [marks::Family::Trusted, marks::Family::User] {
        return Ok(match xattrs.get(&family.name("metacopy"))? {
            None => continue,
            Some(value) if value == parts::IN_PARTS => {
                let list = xattrs.get(&family.name(parts::MARK))?.and_then(|list| Parts::parse(&list));
                list.map_or(Said::Unread, |parts| Said::Below(family, parts))
            }
            // The kernel's: nothing, or a digest for fs-verity.
            Some(value) if matches!(value.len(), 0 | 4..) => Said::Below(family, Parts::default()),
            Some(_) => Said::Unread,
        });
    }
    Ok(Said::Whole)
}

/// [`blocks_said`] of marks that may change meanwhile: a list that is not there is looked for once more.
fn blocks_now(xattrs: &Xattrs<'_>) -> Result<Said> {
    match blocks_said(xattrs)? {
        Said::Unread => blocks_said(&Xattrs { fd: xattrs.fd, names: None }),
        said => Ok(said),
    }
}

/// Which blocks of its content an open file of upper has itself, and in which family it says so; `None` for a file that is whole.
///
/// # Errors
/// The kernel's; [`Error::Damaged`] for a mark that nobody has defined.
pub fn blocks_of(fd: &OwnedFd) -> Result<Option<(marks::Family, Parts)>> {
    match blocks_now(&Xattrs { fd, names: None })? {
        Said::Whole => Ok(None),
        Said::Below(family, parts) => Ok(Some((family, parts))),
        Said::Unread => Err(unread("a file in upper")),
    }
}

fn unread(what: &str) -> Error {
    Error::Damaged { layer: "with a metacopy".to_owned(), what: format!("the list of blocks of {what} cannot be read") }
}

/// Lists one directory on disk: objects and whiteouts, every encoding read.
///
/// # Errors
/// The kernel's, or the first of `each`.
pub fn list(dir: &Arc<DirHandle>, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
    let fd = dir.fd()?;
    let dev = dir.id().dev;
    // A file may stand for something else: see `override_stat`.
    let ask_files = has_xattr_whiteouts(dir)? || dir.overrides().is_some();
    sys::dir::for_each::<Error>(&*fd, |entry| {
        let Ok(raw) = Name::new(entry.name) else { return Ok(()) };
        let name = match AufsName::parse(raw) {
            AufsName::Plain(name) => name,
            AufsName::Whiteout(name) => return each(Item { name, what: ItemKind::Whiteout }),
            AufsName::Opaque | AufsName::Reserved => return Ok(()),
        };
        let (mut kind, mut ino) = (entry.kind, entry.ino);
        // Only these can be whiteouts, or hide their kind (filesystems that list no types).
        if matches!(kind, None | Some(Kind::Char)) || (ask_files && kind == Some(Kind::File)) {
            // A name that vanished since it was listed is not there.
            let Some(stat) = override_stat::stat_at(dir, name)? else { return Ok(()) };
            if stat.is_whiteout() || is_xattr_whiteout(dir, name, &stat)? {
                return each(Item { name, what: ItemKind::Whiteout });
            }
            (kind, ino) = (Some(stat.kind()), stat.ino);
        }
        each(Item { name, what: ItemKind::Object(ObjectId { dev, ino }, kind.unwrap_or(Kind::File)) })
    })
}

#[derive(Debug)]
struct DirObject {
    handle: Arc<DirHandle>,
    beside_whiteout: bool,
}

impl Object for DirObject {
    fn id(&self) -> ObjectId {
        self.handle.id()
    }

    fn kind(&self) -> Kind {
        Kind::Dir
    }

    fn stat(&self) -> Result<Stat> {
        Ok(override_stat::stat(self.handle.overrides(), &*self.handle.fd()?)?)
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        Ok(match look(&self.handle, name)? {
            Found::Miss => Seen::Miss,
            Found::Whiteout(_) => Seen::Whiteout,
            Found::Dir(handle, stat, beside_whiteout) => {
                Seen::Found(Obj::new(DirObject { handle, beside_whiteout }), stat)
            }
            Found::Other(stat) => Seen::Found(FileObject::new(&self.handle, name, &stat).into(), stat),
        })
    }

    fn marks(&self) -> Result<Marks> {
        dir_marks(&self.handle, self.beside_whiteout)
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        list(&self.handle, each)
    }

    fn lists_all(&self) -> Result<bool> {
        Ok(!self.handle.is_unsteady() && sys::plain_names::are_in(&*self.handle.fd()?)?)
    }

    fn open(&self) -> Result<Content> {
        Err(Error::WrongKind(Errno::ISDIR))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Error::WrongKind(Errno::INVAL))
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        get_xattr(self.handle.overrides(), &*self.handle.fd()?, name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        list_xattrs(self.handle.overrides(), &*self.handle.fd()?)
    }

    fn refresh(&self) {
        self.handle.forget_facts();
    }

    fn listable(&self) -> Result<Option<Arc<OwnedFd>>> {
        Ok(Some(Arc::new(sys::open::list_dir(&*self.handle.fd()?)?)))
    }

    fn location(&self) -> String {
        self.handle.path()
    }
}

fn get_xattr(form: Option<override_stat::Form>, fd: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let stored = form.map_or_else(|| name.to_vec(), |form| form.stored(name));
    Ok(sys::xattr::get(fd, &stored)?)
}

fn list_xattrs(form: Option<override_stat::Form>, fd: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let names = sys::xattr::list(fd)?;
    Ok(match form {
        Some(form) => names.iter().filter_map(|name| form.shown(name)).collect(),
        None => names,
    })
}

/// Anything but a directory in a directory layer. One is kept for every file that the kernel knows, so its size counts.
#[derive(Debug, Clone)]
pub(super) struct FileObject {
    parent: Arc<DirHandle>,
    name: NameBuf,
    ino: u64,
    /// The kernel's device numbers have 32 bits; one that had more would make the object stale.
    dev: u32,
    kind: Kind,
}

impl FileObject {
    fn new(parent: &Arc<DirHandle>, name: Name<'_>, stat: &Stat) -> Self {
        let dev = u32::try_from(stat.dev).unwrap_or(u32::MAX);
        Self { parent: parent.clone(), name: name.to_buf(), ino: stat.ino, dev, kind: stat.kind() }
    }

    /// The name under which it was found.
    pub(super) fn name(&self) -> &NameBuf {
        &self.name
    }

    /// The object itself, held as `O_PATH`, checked to be the one that was seen.
    fn hold(&self) -> Result<OwnedFd> {
        let fd = sys::open::path_at(&*self.parent.fd()?, self.name.as_name()).map_err(Error::from);
        let fd = match fd {
            Err(e) if is_gone(&e) => return Err(self.stale()),
            other => other?,
        };
        let stat = sys::attr::fstat(&fd)?;
        if (ObjectId { dev: stat.dev, ino: stat.ino }) != self.id() {
            return Err(self.stale());
        }
        Ok(fd)
    }

    fn stale(&self) -> Error {
        Error::Stale(self.location())
    }
}

impl Object for FileObject {
    fn id(&self) -> ObjectId {
        ObjectId { dev: self.dev.into(), ino: self.ino }
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn stat(&self) -> Result<Stat> {
        self.parent.check(self.name.as_name(), self.id())
    }

    fn lookup(&self, _: Name<'_>) -> Result<Seen> {
        Err(Error::WrongKind(Errno::NOTDIR))
    }

    fn marks(&self) -> Result<Marks> {
        // A copy of the attributes alone carries an origin, and its directory the mark that it holds such: most files need no look.
        if self.kind != Kind::File || !is_impure(&self.parent)? {
            return Ok(Marks::default());
        }
        let fd = self.hold()?;
        let xattrs = Xattrs::of(&fd);
        match blocks_now(&xattrs)? {
            Said::Below(_, parts) => {
                Ok(Marks { opaque: false, redirect: redirect_value(&xattrs)?, metacopy: Some(parts) })
            }
            Said::Whole => Ok(Marks::default()),
            Said::Unread => Err(unread(&self.location())),
        }
    }

    fn list(&self, _: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        Err(Error::WrongKind(Errno::NOTDIR))
    }

    fn open(&self) -> Result<Content> {
        if self.kind != Kind::File {
            return Err(Error::WrongKind(Errno::INVAL));
        }
        let fd = sys::open::quiet_file_at(&*self.parent.fd()?, self.name.as_name())?;
        let stat = sys::attr::fstat(&fd)?;
        if (ObjectId { dev: stat.dev, ino: stat.ino }) != self.id() {
            return Err(self.stale());
        }
        Ok(Content::whole(Arc::new(fd), stat.size))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != Kind::Symlink {
            return Err(Error::WrongKind(Errno::INVAL));
        }
        Ok(sys::name::readlink(&*self.parent.fd()?, self.name.as_name())?)
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        get_xattr(self.parent.overrides(), &self.hold()?, name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        list_xattrs(self.parent.overrides(), &self.hold()?)
    }

    fn xattr_of_open(&self, open: &Content, name: &[u8]) -> Result<Option<Vec<u8>>> {
        match open.whole_file() {
            Some(fd) => get_xattr(self.parent.overrides(), fd, name),
            None => self.xattr(name),
        }
    }

    fn xattrs_of_open(&self, open: &Content) -> Result<Vec<Vec<u8>>> {
        match open.whole_file() {
            Some(fd) => list_xattrs(self.parent.overrides(), fd),
            None => self.xattrs(),
        }
    }

    fn names(&self) -> Result<Option<Vec<RelPath>>> {
        self.parent.links().map(|links| links.names(self.id(), &self.parent.top())).transpose()
    }

    fn location(&self) -> String {
        format!("{}/{}", self.parent.path(), self.name)
    }
}

#[cfg(test)]
mod tests;
