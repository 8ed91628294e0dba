//! A file of one layer whose content lies there in parts only, together with what lies below.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Content;
use super::Item;
use super::Marks;
use super::Obj;
use super::Object;
use super::ObjectId;
use super::Parts;
use super::Result;
use super::Seen;
use crate::path::Name;
use crate::path::RelPath;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// The upper object, but for its content: that has the blocks of the upper one over the content of the lower one.
#[derive(Debug)]
struct Patched {
    own: Obj,
    parts: Parts,
    below: Obj,
}

/// `own` with its `parts` over the content of `below`; without parts the content is that of `below`.
pub fn over(own: &Obj, parts: &Parts, below: Obj) -> Obj {
    if parts.is_empty() {
        return below;
    }
    Obj::new(Patched { own: own.clone(), parts: parts.clone(), below })
}

impl Object for Patched {
    fn id(&self) -> ObjectId {
        self.own.id()
    }

    fn kind(&self) -> Kind {
        self.own.kind()
    }

    fn stat(&self) -> Result<Stat> {
        self.own.stat()
    }

    fn lookup(&self, name: Name<'_>) -> Result<Seen> {
        self.own.lookup(name)
    }

    fn marks(&self) -> Result<Marks> {
        self.own.marks()
    }

    fn list(&self, each: &mut dyn FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        self.own.list(each)
    }

    fn open(&self) -> Result<Content> {
        Ok(Content::patched(&self.own.open()?, self.parts.clone(), self.below.open()?))
    }

    fn open_checked(&self) -> Result<Content> {
        Ok(Content::patched(&self.own.open_checked()?, self.parts.clone(), self.below.open_checked()?))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.own.readlink()
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.own.xattr(name)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        self.own.xattrs()
    }

    fn refresh(&self) {
        self.own.refresh();
        self.below.refresh();
    }

    fn listable(&self) -> Result<Option<Arc<OwnedFd>>> {
        self.own.listable()
    }

    fn names(&self) -> Result<Option<Vec<RelPath>>> {
        self.own.names()
    }

    fn location(&self) -> String {
        format!("{}, {} blocks of it in {}", self.below.location(), self.parts.len(), self.own.location())
    }
}
