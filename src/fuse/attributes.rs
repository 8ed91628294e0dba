//! Requests about attributes, extended ones, and the filesystem as a whole.

use super::SETTLE;
use super::SETTLE_OVER;
use super::reply::Answer;
use super::request::Header;
use super::request::Setattr;
use super::server::Server;
use super::server::not_here;
use crate::layer::marks::virtual_xattr;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::PERM_MASK;
use crate::sys::attr::S_IFMT;
use crate::sys::attr::S_ISGID;
use crate::sys::xattr::SetMode;
use crate::union::Error;
use crate::union::Result;
use crate::union::attr::SetAttr;
use crate::union::node::ROOT;

// The kernel's numbers, which the protocol carries as they are.
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

/// A change that changes nothing.
const NOTHING: Setattr =
    Setattr { mode: None, uid: None, gid: None, size: None, atime: None, mtime: None, kill: false };

impl Server {
    pub(super) fn getattr(&self, nodeid: u64) -> Result<Answer<'static>> {
        Ok(self.attributes(nodeid, self.union.getattr(&*self.node(nodeid)?)?))
    }

    pub(super) fn setattr(&self, caller: &Header, said: &Setattr) -> Result<Answer<'static>> {
        let Setattr { mode, uid, gid, size, atime, mtime, kill } = *said;
        let node = self.node(caller.nodeid)?;
        if size.is_some() {
            self.resized_by(caller, kill, &node)?;
        }
        let change = SetAttr { mode: mode.map(|m| m & !S_IFMT), uid, gid, size, atime, mtime };
        if self.lending.is_some() && *said == NOTHING && self.kernel_tells_kills() {
            // The kernel writes to a lent file itself, and leaves the set-id bits to us: this is all it says of them.
            self.changed_by(caller, &node)?;
        }
        Ok(self.attributes(caller.nodeid, self.union.setattr(&node, &change)?))
    }

    pub(super) fn readlink(&self, nodeid: u64) -> Result<Answer<'static>> {
        Ok(Answer::Bytes(self.union.readlink(&*self.node(nodeid)?)?))
    }

    pub(super) fn statfs(&self) -> Result<Answer<'static>> {
        Ok(Answer::Space(self.union.statfs()?))
    }

    pub(super) fn setxattr(
        &self,
        caller: &Header,
        name: &[u8],
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<Answer<'static>> {
        self.has_xattrs()?;
        let nodeid = caller.nodeid;
        if name == SETTLE && nodeid == ROOT {
            // It is long work, and its end lets others go on: nothing for who is inside the container.
            if !self.may_know_paths(caller) {
                return Err(Error::Refused(Errno::PERM));
            }
            let plain = value != SETTLE_OVER;
            self.union.stay_plain(plain);
            if plain {
                self.union.settle()?;
            }
            return Ok(Answer::Done);
        }
        let mode = match flags {
            XATTR_CREATE => SetMode::Create,
            XATTR_REPLACE => SetMode::Replace,
            _ => SetMode::Any,
        };
        let node = self.node(nodeid)?;
        self.union.setxattr(&node, name, value, mode)?;
        if kill_sgid {
            // The ACL was set by somebody who is not in the file's group.
            let mode = self.union.getattr(&node)?.mode & PERM_MASK;
            if mode & S_ISGID != 0 {
                self.set_mode(&node, mode & !S_ISGID)?;
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn getxattr(&self, caller: &Header, name: &[u8], size: u32) -> Result<Answer<'static>> {
        self.has_xattrs()?;
        if let Some(what) = virtual_xattr(name) {
            return self.virtual_xattr(caller, what, size);
        }
        let value = self.union.getxattr(&*self.node(caller.nodeid)?, name)?;
        sized(value.ok_or(Error::Refused(Errno::NODATA))?, size)
    }

    pub(super) fn listxattr(&self, nodeid: u64, size: u32) -> Result<Answer<'static>> {
        self.has_xattrs()?;
        let names = self.union.listxattr(&*self.node(nodeid)?)?;
        sized(names.iter().flat_map(|n| n.iter().copied().chain([0])).collect(), size)
    }

    pub(super) fn removexattr(&self, nodeid: u64, name: &[u8]) -> Result<Answer<'static>> {
        self.has_xattrs()?;
        if virtual_xattr(name).is_some() {
            return Err(Error::Refused(Errno::PERM));
        }
        self.union.removexattr(&self.node(nodeid)?, name)?;
        Ok(Answer::Done)
    }

    fn has_xattrs(&self) -> Result<()> {
        if self.config.xattrs { Ok(()) } else { not_here() }
    }

    pub(super) fn ioctl(&self, caller: &Header, number: u32, given: &[u8], room: u32) -> Result<Answer<'static>> {
        let node = self.node(caller.nodeid)?;
        if number == sys::control::REFRESH {
            return Ok(Answer::Refresh(node));
        }
        let who = super::ioctl::Who { uid: caller.uid, pid: caller.pid };
        Ok(Answer::Ioctl(super::ioctl::answer(&self.union, &node, (number, given), room, &who)?))
    }
}

/// Answers one of the calls that ask for a size first and for the bytes then.
pub(super) fn sized(bytes: Vec<u8>, size: u32) -> Result<Answer<'static>> {
    match (size, u32::try_from(bytes.len())) {
        (0, Ok(len)) => Ok(Answer::Size(len)),
        (_, Ok(len)) if len <= size => Ok(Answer::Bytes(bytes)),
        _ => Err(Error::Refused(Errno::RANGE)),
    }
}
