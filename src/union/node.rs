//! Nodes: the inodes of the union, and the table of those that the kernel knows.
//!
//! A node is an identity, not a name (decision 6): a lower object, or an upper one, or a lower one that was copied
//! up, which stays the same node. It lives until the kernel forgets it.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::hash::Hasher;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::error::Error;
use super::error::Result;
use super::files::Queued;
pub(super) use super::io::Io;
pub(super) use super::io::OpenFor;
use super::lookup::Dirs;
use super::lookup::Lower;
use super::no_caps::NoCaps;
use super::parts::Here;
use super::readdir::Listing;
use crate::layer::ObjectId;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;

/// The number of the root, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;

/// An inode of the union. One is kept for every inode that the kernel knows, so its size counts: a test below holds it.
#[derive(Debug)]
pub struct Node {
    /// Its number, for the kernel and for `stat`.
    pub ino: u64,
    /// Its type; never changes.
    pub kind: Kind,
    /// References the kernel holds. At the largest number it stays: such a node is kept for good.
    lookups: AtomicU32,
    /// Whether it waits in [`Table::zombies`].
    waits: AtomicBool,
    pub(super) body: RwLock<Body>,
    /// Held over this node's own copy-up, also while data is copied; never together with another node's, except an
    /// ancestor's. See the lock order in [`super`].
    pub(super) copy: Mutex<()>,
    /// Of directories only.
    inside: Option<Box<Inside>>,
    /// Names above this object that may not be durable yet; a sync of the file must write them, too. Of a node that was just
    /// looked up nobody knows: its names may have been made before it was forgotten. Set behind a change of the place.
    fresh: AtomicBool,
    /// The kernel was told of it. Others look up, too, for themselves: who finds out what comes next, or makes a listing.
    told: AtomicBool,
    /// Layers may have changed since this node was looked up.
    pub(super) outdated: AtomicBool,
    pub(super) no_caps: NoCaps,
    /// It was opened while in a layer, and its content is shorter than [`SMALL`](super::data::SMALL).
    pub(super) is_small: AtomicBool,
    /// Its place among the backing files that are open without a handle.
    pub(super) queued: Queued,
}

/// What only a directory has.
#[derive(Debug, Default)]
struct Inside {
    /// Held for writing while names here change, for reading while they are looked up.
    names: RwLock<()>,
    /// The merged listing, while it is being read.
    listing: Mutex<Option<Arc<Listing>>>,
    /// How often somebody changed it, other than by a copy-up.
    changes: AtomicU32,
    /// The change time that a copy-up left, in place of the one that shows.
    unmoved: Mutex<Option<Unmoved>>,
}

/// The parts of a node that change.
#[derive(Debug)]
pub(super) struct Body {
    /// One name under which the object is found; `None` for the root and for what has no name any more.
    pub place: Option<(Arc<Node>, NameBuf)>,
    pub real: Real,
    rare: Option<Box<Rare>>,
}

/// What few nodes have at a time.
#[derive(Debug)]
pub(super) struct Rare {
    /// The open backing file, shared by all handles of the node.
    pub io: Option<Io>,
    /// Where the content of a file in upper lies as long as only its attributes were copied up.
    pub data: Option<Lower>,
    /// What of that content lies in upper after all, once the file was written to.
    pub here: Option<Arc<Here>>,
    /// Handles that are open.
    pub opens: u32,
    /// What the union's link count is more, or less, than the object's own: names of a hard-linked lower file that still
    /// show, or were deleted.
    pub nlink_shift: i64,
    /// Other names of a hard-linked lower file under which it was seen; its copy takes them over before its next change.
    pub seen: Vec<SeenName>,
}

/// A change time that stands for another one, as long as nothing else changes the directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unmoved {
    /// That of the directory in upper.
    pub real: Time,
    /// The one that shows.
    pub shown: Time,
}

/// A name under which a lower file was seen, and what lay there.
#[derive(Debug)]
pub(super) struct SeenName {
    pub parent: Arc<Node>,
    pub name: NameBuf,
    pub lower: Lower,
}

/// The most names that are remembered of one file: a bound on memory.
const MAX_SEEN: usize = 1024;

/// What a node has of it that has nothing.
static NOTHING_RARE: Rare = Rare::new();

impl Rare {
    const fn new() -> Self {
        Self { io: None, data: None, here: None, opens: 0, nlink_shift: 0, seen: Vec::new() }
    }

    fn is_nothing(&self) -> bool {
        let Self { io, data, here, opens, nlink_shift, seen } = self;
        let (no_file, no_copy) = (io.is_none() && *opens == 0, data.is_none() && here.is_none());
        no_file && no_copy && *nlink_shift == 0 && seen.is_empty()
    }

    /// The one list of what lies in upper: `here`, unless there is one already. `None` where all of it does.
    pub fn share_here(&mut self, here: Arc<Here>) -> Option<Arc<Here>> {
        self.data.as_ref()?;
        self.io.take_if(|io| matches!(io, Io::Lower(_)));
        Some(self.here.get_or_insert(here).clone())
    }

    /// All of the content lies in upper now. Returns what was open and is no more.
    pub fn all_copied(&mut self) -> Option<Io> {
        (self.data, self.here) = (None, None);
        self.io.take_if(|io| matches!(io, Io::Lower(_) | Io::Partly(_)))
    }
}

impl Body {
    /// What few nodes have.
    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// Changes what few nodes have; memory is taken for it only as long as there is something.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut Rare) -> T) -> T {
        match &mut self.rare {
            Some(rare) => {
                let answer = change(rare);
                if rare.is_nothing() {
                    self.rare = None;
                }
                answer
            }
            None => {
                let mut rare = Rare::new();
                let answer = change(&mut rare);
                if !rare.is_nothing() {
                    self.rare = Some(Box::new(rare));
                }
                answer
            }
        }
    }

    /// Remembers one more name of a lower file.
    pub fn saw(&mut self, parent: &Arc<Node>, name: Name<'_>, lower: &Lower) {
        let known = |s: &SeenName| Arc::ptr_eq(&s.parent, parent) && s.name.as_name() == name;
        let seen = &self.rare().seen;
        if seen.len() < MAX_SEEN && !seen.iter().any(known) {
            let one = SeenName { parent: parent.clone(), name: name.to_buf(), lower: lower.clone() };
            self.change(|rare| rare.seen.push(one));
        }
    }
}

/// The object a node stands for.
#[derive(Debug, Clone)]
pub(super) enum Real {
    /// A directory and what it is merged of.
    Dir(Dirs),
    /// An object of a lower layer.
    Lower(Lower),
    /// An object in upper, found at the node's place, or held open when it has no name any more.
    Upper { id: ObjectId, held: Option<Arc<OwnedFd>> },
}

impl Node {
    pub(super) fn new(ino: u64, kind: Kind, place: Option<(Arc<Node>, NameBuf)>, real: Real) -> Self {
        Self {
            ino,
            kind,
            lookups: AtomicU32::new(0),
            waits: AtomicBool::new(false),
            body: RwLock::new(Body { place, real, rare: None }),
            copy: Mutex::new(()),
            inside: (kind == Kind::Dir).then(Box::default),
            fresh: AtomicBool::new(true),
            told: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            no_caps: NoCaps::default(),
            is_small: AtomicBool::new(false),
            queued: Queued::default(),
        }
    }

    /// A node of a file in upper whose content lies below.
    pub(super) fn with_data(mut self, data: Option<Lower>) -> Self {
        self.body.get_mut().change(|rare| rare.data = data);
        self
    }

    /// The lock of a directory's names: held for writing while they change, for reading while they are looked up.
    ///
    /// # Errors
    /// `ENOTDIR` for anything else.
    pub(super) fn names(&self) -> Result<&RwLock<()>> {
        Ok(&self.inside()?.names)
    }

    /// A directory's merged listing, while it is being read.
    ///
    /// # Errors
    /// `ENOTDIR` for anything else.
    pub(super) fn listing(&self) -> Result<&Mutex<Option<Arc<Listing>>>> {
        Ok(&self.inside()?.listing)
    }

    fn inside(&self) -> Result<&Inside> {
        self.inside.as_deref().ok_or(Error::Refused(Errno::NOTDIR))
    }

    /// The kernel is about to be told of this node: from now on it has it under its name, and not that nothing is there.
    pub fn tell(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// It was found under another name, by somebody who has not told the kernel yet.
    pub(super) fn untell(&self) {
        self.told.store(false, Ordering::Relaxed);
    }

    /// Whether the kernel was told of it at its place.
    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Its names may not be durable any more; said behind a change of its place.
    pub(super) fn mark_fresh(&self) {
        self.fresh.store(true, Ordering::Release);
    }

    /// Whether its names, or attributes that no change of data brings to the disk, may not be durable.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Acquire)
    }

    /// Whether its names may not be durable; they will be made so now.
    pub(super) fn take_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::AcqRel)
    }

    /// It was changed by what somebody asked for: its change time is its own again, also where that is no later one.
    pub(super) fn is_changed(&self) {
        if let Ok(inside) = self.inside() {
            inside.changes.fetch_add(1, Ordering::AcqRel);
            *inside.unmoved.lock() = None;
        }
    }

    /// The change time that shows of a directory that has `real` in upper.
    pub(super) fn shown_ctime(&self, real: Time) -> Time {
        let unmoved = self.inside().ok().and_then(|inside| *inside.unmoved.lock());
        unmoved.filter(|unmoved| unmoved.real == real).map_or(real, |unmoved| unmoved.shown)
    }

    /// Lets a directory that was changed by a copy-up alone, from the change time `from` to `real`, go on showing the one of before; unless
    /// somebody changed it since it was counted that `changes` had.
    pub(super) fn keep_ctime(&self, (from, real): (Time, Time), changes: u32) {
        let shown = self.shown_ctime(from);
        if let Ok(inside) = self.inside() {
            let mut unmoved = inside.unmoved.lock();
            *unmoved = (inside.changes.load(Ordering::Acquire) == changes).then_some(Unmoved { real, shown });
        }
    }

    /// How often somebody changed this directory, other than by a copy-up.
    pub(super) fn changes(&self) -> u32 {
        self.inside().map_or(0, |inside| inside.changes.load(Ordering::Acquire))
    }

    /// The directories this one is merged of; `None` for anything else.
    pub(super) fn dirs(&self) -> Option<Dirs> {
        match &self.body.read().real {
            Real::Dir(dirs) => Some(dirs.clone()),
            _ => None,
        }
    }

    /// Whether the object lies in upper already.
    pub(super) fn in_upper(&self) -> bool {
        match &self.body.read().real {
            Real::Dir(dirs) => dirs.upper.is_some(),
            Real::Upper { .. } => true,
            Real::Lower(_) => false,
        }
    }

    /// What tells its object in upper apart there, if it has one.
    pub(super) fn upper_id(&self) -> Option<ObjectId> {
        match &self.body.read().real {
            Real::Upper { id, .. } => Some(*id),
            Real::Dir(dirs) => dirs.upper.as_ref().map(|handle| handle.id()),
            Real::Lower(_) => None,
        }
    }

    /// The numbers of the directories it refers to, and keeps in the table.
    fn refers_to(&self) -> Vec<u64> {
        let body = self.body.read();
        let seen = body.rare().seen.iter().map(|seen| seen.parent.ino);
        seen.chain(body.place.as_ref().map(|(parent, _)| parent.ino)).collect()
    }

    /// The number of the directory it was found in; its own for the root, and for what has no name any more.
    pub fn parent_ino(&self) -> u64 {
        self.body.read().place.as_ref().map_or(self.ino, |(parent, _)| parent.ino)
    }

    /// References the kernel holds.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed).into()
    }

    fn add_lookup(&self) {
        // Never fails: the closure always gives a number.
        let _ = self.lookups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_add(1)));
    }

    /// Whether none is left.
    fn take_lookups(&self, count: u64) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let less = |n: u32| if n == u32::MAX { n } else { n.saturating_sub(count) };
        self.lookups.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(less(n))).is_ok_and(|n| less(n) == 0)
    }
}

impl Drop for Node {
    /// Drops the nodes above that nobody else holds in a loop: depth is in the hands of users.
    fn drop(&mut self) {
        let mut place = self.body.get_mut().place.take();
        while let Some((parent, _)) = place {
            let Some(mut parent) = Arc::into_inner(parent) else { break };
            place = parent.body.get_mut().place.take();
        }
    }
}

const SHARDS: usize = 64;

/// Nodes by number; a set, since the number is in the node.
type Shard = FxHashSet<ByNumber>;

#[derive(Debug)]
struct ByNumber(Arc<Node>);

impl Borrow<u64> for ByNumber {
    fn borrow(&self) -> &u64 {
        &self.0.ino
    }
}

impl Hash for ByNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.ino.hash(state);
    }
}

impl PartialEq for ByNumber {
    fn eq(&self, other: &Self) -> bool {
        self.0.ino == other.0.ino
    }
}

impl Eq for ByNumber {}

/// The nodes that the kernel, or a child of theirs, refers to.
///
/// Lock order: `dynamic`, `zombies`, one shard, `copies`.
#[derive(Debug)]
pub struct Table {
    shards: [Mutex<Shard>; SHARDS],
    /// Numbers given out to objects that have none of their own, by what tells them apart.
    dynamic: Mutex<Dynamic>,
    next_dynamic: AtomicU64,
    /// Copies in upper that go by the number of what they were copied from, as long as their node is known.
    copies: Mutex<FxHashMap<ObjectId, u64>>,
    /// Forgotten nodes that somebody still referred to at that moment: a child, or an operation under way. Oldest first.
    zombies: Mutex<VecDeque<u64>>,
}

/// Numbers given out, by object and by number.
#[derive(Debug, Default)]
struct Dynamic {
    numbers: FxHashMap<(Option<u16>, ObjectId), u64>,
    objects: FxHashMap<u64, (Option<u16>, ObjectId)>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            dynamic: Mutex::default(),
            next_dynamic: AtomicU64::new(super::stack::DYNAMIC),
            copies: Mutex::default(),
            zombies: Mutex::default(),
        }
    }
}

impl Table {
    /// A disk gives numbers in rows with gaps, so their last bits fill some shards more than others: and a shard that is a little too full
    /// takes twice the room.
    #[allow(clippy::indexing_slicing, reason = "the remainder is below the length")]
    fn shard(&self, ino: u64) -> &Mutex<Shard> {
        &self.shards[(ino.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as usize % SHARDS]
    }

    /// The node of a number.
    pub fn get(&self, ino: u64) -> Option<Arc<Node>> {
        self.shard(ino).lock().get(&ino).map(|known| known.0.clone())
    }

    /// All nodes there are now.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().iter().map(|known| known.0.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert_root(&self, root: Arc<Node>) {
        root.lookups.store(1, Ordering::Relaxed);
        self.shard(root.ino).lock().insert(ByNumber(root));
    }

    /// The node `ino` with one more reference: the known one if `fits` agrees that it is the same object (and brings it up to
    /// date), or a new one of `make`. `None` when the number is taken by another object.
    pub(super) fn intern(
        &self,
        ino: u64,
        fits: impl FnOnce(&Node) -> bool,
        make: impl FnOnce() -> Node,
    ) -> Option<Arc<Node>> {
        let mut shard = self.shard(ino).lock();
        let node = match shard.get(&ino) {
            Some(known) if fits(&known.0) => known.0.clone(),
            Some(_) => return None,
            None => {
                let node = Arc::new(make());
                shard.insert(ByNumber(node.clone()));
                node
            }
        };
        node.add_lookup();
        Some(node)
    }

    /// One more reference to a node that the caller holds, and that so is in the table. Under the lock of its shard: who sweeps looks at
    /// the references first.
    pub(super) fn refer(&self, node: &Node) {
        let _shard = self.shard(node.ino).lock();
        node.add_lookup();
    }

    /// [`Table::intern`] for an object whose own number is taken or does not fit: under a number that stays the same as long as
    /// the object is known.
    pub(super) fn intern_dynamic(
        &self,
        layer: Option<u16>,
        id: ObjectId,
        fits: impl FnOnce(&Node) -> bool,
        make: impl FnOnce(u64) -> Node,
    ) -> Option<Arc<Node>> {
        // Held until the node is in its shard: else a forgotten node of this object could take the number with it.
        let Dynamic { numbers, objects } = &mut *self.dynamic.lock();
        let ino = *numbers.entry((layer, id)).or_insert_with(|| {
            let ino = self.fresh_ino();
            objects.insert(ino, (layer, id));
            ino
        });
        self.intern(ino, fits, || make(ino))
    }

    /// A number that no node has, nor ever will.
    pub fn fresh_ino(&self) -> u64 {
        self.next_dynamic.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that the object `id` in upper is the copy that node `ino` stands for.
    pub(super) fn note_copy(&self, id: ObjectId, ino: u64) {
        self.copies.lock().insert(id, ino);
    }

    /// The node that the object `id` in upper is the copy of, if one is known.
    pub(super) fn copy_of(&self, id: ObjectId) -> Option<u64> {
        self.copies.lock().get(&id).copied()
    }

    /// Takes back `count` references; the node goes when none is left and no child refers to it.
    pub fn forget(&self, ino: u64, count: u64) {
        if ino == ROOT {
            return;
        }
        if let Some(node) = self.get(ino) {
            let none_left = node.take_lookups(count);
            drop(node);
            if none_left {
                self.sweep(ino);
            }
        }
    }

    /// The copy that a node which goes stands for loses its number here.
    fn forget_copy(&self, node: &Node) {
        if let Some(id) = node.upper_id() {
            let mut copies = self.copies.lock();
            if copies.get(&id) == Some(&node.ino) {
                copies.remove(&id);
            }
        }
    }

    /// Removes every forgotten node that nobody refers to any more; needed only when no more is forgotten.
    pub fn collect(&self) {
        let waiting = self.zombies.lock().len();
        self.sweep_all(Vec::new(), waiting);
    }

    /// Removes a node without references, then its parent if that waited only for it, and some that waited longer.
    fn sweep(&self, ino: u64) {
        self.sweep_all(vec![ino], 4);
    }

    fn sweep_all(&self, mut queue: Vec<u64>, waiting: usize) {
        {
            let mut zombies = self.zombies.lock();
            let count = waiting.min(zombies.len());
            for ino in zombies.drain(..count) {
                if let Some(node) = self.get(ino) {
                    node.waits.store(false, Ordering::Relaxed);
                    queue.push(ino);
                }
            }
        }
        while let Some(ino) = queue.pop() {
            if let Some(node) = self.take_forgotten(ino) {
                queue.extend(node.refers_to());
            }
        }
    }

    /// Takes a node out that nobody refers to, with its numbers: while the shard is locked nobody can make it anew. One that an
    /// operation or a child still refers to waits.
    fn take_forgotten(&self, ino: u64) -> Option<Arc<Node>> {
        let dynamic = (ino >= super::stack::DYNAMIC).then(|| self.dynamic.lock());
        let mut shard = self.shard(ino).lock();
        let ByNumber(node) = shard.get(&ino)?;
        if node.lookups() > 0 || ino == ROOT {
            return None;
        }
        if Arc::strong_count(node) > 1 {
            let queued = node.waits.swap(true, Ordering::Relaxed);
            drop(shard);
            if !queued {
                self.zombies.lock().push_back(ino);
            }
            return None;
        }
        if let Some(mut dynamic) = dynamic {
            let Dynamic { numbers, objects } = &mut *dynamic;
            objects.remove(&ino).and_then(|object| numbers.remove(&object));
        }
        self.forget_copy(node);
        let ByNumber(node) = shard.take(&ino)?;
        give_back(&mut shard);
        Some(node)
    }
}

/// Gives memory back when most of a shard is empty: after all was forgotten, all of it.
#[allow(clippy::mutable_key_type, reason = "only the number is hashed and compared, and it never changes")]
fn give_back(shard: &mut Shard) {
    if shard.capacity() > 28 && shard.len() * 4 < shard.capacity() {
        shard.shrink_to(shard.len() * 2);
    }
}

#[cfg(test)]
mod tests;
