//! What is different between two things that a union showed under one name.

use super::Result;
use super::content;
use super::json::kind;
use super::layers::Entry;
use super::text::time;
use crate::layer::Obj;
use crate::layer::marks::is_private_xattr;
use crate::path::Escaped;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::Stat;
use crate::sys::attr::Time;
use crate::sys::attr::dev_parts;

/// What happened to a path, in docker's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It, or something in it, is another one now.
    Changed,
    /// It is gone.
    Deleted,
}

impl Change {
    /// The letter.
    pub fn letter(self) -> char {
        match self {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        }
    }
}

/// One respect in which two things differ: before, after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Another type.
    Kind(Kind, Kind),
    /// Other permissions.
    Mode(u32, u32),
    /// Another owner or group.
    Owner((u32, u32), (u32, u32)),
    /// Another size, in bytes, of a regular file.
    Size(u64, u64),
    /// Other bytes.
    Content,
    /// Another text of a symlink.
    Link(Vec<u8>, Vec<u8>),
    /// Another device.
    Device(u64, u64),
    /// This extended attribute was added, changed or taken away.
    Xattr(Vec<u8>, Change),
    /// Another time of the last change.
    Time(Time, Time),
    /// So many names in the directory were said to be something else.
    Entries(usize),
}

impl Difference {
    /// What differs in one word, and the values before and after as text for people and programs; where there are none, empty.
    pub fn words(&self) -> (&'static str, String, String) {
        let owner = |(uid, gid): (u32, u32)| format!("{uid}:{gid}");
        let device = |rdev: u64| {
            let (major, minor) = dev_parts(rdev);
            format!("{major}:{minor}")
        };
        match self {
            Difference::Kind(a, b) => ("kind", kind(*a).to_owned(), kind(*b).to_owned()),
            Difference::Mode(a, b) => ("mode", format!("{a:04o}"), format!("{b:04o}")),
            Difference::Owner(a, b) => ("owner", owner(*a), owner(*b)),
            Difference::Size(a, b) => ("size", a.to_string(), b.to_string()),
            Difference::Content => ("content", String::new(), String::new()),
            Difference::Link(a, b) => ("link", Escaped(a).to_string(), Escaped(b).to_string()),
            Difference::Device(a, b) => ("device", device(*a), device(*b)),
            Difference::Xattr(name, change) => {
                let name = Escaped(name).to_string();
                match change {
                    Change::Added => ("xattr", String::new(), name),
                    Change::Changed => ("xattr", name.clone(), name),
                    Change::Deleted => ("xattr", name, String::new()),
                }
            }
            Difference::Time(a, b) => ("mtime", time(*a), time(*b)),
            Difference::Entries(count) => ("entries", String::new(), count.to_string()),
        }
    }
}

impl Difference {
    /// The values for people: what was removed, and what became of what.
    pub fn values(&self) -> String {
        let (_, before, after) = self.words();
        match (before.is_empty(), after.is_empty()) {
            (true, true) => "changed".to_owned(),
            (true, false) => after,
            (false, true) => format!("{before} removed"),
            (false, false) if before == after => format!("{after} changed"),
            (false, false) => format!("{before} -> {after}"),
        }
    }
}

/// A thing that a union shows, with the objects that answer for it.
#[derive(Debug, Clone)]
pub struct Item {
    /// The attributes that show.
    pub stat: Stat,
    /// The object that answers for owner, mode and attributes.
    pub face: Obj,
    /// The object that answers for a regular file's content.
    pub content: Option<Obj>,
}

impl Item {
    /// What an entry shows; `None` when it does not show.
    pub fn of(entry: &Entry) -> Option<Self> {
        Some(Self { stat: entry.stat?, face: entry.face()?.clone(), content: entry.content() })
    }
}

/// Everything in which two things differ, without what lies in directories. The times of directories and symlinks do not count: every change
/// of an entry changes a directory's. Content is read only where size and index do not tell.
///
/// # Errors
/// When a layer cannot be read.
pub fn differences(before: &Item, after: &Item) -> Result<Vec<Difference>> {
    let (old, new) = (&before.stat, &after.stat);
    let mut found = Vec::new();
    if old.kind() != new.kind() {
        found.push(Difference::Kind(old.kind(), new.kind()));
    }
    if old.kind() != Kind::Symlink && old.mode & PERM_MASK != new.mode & PERM_MASK {
        found.push(Difference::Mode(old.mode & PERM_MASK, new.mode & PERM_MASK));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        found.push(Difference::Owner((old.uid, old.gid), (new.uid, new.gid)));
    }
    if old.kind() == new.kind() {
        of_one_kind(before, after, &mut found)?;
    }
    xattrs(&before.face, &after.face, &mut found)?;
    let timed = |stat: &Stat| !matches!(stat.kind(), Kind::Dir | Kind::Symlink);
    if timed(old) && timed(new) && old.mtime != new.mtime {
        found.push(Difference::Time(old.mtime, new.mtime));
    }
    Ok(found)
}

fn of_one_kind(before: &Item, after: &Item, found: &mut Vec<Difference>) -> Result<()> {
    let (old, new) = (&before.stat, &after.stat);
    match old.kind() {
        Kind::File => {
            if old.size != new.size {
                found.push(Difference::Size(old.size, new.size));
            }
            if let (Some(a), Some(b)) = (&before.content, &after.content)
                && content::same(a, b)? != Some(true)
            {
                found.push(Difference::Content);
            }
        }
        Kind::Symlink => {
            let (a, b) = (before.face.readlink()?, after.face.readlink()?);
            if a != b {
                found.push(Difference::Link(a, b));
            }
        }
        Kind::Char | Kind::Block if old.rdev != new.rdev => found.push(Difference::Device(old.rdev, new.rdev)),
        _ => {}
    }
    Ok(())
}

fn xattrs(before: &Obj, after: &Obj, found: &mut Vec<Difference>) -> Result<()> {
    let names = |obj: &Obj| -> Result<Vec<Vec<u8>>> {
        let mut names = obj.xattrs()?;
        names.retain(|name| !is_private_xattr(name));
        names.sort_unstable();
        Ok(names)
    };
    let (old, new) = (names(before)?, names(after)?);
    for name in &old {
        if new.binary_search(name).is_err() {
            found.push(Difference::Xattr(name.clone(), Change::Deleted));
        } else if before.xattr(name)? != after.xattr(name)? {
            found.push(Difference::Xattr(name.clone(), Change::Changed));
        }
    }
    let added = new.into_iter().filter(|name| old.binary_search(name).is_err());
    found.extend(added.map(|name| Difference::Xattr(name, Change::Added)));
    Ok(())
}
