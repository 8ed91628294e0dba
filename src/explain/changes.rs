//! What changed from one stack to another: `mica diff IMAGE@2..@5`, `mica diff A B`.
//!
//! Both are walked side by side. Where both are merged of the same directories of the same image layers, nothing can differ and
//! nothing is looked at: the cost of `IMAGE@2..@5` is that of the directories which layers 3 to 5 have.

use std::collections::HashMap;

use super::Result;
use super::compare::Change;
use super::compare::Difference;
use super::compare::Item;
use super::compare::differences;
use super::layers::Entry;
use super::layers::Folder;
use super::subject::Subject;
use crate::layer::ObjectId;
use crate::layer::PACK_DEV;
use crate::path::NameBuf;
use crate::path::RelPath;
use crate::sys::attr::Kind;

/// One path that changed.
#[derive(Debug)]
pub struct Changed {
    /// The path.
    pub path: RelPath,
    /// What happened. A directory in which something changed is changed, as docker has it.
    pub change: Change,
    /// In what; empty for what came or went, and for a directory in which alone something changed.
    pub differences: Vec<Difference>,
    /// What it was.
    pub before: Option<Item>,
    /// What it is.
    pub after: Option<Item>,
}

/// What counts as a change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// A file that differs only in the time of its last change is the same.
    pub ignore_times: bool,
}

/// Calls `each` for all changes at and below `at`, in the order of names, a directory before what is in it; what lay in a directory that
/// went is not listed. Nothing is kept: an image may have millions of files.
///
/// # Errors
/// When a layer cannot be read; the first error of `each`.
pub fn each_change(
    (before, after): (&Subject, &Subject),
    at: &RelPath,
    rules: Rules,
    each: &mut dyn FnMut(Changed) -> Result<()>,
) -> Result<()> {
    let mut numbers = HashMap::new();
    let mut keys = |subject: &Subject| -> Vec<usize> {
        let keys = (0..subject.layers().len()).filter_map(|layer| subject.key(layer));
        keys.map(|key| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        })
        .collect()
    };
    let keys = (keys(before), keys(after));
    let mut differ = Differ { before, after, keys, rules, above: Vec::new(), each };
    match at.split_last() {
        None => {
            let (a, b) = (Folder::root(before)?, Folder::root(after)?);
            let top = Differ::frame(Some(a), Some(b), usize::MAX)?;
            differ.run(top)
        }
        Some((parent, name)) => {
            let (a, b) = (Folder::at(before, &parent)?, Folder::at(after, &parent)?);
            let path = parent.child(name);
            let below = differ.name(&path, a.as_ref(), b.as_ref(), &name.to_buf())?;
            below.map_or(Ok(()), |below| differ.run(below))
        }
    }
}

/// All that [`each_change`] tells.
///
/// # Errors
/// When a layer cannot be read.
pub fn changes(before: &Subject, after: &Subject, at: &RelPath, rules: Rules) -> Result<Vec<Changed>> {
    let mut found = Vec::new();
    each_change((before, after), at, rules, &mut |change| {
        found.push(change);
        Ok(())
    })?;
    Ok(found)
}

struct Differ<'a> {
    before: &'a Subject,
    after: &'a Subject,
    /// For each layer of both a number that is the same for the same contents.
    keys: (Vec<usize>, Vec<usize>),
    rules: Rules,
    /// The directories that lead to where we are and do not differ themselves: told of if something in them does.
    above: Vec<Changed>,
    each: &'a mut dyn FnMut(Changed) -> Result<()>,
}

/// Two directories that are compared, where there are such, and the names that are left.
struct Frame {
    before: Option<Folder>,
    after: Option<Folder>,
    here: RelPath,
    names: std::vec::IntoIter<NameBuf>,
    /// How many lead here that were not told of.
    above: usize,
}

impl Differ<'_> {
    fn frame(before: Option<Folder>, after: Option<Folder>, above: usize) -> Result<Frame> {
        let mut names = Vec::new();
        for folder in before.iter().chain(&after).filter(|folder| folder.is_shown()) {
            names.extend(folder.names()?);
        }
        names.sort_unstable();
        names.dedup();
        let here = before.as_ref().or(after.as_ref()).map(|folder| folder.path.clone()).unwrap_or_default();
        Ok(Frame { before, after, here, names: names.into_iter(), above })
    }

    /// Depth first, with a stack of its own: layers are hostile and may be deep.
    fn run(&mut self, top: Frame) -> Result<()> {
        let mut open = vec![top];
        while let Some(frame) = open.last_mut() {
            let Some(name) = frame.names.next() else {
                self.above.truncate(frame.above);
                open.pop();
                continue;
            };
            let path = frame.here.child(name.as_name());
            let below = self.name(&path, frame.before.as_ref(), frame.after.as_ref(), &name)?;
            open.extend(below);
        }
        Ok(())
    }

    /// Compares one name; what is to be compared below it.
    fn name(
        &mut self,
        path: &RelPath,
        a: Option<&Folder>,
        b: Option<&Folder>,
        name: &NameBuf,
    ) -> Result<Option<Frame>> {
        let entry = |folder: Option<&Folder>, subject: &Subject| -> Result<Option<(Entry, Item)>> {
            let Some(folder) = folder.filter(|folder| folder.is_shown()) else { return Ok(None) };
            let entry = folder.entry(subject, name.as_name())?;
            Ok(entry.and_then(|entry| Item::of(&entry).map(|item| (entry, item))))
        };
        let (old, new) = (entry(a, self.before)?, entry(b, self.after)?);
        match (old, new) {
            (None, None) => Ok(None),
            (Some((_, item)), None) => {
                self.tell(path, Change::Deleted, (Some(item), None))?;
                Ok(None)
            }
            (None, Some((entry, item))) => {
                self.tell(path, Change::Added, (None, Some(item)))?;
                Self::added(b, entry, usize::MAX)
            }
            (Some((old, was)), Some((new, is))) => self.both(path, (a, old, was), (b, new, is)),
        }
    }

    fn both(
        &mut self,
        path: &RelPath,
        (a, old, was): (Option<&Folder>, Entry, Item),
        (b, new, is): (Option<&Folder>, Entry, Item),
    ) -> Result<Option<Frame>> {
        if let (Some(old), Some(new)) = (self.parts(&old, &self.keys.0), self.parts(&new, &self.keys.1))
            && old == new
        {
            return Ok(None);
        }
        let mut found = differences(&was, &is)?;
        if self.rules.ignore_times {
            found.retain(|difference| !matches!(difference, Difference::Time(..)));
        }
        let is_dir = |item: &Item| item.stat.kind() == Kind::Dir;
        let (was_dir, is_dir) = (is_dir(&was), is_dir(&is));
        let differs = !found.is_empty();
        let (before, after) = (Some(was), Some(is));
        let changed = Changed { path: path.clone(), change: Change::Changed, differences: found, before, after };
        let above = self.above.len();
        self.above.push(changed);
        if differs {
            self.tell_above()?;
        }
        let below = match (was_dir, is_dir) {
            (true, true) => Some(Self::frame(a.and_then(|a| a.enter(old)), b.and_then(|b| b.enter(new)), above)?),
            (false, true) => Self::added(b, new, above)?,
            _ => None,
        };
        if below.is_none() {
            self.above.truncate(above);
        }
        Ok(below)
    }

    /// Everything in a directory that was not there before.
    fn added(folder: Option<&Folder>, entry: Entry, above: usize) -> Result<Option<Frame>> {
        if entry.stat.is_none_or(|stat| stat.kind() != Kind::Dir) {
            return Ok(None);
        }
        let inside = folder.and_then(|folder| folder.enter(entry));
        Self::frame(None, inside, above).map(Some)
    }

    /// Of which objects of which layers something is made. `None` where these do not say all: directories on disk may redirect.
    fn parts(&self, entry: &Entry, keys: &[usize]) -> Option<Vec<(usize, ObjectId)>> {
        let part = |(layer, obj): (usize, &crate::layer::Obj)| {
            let id = obj.id();
            (id.dev == PACK_DEV).then_some((*keys.get(layer)?, id))
        };
        entry.parts().map(part).collect()
    }

    fn tell(&mut self, path: &RelPath, change: Change, (before, after): (Option<Item>, Option<Item>)) -> Result<()> {
        self.tell_above()?;
        (self.each)(Changed { path: path.clone(), change, differences: Vec::new(), before, after })
    }

    fn tell_above(&mut self) -> Result<()> {
        std::mem::take(&mut self.above).into_iter().try_for_each(&mut *self.each)
    }
}
