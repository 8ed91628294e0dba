//! A union and a plain directory that start alike and go through the same operations.
//!
//! The plain directory is the oracle: `cp -a` of the layers, bottom to top, and then the kernel's own system calls. Beside it goes a model in
//! memory, which must say the same.
//!
//! # Where the union may differ
//! Results ([`World::is_listed`], [`alike`]):
//! - a directory with a lower part is not renamed without redirects, nor where the redirect would be longer than 256 bytes,
//!   nor where the upper filesystem lacks whiteout devices, exchanging or xattrs (`EXDEV`);
//! - without `RENAME_EXCHANGE` nothing is exchanged (`EINVAL`); without whiteout devices (or, for directories, without an
//!   exchange) names of more than 251 bytes cannot be whited out or taken by a new directory (`ENAMETOOLONG`);
//! - the other lower name of a hard-linked file whose copy lost its own name cannot be renamed (`EXDEV`);
//! - errors whose order the VFS decides before a filesystem is asked.
//!
//! What shows ([`World::compare`], [`World::drop_caches`]):
//! - the names of a hard-linked *lower* file part, in content and number, when the node of its copy is forgotten; their link
//!   count is that of the layer;
//! - where upper takes no xattrs, a copy gets a number of its own when its node is forgotten.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use micafs::layer::Layer;
use micafs::layer::dir::DirLayer;
use micafs::layer::handle::FdCache;
use micafs::layer::mem::MemLayer;
use micafs::path::RelPath;
use micafs::sys;
use micafs::sys::Errno;
use micafs::sys::attr::Kind;
use micafs::sys::attr::SetTime;
use micafs::sys::attr::Stat;
use micafs::sys::attr::Time;
use micafs::sys::name::RenameMode;
use micafs::sys::xattr::SetMode;
use micafs::union::Caller;
use micafs::union::Error;
use micafs::union::MakeKind;
use micafs::union::Options;
use micafs::union::RenameFlags;
use micafs::union::Union;
use micafs::union::attr::SetAttr;
use micafs::union::node::Node;
use micafs::union::stack::Stack;
use micafs::union::work::Abilities;
use micafs::union::work::Upper;

use crate::layers;
use crate::layers::LayerSpec;
use crate::layers::Store;
use crate::model_memory::Model;
use crate::ops::At;
use crate::ops::Flag;
use crate::ops::New;
use crate::ops::Op;
use crate::ops::SLOTS;
use crate::snap;
use crate::snap::Pins;
use crate::snap::Shown;
use crate::snap::Tree;

/// A directory of the test's own, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mica-core-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        sys::process::clear_umask();
        Scratch(path)
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is fixed for one case.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Bottom first.
    pub layers: Vec<LayerSpec>,
    pub redirect: bool,
    pub limits: Limits,
}

/// What the upper filesystem is said not to be able to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub no_devices: bool,
    pub no_exchange: bool,
    pub no_marks: bool,
}

impl Limits {
    fn apply(self, can: &mut Abilities) {
        can.device_whiteouts &= !self.no_devices;
        can.rename_whiteout &= !self.no_devices;
        can.exchange &= !self.no_exchange;
        can.marks = can.marks.filter(|_| !self.no_marks);
    }
}

impl Setup {
    pub fn new(layers: Vec<LayerSpec>) -> Self {
        Setup { layers, redirect: false, limits: Limits::default() }
    }

    pub fn of_dirs(layers: Vec<Vec<micafs::layer::mem::Entry>>) -> Self {
        Self::new(layers.into_iter().map(|entries| LayerSpec { store: Store::Dir, entries }).collect())
    }

    /// A union over the layers in `scratch`, which [`Setup::write_layers`] wrote.
    pub fn mount(&self, scratch: &Scratch) -> Union {
        self.mount_with(scratch, true)
    }

    /// The same, with syncs.
    pub fn mount_durable(&self, scratch: &Scratch) -> Union {
        self.mount_with(scratch, false)
    }

    fn mount_with(&self, scratch: &Scratch, volatile: bool) -> Union {
        let fds = FdCache::new(8);
        let mut upper = Upper::open(&scratch.dir("upper"), &scratch.dir("work"), fds.clone(), volatile).expect("upper");
        self.limits.apply(&mut upper.abilities);
        let stack = Stack::new(Some(upper), self.lowers(scratch, &fds)).expect("stack");
        Union::new(stack, Options { redirect_dir: self.redirect, metacopy: self.redirect, blocks: self.redirect })
            .expect("union")
    }

    /// A union for reading, with what was the upper as its top layer.
    fn mount_frozen(&self, scratch: &Scratch) -> Union {
        let fds = FdCache::new(8);
        let mut layers: Vec<Arc<dyn Layer>> =
            vec![Arc::new(DirLayer::open(&scratch.dir("upper"), fds.clone()).unwrap())];
        layers.extend(self.lowers(scratch, &fds));
        Union::new(Stack::new(None, layers).expect("stack"), Options::default()).expect("union")
    }

    fn lowers(&self, scratch: &Scratch, fds: &Arc<FdCache>) -> Vec<Arc<dyn Layer>> {
        let lowers = self.layers.iter().enumerate().rev().map(|(i, spec)| -> Arc<dyn Layer> {
            match spec.store {
                Store::Mem => Arc::new(MemLayer::new(&format!("mem{i}"), &spec.entries).unwrap()),
                _ => Arc::new(DirLayer::open(&scratch.0.join(format!("lower{i}")), fds.clone()).unwrap()),
            }
        });
        lowers.collect()
    }

    pub fn write_layers(&self, scratch: &Scratch) {
        for (i, spec) in self.layers.iter().enumerate() {
            let root = scratch.dir(&format!("lower{i}"));
            if spec.store != Store::Mem {
                layers::write(&root, spec).unwrap();
            }
        }
        for name in ["upper", "work", "plain"] {
            scratch.dir(name);
        }
        layers::apply(&scratch.0.join("plain"), self.layers.iter()).unwrap();
        for name in ["upper", "plain"] {
            let old = SetTime::At(Time { secs: 1_000, nanos: 0 });
            sys::attr::set_times(sys::open::dir_path(&scratch.0.join(name)).unwrap(), old, old).unwrap();
        }
    }
}

struct Slot {
    node: Arc<Node>,
    plain: OwnedFd,
    write: bool,
}

pub struct World {
    pub setup: Setup,
    pub scratch: Scratch,
    pub union: Option<Union>,
    plain: PathBuf,
    model: Model,
    pins: Pins,
    slots: [Option<Slot>; SLOTS],
    before: Tree,
    shown_before: Tree,
    /// Inodes of the plain directories that were made by operations: they have no lower part.
    born: HashSet<u64>,
    /// Files of the plain directory that have, or had, several names in a layer.
    linked: HashSet<u64>,
    /// The deviations that were seen, and how often.
    pub listed: BTreeMap<Listed, usize>,
}

/// Where the union may refuse what a plain directory would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listed {
    /// `EXDEV`: the copy of a hard-linked lower file whose name in upper is gone; no name can be given to it any more.
    LinkedWithoutName,
    /// `EXDEV`: a directory with a lower part, without redirects, or with one too long to be followed.
    LowerDirectory,
    /// `EINVAL`: exchanging needs the upper filesystem's help.
    NoExchange,
    /// `ENAMETOOLONG`: a `.wh.` mark of a name this long is too long itself.
    LongMark,
}

type Outcome = Result<(), Errno>;

fn errno(e: Error) -> Errno {
    e.errno()
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let scratch = Scratch::new();
        setup.write_layers(&scratch);
        let union = Some(setup.mount(&scratch));
        let plain = scratch.0.join("plain");
        let before = snap::of_dir(&plain).unwrap();
        let mut world = World {
            setup,
            scratch,
            union,
            plain,
            model: Model::of(&before),
            pins: Pins::default(),
            slots: Default::default(),
            shown_before: Tree::new(),
            before,
            born: HashSet::new(),
            linked: HashSet::new(),
            listed: BTreeMap::new(),
        };
        let links = world.setup.layers.iter().any(LayerSpec::has_links);
        if links {
            // Any file may be one whose other names are hidden: all that are there from the start are held to less.
            let files = world.before.values().filter(|s| s.kind != Kind::Dir);
            world.linked = files.map(|s| s.ino).collect();
        }
        world.compare("at the start", &HashSet::new());
        world
    }

    pub fn union(&self) -> &Union {
        self.union.as_ref().expect("mounted")
    }

    /// The path that an [`At`] means now.
    pub fn path(&self, at: At) -> RelPath {
        let dirs: Vec<&RelPath> =
            self.before.iter().filter(|(_, s)| s.kind == Kind::Dir).map(|(path, _)| path).collect();
        dirs[usize::from(at.0) % dirs.len()].child(layers::name(at.1).as_name())
    }

    /// The [`At`] that means a path now; none where its parent is no directory, or its name none of the alphabet.
    pub fn at(&self, path: &RelPath) -> Option<At> {
        let (parent, name) = path.split_last()?;
        let mut dirs = self.before.iter().filter(|(_, s)| s.kind == Kind::Dir);
        let dir = u8::try_from(dirs.position(|(path, _)| *path == parent)?).ok()?;
        (0..8).find(|n| layers::name(*n).as_name() == name).map(|n| At(dir, n))
    }

    /// What shows now.
    pub fn tree(&self) -> &Tree {
        &self.before
    }

    fn lookup(&mut self, path: &RelPath) -> Result<Arc<Node>, Errno> {
        let union = self.union.as_ref().expect("mounted");
        let mut at = union.node(micafs::union::node::ROOT).map_err(errno)?;
        for part in path.components() {
            let entry = union.lookup(&at, part).map_err(errno)?.ok_or(Errno::NOENT)?;
            self.pins.add(entry.node.ino);
            at = entry.node;
        }
        Ok(at)
    }

    fn parent(&mut self, path: &RelPath) -> Arc<Node> {
        let (parent, _) = path.split_last().unwrap();
        self.lookup(&parent).expect("the parent is there")
    }

    /// Runs one operation on both sides, and compares everything.
    pub fn step(&mut self, op: &Op) {
        let touched = self.touched(op);
        if matches!(op, Op::Forget | Op::Remount) {
            // Listed: names of a hard-linked lower file part when the node of the copy is forgotten.
            if self.linked.is_empty() {
                self.drop_caches(matches!(op, Op::Remount));
            }
        } else {
            let ours = self.run_union(op);
            if let Some(listed) = self.listed(op, ours) {
                *self.listed.entry(listed).or_default() += 1;
                return self.compare(&format!("{op:?} {touched:?} (listed: {ours:?})"), &HashSet::new());
            }
            let plain = self.run_plain(op);
            assert!(alike(op, &touched, ours, plain), "{op:?} {touched:?}: union {ours:?}, plain directory {plain:?}");
            let mut model = std::mem::take(&mut self.model);
            let modelled = model.step(op, |at| self.path(at));
            self.model = model;
            assert!(
                alike(op, &touched, modelled, plain),
                "{op:?} {touched:?}: model {modelled:?}, plain directory {plain:?}"
            );
        }
        let touched = touched.into_iter().collect();
        let when = format!("{op:?} {touched:?}");
        self.compare(&when, &touched);
        self.model.agree(&when, &self.before);
    }

    /// Paths that may mean another object after the operation.
    fn touched(&self, op: &Op) -> Vec<RelPath> {
        match op {
            Op::Make(a, ..) | Op::Unlink(a) | Op::Rmdir(a) => vec![self.path(*a)],
            Op::Link(a, b) | Op::Rename(a, b, _) => vec![self.path(*a), self.path(*b)],
            Op::Chmod(a, _) | Op::Chown(a, _) | Op::Times(a, _) | Op::SetXattr(a, ..) => vec![self.path(*a)],
            Op::RemoveXattr(a, _) | Op::Truncate(a, _) | Op::Open(_, a, ..) => vec![self.path(*a)],
            _ => vec![],
        }
    }

    fn drop_caches(&mut self, remount: bool) {
        if remount && self.slots.iter().any(Option::is_some) {
            return;
        }
        self.pins.forget_all(self.union.as_ref().unwrap());
        if remount || self.setup.limits.no_marks {
            // Listed: where no mark can be set, a copy keeps its number only as long as its node is known.
            self.shown_before.clear();
        }
        if !remount {
            return;
        }
        let union = self.union.take().unwrap();
        assert_eq!(union.table().len(), 1, "nodes are left after everything was forgotten: {:?}", union.table());
        drop(union);
        self.union = Some(self.setup.mount(&self.scratch));
        assert!(snap::of_dir(&self.scratch.0.join("work/work")).unwrap().len() == 1, "work is not empty");
    }

    /// Closes everything, and checks that no node is left.
    pub fn finish(&mut self) {
        for i in 0..SLOTS {
            self.close(i);
        }
        self.drop_caches(true);
        self.compare("after a remount at the end", &HashSet::new());
        self.pins.forget_all(self.union.as_ref().unwrap());
        self.compare_frozen();
        self.compare_with_kernel();
    }

    /// What was the upper shows the same as the top layer of a union that cannot be written.
    fn compare_frozen(&self) {
        let plain = snap::of_dir(&self.plain).unwrap();
        let union = self.setup.mount_frozen(&self.scratch);
        let mut pins = Pins::default();
        let ours = snap::of_union(&union, &mut pins).expect("a readable union");
        same("with the upper as a layer", &plain, &ours, &self.linked);
        pins.forget_all(&union);
        union.table().collect();
        assert_eq!(union.table().len(), 1, "nodes are left");
    }

    fn close(&mut self, slot: usize) {
        if let Some(slot) = self.slots[slot].take() {
            let union = self.union.as_ref().unwrap();
            union.release(&slot.node);
            let ino = slot.node.ino;
            drop(slot);
            union.forget(ino, 1);
        }
    }

    /// Mounts the same upper with the kernel's overlayfs and compares that, too.
    fn compare_with_kernel(&mut self) {
        let kernel_form = self.setup.layers.iter().all(|l| l.store == Store::Dir);
        if !kernel_form || self.setup.limits != Limits::default() || !self.linked.is_empty() {
            return;
        }
        drop(self.union.take());
        let Some(kernel) = KernelMount::new(&self.setup, &self.scratch) else { return };
        let tree = snap::of_dir(&kernel.0).unwrap();
        let plain = snap::of_dir(&self.plain).unwrap();
        same("mounted by the kernel's overlayfs", &plain, &tree, &HashSet::new());
    }

    fn compare(&mut self, when: &str, touched: &HashSet<RelPath>) {
        let plain = snap::of_dir(&self.plain).unwrap();
        let ours = snap::of_union(self.union.as_ref().unwrap(), &mut self.pins);
        let ours = ours.unwrap_or_else(|e| panic!("{when}: the union cannot be read: {e}"));
        let remounted = self.shown_before.is_empty() && when != "at the start";
        let parted = if remounted { self.linked.clone() } else { HashSet::new() };
        same(when, &plain, &ours, &parted);
        self.compare_numbers(when, &plain, &ours, touched);
        for (path, shown) in &plain {
            if shown.kind == Kind::Dir && !self.before.contains_key(path) && touched.contains(path) {
                let moved = self.before.values().any(|s| s.ino == shown.ino);
                if !moved {
                    self.born.insert(shown.ino);
                }
            }
        }
        (self.before, self.shown_before) = (plain, ours);
    }

    /// Names are one file here when they are one file there; a number stays as long as its object.
    fn compare_numbers(&self, when: &str, plain: &Tree, ours: &Tree, touched: &HashSet<RelPath>) {
        let mut partner: HashMap<u64, (u64, &RelPath)> = HashMap::new();
        let mut taken: HashMap<u64, (u64, &RelPath)> = HashMap::new();
        for (path, p) in plain {
            let o = &ours[path];
            if self.linked.contains(&p.ino) {
                continue;
            }
            let (known, at) = *partner.entry(p.ino).or_insert((o.ino, path));
            assert_eq!(known, o.ino, "{when}: {path} and {at} are one file, but have two numbers");
            let (known, at) = *taken.entry(o.ino).or_insert((p.ino, path));
            assert_eq!(known, p.ino, "{when}: {path} and {at} are two files with one number");
            assert_eq!(p.nlink, o.nlink, "{when}: {path}: link count");
        }
        for (path, o) in ours {
            let Some(was) = self.shown_before.get(path).filter(|_| !touched.contains(path)) else { continue };
            let (Some(p), Some(p_was)) = (plain.get(path), self.before.get(path)) else { continue };
            let below_touched = touched.iter().any(|t| path.to_bytes().starts_with(&t.to_bytes()));
            if p.ino == p_was.ino && !below_touched && !self.linked.contains(&p.ino) {
                assert_eq!(was.ino, o.ino, "{when}: the number of {path} changed");
            }
        }
        // An operation that only changes attributes or data does not change the number either.
        for path in touched {
            let same = |a: Option<&Shown>, b: Option<&Shown>| matches!((a, b), (Some(a), Some(b)) if a.ino == b.ino);
            let changes_names = ["Make", "Link", "Unlink", "Rmdir", "Rename"].iter().any(|n| when.starts_with(n));
            if !changes_names && same(plain.get(path), self.before.get(path)) {
                let (Some(a), Some(b)) = (ours.get(path), self.shown_before.get(path)) else { continue };
                assert_eq!(a.ino, b.ino, "{when}: the number of {path} changed");
            }
        }
    }

    /// The deviation that a result is, if it is one.
    fn listed(&self, op: &Op, ours: Outcome) -> Option<Listed> {
        let lower_dir = |at: &At| {
            let shown = self.before.get(&self.path(*at));
            shown.is_some_and(|s| s.kind == Kind::Dir && !self.born.contains(&s.ino))
        };
        let linked = |at: &At| self.before.get(&self.path(*at)).is_some_and(|s| self.linked.contains(&s.ino));
        let limited = self.setup.limits != Limits::default();
        let (listed, holds) = match (op, ours) {
            (Op::Rename(a, b, _), Err(Errno::XDEV)) if linked(a) || linked(b) => (Listed::LinkedWithoutName, true),
            (Op::Rename(a, b, flag), Err(Errno::XDEV)) => {
                let no_redirects = !self.setup.redirect || limited;
                let why = no_redirects || self.has_long(&[*a, *b]) || self.long_in_layers();
                (Listed::LowerDirectory, why && (lower_dir(a) || (*flag == Flag::Exchange && lower_dir(b))))
            }
            (Op::Rename(_, _, Flag::Exchange), Err(Errno::INVAL)) => {
                (Listed::NoExchange, self.setup.limits.no_exchange)
            }
            (Op::Unlink(a) | Op::Rmdir(a) | Op::Make(a, ..), Err(Errno::NAMETOOLONG)) => {
                (Listed::LongMark, limited && self.has_long(&[*a]))
            }
            (Op::Rename(a, b, _), Err(Errno::NAMETOOLONG)) => (Listed::LongMark, limited && self.has_long(&[*a, *b])),
            _ => return None,
        };
        holds.then_some(listed)
    }

    /// Whether a redirect may become longer than the 256 bytes that are followed.
    fn long_in_layers(&self) -> bool {
        let mut entries = self.setup.layers.iter().flat_map(|l| &l.entries);
        entries.any(|e| e.path.components().any(|c| c.as_bytes().len() > 250))
    }

    fn has_long(&self, ats: &[At]) -> bool {
        ats.iter().any(|at| self.path(*at).components().any(|c| c.as_bytes().len() > 250))
    }

    fn run_union(&mut self, op: &Op) -> Outcome {
        match *op {
            Op::Make(at, new, m, other) => {
                let path = self.path(at);
                let parent = self.parent(&path);
                let (_, name) = path.split_last().unwrap();
                let kind = match new {
                    New::File => MakeKind::File,
                    New::Dir => MakeKind::Dir,
                    New::Symlink => MakeKind::Symlink(b"to/\xff"),
                    New::Fifo => MakeKind::Node(Kind::Fifo, 0),
                    New::Device => MakeKind::Node(Kind::Char, sys::attr::makedev(1, 5)),
                };
                let caller = Caller { uid: if other { 1000 } else { 0 }, gid: if other { 1000 } else { 0 }, umask: 0 };
                let entry =
                    self.union().make(&parent, name, kind, crate::ops::mode(m), caller, false).map_err(errno)?;
                self.pins.add(entry.node.ino);
                Ok(())
            }
            Op::Link(from, to) => {
                let node = self.lookup(&self.path(from))?;
                let path = self.path(to);
                let parent = self.parent(&path);
                let entry = self.union().link(&node, &parent, path.split_last().unwrap().1).map_err(errno)?;
                self.pins.add(entry.node.ino);
                Ok(())
            }
            Op::Unlink(at) => {
                let path = self.path(at);
                let parent = self.parent(&path);
                self.union().unlink(&parent, path.split_last().unwrap().1).map_err(errno)
            }
            Op::Rmdir(at) => {
                let path = self.path(at);
                let parent = self.parent(&path);
                self.union().rmdir(&parent, path.split_last().unwrap().1).map_err(errno)
            }
            Op::Rename(a, b, flag) => {
                let (a, b) = (self.path(a), self.path(b));
                let (old, new) = (self.parent(&a), self.parent(&b));
                let flags = RenameFlags { no_replace: flag == Flag::NoReplace, exchange: flag == Flag::Exchange };
                let (a, b) = (a.split_last().unwrap().1, b.split_last().unwrap().1);
                self.union().rename(&old, a, &new, b, flags).map_err(errno)
            }
            Op::Chmod(at, m) => self.set_attr(at, SetAttr { mode: Some(crate::ops::mode(m)), ..SetAttr::default() }),
            Op::Chown(at, n) => {
                let n = Some(u32::from(n % 3) * 500);
                self.set_attr(at, SetAttr { uid: n, gid: n, ..SetAttr::default() })
            }
            Op::Times(at, n) => {
                let t = Some(SetTime::At(time(n)));
                self.set_attr(at, SetAttr { atime: t, mtime: t, ..SetAttr::default() })
            }
            Op::SetXattr(at, n, v) => {
                let node = self.lookup(&self.path(at))?;
                self.union().setxattr(&node, xattr(n), &[v; 20], set_mode(v)).map_err(errno)
            }
            Op::RemoveXattr(at, n) => {
                let node = self.lookup(&self.path(at))?;
                self.union().removexattr(&node, xattr(n)).map_err(errno)
            }
            Op::Truncate(at, n) => self.set_attr(at, SetAttr { size: Some(n.into()), ..SetAttr::default() }),
            Op::Open(slot, at, write, cut) => {
                let path = self.path(at);
                let slot = usize::from(slot) % SLOTS;
                self.close(slot);
                let node = self.lookup(&path)?;
                // Special files are the kernel's business: the union is never asked to open them.
                if node.kind != Kind::File {
                    return Err(Errno::INVAL);
                }
                self.union().open(&node, write || cut, cut).map_err(errno)?;
                let (dir, name) = layers::parent_of(&self.plain, &path).unwrap();
                let plain = sys::open::file_at(&dir, name.as_name(), sys::open::Access::ReadWrite).unwrap();
                if cut {
                    sys::data::set_len(&plain, 0).unwrap();
                }
                // The reference that the open handle is for the kernel.
                let parent = self.parent(&path);
                let entry = self.union().lookup(&parent, path.split_last().unwrap().1).unwrap().unwrap();
                self.slots[slot] = Some(Slot { node: entry.node, plain, write: write || cut });
                Ok(())
            }
            Op::Close(slot) => {
                self.close(usize::from(slot) % SLOTS);
                Ok(())
            }
            Op::Write(slot, at, len) => self.with_slot(slot, true, |u, s| {
                let data = vec![(at % 251) as u8; usize::from(len)];
                let n = u.write(&s.node, &data, at.into()).map_err(errno)?;
                assert_eq!(n, data.len());
                sys::data::write_all_at(&s.plain, &data, at.into()).unwrap();
                Ok(())
            }),
            Op::Cut(slot, n) => self.with_slot(slot, true, |u, s| {
                u.setattr(&s.node, &SetAttr { size: Some(n.into()), ..SetAttr::default() }).map_err(errno)?;
                sys::data::set_len(&s.plain, n.into()).unwrap();
                Ok(())
            }),
            Op::Punch(slot, at, n) => self.with_slot(slot, true, |u, s| {
                u.fallocate(&s.node, 3, at.into(), n.into()).map_err(errno)?;
                sys::data::fallocate(&s.plain, 3, at.into(), n.into()).unwrap();
                Ok(())
            }),
            Op::Stat(slot) => self.with_slot(slot, false, |u, s| {
                let ours = u.getattr(&s.node).map_err(errno)?;
                let plain = sys::attr::fstat(&s.plain).unwrap();
                let what = |s: &Stat| (s.mode, s.size, s.uid, s.gid);
                assert_eq!(what(&ours), what(&plain), "fstat of an open file");
                let mut a = vec![0; 70_000];
                let mut b = vec![0; 70_000];
                let n = u.read(&s.node, &mut a, 0).map_err(errno)?;
                assert_eq!(n, sys::data::read_at(&s.plain, &mut b, 0).unwrap(), "read of an open file");
                assert!(a == b, "content of an open file");
                Ok(())
            }),
            Op::ChmodOpen(slot, m) => self.with_slot(slot, false, |u, s| {
                let mode = crate::ops::mode(m);
                u.setattr(&s.node, &SetAttr { mode: Some(mode), ..SetAttr::default() }).map_err(errno)?;
                sys::attr::chmod(&s.plain, mode).unwrap();
                Ok(())
            }),
            Op::Copy(from, x, to, y, len) => {
                let (from, to) = (usize::from(from) % SLOTS, usize::from(to) % SLOTS);
                let (Some(a), Some(b)) = (&self.slots[from], &self.slots[to]) else { return Ok(()) };
                if !b.write || Arc::ptr_eq(&a.node, &b.node) {
                    return Ok(());
                }
                let n = self.union().copy_range(&a.node, x.into(), &b.node, y.into(), len.into()).map_err(errno)?;
                let mut buf = vec![0; n];
                assert_eq!(sys::data::read_at(&a.plain, &mut buf, x.into()).unwrap(), n, "copied behind the end");
                assert!(
                    n > 0 || len == 0 || sys::attr::fstat(&a.plain).unwrap().size <= x.into(),
                    "nothing was copied"
                );
                sys::data::write_all_at(&b.plain, &buf, y.into()).unwrap();
                Ok(())
            }
            Op::Forget | Op::Remount => Ok(()),
        }
    }

    fn with_slot(&self, slot: u8, write: bool, body: impl FnOnce(&Union, &Slot) -> Outcome) -> Outcome {
        match &self.slots[usize::from(slot) % SLOTS] {
            Some(slot) if slot.write || !write => body(self.union(), slot),
            _ => Ok(()),
        }
    }

    fn set_attr(&mut self, at: At, change: SetAttr) -> Outcome {
        let node = self.lookup(&self.path(at))?;
        if node.kind == Kind::Symlink && change.mode.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        self.union().setattr(&node, &change).map_err(errno)?;
        Ok(())
    }

    fn run_plain(&self, op: &Op) -> Outcome {
        plain(&self.plain, op, |at| self.path(at)).map_err(|e| e.errno())
    }
}

pub fn time(n: u16) -> Time {
    Time { secs: i64::from(n) * 20_000 - 500_000, nanos: u32::from(n) * 1000 }
}

pub fn xattr(n: u8) -> &'static [u8] {
    [&b"trusted.t"[..], b"trusted.x", b"user.u"][usize::from(n) % 3]
}

pub fn set_mode(n: u8) -> SetMode {
    [SetMode::Any, SetMode::Create, SetMode::Replace, SetMode::Any][usize::from(n) % 4]
}

/// The same operation by the kernel on the plain directory.
fn plain(root: &Path, op: &Op, path: impl Fn(At) -> RelPath) -> sys::Result<()> {
    let hold = |at: At| {
        let (dir, name) = layers::parent_of(root, &path(at))?;
        sys::open::path_at(&dir, name.as_name())
    };
    match *op {
        Op::Make(at, new, m, other) => {
            let (dir, name) = layers::parent_of(root, &path(at))?;
            let (name, mode) = (name.as_name(), crate::ops::mode(m));
            match new {
                New::File => drop(sys::open::create_at(&dir, name, mode)?),
                New::Dir => sys::name::mkdir(&dir, name, mode)?,
                New::Symlink => sys::name::symlink(b"to/\xff", &dir, name)?,
                New::Fifo => sys::name::mknod(&dir, name, Kind::Fifo, mode, 0)?,
                New::Device => sys::name::mknod(&dir, name, Kind::Char, mode, sys::attr::makedev(1, 5))?,
            }
            let setgid = sys::attr::fstat(&dir)?.mode & sys::attr::S_ISGID != 0;
            let id = if other { 1000 } else { 0 };
            let fd = sys::open::path_at(&dir, name)?;
            sys::attr::chown(&fd, Some(id), (!setgid).then_some(id))?;
            if !matches!(new, New::Symlink) {
                let inherited = if setgid && matches!(new, New::Dir) { sys::attr::S_ISGID } else { 0 };
                // mkdir does not take set-id bits, the others do.
                let asked = if matches!(new, New::Dir) { mode & !0o6000 } else { mode };
                sys::attr::chmod(&fd, asked | inherited)?;
            }
            Ok(())
        }
        Op::Link(from, to) => {
            let (a, old) = layers::parent_of(root, &path(from))?;
            let (b, new) = layers::parent_of(root, &path(to))?;
            sys::name::link(&a, old.as_name(), &b, new.as_name())
        }
        Op::Unlink(at) => {
            let (dir, name) = layers::parent_of(root, &path(at))?;
            sys::name::unlink(&dir, name.as_name())
        }
        Op::Rmdir(at) => {
            let (dir, name) = layers::parent_of(root, &path(at))?;
            sys::name::rmdir(&dir, name.as_name())
        }
        Op::Rename(a, b, flag) => {
            let (old, a) = layers::parent_of(root, &path(a))?;
            let (new, b) = layers::parent_of(root, &path(b))?;
            let mode = match flag {
                Flag::None => RenameMode::Replace,
                Flag::NoReplace => RenameMode::NoReplace,
                Flag::Exchange => RenameMode::Exchange,
            };
            sys::name::rename(&old, a.as_name(), &new, b.as_name(), mode)
        }
        Op::Chmod(at, m) => {
            let fd = hold(at)?;
            if sys::attr::fstat(&fd)?.kind() == Kind::Symlink {
                return Err(sys::Error::bare("fchmod", Errno::OPNOTSUPP));
            }
            sys::attr::chmod(fd, crate::ops::mode(m))
        }
        Op::Chown(at, n) => {
            let n = Some(u32::from(n % 3) * 500);
            sys::attr::chown(hold(at)?, n, n)
        }
        Op::Times(at, n) => sys::attr::set_times(hold(at)?, SetTime::At(time(n)), SetTime::At(time(n))),
        Op::SetXattr(at, n, v) => sys::xattr::set(hold(at)?, xattr(n), &[v; 20], set_mode(v)),
        Op::RemoveXattr(at, n) => sys::xattr::remove(hold(at)?, xattr(n)),
        Op::Truncate(at, n) => {
            let fd = hold(at)?;
            match sys::attr::fstat(&fd)?.kind() {
                Kind::File => sys::data::set_len(sys::open::reopen(fd, sys::open::Access::ReadWrite)?, n.into()),
                Kind::Dir => Err(sys::Error::bare("truncate", Errno::ISDIR)),
                _ => Err(sys::Error::bare("truncate", Errno::INVAL)),
            }
        }
        Op::Open(_, at, ..) => match sys::attr::fstat(hold(at)?)?.kind() {
            Kind::File => Ok(()),
            _ => Err(sys::Error::bare("open", Errno::INVAL)),
        },
        // Operations on handles were done on both sides at once.
        _ => Ok(()),
    }
}

/// Whether two results are the same, or differ where it is the kernel above the union that decides.
fn alike(op: &Op, touched: &[RelPath], ours: Outcome, plain: Outcome) -> bool {
    if ours == plain {
        return true;
    }
    match (op, touched) {
        // One path above the other: the VFS refuses these itself, in an order of its own.
        (Op::Rename(..), [a, b]) => {
            let (a, b) = (a.to_bytes(), b.to_bytes());
            ours.is_err() && plain.is_err() && (a.starts_with(&b) || b.starts_with(&a))
        }
        // Removing an attribute that cannot be there: "none" or "not permitted". A link of a directory to a name that
        // is taken: the VFS asks for the name first.
        (Op::RemoveXattr(..) | Op::Link(..), _) => ours.is_err() && plain.is_err(),
        _ => false,
    }
}

/// Fails unless both trees show the same; objects of `parted` only need to be there.
fn same(when: &str, plain: &Tree, ours: &Tree, parted: &HashSet<u64>) {
    let paths = |t: &Tree| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(plain), paths(ours), "{when}: names (plain directory, union)");
    for (path, p) in plain {
        let o = &ours[path];
        // Numbers and link counts are compared elsewhere.
        let (a, b) = (Shown { ino: 0, nlink: 0, ..p.clone() }, Shown { ino: 0, nlink: 0, ..o.clone() });
        if !parted.contains(&p.ino) {
            assert!(a == b, "{when}: {path}\nplain directory: {}\nunion: {}", brief(&a), brief(&b));
        }
    }
}

pub fn brief(s: &Shown) -> String {
    let sum: u64 = s.data.iter().enumerate().map(|(i, b)| (i as u64 + 1) * u64::from(*b)).sum();
    format!(
        "{:?} {:o} {}:{} rdev {} size {} ({} bytes, sum {sum}) mtime {:?} xattrs {:?}",
        s.kind,
        s.mode,
        s.uid,
        s.gid,
        s.rdev,
        s.size,
        s.data.len(),
        s.mtime,
        s.xattrs.iter().map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.len(), v.first())).collect::<Vec<_>>()
    )
}

/// The kernel's overlayfs over the same directories; unmounted when dropped.
struct KernelMount(PathBuf);

impl KernelMount {
    fn new(setup: &Setup, scratch: &Scratch) -> Option<Self> {
        let at = scratch.dir("kernel");
        let lower = |i| scratch.dir(&format!("lower{i}")).display().to_string();
        let lowers: Vec<String> = (0..setup.layers.len()).rev().map(lower).collect();
        let option = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir={},index=off,metacopy={},xino=off",
            lowers.join(":"),
            scratch.dir("upper").display(),
            scratch.dir("work").display(),
            if setup.redirect { "on" } else { "off" },
            if setup.redirect { "on" } else { "off" }
        );
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "overlay", "mica-test", "-o", &option]).arg(&at).status();
        if done.is_ok_and(|status| status.success()) {
            return Some(KernelMount(at));
        }
        eprintln!("not compared with the kernel's overlayfs: it mounts nothing with {option}");
        None
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|s| s.success()), "umount {}", self.0.display());
    }
}

/// Runs operations on a mount of the kernel's overlayfs and on a plain directory; what the kernel left in upper must then show
/// the same through a union.
pub fn read_what_the_kernel_wrote(setup: &Setup, ops: &[Op]) {
    let scratch = Scratch::new();
    setup.write_layers(&scratch);
    let plain_root = scratch.0.join("plain");
    let Some(kernel) = KernelMount::new(setup, &scratch) else {
        // Once for all cases of the test.
        static SAID: std::sync::Once = std::sync::Once::new();
        return SAID.call_once(|| crate::support::report_skip("the kernel mounts no overlay here"));
    };
    for op in ops {
        let tree = snap::of_dir(&plain_root).unwrap();
        let dirs: Vec<&RelPath> = tree.iter().filter(|(_, s)| s.kind == Kind::Dir).map(|(path, _)| path).collect();
        let path = |at: At| dirs[usize::from(at.0) % dirs.len()].child(layers::name(at.1).as_name());
        // What the kernel's overlayfs refuses, the plain directory does not do either.
        if plain(&kernel.0, op, path).is_ok() {
            plain(&plain_root, op, path).expect("a plain directory allows what an overlay allows");
        }
    }
    let by_kernel = snap::of_dir(&kernel.0).unwrap();
    drop(kernel);
    let union = setup.mount(&scratch);
    let mut pins = Pins::default();
    let ours = snap::of_union(&union, &mut pins).expect("a readable union");
    same("an upper that the kernel wrote", &by_kernel, &ours, &HashSet::new());
    pins.forget_all(&union);
    union.table().collect();
    assert_eq!(union.table().len(), 1, "nodes are left");
}
