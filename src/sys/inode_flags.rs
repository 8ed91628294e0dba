//! Inode flags: what `lsattr` and `chattr` read and change.

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use super::Errno;
use super::Error;
use super::Result;
use super::gate;

/// `FS_IOC_GETFLAGS`, for programs of 64 and of 32 bits. Only its number says `long`: the value is an `int`.
pub const GET: [u32; 2] = [0x8008_6601, 0x8004_6601];
/// `FS_IOC_SETFLAGS`, likewise.
pub const SET: [u32; 2] = [0x4008_6602, 0x4004_6602];
/// `FS_IOC_GETVERSION`, likewise: the inode's generation.
pub const GET_VERSION: [u32; 2] = [0x8008_7601, 0x8004_7601];
/// `FS_IOC_FSGETXATTR`: flags, extent hints and project number as one [`FSXATTR_LEN`] bytes.
pub const GET_FSXATTR: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`.
pub const SET_FSXATTR: u32 = 0x401c_5820;

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`: only `CAP_LINUX_IMMUTABLE` changes them.
pub const LOCKS: u32 = 0x10 | 0x20;
/// `FS_XFLAG_IMMUTABLE` and `FS_XFLAG_APPEND`, the same in a `struct fsxattr`.
pub const LOCKS_X: u32 = 0x8 | 0x10;

/// The size of the kernel's `struct fsxattr`.
pub const FSXATTR_LEN: usize = 28;

#[cfg(target_pointer_width = "64")]
const GET_NATIVE: u32 = GET[0];
#[cfg(not(target_pointer_width = "64"))]
const GET_NATIVE: u32 = GET[1];
#[cfg(target_pointer_width = "64")]
const SET_NATIVE: u32 = SET[0];
#[cfg(not(target_pointer_width = "64"))]
const SET_NATIVE: u32 = SET[1];
#[cfg(target_pointer_width = "64")]
const VERSION_NATIVE: u32 = GET_VERSION[0];
#[cfg(not(target_pointer_width = "64"))]
const VERSION_NATIVE: u32 = GET_VERSION[1];

/// The inode flags of a file or directory that is open for data (not `O_PATH`).
///
/// # Errors
/// The kernel's; `ENOTTY` where the filesystem has no such flags.
pub fn get(fd: impl AsFd) -> Result<u32> {
    read_int(fd, GET_NATIVE)
}

/// The generation number of an inode, as [`get`].
///
/// # Errors
/// As [`get`].
pub fn version(fd: impl AsFd) -> Result<u32> {
    read_int(fd, VERSION_NATIVE)
}

/// Sets the inode flags; the filesystem honours those it knows.
///
/// # Errors
/// The kernel's; `EPERM` for immutable and append-only without the privilege, `EOPNOTSUPP` for flags it does not know.
pub fn set(fd: impl AsFd, flags: u32) -> Result<()> {
    let args = || format!("{}, FS_IOC_SETFLAGS, {flags:#x}", fd.as_fd().as_raw_fd());
    gate::pass("ioctl", args)?;
    // The kernel copies an int; a long keeps it inside memory that is ours whatever a filesystem makes of the number.
    let mut value = u64::from(flags).to_ne_bytes();
    call(fd.as_fd().as_raw_fd(), SET_NATIVE, &mut value).map_err(|e| Error::new("ioctl", args(), e))
}

/// Whether a descriptor was opened for writing at the end.
pub fn appends(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::APPEND))
}

/// The kernel's `struct fsxattr` of a file.
///
/// # Errors
/// As [`get`].
pub fn get_fsxattr(fd: impl AsFd) -> Result<[u8; FSXATTR_LEN]> {
    let mut value = [0; FSXATTR_LEN];
    call(fd.as_fd().as_raw_fd(), GET_FSXATTR, &mut value).map_err(|e| Error::bare("ioctl", e))?;
    Ok(value)
}

/// Sets what a `struct fsxattr` holds.
///
/// # Errors
/// As [`set`].
pub fn set_fsxattr(fd: impl AsFd, mut value: [u8; FSXATTR_LEN]) -> Result<()> {
    let args = || format!("{}, FS_IOC_FSSETXATTR", fd.as_fd().as_raw_fd());
    gate::pass("ioctl", args)?;
    call(fd.as_fd().as_raw_fd(), SET_FSXATTR, &mut value).map_err(|e| Error::new("ioctl", args(), e))
}

fn read_int(fd: impl AsFd, number: u32) -> Result<u32> {
    let mut value = [0u8; 8];
    call(fd.as_fd().as_raw_fd(), number, &mut value).map_err(|e| Error::bare("ioctl", e))?;
    let [a, b, c, d, ..] = value;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

fn call(fd: i32, number: u32, value: &mut [u8]) -> std::result::Result<(), Errno> {
    // SAFETY: each of the five requests reads or writes at most as many bytes as its number says, and callers pass as many:
    // 8 for the flags and the version, 28 for the structure. The descriptor is borrowed by the callers.
    let result = unsafe { libc::ioctl(fd, number as _, value.as_mut_ptr()) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
