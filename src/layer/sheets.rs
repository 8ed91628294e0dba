//! The layers of an image side by side: one directory for each, named by its number from the lowest and its digest
//! (`1-5a4e17c371a4`), with what the layer itself holds.
//!
//! Marks are shown in the kernel's overlay form: a whiteout is a character device 0:0, an opaque directory has the attribute
//! `trusted.overlay.opaque`. So each directory could be a layer of the kernel's overlayfs.

use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use super::Content;
use super::Error;
use super::Item;
use super::ItemKind;
use super::Layer;
use super::Marks;
use super::Obj;
use super::Object;
use super::ObjectId;
use super::PACK_DEV;
use super::Result;
use super::Seen;
use crate::path::Name;
use crate::path::NameBuf;
use crate::sys::Errno;
use crate::sys::attr::FsStat;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// Bits of an object's number within its layer. The layer's number stands above them.
const LAYER_SHIFT: u32 = 33;
/// Set in the number of a whiteout.
const WHITEOUT_BIT: u64 = 1 << 32;
/// The file type of a character device, as `st_mode` has it.
const CHAR_DEVICE: u32 = 0o020_000;
/// As a union shows it, `trusted.overlay.opaque`: what is stored so is that of a union inside.
const OPAQUE: &[u8] = b"trusted.overlay.overlay.opaque";

/// Layers side by side, as one layer.
#[derive(Debug)]
pub struct Sheets {
    sheets: Arc<Vec<Sheet>>,
    first: Arc<dyn Layer>,
}

#[derive(Debug)]
struct Sheet {
    name: NameBuf,
    root: Obj,
    stat: Stat,
}

impl Sheets {
    /// These layers, lowest first.
    ///
    /// # Errors
    /// When one cannot be read; `ENOENT` for none at all.
    pub fn new(layers: &[Arc<dyn Layer>]) -> Result<Self> {
        let none = || Error::WrongKind(Errno::NOENT);
        let digits = layers.len().to_string().len();
        let mut sheets = Vec::with_capacity(layers.len());
        for (number, layer) in (1u64..).zip(layers) {
            let name = format!("{number:0digits$}-{}", layer.label());
            let root = sheet_object(number, layer.root()?);
            let stat = root.stat()?;
            sheets.push(Sheet { name: NameBuf::new(name.as_bytes()).map_err(|_| none())?, root, stat });
        }
        Ok(Self { sheets: Arc::new(sheets), first: layers.first().ok_or_else(none)?.clone() })
    }
}

impl Layer for Sheets {
    fn root(&self) -> Result<Obj> {
        Ok(Obj::new(Top { sheets: self.sheets.clone() }))
    }

    fn label(&self) -> String {
        format!("{} layers", self.sheets.len())
    }

    fn key(&self) -> String {
        format!("layers of {}", self.first.key())
    }

    fn fs_stat(&self) -> Result<FsStat> {
        self.first.fs_stat()
    }
}

/// The directory of all layers.
#[derive(Debug)]
struct Top {
    sheets: Arc<Vec<Sheet>>,
}

impl Object for Top {
    fn id(&self) -> ObjectId {
        ObjectId { dev: PACK_DEV, ino: 1 }
    }

    fn kind(&self) -> Kind {
        Kind::Dir
    }

    fn stat(&self) -> Result<Stat> {
        let newest = self.sheets.iter().map(|sheet| sheet.stat.mtime).max().unwrap_or_default();
        let nlink = u32::try_from(self.sheets.len()).unwrap_or(u32::MAX).saturating_add(2);
        Ok(Stat {
            dev: PACK_DEV,
            ino: 1,
            mode: 0o040_755,
            nlink,
            blksize: 4096,
            atime: newest,
            mtime: newest,
            ctime: newest,
            ..Stat::default()
        })
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        let found = self.sheets.iter().find(|sheet| sheet.name.as_name() == name);
        Ok(found.map_or(Seen::Miss, |sheet| Seen::Found(sheet.root.clone(), sheet.stat)))
    }

    fn marks(&self) -> Result<Marks> {
        Ok(Marks::default())
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        for sheet in self.sheets.iter() {
            each(Item { name: sheet.name.as_name(), what: ItemKind::Object(sheet.root.id(), Kind::Dir) })?;
        }
        Ok(())
    }

    fn open(&self) -> Result<Content> {
        Err(Error::WrongKind(Errno::INVAL))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Error::WrongKind(Errno::INVAL))
    }

    fn xattr(&self, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn location(&self) -> String {
        "the list of layers".to_owned()
    }
}

/// An object of one of the layers, with its marks shown as what they are.
#[derive(Debug)]
struct Inner {
    number: u64,
    object: Obj,
}

fn sheet_object(number: u64, object: Obj) -> Obj {
    Obj::new(Inner { number, object })
}

impl Inner {
    fn id_of(&self, id: ObjectId) -> ObjectId {
        ObjectId { dev: PACK_DEV, ino: self.number << LAYER_SHIFT | id.ino }
    }

    /// A whiteout has no number of its own: it gets one of its place. Two with the same number would be one file with two names,
    /// which changes nothing of what they are.
    fn whiteout(&self, name: Name<'_>) -> Whiteout {
        let mut hasher = rustc_hash::FxHasher::default();
        (self.object.id().ino, name.as_bytes()).hash(&mut hasher);
        let own = hasher.finish() >> 32;
        Whiteout { ino: self.number << LAYER_SHIFT | WHITEOUT_BIT | own, parent: self.object.location() }
    }

    fn is_opaque(&self) -> Result<bool> {
        Ok(self.object.kind() == Kind::Dir && self.object.marks()?.opaque)
    }
}

impl Object for Inner {
    fn id(&self) -> ObjectId {
        self.id_of(self.object.id())
    }

    fn kind(&self) -> Kind {
        self.object.kind()
    }

    fn stat(&self) -> Result<Stat> {
        let id = self.id();
        Ok(Stat { dev: id.dev, ino: id.ino, ..self.object.stat()? })
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        let object: Obj = match self.object.lookup(name)? {
            Seen::Miss => return Ok(Seen::Miss),
            Seen::Whiteout => Obj::new(self.whiteout(name)),
            Seen::Found(object, _) => sheet_object(self.number, object),
        };
        let stat = object.stat()?;
        Ok(Seen::Found(object, stat))
    }

    fn marks(&self) -> Result<Marks> {
        Ok(Marks::default())
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        self.object.list(&mut |item| {
            let what = match item.what {
                ItemKind::Whiteout => ItemKind::Object(self.whiteout(item.name).id(), Kind::Char),
                ItemKind::Object(id, kind) => ItemKind::Object(self.id_of(id), kind),
            };
            each(Item { name: item.name, what })
        })
    }

    fn open(&self) -> Result<Content> {
        self.object.open()
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.object.readlink()
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if name == OPAQUE && self.is_opaque()? {
            return Ok(Some(b"y".to_vec()));
        }
        self.object.xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = self.object.xattrs()?;
        if self.is_opaque()? && !names.iter().any(|name| name == OPAQUE) {
            names.push(OPAQUE.to_vec());
        }
        Ok(names)
    }

    fn location(&self) -> String {
        self.object.location()
    }
}

/// A whiteout as the kernel has it.
#[derive(Debug)]
struct Whiteout {
    ino: u64,
    parent: String,
}

impl Object for Whiteout {
    fn id(&self) -> ObjectId {
        ObjectId { dev: PACK_DEV, ino: self.ino }
    }

    fn kind(&self) -> Kind {
        Kind::Char
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat { dev: PACK_DEV, ino: self.ino, mode: CHAR_DEVICE, nlink: 1, blksize: 4096, ..Stat::default() })
    }

    fn lookup(&self, _: Name<'_>) -> Result<Seen> {
        Err(Error::WrongKind(Errno::NOTDIR))
    }

    fn marks(&self) -> Result<Marks> {
        Ok(Marks::default())
    }

    fn list(&self, _: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        Err(Error::WrongKind(Errno::NOTDIR))
    }

    fn open(&self) -> Result<Content> {
        Err(Error::WrongKind(Errno::INVAL))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Error::WrongKind(Errno::INVAL))
    }

    fn xattr(&self, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn location(&self) -> String {
        format!("whiteout in {}", self.parent)
    }
}
