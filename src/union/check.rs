//! What a crash, or another tool, left in an upper directory and its work directory: found, and on request repaired.
//!
//! The two directories are looked at; what only the layers below can tell is told when they are given, and not repaired. A repair
//! never changes what a mount by mica shows, nor removes anything that shows; it makes others see the same. Every repair is one
//! call, or two of which the first says what the second takes away, so it may be interrupted at any time.
//!
//! Source: kernel `overlayfs.rst` (whiteouts and opaque directories, redirect_dir, metadata only copy up, volatile mount); the aufs
//! manual (`.wh.` names).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use super::copy_up;
use super::error::Error;
use super::error::Result;
use super::volatile;
use super::work;
use crate::layer;
use crate::layer::dir;
use crate::layer::marks::AufsName;
use crate::layer::marks::Family;
use crate::layer::marks::OPAQUE_NAMES;
use crate::layer::marks::Opaque;
use crate::layer::marks::Redirect;
use crate::layer::parts;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::sys::xattr::SetMode;

mod below;
#[cfg(test)]
mod tests;

/// Something that should not be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// An entry of the work directory: an operation that never ended.
    LeftInWork,
    /// The kernel's note that the upper was in use, without syncs, when the system stopped.
    Volatile,
    /// A `.wh.NAME` beside a file NAME: the file shows, the mark says nothing.
    MarkBesideFile,
    /// A `.wh.NAME` beside a directory NAME, which makes it opaque; the kernel's overlayfs does not know that.
    MarkBesideDir,
    /// A `.wh.NAME` in an upper that else has the kernel's form, which takes it for a file.
    ForeignWhiteout,
    /// A directory both opaque and redirected: the redirect is never followed.
    OpaqueRedirect,
    /// A redirect that must not be followed: too long, or leaving the layer.
    BadRedirect,
    /// Attributes of a file whose content can lie nowhere: no layer below shows in its directory.
    NoContent,
    /// A copy of some blocks of a file whose list of blocks is missing or cannot be read.
    BadBlocks,
    /// A list of blocks on a file that is whole: a crash left it when the last block was copied.
    IdleBlocks,
    /// Attributes of a file in a directory that does not say that it holds such: a file of zeros would show.
    UnnoticedMetacopy,
    /// A whiteout in a directory below which nothing shows anyway.
    IdleWhiteout,
    /// A directory that says it holds copies and holds none; it only costs a look at each name.
    IdleImpure,
    /// A name as mica and the kernel give them in the work directory. It may be a user's.
    TempName,
    /// A whiteout over a name that the layers given do not show.
    StrayWhiteout,
    /// A redirect to a directory that the layers given do not show: the lower part of a renamed directory is lost.
    LostRedirect,
    /// A copy from a layer that is not among those given: its number is a new one.
    LostOrigin,
}

impl Problem {
    /// Whether nothing wrong shows because of it.
    pub fn is_harmless(self) -> bool {
        use Problem::*;
        matches!(self, IdleWhiteout | IdleImpure | IdleBlocks | TempName | StrayWhiteout | LostOrigin)
    }

    /// A short name for programs.
    pub fn tag(self) -> &'static str {
        match self {
            Problem::LeftInWork => "left-in-work",
            Problem::Volatile => "volatile",
            Problem::MarkBesideFile => "mark-beside-file",
            Problem::MarkBesideDir => "mark-beside-dir",
            Problem::ForeignWhiteout => "foreign-whiteout",
            Problem::OpaqueRedirect => "opaque-redirect",
            Problem::BadRedirect => "bad-redirect",
            Problem::NoContent => "no-content",
            Problem::BadBlocks => "bad-blocks",
            Problem::IdleBlocks => "idle-blocks",
            Problem::UnnoticedMetacopy => "unnoticed-metacopy",
            Problem::IdleWhiteout => "idle-whiteout",
            Problem::IdleImpure => "idle-impure",
            Problem::TempName => "temp-name",
            Problem::StrayWhiteout => "stray-whiteout",
            Problem::LostRedirect => "lost-redirect",
            Problem::LostOrigin => "lost-origin",
        }
    }

    /// What is wrong, in words.
    pub fn what(self) -> &'static str {
        match self {
            Problem::LeftInWork => "an operation that never ended left it",
            Problem::Volatile => "mounted without syncs when the system stopped: what was written last may be lost",
            Problem::MarkBesideFile => "a whiteout beside the file that it would hide",
            Problem::MarkBesideDir => "a whiteout beside a directory: opaque for mica, unknown to the kernel",
            Problem::ForeignWhiteout => "a whiteout that the kernel's overlayfs takes for a file",
            Problem::OpaqueRedirect => "opaque, and redirected: the redirect is never followed",
            Problem::BadRedirect => "a redirect that cannot be followed",
            Problem::NoContent => "only the attributes of a file, and nothing below that could hold its content",
            Problem::BadBlocks => "a part of a file, and the list that says which cannot be read",
            Problem::IdleBlocks => "a list of copied blocks on a file that is whole",
            Problem::UnnoticedMetacopy => "only the attributes of a file, in a directory that is not marked for it",
            Problem::IdleWhiteout => "a whiteout with nothing below it",
            Problem::IdleImpure => "marked to hold copies, and holds none",
            Problem::TempName => "named as what is built in the work directory",
            Problem::StrayWhiteout => "a whiteout over a name that no layer given shows",
            Problem::LostRedirect => "redirected to a directory that no layer given shows",
            Problem::LostOrigin => "copied from a layer that is not among those given",
        }
    }

    /// What a repair does, or what is to be done by hand.
    pub fn remedy(self) -> &'static str {
        match self {
            Problem::LeftInWork => "remove it; the next mount does, too",
            Problem::Volatile => "look at what was written last, then remove this note",
            Problem::MarkBesideFile | Problem::IdleWhiteout => "remove the whiteout",
            Problem::MarkBesideDir => "mark the directory opaque in the kernel's way, remove the whiteout",
            Problem::ForeignWhiteout => "replace it by a character device 0:0",
            Problem::OpaqueRedirect => "remove the redirect",
            Problem::BadRedirect => "by hand: set it to the directory's name in the layer below, or remove it",
            Problem::NoContent => "by hand: copy the file here again",
            Problem::BadBlocks => "by hand: copy the file here again; what was changed in it is lost",
            Problem::IdleBlocks => "remove the list",
            Problem::UnnoticedMetacopy => "mark the directory",
            Problem::IdleImpure => "remove the mark",
            Problem::TempName => "by hand: remove it, if it is not yours",
            Problem::StrayWhiteout => "by hand: remove it, if these are all of its layers",
            Problem::LostRedirect => "mount it with the layers it was made over",
            Problem::LostOrigin => "nothing: its inode number is a new one",
        }
    }

    /// Whether [`Problem::remedy`] is carried out by a repair.
    pub fn can_be_repaired(self) -> bool {
        use Problem::*;
        !matches!(
            self,
            Volatile | BadRedirect | NoContent | BadBlocks | TempName | StrayWhiteout | LostRedirect | LostOrigin
        )
    }
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// From the upper directory, or from the work directory where [`Problem::LeftInWork`] and [`Problem::Volatile`] lie.
    pub path: RelPath,
    /// What is wrong.
    pub problem: Problem,
    /// Whether it was repaired; the error when that was tried and failed.
    pub repaired: std::result::Result<bool, Errno>,
}

/// Looks through an upper directory and, if given, its work directory, and the layers below it, the topmost first; repairs what
/// it finds where `repair` says so.
///
/// # Errors
/// [`Error::Setup`] when a mount of mica uses the upper or the work directory; else the kernel's. What cannot be repaired is no error.
///
/// # Durability
/// Repairs are on disk when this returns.
pub fn check(upper: &Path, work: Option<&Path>, lowers: &[PathBuf], repair: bool) -> Result<Vec<Finding>> {
    let root = sys::open::dir_path(upper)?;
    let _lock = locked(&root, upper)?;
    let mut check = Check { root, repair, findings: Vec::new(), marks: Vec::new(), kernel_form: false };
    if let Some(path) = work {
        let dir = sys::open::dir_path(path)?;
        let _lock = locked(&dir, path)?;
        check.work(&dir)?;
    }
    // The flag: nothing below shows here.
    let mut stack = vec![(RelPath::root(), false)];
    while let Some((path, pure)) = stack.pop() {
        check.directory(&path, pure, &mut stack)?;
    }
    check.foreign_whiteouts()?;
    if !lowers.is_empty() {
        below::compare(&check.root, lowers, &mut check.findings)?;
    }
    check.findings.sort_by_cached_key(|finding| finding.path.to_bytes());
    Ok(check.findings)
}

/// How long a mount that was just taken away may go on using its upper: who unmounts and checks at once need not try twice.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

fn locked(dir: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let fd = sys::open::list_dir(dir)?;
    if work::lock_within(&fd, PATIENCE)? {
        return Ok(fd);
    }
    Err(Error::Setup(format!("{} is in use by a mica mount: unmount it first", path.display())))
}

/// The marks of one object, in either family.
#[derive(Debug, Default)]
struct Tags {
    opaque: bool,
    redirect: Option<Vec<u8>>,
    impure: bool,
    metacopy: bool,
    /// A list of blocks.
    list: bool,
    origin: bool,
}

impl Tags {
    fn of(fd: &OwnedFd) -> Result<Self> {
        let mut tags = Tags::default();
        for name in sys::xattr::list(fd)? {
            tags.opaque |= OPAQUE_NAMES.contains(&name.as_slice())
                && sys::xattr::get(fd, &name)?.is_some_and(|value| Opaque::parse(&value) == Opaque::Yes);
            let families = [Family::Trusted, Family::User];
            let Some(mark) = families.iter().find_map(|f| name.strip_prefix(f.prefix().as_bytes())) else { continue };
            match mark {
                b"redirect" => tags.redirect = sys::xattr::get(fd, &name)?,
                b"origin" => tags.origin = true,
                _ if mark == copy_up::ORIGIN.as_bytes() => tags.origin = true,
                _ if mark == copy_up::IMPURE.as_bytes() => tags.impure = true,
                _ if mark == copy_up::METACOPY.as_bytes() => tags.metacopy = true,
                _ if mark == parts::MARK.as_bytes() => tags.list = true,
                _ => {}
            }
        }
        Ok(tags)
    }

    /// Whether its directory must be marked as holding such.
    fn is_copy(&self) -> bool {
        self.origin || self.metacopy || self.redirect.is_some()
    }
}

struct Check {
    root: OwnedFd,
    repair: bool,
    findings: Vec<Finding>,
    /// `.wh.` files without a partner, judged when the upper's form is known.
    marks: Vec<(RelPath, NameBuf)>,
    /// A whiteout in the kernel's form, or one of its xattrs, was seen.
    kernel_form: bool,
}

impl Check {
    /// Notes a problem, and repairs it by `act` where that is wanted.
    fn found(&mut self, path: RelPath, problem: Problem, act: impl FnOnce() -> Result<()>) {
        let repaired = match self.repair && problem.can_be_repaired() {
            false => Ok(false),
            true => act().map(|()| true).map_err(|e| e.errno()),
        };
        self.findings.push(Finding { path, problem, repaired });
    }

    /// What lies in the inner folder of the work directory, which every mount empties, but for the note of a volatile mount.
    fn work(&mut self, dir: &OwnedFd) -> Result<()> {
        let path = parsed(work::INNER)?;
        let Some(inner) = descend(dir, &path)? else { return Ok(()) };
        if volatile::is_lost(&inner)? {
            self.found(parsed(b"work/incompat/volatile")?, Problem::Volatile, || Ok(()));
        }
        for entry in names(&inner)?.into_iter().filter(|name| name.as_bytes() != b"incompat") {
            self.found(path.child(entry.as_name()), Problem::LeftInWork, || {
                sys::name::remove_all(&inner, entry.as_name())?;
                Ok(sys::data::sync_dir(&inner)?)
            });
        }
        Ok(())
    }

    fn directory(&mut self, path: &RelPath, pure: bool, stack: &mut Vec<(RelPath, bool)>) -> Result<()> {
        // Somebody may remove it meanwhile: only mounts are kept out.
        let Some(dir) = descend(&self.root, path)? else { return Ok(()) };
        let tags = Tags::of(&dir)?;
        let entries = names(&dir)?;
        let opaque_file = entries.iter().any(|n| AufsName::parse(n.as_name()) == AufsName::Opaque);
        let opaque = tags.opaque || opaque_file;
        self.kernel_form |= tags.opaque || tags.impure || tags.redirect.is_some();
        if !path.is_root() {
            self.redirects(path, &dir, &tags, opaque);
        }
        let pure = opaque || (pure && tags.redirect.is_none());
        let mut copies = false;
        let mut unnoticed = Vec::new();
        for name in &entries {
            let Some(stat) = sys::attr::stat_at(&dir, name.as_name())? else { continue };
            let at = path.child(name.as_name());
            if let AufsName::Whiteout(hidden) = AufsName::parse(name.as_name()) {
                self.mark(path, &dir, name, hidden, pure)?;
                continue;
            }
            if stat.is_whiteout() {
                self.kernel_form = true;
                if pure {
                    self.found(at, Problem::IdleWhiteout, || unlinked(&dir, name.as_name()));
                }
                continue;
            }
            if is_temp_name(name.as_bytes()) {
                self.found(at.clone(), Problem::TempName, || Ok(()));
            }
            let object = sys::open::path_at(&dir, name.as_name())?;
            let tags = Tags::of(&object)?;
            self.blocks(&at, &object, &tags)?;
            copies |= tags.is_copy();
            if tags.metacopy {
                self.kernel_form = true;
                match stat.kind() == Kind::File && !(pure && tags.redirect.is_none()) {
                    true => unnoticed.push(at.clone()),
                    false => self.found(at.clone(), Problem::NoContent, || Ok(())),
                }
            }
            if stat.kind() == Kind::Dir {
                let beside = AufsName::whiteout_of(name.as_name()).is_some_and(|mark| entries.contains(&mark));
                stack.push((at, pure || beside));
            }
        }
        self.impurity(path, &dir, &tags, copies, unnoticed);
        Ok(())
    }

    /// The list of blocks of a file, and whether the file says that it has one.
    fn blocks(&mut self, path: &RelPath, object: &OwnedFd, tags: &Tags) -> Result<()> {
        if !tags.metacopy && !tags.list {
            return Ok(());
        }
        match dir::blocks_of(object) {
            Err(layer::Error::Damaged { .. }) => self.found(path.clone(), Problem::BadBlocks, || Ok(())),
            Err(e) => return Err(e.into()),
            Ok(said) if tags.list && said.as_ref().is_none_or(|(_, parts)| parts.is_empty()) => {
                let unlisted = || {
                    remove_mark(object, parts::MARK)?;
                    Ok(sys::data::sync(sys::open::reopen(object, sys::open::Access::Read)?, true)?)
                };
                self.found(path.clone(), Problem::IdleBlocks, unlisted);
            }
            Ok(_) => {}
        }
        Ok(())
    }

    fn redirects(&mut self, path: &RelPath, dir: &OwnedFd, tags: &Tags, opaque: bool) {
        match &tags.redirect {
            Some(_) if opaque => self.found(path.clone(), Problem::OpaqueRedirect, || without(dir, "redirect")),
            Some(value) if Redirect::parse(value).is_none() => {
                self.found(path.clone(), Problem::BadRedirect, || Ok(()));
            }
            _ => {}
        }
    }

    /// One `.wh.NAME`.
    fn mark(&mut self, path: &RelPath, dir: &OwnedFd, mark: &NameBuf, hidden: Name<'_>, pure: bool) -> Result<()> {
        let at = path.child(mark.as_name());
        match sys::attr::stat_at(dir, hidden)?.map(|stat: Stat| stat.kind()) {
            Some(Kind::Dir) => self.found(at, Problem::MarkBesideDir, || {
                opaque_now(&sys::open::path_at(dir, hidden)?)?;
                unlinked(dir, mark.as_name())
            }),
            Some(_) => self.found(at, Problem::MarkBesideFile, || unlinked(dir, mark.as_name())),
            None if pure => self.found(at, Problem::IdleWhiteout, || unlinked(dir, mark.as_name())),
            None => self.marks.push((path.clone(), hidden.to_buf())),
        }
        Ok(())
    }

    fn impurity(&mut self, path: &RelPath, dir: &OwnedFd, tags: &Tags, copies: bool, unnoticed: Vec<RelPath>) {
        if tags.impure && !copies {
            self.found(path.clone(), Problem::IdleImpure, || without(dir, copy_up::IMPURE));
        }
        if !tags.impure {
            for at in unnoticed {
                self.found(at, Problem::UnnoticedMetacopy, || set_mark(dir, copy_up::IMPURE));
            }
        }
    }

    /// `.wh.` files are a form of their own, right where devices cannot be made; beside the kernel's they are strangers.
    fn foreign_whiteouts(&mut self) -> Result<()> {
        for (path, hidden) in std::mem::take(&mut self.marks) {
            if !self.kernel_form {
                return Ok(());
            }
            let Some(dir) = descend(&self.root, &path)? else { continue };
            let Some(mark) = AufsName::whiteout_of(hidden.as_name()) else { continue };
            self.found(path.child(mark.as_name()), Problem::ForeignWhiteout, || {
                sys::name::mknod(&dir, hidden.as_name(), Kind::Char, 0, 0)?;
                unlinked(&dir, mark.as_name())
            });
        }
        Ok(())
    }
}

fn parsed(path: &[u8]) -> Result<RelPath> {
    RelPath::parse(path).map_err(|e| Error::Setup(e.to_string()))
}

/// The directory at a path, name by name, no symlink followed; `None` when there is none.
fn descend(root: &OwnedFd, path: &RelPath) -> Result<Option<OwnedFd>> {
    let mut at = sys::open::duplicate(root)?;
    for name in path.components() {
        match sys::open::dir_at(&at, name) {
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            next => at = next?,
        }
    }
    Ok(Some(at))
}

fn names(dir: &OwnedFd) -> Result<Vec<NameBuf>> {
    let mut names = Vec::new();
    sys::dir::for_each::<Error>(dir, |entry| {
        names.extend(NameBuf::new(entry.name));
        Ok(())
    })?;
    Ok(names)
}

fn unlinked(dir: &OwnedFd, name: Name<'_>) -> Result<()> {
    sys::name::unlink(dir, name)?;
    Ok(sys::data::sync_dir(dir)?)
}

/// Removes a mark in both families.
fn without(dir: &OwnedFd, mark: &str) -> Result<()> {
    remove_mark(dir, mark)?;
    Ok(sys::data::sync_dir(dir)?)
}

fn remove_mark(object: &OwnedFd, mark: &str) -> Result<()> {
    for family in [Family::Trusted, Family::User] {
        match sys::xattr::remove(object, &family.name(mark)) {
            Err(e) if !matches!(e.errno(), Errno::NODATA | Errno::OPNOTSUPP) => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Sets a mark in the first family that can be set here.
fn set_mark(dir: &OwnedFd, mark: &str) -> Result<()> {
    let set = |family: Family| sys::xattr::set(dir, &family.name(mark), b"y", SetMode::Any);
    set(Family::Trusted).or_else(|_| set(Family::User))?;
    Ok(sys::data::sync_dir(dir)?)
}

fn opaque_now(dir: &OwnedFd) -> Result<()> {
    set_mark(dir, "opaque")
}

/// `#`, hexadecimal digits, and in mica's a dash with more of them.
fn is_temp_name(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"#") else { return false };
    let mut parts = rest.splitn(2, |b| *b == b'-');
    let first = parts.next().unwrap_or_default();
    first.len() == 16
        && parts.next().is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_hexdigit))
        && first.iter().all(u8::is_ascii_hexdigit)
}
