//! The ioctls that a mount answers: inode flags. All others are `ENOTTY`, as on a filesystem that does not know them.

use std::sync::Arc;

use crate::sys::Errno;
use crate::sys::inode_flags;
use crate::sys::inode_flags::FSXATTR_LEN;
use crate::sys::process;
use crate::union::Error;
use crate::union::Result;
use crate::union::Union;
use crate::union::node::Node;

/// Who asks.
#[derive(Debug)]
pub(super) struct Who {
    pub uid: u32,
    pub pid: u32,
}

/// The number of `CAP_LINUX_IMMUTABLE`.
const LINUX_IMMUTABLE: u32 = 9;

impl Who {
    /// The kernel asks this itself of the numbers that it knows (`vfs_fileattr_set`, Linux 5.13), and of no others: a 64-bit program's 32-bit
    /// numbers come through as they are.
    ///
    /// # Errors
    /// `EPERM` for others than the owner and the superuser, and when flags that not even the superuser gets past are `changed` without
    /// `CAP_LINUX_IMMUTABLE`.
    fn may_set(&self, union: &Union, node: &Arc<Node>, changed: bool) -> Result<()> {
        let is_owner = self.uid == 0 || self.uid == union.getattr(node)?.uid;
        let is_allowed = is_owner && (!changed || process::is_capable(self.pid, LINUX_IMMUTABLE));
        if is_allowed { Ok(()) } else { Err(Error::Refused(Errno::PERM)) }
    }
}

/// Answers the request (its number, and what came with it) with the bytes that go back to the caller, who takes at most `room`.
pub(super) fn answer(
    union: &Union,
    node: &Arc<Node>,
    (number, given): (u32, &[u8]),
    room: u32,
    who: &Who,
) -> Result<Vec<u8>> {
    // Programs make room for a long, as the number says; the kernel, asking for itself, for an int.
    let int = |value: u32| {
        let mut bytes = value.to_ne_bytes().to_vec();
        bytes.resize(room.min(8) as usize, 0);
        bytes
    };
    if inode_flags::GET.contains(&number) {
        return union.inode_flags(node).map(int);
    }
    if inode_flags::GET_VERSION.contains(&number) {
        return union.inode_version(node).map(int);
    }
    if inode_flags::SET.contains(&number) {
        let flags = u32::from_ne_bytes(*given.first_chunk().ok_or(Error::Refused(Errno::INVAL))?);
        // A layer may lie where there are no flags: then none is set.
        let changed = (flags ^ union.inode_flags(node).unwrap_or(0)) & inode_flags::LOCKS != 0;
        who.may_set(union, node, changed)?;
        return union.set_inode_flags(node, flags).map(|()| Vec::new());
    }
    match number {
        inode_flags::GET_FSXATTR if room as usize >= FSXATTR_LEN => union.fsxattr(node).map(|value| value.to_vec()),
        inode_flags::SET_FSXATTR => {
            let value: &[u8; FSXATTR_LEN] = given.first_chunk().ok_or(Error::Refused(Errno::INVAL))?;
            let flags = |of: &[u8; FSXATTR_LEN]| of.first_chunk().map_or(0, |first| u32::from_ne_bytes(*first));
            let changed = (flags(value) ^ union.fsxattr(node).map_or(0, |now| flags(&now))) & inode_flags::LOCKS_X != 0;
            who.may_set(union, node, changed)?;
            union.set_fsxattr(node, *value).map(|()| Vec::new())
        }
        _ => Err(Error::Refused(Errno::NOTTY)),
    }
}
