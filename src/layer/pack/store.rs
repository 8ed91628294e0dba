//! Where packs live: a directory with `packs/`, `objects/` and `tmp/`.
//!
//! ```text
//! packs/HEX.idx    the index of the layer with this diff id; that it is there is what makes the pack be there
//! packs/HEX.pack   its pack file
//! packs/HEX.bad    an empty mark: the pack file is damaged; its layer is read as far as it goes, and loaded again
//! objects/HH/REST  file bodies by SHA-256, shared by all packs, never changed
//! tmp/RANDOM       what is being written
//! ```
//! Invariants: a file in `packs/` or `objects/` was complete and durable before it got its name; an index is named after
//! all that it needs; what is removed is removed in the reverse order. So after a crash at any point there is at most
//! something that nobody refers to, and [`PackStore::collect_garbage`] removes that.
//!
//! Whoever writes holds a shared lock (`flock`) on `tmp/` until it has published; collecting garbage needs it exclusively.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Weak;

use parking_lot::Mutex;

use super::PackLayer;
use super::format::Bytes;
use super::format::Index;
use super::format::NODE_IMPLIED;
use super::format::Table;
use super::writer::PackWriter;
use super::writer::Prepared;
use crate::digest::Digest;
use crate::layer::Error;
use crate::layer::Result;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::lock::Held;
use crate::sys::lock::LockKind;
use crate::sys::name::RenameMode;

/// The directories of a store, open.
#[derive(Debug)]
pub(super) struct Dirs {
    packs: OwnedFd,
    objects: OwnedFd,
    pub(super) tmp: OwnedFd,
    /// The shared lock on `tmp/`, while any pack is being written or waits to be published.
    writing: Mutex<Weak<Held>>,
}

/// The packs of a store.
#[derive(Debug, Clone)]
pub struct PackStore {
    dirs: Arc<Dirs>,
}

/// What is told of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The size of the uncompressed tar in bytes.
    pub tar_size: u64,
    /// Names in all directories, whiteouts too.
    pub entries: u64,
    /// Regular files; one with several names counts once.
    pub files: u64,
    /// Directories that the tar has an entry for, the root too.
    pub dirs: u64,
    /// Bytes of content of all files, holes not counted.
    pub content: u64,
    /// Bytes of the index, the pack file and the objects, shared or not.
    pub stored: u64,
}

/// What [`PackStore::collect_garbage`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Someone is writing: nothing was done.
    pub busy: bool,
    /// Packs removed.
    pub packs: u64,
    /// Objects removed.
    pub objects: u64,
    /// Unfinished files removed.
    pub unfinished: u64,
    /// Bytes freed in all.
    pub bytes: u64,
}

fn subdir(root: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let name = fixed_name(name)?;
    match sys::name::mkdir(root, name.as_name(), 0o700) {
        Ok(()) => {}
        Err(e) if e.errno() == Errno::EXIST => {}
        Err(e) => return Err(e.into()),
    }
    Ok(sys::open::dir_at(root, name.as_name())?)
}

/// A name that mica itself makes; it is never a bad one.
fn fixed_name(name: &[u8]) -> Result<NameBuf> {
    NameBuf::new(name).map_err(|_| sys::Error::new("openat", "a name of mica's own", Errno::INVAL).into())
}

impl Dirs {
    /// The shared lock of all writers of this store: a thousand layers that wait to be published hold one descriptor.
    fn writing(&self) -> Result<Arc<Held>> {
        let mut writing = self.writing.lock();
        if let Some(lock) = writing.upgrade() {
            return Ok(lock);
        }
        let lock = Arc::new(Held::take(sys::open::list_dir(&self.tmp)?, LockKind::Shared)?);
        *writing = Arc::downgrade(&lock);
        Ok(lock)
    }

    fn pack_name(id: &Digest, suffix: &str) -> Result<NameBuf> {
        fixed_name(format!("{}.{suffix}", id.hex()).as_bytes())
    }

    fn object_names(id: &Digest) -> Result<(NameBuf, NameBuf)> {
        let hex = id.hex();
        let (dir, rest) = hex.split_at_checked(2).unwrap_or_default();
        Ok((fixed_name(dir.as_bytes())?, fixed_name(rest.as_bytes())?))
    }

    /// Whether the store has this object.
    pub(super) fn has_object(&self, id: &Digest) -> Result<bool> {
        let (dir, name) = Self::object_names(id)?;
        match sys::open::dir_at(&self.objects, dir.as_name()) {
            Ok(dir) => Ok(sys::attr::stat_at(dir, name.as_name())?.is_some()),
            Err(e) if e.errno() == Errno::NOENT => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens an object for reading and tells its size.
    pub(super) fn open_object(&self, id: &Digest) -> Result<(OwnedFd, u64)> {
        let (dir, name) = Self::object_names(id)?;
        let dir = sys::open::dir_at(&self.objects, dir.as_name())?;
        regular(&dir, name.as_name())
    }

    /// The size of an object as its file has it; `None` when there is none, or something that is no file.
    pub(super) fn object_len(&self, id: &Digest) -> Result<Option<u64>> {
        let (dir, name) = Self::object_names(id)?;
        let dir = match sys::open::dir_at(&self.objects, dir.as_name()) {
            Ok(dir) => dir,
            Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let stat = sys::attr::stat_at(dir, name.as_name())?;
        Ok(stat.filter(|stat| stat.kind() == Kind::File).map(|stat| stat.size))
    }

    /// Removes an object that turned out to be damaged.
    pub(super) fn drop_object(&self, id: &Digest) -> Result<()> {
        let (dir, name) = Self::object_names(id)?;
        let dir = sys::open::dir_at(&self.objects, dir.as_name())?;
        Ok(sys::name::remove_all(dir, name.as_name())?)
    }

    pub(super) fn open_pack(&self, id: &Digest, suffix: &str) -> Result<(OwnedFd, u64)> {
        regular(&self.packs, Self::pack_name(id, suffix)?.as_name())
    }

    pub(super) fn open_index(&self, id: &Digest) -> Result<Index> {
        let label = id.short();
        let (fd, len) = self.open_pack(id, "idx")?;
        let damaged = |what: String| Error::Damaged { layer: label.clone(), what };
        let len = usize::try_from(len).map_err(|_| damaged("the index is too large".into()))?;
        if len == 0 {
            return Err(damaged("the index is empty".into()));
        }
        let index = Index::open(Bytes::Mapped(sys::mmap::Map::read_only(fd, len)?), &label)?;
        match index.diff_id == *id {
            true => Ok(index),
            false => Err(damaged(format!("the index is that of layer {}", index.diff_id))),
        }
    }

    /// Gives a finished file its name among the objects, unless that is taken by the same object already.
    fn publish_object(&self, id: &Digest, tmp: &NameBuf) -> Result<()> {
        let len = sys::attr::stat_at(&self.tmp, tmp.as_name())?.map(|stat| stat.size);
        let (dir, name) = Self::object_names(id)?;
        let dir = subdir(&self.objects, dir.as_bytes())?;
        if len.is_some() && self.object_len(id)? == len {
            return Ok(sys::name::unlink(&self.tmp, tmp.as_name())?);
        }
        self.place(tmp, &dir, name.as_name())
    }

    /// Gives a finished file its name, in place of whatever has it: what is there is damaged.
    fn place(&self, tmp: &NameBuf, dir: &OwnedFd, name: Name<'_>) -> Result<()> {
        match sys::name::rename(&self.tmp, tmp.as_name(), dir, name, RenameMode::Replace) {
            Err(e) if matches!(e.errno(), Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                sys::name::remove_all(dir, name)?;
                Ok(sys::name::rename(&self.tmp, tmp.as_name(), dir, name, RenameMode::Replace)?)
            }
            other => Ok(other?),
        }
    }
}

/// Opens a file of the store, which must be a regular one, and tells its size.
fn regular(dir: &OwnedFd, name: Name<'_>) -> Result<(OwnedFd, u64)> {
    // Looked at first: opening a FIFO that someone put there would wait for ever.
    let kind = sys::attr::stat_at(dir, name)?.map(|stat| stat.kind());
    if kind.is_some_and(|kind| kind != Kind::File) {
        return Err(Error::Damaged { layer: name.to_string(), what: "it is not a regular file".into() });
    }
    let fd = sys::open::quiet_file_at(dir, name)?;
    let stat = sys::attr::fstat(&fd)?;
    match stat.kind() {
        Kind::File => Ok((fd, stat.size)),
        _ => Err(Error::Damaged { layer: name.to_string(), what: "it is not a regular file".into() }),
    }
}

fn names_in(dir: &OwnedFd) -> Result<Vec<NameBuf>> {
    let mut names = Vec::new();
    sys::dir::for_each::<Error>(dir, |entry| {
        names.extend(NameBuf::new(entry.name));
        Ok(())
    })?;
    names.sort();
    Ok(names)
}

fn digest_of_name(name: &NameBuf, suffix: &str) -> Option<Digest> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    Digest::from_hex(text.strip_suffix(suffix)?).ok()
}

impl PackStore {
    /// Opens the store in the directory `root`, and makes its three directories (0700) where they are missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_at(root: &OwnedFd) -> Result<Self> {
        let dirs = Dirs {
            packs: subdir(root, b"packs")?,
            objects: subdir(root, b"objects")?,
            tmp: subdir(root, b"tmp")?,
            writing: Mutex::default(),
        };
        Ok(Self { dirs: Arc::new(dirs) })
    }

    /// Whether the layer is there and nothing tells that it must be loaded again: its index is whole, its pack file and all
    /// its objects are there with the right sizes, and it is not marked. Their bytes are not read; [`PackStore::verify`] does that.
    ///
    /// # Errors
    /// The kernel's; [`Error::Newer`] for a layer that a newer mica wrote.
    pub fn has(&self, diff_id: &Digest) -> Result<bool> {
        if !self.is_named(diff_id, "idx")? || self.is_marked(diff_id)? {
            return Ok(false);
        }
        match self.looks_whole(diff_id) {
            Err(Error::Damaged { layer, what }) => {
                log::warn!("layer {layer} has to be loaded again: {what}");
                Ok(false)
            }
            Err(Error::Sys(e)) if matches!(e.errno(), Errno::NOENT | Errno::LOOP | Errno::IO) => Ok(false),
            other => other,
        }
    }

    fn looks_whole(&self, diff_id: &Digest) -> Result<bool> {
        let pack = self.open(diff_id)?;
        let index = &pack.open.index;
        index.must_be_whole()?;
        for position in index.positions(Table::Objects) {
            let object = index.object(position)?;
            if self.dirs.object_len(&object.digest)? != Some(object.len) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a file for the layer with this ending, whatever is in it.
    pub(super) fn is_named(&self, diff_id: &Digest, suffix: &str) -> Result<bool> {
        let name = Dirs::pack_name(diff_id, suffix)?;
        Ok(sys::attr::stat_at(&self.dirs.packs, name.as_name())?.is_some())
    }

    /// Whether the layer is marked as damaged.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_marked(&self, diff_id: &Digest) -> Result<bool> {
        self.is_named(diff_id, "bad")
    }

    /// Marks a layer as damaged: it can be read as before, but counts as missing when it is loaded again.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Durability
    /// On disk when it returns.
    pub fn mark(&self, diff_id: &Digest) -> Result<()> {
        match sys::open::create_at(&self.dirs.packs, Dirs::pack_name(diff_id, "bad")?.as_name(), 0o400) {
            Err(e) if e.errno() != Errno::EXIST => return Err(e.into()),
            _ => {}
        }
        Ok(sys::data::sync_dir(&self.dirs.packs)?)
    }

    /// Takes the mark away; none is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unmark(&self, diff_id: &Digest) -> Result<()> {
        Ok(sys::name::remove_all(&self.dirs.packs, Dirs::pack_name(diff_id, "bad")?.as_name())?)
    }

    /// Opens a layer for reading.
    ///
    /// # Errors
    /// `ENOENT` when it is not there; [`Error::Damaged`] when its index is not what it should be.
    pub fn open(&self, diff_id: &Digest) -> Result<PackLayer> {
        let index = self.dirs.open_index(diff_id)?;
        let (pack, len) = self.dirs.open_pack(diff_id, "pack")?;
        if len != index.pack_len {
            return Err(index.damaged(format!("the pack file has {len} bytes instead of {}", index.pack_len)));
        }
        Ok(PackLayer::new(index, pack, self.dirs.clone()))
    }

    /// Begins a new pack. As long as the writer, or what it made, is not published or dropped, no garbage is collected.
    ///
    /// # Errors
    /// The kernel's.
    pub fn writer(&self) -> Result<PackWriter> {
        PackWriter::new(self.dirs.clone(), self.dirs.writing()?)
    }

    /// Makes prepared packs be there: all of them durable before the first is seen.
    ///
    /// # Errors
    /// The kernel's. The packs whose index has got its name then are there, the others not.
    ///
    /// # Durability
    /// All packs, when it returns. It costs two `syncfs` and one `fsync` for any number of packs.
    pub fn publish(&self, packs: Vec<Prepared>) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        sys::data::sync_fs(&self.dirs.tmp)?;
        for pack in &packs {
            for (id, tmp) in &pack.objects {
                self.dirs.publish_object(id, tmp)?;
            }
            let name = Dirs::pack_name(&pack.diff_id, "pack")?;
            self.dirs.place(&pack.pack, &self.dirs.packs, name.as_name())?;
        }
        // The names of the objects must be durable before an index that needs them is.
        sys::data::sync_fs(&self.dirs.tmp)?;
        for pack in &packs {
            let name = Dirs::pack_name(&pack.diff_id, "idx")?;
            self.dirs.place(&pack.index, &self.dirs.packs, name.as_name())?;
        }
        sys::data::sync_dir(&self.dirs.packs)?;
        // Only now: a mark that went first could leave the damaged layer behind, unmarked.
        for pack in &packs {
            if self.is_marked(&pack.diff_id)? {
                self.unmark(&pack.diff_id)?;
            }
        }
        packs.into_iter().for_each(Prepared::published);
        Ok(())
    }

    /// Removes a layer's index, then its pack file. Its objects stay until garbage is collected. Nothing to remove is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        for suffix in ["idx", "pack", "bad"] {
            sys::name::remove_all(&self.dirs.packs, Dirs::pack_name(diff_id, suffix)?.as_name())?;
        }
        Ok(())
    }

    /// The diff ids of all layers, sorted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self) -> Result<Vec<Digest>> {
        Ok(names_in(&self.dirs.packs)?.iter().filter_map(|name| digest_of_name(name, ".idx")).collect())
    }

    /// Sizes and counts of a layer.
    ///
    /// # Errors
    /// As [`PackStore::open`].
    pub fn info(&self, diff_id: &Digest) -> Result<PackInfo> {
        let index = self.dirs.open_index(diff_id)?;
        let mut info = PackInfo {
            diff_id: index.diff_id,
            tar_size: index.tar_size,
            entries: index.count(Table::Entries) as u64,
            files: 0,
            dirs: 0,
            content: 0,
            stored: index.pack_len.saturating_add(index.file_len()),
        };
        for position in index.positions(Table::Nodes) {
            let node = index.node(position)?;
            match node.kind() {
                Some(Kind::File) => {
                    info.files += 1;
                    info.content = info.content.saturating_add(node.stored);
                }
                Some(Kind::Dir) if node.flags & NODE_IMPLIED == 0 => info.dirs += 1,
                _ => {}
            }
        }
        for position in index.positions(Table::Objects) {
            info.stored = info.stored.saturating_add(index.object(position)?.len);
        }
        Ok(info)
    }

    /// The objects that a layer uses, each once.
    ///
    /// # Errors
    /// As [`PackStore::open`].
    pub fn objects_of(&self, diff_id: &Digest) -> Result<BTreeSet<Digest>> {
        let index = self.dirs.open_index(diff_id)?;
        index.must_be_known()?;
        index.positions(Table::Objects).map(|position| Ok(index.object(position)?.digest)).collect()
    }

    /// The digests by which all objects are named, sorted; names that are no digest are left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn objects(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for prefix in names_in(&self.dirs.objects)? {
            let Ok(dir) = sys::open::dir_at(&self.dirs.objects, prefix.as_name()) else { continue };
            for name in names_in(&dir)? {
                let whole = NameBuf::new(&[prefix.as_bytes(), name.as_bytes()].concat());
                found.extend(whole.ok().and_then(|whole| digest_of_name(&whole, "")));
            }
        }
        Ok(found)
    }

    /// The size of an object's file in bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn object_len(&self, id: &Digest) -> Result<Option<u64>> {
        self.dirs.object_len(id)
    }

    /// Removes an object that turned out to be damaged: the layers that use it count as missing from then on, and a load
    /// brings it back.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drop_object(&self, id: &Digest) -> Result<()> {
        self.dirs.drop_object(id)
    }

    /// How many unfinished files there are, and pack files without an index; and their bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leftovers(&self) -> Result<(u64, u64)> {
        let (mut files, mut bytes) = (0, 0);
        let mut add = |dir: &OwnedFd, name: &NameBuf| -> Result<()> {
            files += 1;
            bytes += sys::attr::stat_at(dir, name.as_name())?.map_or(0, |stat| stat.size);
            Ok(())
        };
        names_in(&self.dirs.tmp)?.iter().try_for_each(|name| add(&self.dirs.tmp, name))?;
        for name in names_in(&self.dirs.packs)? {
            let owner = digest_of_name(&name, ".pack").or(digest_of_name(&name, ".bad"));
            if let Some(id) = owner
                && !self.is_named(&id, "idx")?
            {
                add(&self.dirs.packs, &name)?;
            }
        }
        Ok((files, bytes))
    }

    /// The objects that a layer uses, each once, with their sizes in bytes.
    ///
    /// # Errors
    /// As [`PackStore::open`].
    pub fn object_sizes(&self, diff_id: &Digest) -> Result<Vec<(Digest, u64)>> {
        let index = self.dirs.open_index(diff_id)?;
        let object = |position| index.object(position).map(|object| (object.digest, object.len));
        index.positions(Table::Objects).map(object).collect()
    }

    /// Removes every pack that is not in `keep`, then every object that no kept pack uses, and unfinished files.
    ///
    /// While someone writes, nothing is done and [`Collected::busy`] is set.
    ///
    /// # Errors
    /// The kernel's; [`Error::Damaged`] when the index of a kept pack cannot be read: its objects are not known then, and
    /// no object is removed.
    ///
    /// # Durability
    /// Removed indexes are gone for good before the first object is removed.
    pub fn collect_garbage(&self, keep: &BTreeSet<Digest>) -> Result<Collected> {
        let Some(_held) = Held::try_take(sys::open::list_dir(&self.dirs.tmp)?, LockKind::Exclusive)? else {
            return Ok(Collected { busy: true, ..Collected::default() });
        };
        let mut done = Collected::default();
        self.drop_packs(keep, &mut done)?;
        self.drop_objects(&mut done)?;
        self.drop_unfinished(&mut done)?;
        Ok(done)
    }

    /// Removes what killed writers left unfinished, and nothing else; how many files. Nothing while someone writes.
    ///
    /// Cheap when there is nothing: it lists one directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sweep(&self) -> Result<u64> {
        let mut done = Collected::default();
        if let Some(_held) = Held::try_take(sys::open::list_dir(&self.dirs.tmp)?, LockKind::Exclusive)? {
            self.drop_unfinished(&mut done)?;
        }
        Ok(done.unfinished)
    }

    /// Only under the exclusive lock.
    fn drop_unfinished(&self, done: &mut Collected) -> Result<()> {
        for name in names_in(&self.dirs.tmp)? {
            done.bytes += drop_file(&self.dirs.tmp, &name)?;
            done.unfinished += 1;
        }
        Ok(())
    }

    fn drop_packs(&self, keep: &BTreeSet<Digest>, done: &mut Collected) -> Result<()> {
        let names = names_in(&self.dirs.packs)?;
        for name in &names {
            let unneeded = digest_of_name(name, ".idx").filter(|id| !keep.contains(id));
            if unneeded.is_some_and(|id| !self.is_newer(&id)) {
                done.bytes += drop_file(&self.dirs.packs, name)?;
                done.packs += 1;
            }
        }
        sys::data::sync_dir(&self.dirs.packs)?;
        for name in &names {
            let Some(id) = digest_of_name(name, ".pack").or(digest_of_name(name, ".bad")) else { continue };
            if !self.is_named(&id, "idx")? {
                done.bytes += drop_file(&self.dirs.packs, name)?;
            }
        }
        Ok(())
    }

    /// Whether a newer mica made the pack, in a way that this one may not judge. One that is damaged is not.
    fn is_newer(&self, diff_id: &Digest) -> bool {
        let known = self.dirs.open_index(diff_id).and_then(|index| index.must_be_known());
        matches!(known, Err(Error::Newer { .. }))
    }

    fn drop_objects(&self, done: &mut Collected) -> Result<()> {
        let mut used = HashSet::<Digest, rustc_hash::FxBuildHasher>::default();
        for id in self.list()? {
            used.extend(self.objects_of(&id)?);
        }
        for prefix in names_in(&self.dirs.objects)? {
            let dir = match sys::open::dir_at(&self.dirs.objects, prefix.as_name()) {
                Err(e) if matches!(e.errno(), Errno::NOTDIR | Errno::LOOP) => {
                    done.bytes += drop_file(&self.dirs.objects, &prefix)?;
                    continue;
                }
                other => other?,
            };
            for name in names_in(&dir)? {
                let whole = NameBuf::new(&[prefix.as_bytes(), name.as_bytes()].concat());
                let id = whole.ok().and_then(|whole| digest_of_name(&whole, ""));
                if id.is_none_or(|id| !used.contains(&id)) {
                    done.bytes += drop_file(&dir, &name)?;
                    done.objects += 1;
                }
            }
        }
        Ok(())
    }

    pub(super) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub(super) fn dirs_shared(&self) -> Arc<Dirs> {
        self.dirs.clone()
    }
}

/// Removes whatever has this name; the bytes of a regular file count as freed.
fn drop_file(dir: &OwnedFd, name: &NameBuf) -> Result<u64> {
    let stat = sys::attr::stat_at(dir, name.as_name())?;
    sys::name::remove_all(dir, name.as_name())?;
    Ok(stat.filter(|s| s.kind() == Kind::File).map_or(0, |s| s.size))
}
