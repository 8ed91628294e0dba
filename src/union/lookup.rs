//! The walk: one name, looked up through the stack from the top down.
//!
//! Rules (kernel `overlayfs.rst`, "Merged directories", "whiteouts and opaque directories", "redirect_dir", "metacopy"):
//! a whiteout ends the walk; anything but a directory ends it; directories gather until an opaque one, or until something
//! that is no directory lies below; a redirect changes the name for the layers below. Only the layers in which the parent
//! directory exists are asked, and an error of a layer is an error of the lookup, never a miss.

use std::cell::Cell;
use std::sync::Arc;

use super::error::Result;
use super::error::refused;
pub use super::lowers::Lowers;
use super::observe::Observer;
use super::observe::Sheet;
use super::observe::Verdict;
use crate::layer;
use crate::layer::Marks;
use crate::layer::Obj;
use crate::layer::Seen;
use crate::layer::dir;
use crate::layer::handle::DirHandle;
use crate::layer::marks::Redirect;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// An object of a lower layer and the layer's number, 0 being the top one.
#[derive(Debug, Clone)]
pub struct Lower {
    /// The layer's number from the top.
    pub layer: u16,
    /// The object.
    pub obj: Obj,
}

/// The one of several merged lower directories whose attributes show: the topmost that has any of its own.
pub(super) fn face(lowers: &[Lower]) -> Option<&Lower> {
    lowers.iter().find(|lower| !lower.obj.is_implied()).or(lowers.first())
}

/// The directories of which one directory of the union consists.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// The one in the upper directory.
    pub upper: Option<Arc<DirHandle>>,
    /// Those in the lower layers, top first; empty when the upper one is opaque.
    pub lowers: Lowers,
}

/// What a name is in the union.
#[derive(Debug)]
pub struct Target {
    /// Attributes of the topmost object.
    pub stat: Stat,
    /// The object in upper, if it has one there.
    pub upper: Option<InUpper>,
    /// The lower directories that are merged, or the lower object, or the data of a metadata-only copy.
    pub lowers: Vec<Lower>,
}

/// An object in the upper directory.
#[derive(Debug)]
pub enum InUpper {
    /// A directory.
    Dir(Arc<DirHandle>),
    /// Anything else, just made: it is a copy of nothing.
    New,
    /// Anything else; the flag tells that only its attributes are here and its data below.
    Other(bool),
}

impl Target {
    /// The type of the object.
    pub fn kind(&self) -> Kind {
        self.stat.kind()
    }
}

/// What the walk needs beside the directories: the roots of the lower layers, for absolute redirects.
#[derive(Debug, Clone)]
pub struct Roots(pub Arc<[Lower]>);

/// How many redirects one lookup follows in all; more are `ELOOP`.
const MAX_REDIRECTS: usize = 64;

/// Looks `name` up in the directory that consists of `dirs`; `None` when the union has no such name.
///
/// # Errors
/// The first error of a layer that was asked.
pub fn walk<O: Observer>(dirs: &Dirs, roots: &Roots, name: Name<'_>, observer: &mut O) -> Result<Option<Target>> {
    start(dirs, roots, name, None, observer)
}

/// [`walk`] for who has looked the name up in upper already.
///
/// # Errors
/// As [`walk`].
pub(super) fn walk_on(dirs: &Dirs, roots: &Roots, name: Name<'_>, looked: dir::Found) -> Result<Option<Target>> {
    start(dirs, roots, name, Some(looked), &mut ())
}

fn start<O: Observer>(
    dirs: &Dirs,
    roots: &Roots,
    name: Name<'_>,
    looked: Option<dir::Found>,
    observer: &mut O,
) -> Result<Option<Target>> {
    let redirects = Cell::new(0);
    Walk {
        roots,
        name: Wanted::Given(name),
        looked,
        found: None,
        decided: false,
        wants_data: false,
        redirects: &redirects,
        in_vain: 0,
        observer,
    }
    .run(dirs)
}

/// The name that a walk looks for: the one it was asked for, not copied, or that of a redirect.
#[derive(Clone)]
enum Wanted<'a> {
    Given(Name<'a>),
    Other(NameBuf),
}

impl Wanted<'_> {
    fn as_name(&self) -> Name<'_> {
        match self {
            Wanted::Given(name) => *name,
            Wanted::Other(name) => name.as_name(),
        }
    }
}

struct Walk<'a, O: Observer> {
    roots: &'a Roots,
    /// The name looked for now; a redirect changes it.
    name: Wanted<'a>,
    /// What upper has under the name, if that is known.
    looked: Option<dir::Found>,
    found: Option<Target>,
    /// Nothing below can change the answer; only an exhaustive observer still looks.
    decided: bool,
    /// What was found has only attributes: its content is to be found below.
    wants_data: bool,
    /// Redirects followed so far, by inner walks, too: hostile ones lead to each other.
    redirects: &'a Cell<usize>,
    /// How many layers did not have the name.
    in_vain: u32,
    observer: &'a mut O,
}

impl<O: Observer> Walk<'_, O> {
    fn run(mut self, dirs: &Dirs) -> Result<Option<Target>> {
        let mut lowers = dirs.lowers.clone();
        if let Some(upper) = &dirs.upper {
            match self.ask_upper(upper, !lowers.is_empty())? {
                None => {}
                Some(Redirect::Sibling(name)) => self.name = Wanted::Other(name),
                Some(Redirect::Path(path)) => lowers = self.follow_from(&path, 0)?,
            }
        }
        let mut at = 0;
        // Who wants to hear of every layer asks them all; and under another name, what is known of the first is of no use.
        let mut index = if O::EXHAUSTIVE { None } else { lowers.index() };
        let asked_before = self.in_vain;
        loop {
            if self.decided && !O::EXHAUSTIVE {
                break;
            }
            if let Some(known) = &index {
                match known.next(self.name.as_name(), at) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            let Some(lower) = lowers.get(at) else { break };
            at += 1;
            // Also below the last of these there may be a layer to which a redirect leads.
            let more_below = self.roots.0.last().is_some_and(|bottom| bottom.layer > lower.layer);
            let redirect = self.ask_lower(lower, more_below)?;
            if let Some(Redirect::Path(path)) = redirect {
                lowers = self.follow(&path, lower.layer)?;
                index = None;
                at = 0;
            }
        }
        if self.in_vain > asked_before && !O::EXHAUSTIVE {
            dirs.lowers.asked_in_vain(self.in_vain - asked_before);
        }
        if self.wants_data {
            let what = format!("the data of {} is in no layer below", self.name.as_name());
            return Err(layer::Error::Damaged { layer: "with a metacopy".to_owned(), what }.into());
        }
        Ok(self.found)
    }

    /// Asks upper; returns the redirect that the layers below are to be asked by.
    fn ask_upper(&mut self, dir: &Arc<DirHandle>, merged: bool) -> Result<Option<Redirect>> {
        let name = self.name.as_name();
        match self.looked.take().map_or_else(|| dir::look(dir, name), Ok)? {
            dir::Found::Miss => self.observer.verdict(Sheet::Upper, name, || Verdict::Miss),
            dir::Found::Whiteout(_) => {
                self.decided = true;
                self.observer.verdict(Sheet::Upper, name, || Verdict::Whiteout);
            }
            dir::Found::Other(stat) => {
                let marks = self.file_marks(dir, &stat)?;
                (self.decided, self.wants_data) = (marks.metacopy.is_none(), marks.metacopy.is_some());
                let location = || place::<O>(|| format!("{}/{name}", dir.path()));
                self.observer.verdict(Sheet::Upper, name, || Verdict::Found {
                    stat,
                    marks: marks.clone(),
                    location: location(),
                });
                self.found =
                    Some(Target { stat, upper: Some(InUpper::Other(marks.metacopy.is_some())), lowers: Vec::new() });
                return Ok(marks.redirect);
            }
            dir::Found::Dir(handle, stat, beside_whiteout) => {
                // A directory that is not merged itself may hold one that was moved here with its lower part.
                let marks = if merged || O::EXHAUSTIVE || (!self.roots.0.is_empty() && dir::is_impure(dir)?) {
                    dir::dir_marks(&handle, beside_whiteout)?
                } else {
                    Marks::default()
                };
                self.decided = marks.opaque;
                let location = place::<O>(|| handle.path());
                self.observer.verdict(Sheet::Upper, name, || Verdict::Found { stat, marks: marks.clone(), location });
                self.found = Some(Target { stat, upper: Some(InUpper::Dir(handle)), lowers: Vec::new() });
                return Ok(marks.redirect);
            }
        }
        Ok(None)
    }

    /// A copy of the attributes alone carries an origin, so its directory says that it holds such: most files need no look.
    fn file_marks(&self, dir: &Arc<DirHandle>, stat: &Stat) -> Result<Marks> {
        match stat.kind() {
            Kind::File if !self.roots.0.is_empty() => Ok(dir::file_marks(dir, self.name.as_name(), stat)?),
            _ => Ok(Marks::default()),
        }
    }

    /// The object below a copy of the attributes: its content is the file's, if it is a file at all.
    fn take_data(&mut self, sheet: Sheet, lower: &Lower, obj: Obj, stat: Stat) -> Result<Option<Redirect>> {
        self.decided = true;
        if stat.kind() != Kind::File {
            self.observer.verdict(sheet, self.name.as_name(), || Verdict::Shadowed { stat: Some(stat) });
            return Ok(None);
        }
        let marks = obj.marks()?;
        (self.decided, self.wants_data) = (marks.metacopy.is_none(), marks.metacopy.is_some());
        let said = Marks { metacopy: marks.metacopy.clone(), ..Marks::default() };
        let location = || place::<O>(|| obj.location());
        self.observer.verdict(sheet, self.name.as_name(), || Verdict::Merged {
            stat,
            marks: said,
            location: location(),
        });
        if let Some(target) = &mut self.found {
            target.lowers.push(Lower { layer: lower.layer, obj });
        }
        Ok(self.redirected(marks))
    }

    /// A redirect to a sibling is only another name; one to a path is the caller's to follow.
    fn redirected(&mut self, marks: Marks) -> Option<Redirect> {
        match marks.redirect {
            Some(Redirect::Sibling(name)) => {
                self.name = Wanted::Other(name);
                None
            }
            other => other,
        }
    }

    /// Asks one lower layer; returns the redirect that the layers below are to be asked by.
    fn ask_lower(&mut self, lower: &Lower, more_below: bool) -> Result<Option<Redirect>> {
        let sheet = Sheet::Lower(lower.layer);
        let name = self.name.clone();
        let name = name.as_name();
        let seen = match lower.obj.lookup(name) {
            Ok(seen) => seen,
            Err(e) if self.decided => {
                self.observer.verdict(sheet, name, || Verdict::Failed(e.to_string()));
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let (obj, stat) = match seen {
            Seen::Miss => {
                self.in_vain += 1;
                self.observer.verdict(sheet, name, || Verdict::Miss);
                return Ok(None);
            }
            Seen::Whiteout if self.decided => {
                self.observer.verdict(sheet, name, || Verdict::Shadowed { stat: None });
                return Ok(None);
            }
            Seen::Whiteout => {
                self.decided = true;
                self.observer.verdict(sheet, name, || Verdict::Whiteout);
                return Ok(None);
            }
            Seen::Found(obj, stat) => (obj, stat),
        };
        if self.wants_data && !self.decided {
            return self.take_data(sheet, lower, obj, stat);
        }
        let is_dir = stat.kind() == Kind::Dir;
        // A file below a directory hides everything below itself, too.
        if self.decided || (self.found.is_some() && !is_dir) {
            self.decided = true;
            self.observer.verdict(sheet, name, || Verdict::Shadowed { stat: Some(stat) });
            return Ok(None);
        }
        let may_have = is_dir || stat.kind() == Kind::File;
        let marks = if may_have && (more_below || O::EXHAUSTIVE) { obj.marks()? } else { Marks::default() };
        self.wants_data = marks.metacopy.is_some();
        self.decided = if is_dir { marks.opaque } else { marks.metacopy.is_none() };
        let first = self.found.is_none();
        self.observer.verdict(sheet, name, || {
            let (marks, location) = (marks.clone(), place::<O>(|| obj.location()));
            if first { Verdict::Found { stat, marks, location } } else { Verdict::Merged { stat, marks, location } }
        });
        let target = self.found.get_or_insert_with(|| Target { stat, upper: None, lowers: Vec::new() });
        if target.upper.is_none() && !obj.is_implied() && target.lowers.iter().all(|l| l.obj.is_implied()) {
            target.stat = stat;
        }
        target.lowers.push(Lower { layer: lower.layer, obj });
        Ok(self.redirected(marks))
    }

    fn follow(&mut self, path: &RelPath, above: u16) -> Result<Lowers> {
        self.follow_from(path, above.saturating_add(1))
    }

    /// The directories that hold the last name of `path` in the layers from number `first` on; that name becomes the one
    /// looked for.
    fn follow_from(&mut self, path: &RelPath, first: u16) -> Result<Lowers> {
        self.redirects.set(self.redirects.get() + 1);
        let Some((parents, last)) = path.split_last() else { return Ok(Lowers::default()) };
        if self.redirects.get() > MAX_REDIRECTS {
            return refused(Errno::LOOP);
        }
        let mut dirs: Lowers = self.roots.0.iter().filter(|l| l.layer >= first).cloned().collect();
        for part in parents.components() {
            let here = Dirs { upper: None, lowers: dirs };
            let inner = Walk {
                roots: self.roots,
                name: Wanted::Given(part),
                looked: None,
                found: None,
                decided: false,
                wants_data: false,
                redirects: self.redirects,
                in_vain: 0,
                observer: &mut (),
            };
            dirs = match inner.run(&here)? {
                Some(target) if target.kind() == Kind::Dir => target.lowers.into(),
                _ => Lowers::default(),
            };
        }
        self.name = Wanted::Other(last.to_buf());
        Ok(dirs)
    }
}

/// Where something lies, if the observer wants to know.
fn place<O: Observer>(find: impl FnOnce() -> String) -> String {
    if O::LOCATES { find() } else { String::new() }
}

/// The lower directories that the root of a stack is merged of: an opaque root hides the roots below it.
///
/// # Errors
/// When a root's marks cannot be read.
pub fn merged_roots(stack: &super::stack::Stack) -> Result<Lowers> {
    merge(stack.upper.as_ref().map(|upper| &upper.root), &stack.roots)
}

/// [`merged_roots`] of a stack that is not put together.
pub(super) fn merge(upper: Option<&Arc<DirHandle>>, roots: &Roots) -> Result<Lowers> {
    if let Some(upper) = upper
        && dir::dir_marks(upper, false)?.opaque
    {
        return Ok(Lowers::default());
    }
    let mut lowers = Vec::new();
    for lower in roots.0.iter() {
        lowers.push(lower.clone());
        if lower.obj.marks()?.opaque {
            break;
        }
    }
    Ok(lowers.into())
}
