//! Checking every byte of a stored layer, and saying which of its files are hit.

use std::cell::Cell;
use std::io::Read;

use flate2::Crc;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::PackLayer;
use super::PackObject;
use super::PackStore;
use super::format::Place;
use super::format::Table;
use super::links;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::layer::Error;
use crate::layer::Layer;
use crate::layer::Object;
use crate::layer::Result;
use crate::path::RelPath;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;

/// How much is read at a time.
const BUFFER: usize = 256 * 1024;
/// The most paths that are named for one damaged file with many names.
const PATHS_MAX: usize = 8;

/// What of a layer is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The index: nothing of the layer can be read, and only loading it again helps.
    Index,
    /// The pack file's length, or bytes of it that belong to no file's content: the layer's tar cannot be given back.
    Pack,
    /// The content of a file that lies in the pack file.
    Body(Option<RelPath>),
    /// The content of a file that lies in this object.
    Object(Digest, Option<RelPath>),
}

impl Part {
    /// The file that is hit, where it has a name.
    pub fn path(&self) -> Option<&RelPath> {
        match self {
            Part::Index | Part::Pack => None,
            Part::Body(path) | Part::Object(_, path) => path.as_ref(),
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer}: {}{why}", .part.path().map(|path| format!("{path}: ")).unwrap_or_default())]
pub struct Damage {
    /// The layer's diff id.
    pub layer: Digest,
    /// What of it.
    pub part: Part,
    /// What was found.
    pub why: String,
}

/// What is wrong with objects, by digest.
pub type BadObjects = FxHashMap<Digest, String>;

impl PackStore {
    /// Checks a layer: the index and every record of it, every object and every body against its digest or sum, and that the
    /// tar that it gives back has the layer's diff id. Calls `each` for everything that is wrong.
    ///
    /// # Errors
    /// `ENOENT` when there is no such layer, and errors of the system that say nothing about the layer.
    pub fn verify(&self, diff_id: &Digest, each: &mut dyn FnMut(Damage)) -> Result<()> {
        let mut bad = BadObjects::default();
        if let Ok(index) = self.dirs().open_index(diff_id) {
            for position in index.positions(Table::Objects) {
                let Ok(object) = index.object(position) else { continue };
                if let Some(why) = self.verify_object(&object.digest, &|_| {})? {
                    bad.insert(object.digest, why);
                }
            }
        }
        self.verify_layer(diff_id, &bad, &|_| {}, each)
    }

    /// Reads an object to its end: what is wrong with it, `None` when nothing is. `read` is told of the bytes.
    ///
    /// # Errors
    /// Those of the system that say nothing about the object.
    pub fn verify_object(&self, object: &Digest, read: &dyn Fn(u64)) -> Result<Option<String>> {
        let fd = match self.dirs().open_object(object) {
            Ok((fd, _)) => fd,
            Err(e) if e.errno() == Errno::NOENT => return Ok(Some("it is missing".into())),
            Err(Error::Damaged { what, .. }) => return Ok(Some(what)),
            Err(e) if is_about_the_machine(&e) => return Err(e),
            Err(e) => return Ok(Some(e.to_string())),
        };
        let (mut hasher, mut at, mut buf) = (Hasher::new(), 0, vec![0u8; BUFFER]);
        loop {
            match sys::data::read_at(&fd, &mut buf, at) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(buf.get(..n).unwrap_or_default());
                    at += n as u64;
                    read(n as u64);
                }
                Err(e) => return Ok(Some(e.to_string())),
            }
        }
        let digest = hasher.finish();
        Ok((digest != *object).then(|| format!("its digest is {digest}")))
    }

    /// As [`PackStore::verify`], for a store whose objects were all checked before, by [`PackStore::verify_object`].
    ///
    /// # Errors
    /// As [`PackStore::verify`]; [`Error::Newer`] for a layer that only a newer mica can judge.
    pub fn verify_layer(
        &self,
        diff_id: &Digest,
        bad: &BadObjects,
        read: &dyn Fn(u64),
        each: &mut dyn FnMut(Damage),
    ) -> Result<()> {
        if !self.is_named(diff_id, "idx")? {
            return Err(sys::Error::new("openat", diff_id.to_string(), Errno::NOENT).into());
        }
        let found = Cell::new(false);
        let mut tell = |part, why: String| {
            found.set(true);
            each(Damage { layer: *diff_id, part, why });
        };
        let whole = self.dirs().open_index(diff_id).and_then(|index| index.must_be_whole().map(|()| index));
        let index = match whole {
            Ok(index) => index,
            Err(e) if is_about_the_machine(&e) => return Err(e),
            Err(e) => {
                tell(Part::Index, plain(e));
                return Ok(());
            }
        };
        index.must_be_known()?;
        let pack_len = index.pack_len;
        let pack = match self.dirs().open_pack(diff_id, "pack") {
            Ok((fd, len)) => {
                if len != pack_len {
                    tell(Part::Pack, format!("the pack file has {len} bytes instead of {pack_len}"));
                }
                fd
            }
            Err(e) if is_about_the_machine(&e) => return Err(e),
            Err(e) => {
                tell(Part::Pack, format!("the pack file: {}", plain(e)));
                return Ok(());
            }
        };
        let layer = PackLayer::new(index, pack, self.dirs_shared());
        if let Err(e) = check_records(&layer) {
            tell(Part::Index, plain(e));
            return Ok(());
        }
        check_bodies(&layer, bad, &mut tell)?;
        if let Err(why) = check_tar(layer.tar_stream(), diff_id, read) {
            // With a damaged file this is but a consequence.
            if !found.get() {
                tell(Part::Pack, format!("the layer's tar cannot be given back as it was: {why}"));
            }
        }
        Ok(())
    }
}

/// Whether an error is one of this machine at this moment, and no property of a file.
fn is_about_the_machine(e: &Error) -> bool {
    match e {
        Error::Newer { .. } => true,
        Error::Sys(e) => matches!(e.errno(), Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::ACCESS | Errno::PERM),
        _ => false,
    }
}

/// An error without the layer's name, which the caller says.
fn plain(e: Error) -> String {
    match e {
        Error::Damaged { what, .. } => what,
        e if e.errno() == Errno::NOENT => "it is missing".to_owned(),
        e => e.to_string(),
    }
}

/// Reads every record of the index.
fn check_records(layer: &PackLayer) -> Result<()> {
    let index = &layer.open.index;
    if layer.root()?.kind() != Kind::Dir {
        return Err(index.damaged("the root is no directory"));
    }
    for position in index.positions(Table::Objects) {
        index.object(position)?;
    }
    for position in index.positions(Table::Nodes) {
        check_node(&PackObject::new(&layer.open, position)?.0)?;
    }
    Ok(())
}

/// Reads all that a node's record refers to, but not its content.
fn check_node(object: &PackObject) -> Result<()> {
    let index = &object.open.index;
    object.xattrs()?;
    match object.kind() {
        Kind::Dir => {
            let mut last: Option<Vec<u8>> = None;
            object.list(&mut |item| {
                let name = item.name.as_bytes();
                if last.as_deref().is_some_and(|last| last >= name) {
                    return Err(index.damaged(format!("the entries of node {} are not sorted", object.position)));
                }
                last = Some(name.to_vec());
                Ok(())
            })
        }
        Kind::Symlink => object.readlink().map(drop),
        Kind::File => {
            let node = object.node()?;
            if let Place::Object(position) = node.place {
                let len = index.object(position)?.len;
                if len != node.stored {
                    return Err(index.damaged(format!("node {} and its object differ in size", object.position)));
                }
                return if node.sparse { object.extents(&node, 0).map(drop) } else { Ok(()) };
            }
            object.open().map(drop)
        }
        _ => Ok(()),
    }
}

/// Compares the content of every file with its sum, or looks for its object among the bad ones; names the files.
fn check_bodies(layer: &PackLayer, bad: &BadObjects, tell: &mut dyn FnMut(Part, String)) -> Result<()> {
    let index = &layer.open.index;
    let mut hit: Vec<(u32, Option<Digest>, String)> = Vec::new();
    let mut used = FxHashSet::default();
    let mut buf = Vec::new();
    for position in index.positions(Table::Nodes) {
        let node = index.node(position)?;
        match node.place {
            Place::Object(object) => {
                let object = index.object(object)?.digest;
                if let Some(why) = bad.get(&object) {
                    used.insert(object);
                    hit.push((position, Some(object), format!("object {object}: {why}")));
                }
            }
            Place::Pack(offset) if index.sums => {
                let len = usize::try_from(node.stored).map_err(|_| index.damaged("a body is too large"))?;
                // The record was checked: the body lies within the pack file's announced length, and is a small one.
                buf.resize(len.min(BUFFER), 0);
                if let Some(why) = differs(&layer.open, &mut buf, offset, node.stored, node.sum) {
                    hit.push((position, None, why));
                }
            }
            _ => {}
        }
    }
    let wanted: FxHashSet<u32> = hit.iter().map(|(position, ..)| *position).collect();
    let names = if wanted.is_empty() {
        links::Links::default()
    } else {
        links::paths(index, PATHS_MAX, |at, _| wanted.contains(&at))?
    };
    for (position, object, why) in hit {
        let part = |path| match object {
            Some(object) => Part::Object(object, path),
            None => Part::Body(path),
        };
        match names.get(&position) {
            Some(paths) => paths.iter().for_each(|path| tell(part(Some(path.clone())), why.clone())),
            None => tell(part(None), why),
        }
    }
    // An object that only the tar needs: its file was replaced by a later entry of the same layer.
    for position in index.positions(Table::Objects) {
        let object = index.object(position)?.digest;
        if let Some(why) = bad.get(&object)
            && used.insert(object)
        {
            tell(Part::Object(object, None), format!("object {object}: {why}"));
        }
    }
    Ok(())
}

/// Why a body in the pack file does not have its sum; `None` when it has.
pub(super) fn differs(open: &super::Open, buf: &mut [u8], offset: u64, len: u64, sum: u32) -> Option<String> {
    let (mut crc, mut done) = (Crc::new(), 0);
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(buf.len());
        let part = buf.get_mut(..want).unwrap_or_default();
        match sys::data::read_at(&*open.pack, part, offset + done) {
            Ok(n) if n == part.len() => crc.update(part),
            Ok(_) => return Some("the pack file is cut short".to_owned()),
            Err(e) => return Some(e.to_string()),
        }
        done += want as u64;
    }
    (crc.sum() != sum).then(|| format!("{len} bytes at {offset} of the pack file were changed"))
}

/// Reads the tar and compares its digest.
fn check_tar(mut tar: impl Read, layer: &Digest, read: &dyn Fn(u64)) -> std::result::Result<(), String> {
    let (mut hasher, mut buf) = (Hasher::new(), vec![0u8; BUFFER]);
    loop {
        match tar.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(buf.get(..n).unwrap_or_default());
                read(n as u64);
            }
            Err(e) => return Err(e.to_string()),
        }
    }
    match hasher.finish() {
        digest if digest == *layer => Ok(()),
        digest => Err(format!("its digest is {digest}")),
    }
}
