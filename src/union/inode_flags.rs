//! Inode flags (`lsattr`, `chattr`): those of the object in upper or in the layer. Setting them copies up first; immutable and
//! append-only are then kept by the upper filesystem itself.
//!
//! A copy-up carries the flags that the kernel's overlayfs carries: synchronous writes, and no access times. It does not carry
//! immutable and append-only, which keep a layer's own file from being changed: a copy with them could neither be renamed to its
//! place nor be changed as the caller wants. (The kernel notes them in `overlay.protattr`, and refuses the change.)

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Result;
use super::Union;
use super::copy_up::Copy;
use super::error::Error;
use super::error::refused;
use super::lookup::face;
use super::node::Node;
use super::node::OpenFor;
use super::node::Real;
use crate::layer::Content;
use crate::layer::Obj;
use crate::layer::PACK_DEV;
use crate::sys;
use crate::sys::Errno;
use crate::sys::attr::Kind;
use crate::sys::inode_flags;
use crate::sys::inode_flags::FSXATTR_LEN;
use crate::sys::open::Access;

/// `FS_SYNC_FL` and `FS_NOATIME_FL`.
const CARRIED: u32 = 0x08 | 0x80;

/// Gives `made`, a copy of `from` in work, whose content may be open already, the flags that a copy keeps; for a file it is open for writing, else `O_PATH`.
///
/// # Errors
/// Those of opening either. A filesystem that has no flags, or not these, is no error.
pub(super) fn carry(from: &Obj, open: Option<&Content>, made: &OwnedFd) -> Result<()> {
    let source = match from.kind() {
        _ if from.id().dev == PACK_DEV => None,
        Kind::File => match open {
            Some(open) => open.whole_file().cloned(),
            None => from.open()?.whole_file().cloned(),
        },
        Kind::Dir => from.listable()?,
        _ => None,
    };
    let flags = source.and_then(|fd| inode_flags::get(&*fd).ok()).unwrap_or(0) & CARRIED;
    if flags == 0 {
        return Ok(());
    }
    let dir = if from.kind() == Kind::Dir { Some(sys::open::list_dir(made)?) } else { None };
    let made = dir.as_ref().unwrap_or(made);
    match inode_flags::get(made).and_then(|own| inode_flags::set(made, own | flags)) {
        Err(e) if matches!(e.errno(), Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => Ok(()),
        result => Ok(result?),
    }
}

/// Opens a file of upper for reading and writing; one that is append-only for writing at its end, where all writes go then.
///
/// # Errors
/// The kernel's.
pub(super) fn open_to_write(held: &OwnedFd) -> sys::Result<(OwnedFd, OpenFor)> {
    match sys::open::reopen(held, Access::ReadWrite) {
        Ok(fd) => Ok((fd, OpenFor::Writing)),
        Err(e) if e.errno() == Errno::PERM => {
            sys::open::reopen(held, Access::Append).map(|fd| (fd, OpenFor::Appending)).map_err(|_| e)
        }
        Err(e) => Err(e),
    }
}

/// Whether the object lies in a pack, which keeps no flags: what is on the pack's own files is no concern of the union's users.
fn is_packed(node: &Node) -> bool {
    match &node.body.read().real {
        Real::Lower(lower) => lower.obj.id().dev == PACK_DEV,
        Real::Dir(dirs) if dirs.upper.is_none() => face(&dirs.lowers).is_some_and(|l| l.obj.id().dev == PACK_DEV),
        _ => false,
    }
}

impl Union {
    /// The inode flags of a file or directory (`FS_*_FL`).
    ///
    /// # Errors
    /// `ENOTTY` for anything else, and for a layer that has none; those of the layer that holds the object.
    pub fn inode_flags(&self, node: &Node) -> Result<u32> {
        if is_packed(node) {
            return Ok(0);
        }
        Ok(inode_flags::get(&*self.flagged(node)?)?)
    }

    /// Whether a file that is open for writing takes writes at its end only.
    pub fn is_append_only(&self, node: &Arc<Node>) -> bool {
        let io = self.open_writable(node, Copy::Blocks);
        io.is_ok_and(|io| io.upper().is_some_and(|(fd, _)| inode_flags::appends(&**fd)))
    }

    /// The generation number of the object that shows.
    ///
    /// # Errors
    /// As [`Union::inode_flags`].
    pub fn inode_version(&self, node: &Node) -> Result<u32> {
        Ok(inode_flags::version(&*self.flagged(node)?)?)
    }

    /// Sets the inode flags.
    ///
    /// # Errors
    /// As [`Union::inode_flags`]; `EROFS`; those of the copy-up and of the upper filesystem.
    pub fn set_inode_flags(&self, node: &Arc<Node>, flags: u32) -> Result<()> {
        self.upper()?;
        // Programs set what they read: without a change there is nothing to copy up for.
        if self.inode_flags(node).is_ok_and(|now| now == flags) {
            return Ok(());
        }
        self.copy_up(node, Copy::All)?;
        inode_flags::set(&*self.flagged(node)?, flags)?;
        node.is_changed();
        self.reopen_unless_counted(node);
        Ok(())
    }

    /// The kernel's `struct fsxattr`.
    ///
    /// # Errors
    /// As [`Union::inode_flags`].
    pub fn fsxattr(&self, node: &Node) -> Result<[u8; FSXATTR_LEN]> {
        Ok(inode_flags::get_fsxattr(&*self.flagged(node)?)?)
    }

    /// Sets what a `struct fsxattr` holds.
    ///
    /// # Errors
    /// As [`Union::set_inode_flags`].
    pub fn set_fsxattr(&self, node: &Arc<Node>, value: [u8; FSXATTR_LEN]) -> Result<()> {
        self.upper()?;
        self.copy_up(node, Copy::All)?;
        inode_flags::set_fsxattr(&*self.flagged(node)?, value)?;
        node.is_changed();
        self.reopen_unless_counted(node);
        Ok(())
    }

    /// Where nobody says when a file is opened, the next write finds out what the flags allow: that opens the file again.
    fn reopen_unless_counted(&self, node: &Node) {
        if self.files.are_uncounted() {
            let io = node.body.write().change(|rare| rare.io.take());
            drop(io);
        }
    }

    /// A descriptor that takes the request. It is open for reading only: an immutable file cannot be opened for writing.
    fn flagged(&self, node: &Node) -> Result<Arc<OwnedFd>> {
        let real = node.body.read().real.clone();
        if is_packed(node) {
            return refused(Errno::NOTTY);
        }
        match (node.kind, real) {
            (Kind::File, Real::Lower(lower)) => {
                let content = lower.obj.open()?;
                content.whole_file().cloned().ok_or(Error::Refused(Errno::NOTTY))
            }
            (Kind::File, _) => Ok(Arc::new(sys::open::reopen(&*self.hold(node)?, Access::Read)?)),
            (Kind::Dir, Real::Dir(dirs)) => match (&dirs.upper, face(&dirs.lowers)) {
                (Some(handle), _) => Ok(Arc::new(sys::open::list_dir(&*handle.fd()?)?)),
                (None, Some(lower)) => lower.obj.listable()?.ok_or(Error::Refused(Errno::NOTTY)),
                (None, None) => refused(Errno::IO),
            },
            _ => refused(Errno::NOTTY),
        }
    }
}
