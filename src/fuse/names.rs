//! Requests about names: look up, make, link, rename, remove.

use std::sync::atomic::Ordering;

use super::abi;
use super::convert;
use super::data::opened;
use super::lending::Grant;
use super::reply::Answer;
use super::request::Header;
use super::server::Server;
use super::server::not_here;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::S_IFMT;
use crate::union::Caller;
use crate::union::Entry;
use crate::union::Error;
use crate::union::MakeKind;
use crate::union::RenameFlags;
use crate::union::Result;

/// After so many forgotten nodes, and half as many as are left, their memory goes back to the kernel.
const FORGOTTEN: usize = 1024;

impl Server {
    pub(super) fn lookup(&self, parent: u64, name: &[u8]) -> Result<Answer<'static>> {
        let found = self.union.lookup(&self.node(parent)?, convert::name(name)?)?;
        Ok(found.map_or(Answer::Absent, |entry| Answer::Entry(self.known(&entry))))
    }

    pub(super) fn forget(&self, forgets: impl IntoIterator<Item = (u64, u64)>) -> Result<Answer<'static>> {
        let mut nodes = 0;
        forgets.into_iter().for_each(|(nodeid, count)| {
            let ino = self.nodeids.ino(nodeid);
            self.union.forget(ino, count);
            self.nodeids.forgotten(ino, &self.union);
            nodes += 1;
        });
        self.give_memory_back(nodes);
        Ok(Answer::Silent)
    }

    /// Every so often, when `more` nodes were forgotten. Nobody waits for an answer to that.
    fn give_memory_back(&self, more: usize) {
        let before = self.forgotten.fetch_add(more, Ordering::Relaxed);
        let now = before + more;
        // What is left is counted only now and then.
        if before / FORGOTTEN == now / FORGOTTEN || self.union.table().len() > now * 2 {
            return;
        }
        self.forgotten.store(0, Ordering::Relaxed);
        sys::memory::give_back();
    }

    fn make(
        &self,
        caller: &Header,
        name: &[u8],
        kind: MakeKind<'_>,
        mode: u32,
        umask: u32,
        open: bool,
    ) -> Result<Entry> {
        let parent = self.node(caller.nodeid)?;
        self.union.make(&parent, convert::name(name)?, kind, mode & !S_IFMT, asking(caller, umask), open)
    }

    pub(super) fn mknod(
        &self,
        caller: &Header,
        name: &[u8],
        mode: u32,
        rdev: u32,
        umask: u32,
    ) -> Result<Answer<'static>> {
        let kind = Kind::of_mode(mode).unwrap_or(Kind::File);
        // A file that is made to be written ([`Server::create`]) stays open for that.
        let open = kind == Kind::File && self.agreed.is_unopened();
        let kind = MakeKind::Node(kind, convert::device_of(rdev));
        Ok(Answer::Entry(self.known(&self.make(caller, name, kind, mode, umask, open)?)))
    }

    pub(super) fn mkdir(&self, caller: &Header, name: &[u8], mode: u32, umask: u32) -> Result<Answer<'static>> {
        Ok(Answer::Entry(self.known(&self.make(caller, name, MakeKind::Dir, mode, umask, false)?)))
    }

    pub(super) fn symlink(&self, caller: &Header, name: &[u8], text: &[u8]) -> Result<Answer<'static>> {
        Ok(Answer::Entry(self.known(&self.make(caller, name, MakeKind::Symlink(text), 0o777, 0, false)?)))
    }

    pub(super) fn create(&self, caller: &Header, name: &[u8], mode: u32, umask: u32) -> Result<Answer<'static>> {
        if self.agreed.is_unopened() {
            // Nor is it to be told of the closing: a file that is made by MKNOD and then opened has none, as openings have none.
            return not_here();
        }
        let entry = self.make(caller, name, MakeKind::File, mode, umask, true)?;
        Ok(self.created(&entry))
    }

    pub(super) fn tmpfile(&self, caller: &Header, mode: u32, umask: u32) -> Result<Answer<'static>> {
        let entry = self.union.make_tmpfile(&self.node(caller.nodeid)?, mode & !S_IFMT, asking(caller, umask))?;
        Ok(self.created(&entry))
    }

    /// A file that was just made, and is open.
    fn created(&self, entry: &Entry) -> Answer<'static> {
        let nodeid = self.nodeids.nodeid(entry.node.ino);
        let grant = self.grant(nodeid, &entry.node, true).unwrap_or_else(|e| {
            log::warn!("a new file is not lent to the kernel: {e}");
            Grant::Cached { keep: false }
        });
        // Nobody had this node before, so it has no other file.
        Answer::Created(self.known(entry), opened(grant).unwrap_or_default())
    }

    pub(super) fn unlink(&self, parent: u64, name: &[u8]) -> Result<Answer<'static>> {
        self.union.unlink(&self.node(parent)?, convert::name(name)?)?;
        Ok(Answer::Done)
    }

    pub(super) fn rmdir(&self, parent: u64, name: &[u8]) -> Result<Answer<'static>> {
        self.union.rmdir(&self.node(parent)?, convert::name(name)?)?;
        Ok(Answer::Done)
    }

    pub(super) fn rename(&self, from: (u64, &[u8]), to: (u64, &[u8]), flags: u32) -> Result<Answer<'static>> {
        // As the kernel's overlayfs: a whiteout made by a user would be a deletion.
        if flags & !(abi::RENAME_NOREPLACE | abi::RENAME_EXCHANGE) != 0 {
            return Err(Error::Refused(Errno::INVAL));
        }
        let flags =
            RenameFlags { no_replace: flags & abi::RENAME_NOREPLACE != 0, exchange: flags & abi::RENAME_EXCHANGE != 0 };
        let (old, new) = (self.node(from.0)?, self.node(to.0)?);
        self.union.rename(&old, convert::name(from.1)?, &new, convert::name(to.1)?, flags)?;
        Ok(Answer::Done)
    }

    pub(super) fn link(&self, old: u64, parent: u64, name: &[u8]) -> Result<Answer<'static>> {
        let entry = self.union.link(&self.node(old)?, &self.node(parent)?, convert::name(name)?)?;
        Ok(Answer::Entry(self.known(&entry)))
    }
}

fn asking(caller: &Header, umask: u32) -> Caller {
    Caller { uid: caller.uid, gid: caller.gid, umask }
}
