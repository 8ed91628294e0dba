//! The ioctls that a mount answers: inode flags. All others are `ENOTTY`, as on a filesystem that does not know them.

use std::sync::Arc;

use crate::sys::Errno;
use crate::sys::inode_flags;
use crate::sys::inode_flags::FSXATTR_LEN;
use crate::union::Error;
use crate::union::Result;
use crate::union::Union;
use crate::union::node::Node;

/// Answers request `number` with the bytes that go back to the caller, who takes at most `room`.
pub(super) fn answer(union: &Union, node: &Arc<Node>, number: u32, given: &[u8], room: u32) -> Result<Vec<u8>> {
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
        let flags = given.first_chunk::<4>().ok_or(Error::Refused(Errno::INVAL))?;
        return union.set_inode_flags(node, u32::from_ne_bytes(*flags)).map(|()| Vec::new());
    }
    match number {
        inode_flags::GET_FSXATTR if room as usize >= FSXATTR_LEN => union.fsxattr(node).map(|value| value.to_vec()),
        inode_flags::SET_FSXATTR => {
            let value = given.first_chunk().ok_or(Error::Refused(Errno::INVAL))?;
            union.set_fsxattr(node, *value).map(|()| Vec::new())
        }
        _ => Err(Error::Refused(Errno::NOTTY)),
    }
}
