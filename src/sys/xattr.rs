//! Extended attributes of open files, also of `O_PATH` ones and of symlinks.
//!
//! The kernel before 6.13 has no xattr call that takes a directory descriptor, and `fgetxattr` refuses `O_PATH`
//! descriptors; `/proc/self/fd/N` names exactly the open file, whatever its path is now, and works everywhere.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::fs::XattrFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::attr::proc_path;
use super::gate;

/// The largest value the kernel accepts, in bytes.
pub const VALUE_MAX: usize = 64 * 1024;

/// How `set` treats an existing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// Create or replace.
    Any,
    /// Fail with `EEXIST` when it exists.
    Create,
    /// Fail with `ENODATA` when it does not exist.
    Replace,
}

/// The value of `name`; `None` when the file has no such attribute or the filesystem has no attributes at all.
///
/// # Errors
/// The kernel's, but for `ENODATA` and `EOPNOTSUPP`.
pub fn get(fd: impl AsFd, name: &[u8]) -> Result<Option<Vec<u8>>> {
    gate::look("getxattr")?;
    let path = proc_path(&fd);
    let mut buf = vec![0u8; 256];
    loop {
        match rustix::fs::getxattr(&*path, name, &mut buf[..]) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(Some(buf));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if buf.len() < VALUE_MAX => buf.resize(VALUE_MAX, 0),
            Err(e) => return Err(Error::new("getxattr", crate::path::Escaped(name).to_string(), e)),
        }
    }
}

/// The names of all attributes; empty when the filesystem has none.
///
/// # Errors
/// The kernel's, but for `EOPNOTSUPP`.
pub fn list(fd: impl AsFd) -> Result<Vec<Vec<u8>>> {
    gate::look("listxattr")?;
    let path = proc_path(&fd);
    let mut buf = vec![0u8; 1024];
    loop {
        match rustix::fs::listxattr(&*path, &mut buf[..]) {
            Ok(n) => {
                buf.truncate(n);
                return Ok(buf.split(|&b| b == 0).filter(|s| !s.is_empty()).map(<[u8]>::to_vec).collect());
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if buf.len() < VALUE_MAX => buf.resize(VALUE_MAX, 0),
            Err(e) => return Err(Error::bare("listxattr", e)),
        }
    }
}

/// Sets the attribute `name` to `value`.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where the filesystem has no such attributes.
pub fn set(fd: impl AsFd, name: &[u8], value: &[u8], mode: SetMode) -> Result<()> {
    let args = || format!("{}, {}, {} bytes", fd.as_fd().as_raw_fd(), crate::path::Escaped(name), value.len());
    gate::pass("setxattr", args)?;
    let flags = match mode {
        SetMode::Any => XattrFlags::empty(),
        SetMode::Create => XattrFlags::CREATE,
        SetMode::Replace => XattrFlags::REPLACE,
    };
    rustix::fs::setxattr(proc_path(&fd), name, value, flags).map_err(|e| Error::new("setxattr", args(), e))
}

/// Removes the attribute `name`.
///
/// # Errors
/// The kernel's; `ENODATA` when there is none.
pub fn remove(fd: impl AsFd, name: &[u8]) -> Result<()> {
    let args = || format!("{}, {}", fd.as_fd().as_raw_fd(), crate::path::Escaped(name));
    gate::pass("removexattr", args)?;
    rustix::fs::removexattr(proc_path(&fd), name).map_err(|e| Error::new("removexattr", args(), e))
}
