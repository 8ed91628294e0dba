//! Reading a directory's names.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::fs::RawDir;

use super::Error;
use super::Result;
use super::attr::Kind;
use super::gate;
use super::open;

/// One entry as the kernel lists it.
#[derive(Debug, Clone, Copy)]
pub struct RawEntry<'a> {
    /// The name's bytes; never `.` or `..`.
    pub name: &'a [u8],
    /// The inode number that the filesystem lists.
    pub ino: u64,
    /// The type, or `None` where the filesystem does not tell (`DT_UNKNOWN`: xfs made with `ftype=0`).
    pub kind: Option<Kind>,
}

/// Buffer for one `getdents64`: large, since each call costs a trip into the kernel.
const BUFFER: usize = 64 * 1024;

/// Calls `each` for every entry of `dir` (an `O_PATH` or readable descriptor) but `.` and `..`, in the filesystem's order.
///
/// # Errors
/// The kernel's, or the first error that `each` returns.
pub fn for_each<E: From<Error>>(
    dir: impl AsFd,
    mut each: impl FnMut(RawEntry<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let fd = open::list_dir(dir)?;
    gate::look("getdents64")?;
    let mut buffer = Vec::<u8>::with_capacity(BUFFER);
    let mut iter = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = iter.next() {
        let entry = entry.map_err(|e| Error::bare("getdents64", e))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(RawEntry { name, ino: entry.ino(), kind: kind_of(entry.file_type()) })?;
        }
    }
    Ok(())
}

/// Whether the directory has no entry but `.` and `..`.
///
/// # Errors
/// The kernel's.
pub fn is_empty(dir: impl AsFd) -> Result<bool> {
    let mut empty = true;
    for_each::<Error>(dir, |_| {
        empty = false;
        Ok(())
    })?;
    Ok(empty)
}

fn kind_of(t: FileType) -> Option<Kind> {
    Some(match t {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return None,
    })
}
