//! Filesystems that list every name under which something is found, byte for byte.

use std::os::fd::OwnedFd;

use super::Result;
use super::inode_flags;
use super::open;

/// `FS_CASEFOLD_FL`: names in this directory are found in any case.
const CASEFOLD: u32 = 0x4000_0000;

/// By `f_type`: ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, EROFS, squashfs, F2FS. Others may fold case (vfat, NTFS), or find what they
/// do not list (procfs, automounters, network filesystems).
const PLAIN: [u32; 8] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0xE0F5_E1E2, 0x7371_7368, 0xF2F5_2010];

/// Whether a directory lists all that is found in it. When in doubt, it does not.
///
/// # Errors
/// When it cannot be opened.
pub fn are_in(dir: &OwnedFd) -> Result<bool> {
    // Linux 3.10 tells nothing through a descriptor that is open as `O_PATH`.
    let dir = open::list_dir(dir)?;
    let Ok(fs) = rustix::fs::fstatfs(&dir) else { return Ok(false) };
    // The field is signed here and unsigned there; all numbers fit in 32 bits.
    let known = u32::try_from(fs.f_type & 0xffff_ffff).is_ok_and(|kind| PLAIN.contains(&kind));
    Ok(known && inode_flags::get(&dir).map_or(true, |flags| flags & CASEFOLD == 0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn procfs_finds_what_it_does_not_list() {
        let proc = super::open::dir_path(std::path::Path::new("/proc")).unwrap();
        assert!(!super::are_in(&proc).unwrap());
    }
}
