//! Requests about the content of files, and when set-id bits go with a change of it.

use std::sync::Arc;

use super::abi::O_APPEND;
use super::abi::fopen;
use super::lending::Grant;
use super::reply::Answer;
use super::reply::Opened;
use super::request::Header;
use super::server::Server;
use super::server::not_here;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::S_ISGID;
use crate::sys::attr::S_ISUID;
use crate::union::Error;
use crate::union::Result;
use crate::union::Whence;
use crate::union::attr::SetAttr;
use crate::union::node::Node;

// The kernel's numbers, which the protocol carries as they are.
const O_ACCMODE: u32 = 0o3;
const O_TRUNC: u32 = 0o1000;
const S_IXGRP: u32 = 0o010;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// The answer to an opening; `None`: it must go to another node.
pub(super) fn opened(grant: Grant) -> Option<Opened> {
    match grant {
        Grant::Elsewhere => None,
        Grant::Cached { keep } => Some(Opened { flags: if keep { fopen::KEEP_CACHE } else { 0 }, ..Opened::default() }),
        Grant::Lent { backing, .. } => Some(Opened { handle: 0, flags: fopen::PASSTHROUGH, backing }),
    }
}

impl Server {
    pub(super) fn open(&self, caller: &Header, flags: u32, kill: bool) -> Result<Answer<'static>> {
        if self.agreed.is_unopened() {
            return not_here();
        }
        let node = self.node(caller.nodeid)?;
        let (write, truncate) = (flags & O_ACCMODE != 0, flags & O_TRUNC != 0);
        self.union.open(&node, write, truncate)?;
        let allowed = || {
            // The kernel does not know which files of a FUSE mount are append-only, so it lets every open through.
            if write && flags & O_APPEND == 0 && self.union.is_append_only(&node) {
                return Err(Error::Refused(Errno::PERM));
            }
            if truncate { self.resized_by(caller, kill, &node) } else { Ok(()) }
        };
        allowed().inspect_err(|_| self.union.release(&node))?;
        let grant = self.grant(caller.nodeid, &node, write).inspect_err(|_| self.union.release(&node))?;
        match opened(grant) {
            Some(opened) => {
                if matches!(grant, Grant::Lent { first_writer: true, .. }) {
                    self.outdated(&node);
                }
                Ok(Answer::Opened(opened))
            }
            None => {
                // The kernel looks the name up again, and opens what it finds.
                self.union.release(&node);
                self.nodeids.leave(caller.nodeid, node.ino, &self.union);
                self.outdated(&node);
                Err(Error::Refused(Errno::STALE))
            }
        }
    }

    /// How the kernel is to use a file that the union has opened.
    pub(super) fn grant(&self, nodeid: u64, node: &Arc<Node>, write: bool) -> Result<Grant> {
        match &self.lending {
            Some(lending) => lending.open(nodeid, write, || self.union.lendable(node)),
            None => Ok(Grant::Cached { keep: self.kept(fopen::KEEP_CACHE) != 0 }),
        }
    }

    /// What the kernel knows of a node's attributes is no longer so.
    fn outdated(&self, node: &Node) {
        if let Err(e) = self.notifier.inval_attributes(node.ino) {
            log::warn!("the kernel could not be told of changed attributes: {e}");
        }
    }

    pub(super) fn release(&self, nodeid: u64) -> Result<Answer<'static>> {
        // What was made before the first opening was refused is released all the same.
        if !self.agreed.is_unopened()
            && let Ok(node) = self.node(nodeid)
        {
            if let Some(lending) = &self.lending {
                lending.close(nodeid);
            }
            self.union.release(&node);
        }
        Ok(Answer::Done)
    }

    pub(super) fn read<'b>(&self, nodeid: u64, at: u64, size: u32, buffer: &'b mut [u8]) -> Result<Answer<'b>> {
        let size = buffer.len().min(size as usize);
        let buffer = buffer.get_mut(..size).unwrap_or_default();
        let n = self.union.read(&self.node(nodeid)?, buffer, at)?;
        Ok(Answer::Data(buffer.get(..n).unwrap_or_default()))
    }

    pub(super) fn write(
        &self,
        nodeid: u64,
        at: u64,
        data: &[u8],
        kill: bool,
        appends: bool,
    ) -> Result<Answer<'static>> {
        let node = self.node(nodeid)?;
        if kill {
            self.drop_set_id(&node)?;
        }
        let n = if self.agreed.is_unopened() {
            self.union.write_unopened(&node, data, at, appends)?
        } else {
            self.union.write(&node, data, at)?
        };
        Ok(Answer::Written(u32::try_from(n).unwrap_or(u32::MAX)))
    }

    /// Of files and of directories.
    pub(super) fn fsync(&self, nodeid: u64, data_only: bool) -> Result<Answer<'static>> {
        if self.union.never_syncs() {
            // The kernel asks no more then.
            return not_here();
        }
        self.union.fsync(&self.node(nodeid)?, data_only)?;
        Ok(Answer::Done)
    }

    pub(super) fn syncfs(&self) -> Result<Answer<'static>> {
        self.union.sync_all()?;
        Ok(Answer::Done)
    }

    pub(super) fn fallocate(&self, caller: &Header, at: u64, len: u64, mode: u32) -> Result<Answer<'static>> {
        let node = self.node(caller.nodeid)?;
        self.changed_by(caller, &node)?;
        self.union.fallocate(&node, mode, at, len)?;
        Ok(Answer::Done)
    }

    pub(super) fn lseek(&self, nodeid: u64, offset: i64, whence: u32) -> Result<Answer<'static>> {
        let whence = match whence {
            SEEK_DATA => Whence::Data,
            SEEK_HOLE => Whence::Hole,
            _ => return Err(Error::Refused(Errno::INVAL)),
        };
        let at = u64::try_from(offset).map_err(|_| Error::Refused(Errno::INVAL))?;
        Ok(Answer::Offset(self.union.seek(&self.node(nodeid)?, at, whence)?))
    }

    pub(super) fn copy(
        &self,
        caller: &Header,
        from_at: u64,
        (to, to_at): (u64, u64),
        len: u64,
        wide: bool,
    ) -> Result<Answer<'static>> {
        let to = self.node(to)?;
        self.changed_by(caller, &to)?;
        let n = self.union.copy_range(&self.node(caller.nodeid)?, from_at, &to, to_at, len)?;
        Ok(if wide { Answer::Copied(n as u64) } else { Answer::Written(u32::try_from(n).unwrap_or(u32::MAX)) })
    }

    /// The size of a file is set. A kernel that leaves set-id bits to us tells whether they go (`CAP_FSETID` counts); of an older one
    /// only root keeps them.
    pub(super) fn resized_by(&self, caller: &Header, kill: bool, node: &Arc<Node>) -> Result<()> {
        match self.kernel_tells_kills() {
            true if kill => self.drop_set_id(node),
            true => Ok(()),
            false => self.changed_by(caller, node),
        }
    }

    /// The data of a file is changed by a request that does not say whether set-id bits stay, as those to allocate and to copy do not, nor those for a lent file:
    /// only root's changes keep them.
    pub(super) fn changed_by(&self, caller: &Header, node: &Arc<Node>) -> Result<()> {
        if caller.uid == 0 { Ok(()) } else { self.drop_set_id(node) }
    }

    /// Clears the set-id bits of a file that somebody without privilege changes; capabilities go with the change itself, on the
    /// upper filesystem. The kernel leaves this to us and goes on believing in the mode that it knows: so it is told, before the
    /// request is answered.
    fn drop_set_id(&self, node: &Arc<Node>) -> Result<()> {
        if node.kind != Kind::File {
            return Ok(());
        }
        let mode = self.union.getattr(node)?.mode & PERM_MASK;
        // Without the right to execute, the set-group-id bit is a mark of mandatory locking, and stays.
        let dropped = S_ISUID | if mode & S_IXGRP != 0 { S_ISGID } else { 0 };
        if mode & dropped == 0 { Ok(()) } else { self.set_mode(node, mode & !dropped) }
    }

    /// Sets a mode that the kernel did not ask for, and tells it.
    pub(super) fn set_mode(&self, node: &Arc<Node>, mode: u32) -> Result<()> {
        self.union.setattr(node, &SetAttr { mode: Some(mode), ..SetAttr::default() })?;
        self.outdated(node);
        Ok(())
    }
}
