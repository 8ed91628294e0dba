//! A stack as a tree in which every layer is seen: for each directory its entries, and for each entry what each layer has of it.
//!
//! ```text
//! Folder::root(subject) ── entries() ──▶ Entry { name, stat, versions: [Version { layer, has, state }] } ── enter() ──▶ Folder
//! ```
//! This is the ground of everything that looks at many names: `blame`, `diff`, `du`, `find`, `lint`, and a screen that shows a
//! tree. What shows is decided by the mount's own walk ([`crate::union::view::View::walk`]); beside it each layer is asked by itself
//! for what the walk rightly does not reach. A directory costs its names times the layers that have this directory (not all
//! layers), nothing is read but the indexes, and nothing is kept: a folder is made when it is looked at.

use super::Error;
use super::Result;
use super::subject::Subject;
use super::trace::Cut;
use super::trace::How;
use super::trace::into_dirs;
use crate::layer::Marks;
use crate::layer::Obj;
use crate::layer::Seen;
use crate::layer::patched;
use crate::path::Name;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;
use crate::union::lookup::Dirs;
use crate::union::lookup::Target;
use crate::union::observe::Brief;
use crate::union::observe::Sheet;
use crate::union::observe::Verdict;

/// A directory of the stack: what each layer has at its place, whether or not it shows.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: RelPath,
    /// What the union merges here; `None` where it shows no directory.
    dirs: Option<Dirs>,
    /// The layers that have a directory here, top first.
    own: Vec<Own>,
}

/// The directory of one layer.
#[derive(Debug)]
struct Own {
    layer: usize,
    obj: Obj,
    /// What hides it; `None` where it shows.
    cut: Option<Cut>,
}

/// One name in a folder.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: NameBuf,
    /// The attributes that the union shows; `None` when it does not show the name.
    pub stat: Option<Stat>,
    /// What the layers have under this name, top first; those that have nothing are left out.
    pub versions: Vec<Version>,
    target: Option<Target>,
}

/// What one layer has under a name.
#[derive(Debug)]
pub struct Version {
    /// The layer, by its position in [`Subject::layers`].
    pub layer: usize,
    /// What it has.
    pub has: Has,
    /// What becomes of it.
    pub state: State,
}

/// What a layer has under a name.
#[derive(Debug)]
pub enum Has {
    /// A whiteout: the name is deleted from the layers below.
    Whiteout,
    /// An object.
    Object {
        /// The object.
        obj: Obj,
        /// Its attributes in this layer.
        stat: Stat,
        /// Its marks.
        marks: Marks,
    },
}

/// What becomes of what a layer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is what the union shows; of a merged directory the topmost.
    Served,
    /// It is part of what the union shows: a directory that is merged, or the content of a copy of attributes alone.
    Merged,
    /// A whiteout that deletes what lies below.
    Deletes,
    /// It does not show; by what, where that is known.
    Hidden(Option<Cut>),
}

impl Version {
    /// The object, if it is one.
    pub fn object(&self) -> Option<(&Obj, &Stat)> {
        match &self.has {
            Has::Object { obj, stat, .. } => Some((obj, stat)),
            Has::Whiteout => None,
        }
    }

    /// Whether it is a part of what the union shows.
    pub fn is_shown(&self) -> bool {
        matches!(self.state, State::Served | State::Merged)
    }

    /// Bytes of content that the layer itself has: of regular files alone, and of a copy of attributes those of its blocks.
    pub fn content_size(&self) -> u64 {
        match &self.has {
            Has::Object { stat, marks, .. } if stat.kind() == Kind::File => {
                match &marks.metacopy {
                    None => stat.size,
                    Some(parts) if parts.is_empty() => 0,
                    // Its blocks, and what was written behind the end of the content below.
                    Some(_) => stat.size.min(stat.blocks * 512),
                }
            }
            _ => 0,
        }
    }
}

/// The content of the first of these versions that has any, with the blocks over it that those before it have; takes what it looked at.
pub fn next_content<'a>(versions: &mut impl Iterator<Item = &'a Version>) -> Option<Obj> {
    let mut above = Vec::new();
    for version in versions {
        match &version.has {
            Has::Object { obj, stat, marks } if stat.kind() == Kind::File => match &marks.metacopy {
                Some(parts) => above.push((obj, parts)),
                None => {
                    let over = |below, (own, parts): (&Obj, _)| patched::over(own, parts, below);
                    return Some(above.into_iter().rev().fold(obj.clone(), over));
                }
            },
            _ => {}
        }
    }
    None
}

impl Entry {
    /// The version that is served.
    pub fn served(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.state == State::Served)
    }

    /// The object with the content of the regular file that the union shows: not the copy of its attributes alone.
    pub fn content(&self) -> Option<Obj> {
        next_content(&mut self.versions.iter().filter(|version| version.is_shown()))
    }

    /// The object whose owner, mode and attributes show: of merged directories the topmost that its layer's tar lists.
    pub fn face(&self) -> Option<&Obj> {
        let shown = || self.versions.iter().filter(|version| version.is_shown()).filter_map(Version::object);
        let said = shown().find(|(obj, _)| !obj.is_implied());
        said.or_else(|| shown().next()).map(|(obj, _)| obj)
    }

    /// The layers and objects that make up what the union shows: the same twice means that the same is shown.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &Obj)> {
        let shown = self.versions.iter().filter(|version| version.is_shown());
        shown.filter_map(|version| Some((version.layer, version.object()?.0)))
    }
}

impl Folder {
    /// The root of a stack.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn root(subject: &Subject) -> Result<Self> {
        let dirs = subject.view().root().clone();
        let shown = |layer: usize| dirs.lowers.iter().any(|lower| subject.position(lower.layer) == layer);
        let last = dirs.lowers.last().map_or(0, |lower| subject.position(lower.layer));
        let mut own = Vec::new();
        for (layer, obj) in subject.roots()? {
            let is_upper = layer == 0 && dirs.upper.is_some();
            let cut = Cut { layer: last, path: RelPath::root(), how: How::Opaque };
            own.push(Own { layer, obj, cut: (!is_upper && !shown(layer)).then_some(cut) });
        }
        Ok(Self { path: RelPath::root(), dirs: Some(dirs), own })
    }

    /// The folder at `path`, symlinks not followed; `None` where no layer has a directory there.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn at(subject: &Subject, path: &RelPath) -> Result<Option<Self>> {
        let mut here = Self::root(subject)?;
        for name in path.components() {
            let Some(entry) = here.entry(subject, name)? else { return Ok(None) };
            match here.enter(entry) {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// Whether the union shows a directory here.
    pub fn is_shown(&self) -> bool {
        self.dirs.is_some()
    }

    /// The layers that have a directory here, by position, top first, each with whether it shows.
    pub fn layers(&self) -> impl Iterator<Item = (usize, bool)> {
        self.own.iter().map(|own| (own.layer, own.cut.is_none()))
    }

    /// The directory of a layer here.
    pub fn object(&self, layer: usize) -> Option<&Obj> {
        self.own.iter().find(|own| own.layer == layer).map(|own| &own.obj)
    }

    /// Every name that any layer has here, whiteouts and hidden ones too, in the order of their bytes.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn names(&self) -> Result<Vec<NameBuf>> {
        match self.names_found() {
            (names, None) => Ok(names),
            (_, Some(failed)) => Err(failed),
        }
    }

    /// As [`Folder::names`], what the layers have that can be read; with the first error of the others.
    pub fn names_found(&self) -> (Vec<NameBuf>, Option<Error>) {
        let (mut names, mut failed) = (Vec::new(), None);
        for own in &self.own {
            let listed = own.obj.list(&mut |item| {
                names.push(item.name.to_buf());
                Ok(())
            });
            failed = failed.or(listed.err().map(Error::from));
        }
        names.sort_unstable();
        names.dedup();
        (names, failed)
    }

    /// All entries, in the order of their names.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn entries(&self, subject: &Subject) -> Result<Vec<Entry>> {
        let names = self.names()?;
        let found = names.iter().map(|name| self.entry(subject, name.as_name()));
        found.filter_map(Result::transpose).collect()
    }

    /// One entry; `None` when no layer says anything about the name.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn entry(&self, subject: &Subject, name: Name<'_>) -> Result<Option<Entry>> {
        let mut brief = Brief::default();
        let target = match &self.dirs {
            Some(dirs) => subject.view().walk(dirs, name, &mut brief)?,
            None => None,
        };
        let mut versions = Vec::new();
        let mut reached = Vec::with_capacity(brief.steps.len());
        let mut decider: Option<Cut> = None;
        for (sheet, verdict) in brief.steps {
            let layer = match sheet {
                Sheet::Upper => 0,
                Sheet::Lower(number) => subject.position(number),
            };
            let cut = |how| Some(Cut { layer, path: self.path.child(name), how });
            match verdict {
                Verdict::Found { stat, marks, .. } | Verdict::Merged { stat, marks, .. } => {
                    if stat.kind() != Kind::Dir {
                        decider = cut(How::Covered);
                    } else if marks.opaque {
                        decider = cut(How::Opaque);
                    }
                    let state = if versions.iter().any(Version::is_shown) { State::Merged } else { State::Served };
                    let Some(obj) = self.shown_object(subject, target.as_ref(), layer, name)? else { continue };
                    versions.push(Version { layer, has: Has::Object { obj, stat, marks }, state });
                    reached.push(layer);
                }
                Verdict::Whiteout => {
                    decider = cut(How::Whiteout);
                    versions.push(Version { layer, has: Has::Whiteout, state: State::Deletes });
                    reached.push(layer);
                }
                // What is hidden is asked for below, by its own name; these two say that it hides others.
                Verdict::Shadowed { .. } => {
                    let first = versions.iter().find(|version| version.is_shown()).map_or(layer, |v| v.layer);
                    let covered = Cut { layer: first, path: self.path.child(name), how: How::Covered };
                    decider = decider.or(Some(covered));
                }
                Verdict::NoParent | Verdict::Miss | Verdict::Failed(_) => {}
            }
        }
        for own in self.own.iter().filter(|own| !reached.contains(&own.layer)) {
            let cut = own.cut.as_ref().or(decider.as_ref()).cloned();
            let has = match own.obj.lookup(name)? {
                Seen::Miss => continue,
                Seen::Whiteout => Has::Whiteout,
                Seen::Found(obj, stat) => {
                    let marks = obj.marks()?;
                    Has::Object { obj, stat, marks }
                }
            };
            versions.push(Version { layer: own.layer, has, state: State::Hidden(cut) });
        }
        versions.sort_by_key(|version| version.layer);
        let stat = target.as_ref().map(|target| target.stat);
        Ok((!versions.is_empty()).then(|| Entry { name: name.to_buf(), stat, versions, target }))
    }

    /// The object that the walk found in a layer: under its own name, or where a redirect led.
    fn shown_object(
        &self,
        subject: &Subject,
        target: Option<&Target>,
        layer: usize,
        name: Name<'_>,
    ) -> Result<Option<Obj>> {
        let lowers = target.iter().flat_map(|target| &target.lowers);
        let is_upper = layer == 0 && target.is_some_and(|target| target.upper.is_some());
        if let Some(lower) = lowers.into_iter().find(|l| !is_upper && subject.position(l.layer) == layer) {
            return Ok(Some(lower.obj.clone()));
        }
        match self.object(layer).map(|dir| dir.lookup(name)).transpose()? {
            Some(Seen::Found(obj, _)) => Ok(Some(obj)),
            _ => Ok(None),
        }
    }

    /// The folder that an entry is; `None` when no layer has a directory there.
    pub fn enter(&self, entry: Entry) -> Option<Self> {
        let path = self.path.child(entry.name.as_name());
        let mut own = Vec::new();
        for version in entry.versions {
            let Has::Object { obj, stat, .. } = version.has else { continue };
            if stat.kind() != Kind::Dir {
                continue;
            }
            let cut = match version.state {
                State::Hidden(cut) => {
                    Some(cut.unwrap_or_else(|| Cut { layer: version.layer, path: path.clone(), how: How::Covered }))
                }
                _ => None,
            };
            own.push(Own { layer: version.layer, obj, cut });
        }
        let dirs = entry.target.and_then(into_dirs);
        (!own.is_empty()).then_some(Self { path, dirs, own })
    }
}

/// Calls `each` for every entry at and below `at`, parents before what is in them, in the order of names; with the folder in which
/// the entry lies. Where `each` says `false`, what is below the entry is left out. `at` itself, if it is the root, is not an entry.
///
/// # Errors
/// When a layer cannot be read; the first error of `each`.
pub fn walk(subject: &Subject, at: &RelPath, each: &mut dyn FnMut(&Folder, &Entry) -> Result<bool>) -> Result<()> {
    walk_past(subject, at, each, &mut Err)
}

/// As [`walk`], but what cannot be read is told to `failed`: where that returns `Ok`, the walk goes on past it.
///
/// # Errors
/// The first error of `each` or `failed`.
pub fn walk_past(
    subject: &Subject,
    at: &RelPath,
    each: &mut dyn FnMut(&Folder, &Entry) -> Result<bool>,
    failed: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    let Some((parent, name)) = at.split_last() else { return below(subject, Folder::root(subject)?, each, failed) };
    let Some(folder) = Folder::at(subject, &parent)? else { return Ok(()) };
    let Some(entry) = folder.entry(subject, name)? else { return Ok(()) };
    if !each(&folder, &entry)? {
        return Ok(());
    }
    match folder.enter(entry) {
        Some(folder) => below(subject, folder, each, failed),
        None => Ok(()),
    }
}

/// Depth first, with a stack of its own: layers are hostile and may be deep.
fn below(
    subject: &Subject,
    top: Folder,
    each: &mut dyn FnMut(&Folder, &Entry) -> Result<bool>,
    failed: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<()> {
    let listed = |folder: &Folder, failed: &mut dyn FnMut(Error) -> Result<()>| {
        let (names, why) = folder.names_found();
        why.map_or(Ok(()), failed)?;
        Ok::<_, Error>(names.into_iter())
    };
    let names = listed(&top, failed)?;
    let mut open = vec![(top, names)];
    while let Some((folder, names)) = open.last_mut() {
        let Some(name) = names.next() else {
            open.pop();
            continue;
        };
        let entry = match folder.entry(subject, name.as_name()) {
            Ok(Some(entry)) => entry,
            Ok(None) => continue,
            Err(e) => {
                failed(e)?;
                continue;
            }
        };
        if each(folder, &entry)?
            && let Some(next) = folder.enter(entry)
        {
            let names = listed(&next, failed)?;
            open.push((next, names));
        }
    }
    Ok(())
}
