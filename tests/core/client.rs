//! A union used by paths, for tests that tell a story.

use std::sync::Arc;

use micafs::sys::Errno;
use micafs::union::Caller;
use micafs::union::MakeKind;
use micafs::union::RenameFlags;
use micafs::union::Union;
use micafs::union::attr::SetAttr;
use micafs::union::node::Node;
use micafs::union::node::ROOT;

use crate::layers::rel;
use crate::ops::Flag;
use crate::snap::Pins;

/// A union and the references that its caller holds.
pub struct Client {
    pub union: Union,
    pub pins: Pins,
}

pub type Outcome<T = ()> = Result<T, Errno>;

impl Client {
    pub fn new(union: Union) -> Self {
        Client { union, pins: Pins::default() }
    }

    pub fn find(&mut self, path: &str) -> Outcome<Arc<Node>> {
        let mut at = self.union.node(ROOT).map_err(|e| e.errno())?;
        for part in rel(path).components() {
            let entry = self.union.lookup(&at, part).map_err(|e| e.errno())?.ok_or(Errno::NOENT)?;
            self.pins.add(entry.node.ino);
            at = entry.node;
        }
        Ok(at)
    }

    fn parent(&mut self, path: &str) -> Outcome<(Arc<Node>, micafs::path::NameBuf)> {
        let path = rel(path);
        let (parent, name) = path.split_last().unwrap();
        let parent = String::from_utf8(parent.to_bytes()).unwrap();
        Ok((self.find(&parent)?, name.to_buf()))
    }

    pub fn make(&mut self, path: &str, kind: MakeKind<'_>) -> Outcome {
        let (parent, name) = self.parent(path)?;
        let made = self.union.make(&parent, name.as_name(), kind, 0o751, Caller::default(), false);
        self.pins.add(made.map_err(|e| e.errno())?.node.ino);
        Ok(())
    }

    pub fn mkdir(&mut self, path: &str) -> Outcome {
        self.make(path, MakeKind::Dir)
    }

    pub fn write(&mut self, path: &str, text: &str) -> Outcome {
        if matches!(self.find(path), Err(Errno::NOENT)) {
            self.make(path, MakeKind::File)?;
        }
        let node = self.find(path)?;
        self.union.open(&node, true, false).map_err(|e| e.errno())?;
        let done = self.union.write(&node, text.as_bytes(), 0);
        self.union.release(&node);
        done.map(drop).map_err(|e| e.errno())
    }

    /// Writes over what is there, or behind it.
    pub fn write_at(&mut self, path: &str, at: u64, text: &str) -> Outcome {
        let node = self.find(path)?;
        self.union.write(&node, text.as_bytes(), at).map(drop).map_err(|e| e.errno())
    }

    pub fn settle(&mut self) -> Outcome {
        self.union.settle().map_err(|e| e.errno())
    }

    pub fn read(&mut self, path: &str) -> Outcome<String> {
        let node = self.find(path)?;
        let mut buf = vec![0; 10_000];
        let n = self.union.read(&node, &mut buf, 0).map_err(|e| e.errno())?;
        Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
    }

    pub fn set(&mut self, path: &str, change: &SetAttr) -> Outcome {
        let node = self.find(path)?;
        self.union.setattr(&node, change).map(drop).map_err(|e| e.errno())
    }

    pub fn chmod(&mut self, path: &str) -> Outcome {
        self.set(path, &SetAttr { mode: Some(0o750), ..SetAttr::default() })
    }

    pub fn chown(&mut self, path: &str) -> Outcome {
        self.set(path, &SetAttr { uid: Some(7), gid: Some(8), ..SetAttr::default() })
    }

    pub fn link(&mut self, from: &str, to: &str) -> Outcome {
        let node = self.find(from)?;
        let (parent, name) = self.parent(to)?;
        let entry = self.union.link(&node, &parent, name.as_name()).map_err(|e| e.errno())?;
        self.pins.add(entry.node.ino);
        Ok(())
    }

    pub fn unlink(&mut self, path: &str) -> Outcome {
        let (parent, name) = self.parent(path)?;
        self.union.unlink(&parent, name.as_name()).map_err(|e| e.errno())
    }

    pub fn rmdir(&mut self, path: &str) -> Outcome {
        let (parent, name) = self.parent(path)?;
        self.union.rmdir(&parent, name.as_name()).map_err(|e| e.errno())
    }

    pub fn rename(&mut self, from: &str, to: &str, flag: Flag) -> Outcome {
        let ((old, a), (new, b)) = (self.parent(from)?, self.parent(to)?);
        let flags = RenameFlags { no_replace: flag == Flag::NoReplace, exchange: flag == Flag::Exchange };
        self.union.rename(&old, a.as_name(), &new, b.as_name(), flags).map_err(|e| e.errno())
    }
}
