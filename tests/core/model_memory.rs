//! The model: a tree in memory that obeys POSIX, as far as the operations of these tests go. It shares no line with the union, and none
//! with the kernel: where it agrees with the plain directory, neither the test's calls nor the oracle's filesystem bend the result.
//!
//! Source: POSIX.1-2017 (`open`, `link`, `unlink`, `rename`, ...), and Linux for `renameat2`, xattrs and who keeps set-id bits.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use micafs::path::NameBuf;
use micafs::path::RelPath;
use micafs::sys::Errno;
use micafs::sys::attr::Kind;
use micafs::sys::attr::S_ISGID;
use micafs::sys::attr::Time;
use micafs::sys::attr::makedev;
use micafs::sys::xattr::SetMode;

use crate::ops::At;
use crate::ops::Flag;
use crate::ops::New;
use crate::ops::Op;
use crate::ops::SLOTS;
use crate::ops::mode;
use crate::snap::Shown;
use crate::snap::Tree;
use crate::world::brief;
use crate::world::set_mode;
use crate::world::time;
use crate::world::xattr;

const S_ISUID: u32 = 0o4000;
const S_IXGRP: u32 = 0o010;

type Outcome<T = ()> = Result<T, Errno>;
type Id = u64;

/// One object. Its `ino` and `nlink` of [`Shown`] are the model's own; `mtime` is `None` when an operation set it to now.
struct Object {
    shown: Shown,
    children: BTreeMap<NameBuf, Id>,
}

#[derive(Default)]
pub struct Model {
    objects: HashMap<Id, Object>,
    root: Id,
    next: Id,
    /// What is open, and whether for writing.
    slots: [Option<(Id, bool)>; SLOTS],
    /// Filesystems differ whether making a hole changes the time of the file.
    any_time: HashSet<Id>,
}

impl Model {
    /// The tree that a directory shows.
    pub fn of(tree: &Tree) -> Self {
        let mut objects: HashMap<Id, Object> = HashMap::new();
        for shown in tree.values() {
            let new = || Object { shown: Shown { nlink: 0, ..shown.clone() }, children: BTreeMap::new() };
            objects.entry(shown.ino).or_insert_with(new);
        }
        let root = tree[&RelPath::root()].ino;
        for (path, shown) in tree {
            let Some((parent, name)) = path.split_last() else { continue };
            objects.get_mut(&tree[&parent].ino).unwrap().children.insert(name.to_buf(), shown.ino);
            if shown.kind != Kind::Dir {
                objects.get_mut(&shown.ino).unwrap().shown.nlink += 1;
            }
        }
        let next = objects.keys().max().unwrap() + 1;
        Self { objects, root, next, slots: [None; SLOTS], any_time: HashSet::new() }
    }

    /// Fails unless the directory shows what the model has.
    pub fn agree(&mut self, when: &str, plain: &Tree) {
        let mut paths = vec![(RelPath::root(), self.root)];
        let (mut partner, mut count) = (HashMap::new(), 0);
        while let Some((path, id)) = paths.pop() {
            let object = self.objects.get_mut(&id).unwrap();
            let Some(p) = plain.get(&path) else { panic!("{when}: {path} is in the model, not in the directory") };
            if self.any_time.remove(&id) {
                object.shown.mtime = p.mtime;
            }
            let ours = Shown { ino: p.ino, ..object.shown.clone() };
            assert!(ours == *p, "{when}: {path}\nmodel: {}\nplain directory: {}", brief(&ours), brief(p));
            assert_eq!(*partner.entry(p.ino).or_insert(id), id, "{when}: {path} is one file there, two in the model");
            paths.extend(object.children.iter().map(|(name, id)| (path.child(name.as_name()), *id)));
            count += 1;
        }
        assert_eq!(count, plain.len(), "{when}: the directory shows more than the model has");
    }

    /// Does one operation; `path` tells what an [`At`] means.
    pub fn step(&mut self, op: &Op, path: impl Fn(At) -> RelPath) -> Outcome {
        match *op {
            Op::Make(at, new, m, other) => self.make(&path(at), new, mode(m), if other { 1000 } else { 0 }),
            Op::Link(from, to) => self.link(&path(from), &path(to)),
            Op::Unlink(at) => self.remove(&path(at), false),
            Op::Rmdir(at) => self.remove(&path(at), true),
            Op::Rename(a, b, flag) => self.rename(&path(a), &path(b), flag),
            Op::Chmod(at, m) => self.chmod(&path(at), mode(m)),
            Op::Chown(at, n) => self.chown(&path(at), u32::from(n % 3) * 500),
            Op::Times(at, n) => self.shown(&path(at)).map(|s| s.mtime = Some(time(n))),
            Op::SetXattr(at, n, v) => self.set_xattr(&path(at), xattr(n), v),
            Op::RemoveXattr(at, n) => self.shown(&path(at))?.xattrs.remove(xattr(n)).map(drop).ok_or(Errno::NODATA),
            Op::Truncate(at, n) => match self.shown(&path(at))? {
                s if s.kind == Kind::Dir => Err(Errno::ISDIR),
                s if s.kind != Kind::File => Err(Errno::INVAL),
                s => {
                    resize(s, n.into());
                    Ok(())
                }
            },
            Op::Open(slot, at, write, cut) => self.open(slot, &path(at), write || cut, cut),
            _ => {
                self.step_open(op);
                Ok(())
            }
        }
    }

    /// An operation on what is open; nothing happens where nothing is.
    fn step_open(&mut self, op: &Op) {
        let open = |slot: u8| usize::from(slot) % SLOTS;
        match *op {
            Op::Close(slot) => self.slots[open(slot)] = None,
            Op::Write(slot, at, len) => {
                let data = vec![(at % 251) as u8; usize::from(len)];
                self.written(slot).into_iter().for_each(|s| write(s, at.into(), &data));
            }
            Op::Cut(slot, n) => self.written(slot).into_iter().for_each(|s| resize(s, n.into())),
            Op::Punch(slot, at, n) => {
                if let (Some((id, _)), Some(s)) = (self.slots[open(slot)], self.written(slot)) {
                    let range = usize::from(at).min(s.data.len())..(usize::from(at) + usize::from(n)).min(s.data.len());
                    s.data[range].fill(0);
                    self.any_time.insert(id);
                }
            }
            Op::ChmodOpen(slot, m) => {
                if let Some((id, _)) = self.slots[open(slot)] {
                    self.object(id).shown.mode = mode(m);
                }
            }
            Op::Copy(from, x, to, y, len) => {
                let (Some((a, _)), Some((b, true))) = (self.slots[open(from)], self.slots[open(to)]) else { return };
                if a != b {
                    let source = &self.object(a).shown.data;
                    let from = usize::from(x).min(source.len());
                    let data = source[from..(from + usize::from(len)).min(source.len())].to_vec();
                    write(&mut self.object(b).shown, y.into(), &data);
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, id: Id) -> &mut Object {
        self.objects.get_mut(&id).expect("an object that is named or open is kept")
    }

    fn find(&self, path: &RelPath) -> Outcome<Id> {
        let mut at = self.root;
        for part in path.components() {
            at = *self.objects[&at].children.get(&part.to_buf()).ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    fn shown(&mut self, path: &RelPath) -> Outcome<&mut Shown> {
        let id = self.find(path)?;
        Ok(&mut self.object(id).shown)
    }

    /// The directory of a path, which is always there, and the last name.
    fn place(&self, path: &RelPath) -> (Id, NameBuf) {
        let (parent, name) = path.split_last().unwrap();
        (self.find(&parent).unwrap(), name.to_buf())
    }

    /// What is open in a slot, for writing.
    fn written(&mut self, slot: u8) -> Option<&mut Shown> {
        let (id, _) = self.slots[usize::from(slot) % SLOTS].filter(|(_, write)| *write)?;
        Some(&mut self.object(id).shown)
    }

    /// Gives a name, or takes it away; the directory changes.
    fn set_name(&mut self, (dir, name): &(Id, NameBuf), id: Option<Id>) {
        let object = self.object(*dir);
        object.shown.mtime = None;
        match id {
            Some(id) => drop(object.children.insert(name.clone(), id)),
            None => drop(object.children.remove(name)),
        }
    }

    fn lose_name(&mut self, id: Id) {
        let object = self.object(id);
        object.shown.nlink = object.shown.nlink.saturating_sub(1);
    }

    fn make(&mut self, path: &RelPath, new: New, mode: u32, owner: u32) -> Outcome {
        if self.find(path).is_ok() {
            return Err(Errno::EXIST);
        }
        let place = self.place(path);
        let parent = self.object(place.0).shown.clone();
        let setgid = parent.mode & S_ISGID;
        let (kind, mode, rdev, data) = match new {
            New::File => (Kind::File, mode, 0, Vec::new()),
            New::Dir => (Kind::Dir, mode & !(S_ISUID | S_ISGID) | setgid, 0, Vec::new()),
            New::Symlink => (Kind::Symlink, 0o777, 0, b"to/\xff".to_vec()),
            New::Fifo => (Kind::Fifo, mode, 0, Vec::new()),
            New::Device => (Kind::Char, mode, makedev(1, 5), Vec::new()),
        };
        let gid = if setgid == 0 { owner } else { parent.gid };
        let (size, nlink) = (data.len() as u64, u32::from(kind != Kind::Dir));
        let (uid, xattrs, ino) = (owner, BTreeMap::new(), 0);
        let shown = Shown { kind, mode, uid, gid, rdev, size, data, xattrs, mtime: None, nlink, ino };
        let id = self.next;
        self.next += 1;
        self.objects.insert(id, Object { shown, children: BTreeMap::new() });
        self.set_name(&place, Some(id));
        Ok(())
    }

    fn link(&mut self, from: &RelPath, to: &RelPath) -> Outcome {
        let id = self.find(from)?;
        if self.object(id).shown.kind == Kind::Dir {
            return Err(Errno::PERM);
        }
        if self.find(to).is_ok() {
            return Err(Errno::EXIST);
        }
        self.object(id).shown.nlink += 1;
        self.set_name(&self.place(to), Some(id));
        Ok(())
    }

    fn remove(&mut self, path: &RelPath, dir: bool) -> Outcome {
        let id = self.find(path)?;
        let object = self.object(id);
        match (object.shown.kind == Kind::Dir, dir) {
            (true, false) => return Err(Errno::ISDIR),
            (false, true) => return Err(Errno::NOTDIR),
            (true, true) if !object.children.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.set_name(&self.place(path), None);
        self.lose_name(id);
        Ok(())
    }

    fn rename(&mut self, a: &RelPath, b: &RelPath, flag: Flag) -> Outcome {
        let from = self.find(a)?;
        let to = self.find(b).ok();
        match (flag, to) {
            (Flag::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Flag::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        let below = |path: &RelPath, top: &RelPath| {
            path != top
                && path.components().zip(top.components()).filter(|(x, y)| x == y).count() == top.components().len()
        };
        if below(b, a) {
            return Err(Errno::INVAL);
        }
        if below(a, b) {
            return Err(if flag == Flag::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        // Two names of one object: nothing is done.
        if to == Some(from) {
            return Ok(());
        }
        let (old, new) = (self.place(a), self.place(b));
        if let (Some(to), Flag::Exchange) = (to, flag) {
            self.set_name(&new, Some(from));
            self.set_name(&old, Some(to));
            return Ok(());
        }
        if let Some(to) = to {
            let is_dir = self.object(from).shown.kind == Kind::Dir;
            let target = self.object(to);
            match (is_dir, target.shown.kind == Kind::Dir) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !target.children.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
            self.lose_name(to);
        }
        self.set_name(&old, None);
        self.set_name(&new, Some(from));
        Ok(())
    }

    fn chmod(&mut self, path: &RelPath, mode: u32) -> Outcome {
        match self.shown(path)? {
            s if s.kind == Kind::Symlink => Err(Errno::OPNOTSUPP),
            s => {
                s.mode = mode;
                Ok(())
            }
        }
    }

    /// Set-id bits of all but directories go, also when root does it; without the right to execute the set-group-id bit stays.
    fn chown(&mut self, path: &RelPath, id: u32) -> Outcome {
        let s = self.shown(path)?;
        (s.uid, s.gid) = (id, id);
        if s.kind != Kind::Dir {
            let gone = S_ISUID | if s.mode & S_IXGRP != 0 { S_ISGID } else { 0 };
            s.mode &= !gone;
        }
        Ok(())
    }

    fn set_xattr(&mut self, path: &RelPath, name: &[u8], v: u8) -> Outcome {
        let s = self.shown(path)?;
        if name.starts_with(b"user.") && !matches!(s.kind, Kind::File | Kind::Dir) {
            return Err(Errno::PERM);
        }
        match (set_mode(v), s.xattrs.contains_key(name)) {
            (SetMode::Create, true) => Err(Errno::EXIST),
            (SetMode::Replace, false) => Err(Errno::NODATA),
            _ => {
                s.xattrs.insert(name.to_vec(), vec![v; 20]);
                Ok(())
            }
        }
    }

    fn open(&mut self, slot: u8, path: &RelPath, write: bool, cut: bool) -> Outcome {
        let slot = usize::from(slot) % SLOTS;
        self.slots[slot] = None;
        let id = self.find(path)?;
        let s = &mut self.object(id).shown;
        if s.kind != Kind::File {
            return Err(Errno::INVAL);
        }
        if cut {
            resize(s, 0);
        }
        self.slots[slot] = Some((id, write));
        Ok(())
    }
}

fn resize(s: &mut Shown, len: usize) {
    s.data.resize(len, 0);
    (s.size, s.mtime) = (len as u64, None);
}

fn write(s: &mut Shown, at: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = at + data.len();
    if s.data.len() < end {
        s.data.resize(end, 0);
    }
    s.data[at..end].copy_from_slice(data);
    (s.size, s.mtime) = (s.data.len() as u64, None);
}

#[test]
fn a_tree_in_memory_obeys_its_own_rules() {
    let mut tree = Tree::new();
    let shown = |kind, ino| Shown {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        data: Vec::new(),
        xattrs: BTreeMap::new(),
        mtime: Some(Time { secs: 1, nanos: 0 }),
        nlink: u32::from(kind != Kind::Dir),
        ino,
    };
    tree.insert(RelPath::root(), shown(Kind::Dir, 1));
    tree.insert(crate::layers::rel("a"), shown(Kind::File, 2));
    let mut model = Model::of(&tree);
    model.agree("as it was", &tree);
    let path = |At(_, n): At| RelPath::root().child(crate::layers::name(n).as_name());
    assert_eq!(model.step(&Op::Unlink(At(0, 1)), path), Err(Errno::NOENT));
    model.step(&Op::Link(At(0, 0), At(0, 1)), path).unwrap();
    assert_eq!(model.step(&Op::Rmdir(At(0, 1)), path), Err(Errno::NOTDIR));
    assert_eq!(model.shown(&crate::layers::rel("b")).unwrap().nlink, 2);
    // Two names of one file: a rename does nothing.
    model.step(&Op::Rename(At(0, 0), At(0, 1), Flag::None), path).unwrap();
    model.find(&crate::layers::rel("a")).unwrap();
}
