//! Changing names: make, link, rename, remove; and reading a symlink.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::RenameFlags;

use super::Errno;
use super::Error;
use super::Result;
use super::attr::Kind;
use super::attr::PERM_MASK;
use super::gate;
use crate::path::Name;

/// How a rename treats an existing destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with `EEXIST` when it exists.
    NoReplace,
    /// Exchange the two names in one step.
    Exchange,
    /// Replace it, and leave a whiteout (character device 0:0) at the source in the same step.
    Whiteout,
}

fn raw(fd: &impl AsFd) -> i32 {
    fd.as_fd().as_raw_fd()
}

/// Makes the directory `name` in `dir`.
///
/// # Errors
/// The kernel's.
pub fn mkdir(dir: impl AsFd, name: Name<'_>, mode: u32) -> Result<()> {
    let args = || format!("{}, {name}, {mode:o}", raw(&dir));
    gate::pass("mkdirat", args)?;
    rustix::fs::mkdirat(&dir, name.as_bytes(), Mode::from_raw_mode(mode & PERM_MASK))
        .map_err(|e| Error::new("mkdirat", args(), e))
}

/// Makes the node `name` in `dir`: a regular file, FIFO, socket or device.
///
/// # Errors
/// The kernel's; `EPERM` where devices may not be made.
pub fn mknod(dir: impl AsFd, name: Name<'_>, kind: Kind, mode: u32, rdev: u64) -> Result<()> {
    let args = || format!("{}, {name}, {kind:?}, {mode:o}, {rdev}", raw(&dir));
    gate::pass("mknodat", args)?;
    let file_type = FileType::from_raw_mode(kind.mode_bits());
    rustix::fs::mknodat(&dir, name.as_bytes(), file_type, Mode::from_raw_mode(mode & PERM_MASK), rdev)
        .map_err(|e| Error::new("mknodat", args(), e))
}

/// Makes the symlink `name` in `dir` with `target` as its text.
///
/// # Errors
/// The kernel's.
pub fn symlink(target: &[u8], dir: impl AsFd, name: Name<'_>) -> Result<()> {
    let args = || format!("{}, {}, {name}", crate::path::Escaped(target), raw(&dir));
    gate::pass("symlinkat", args)?;
    rustix::fs::symlinkat(target, &dir, name.as_bytes()).map_err(|e| Error::new("symlinkat", args(), e))
}

/// The text of the symlink `name` in `dir`.
///
/// # Errors
/// The kernel's; `EINVAL` when it is no symlink.
pub fn readlink(dir: impl AsFd, name: Name<'_>) -> Result<Vec<u8>> {
    gate::look("readlinkat")?;
    rustix::fs::readlinkat(dir, name.as_bytes(), Vec::new())
        .map(std::ffi::CString::into_bytes)
        .map_err(|e| Error::new("readlinkat", name.to_string(), e))
}

/// The text of a symlink held as `O_PATH`.
///
/// # Errors
/// The kernel's.
pub fn readlink_fd(fd: impl AsFd) -> Result<Vec<u8>> {
    gate::look("readlinkat")?;
    rustix::fs::readlinkat(fd, c"", Vec::new())
        .map(std::ffi::CString::into_bytes)
        .map_err(|e| Error::bare("readlinkat", e))
}

/// Gives `name` in `dir` the second name `new_name` in `new_dir`; a symlink is linked itself, not followed.
///
/// # Errors
/// The kernel's.
pub fn link(dir: impl AsFd, name: Name<'_>, new_dir: impl AsFd, new_name: Name<'_>) -> Result<()> {
    let args = || format!("{}, {name}, {}, {new_name}", raw(&dir), raw(&new_dir));
    gate::pass("linkat", args)?;
    rustix::fs::linkat(&dir, name.as_bytes(), &new_dir, new_name.as_bytes(), AtFlags::empty())
        .map_err(|e| Error::new("linkat", args(), e))
}

/// Gives an open file (one of [`super::open::tmpfile`], or one held as `O_PATH`) the name `new_name` in `new_dir`.
///
/// # Errors
/// The kernel's.
pub fn link_fd(fd: impl AsFd, new_dir: impl AsFd, new_name: Name<'_>) -> Result<()> {
    let args = || format!("fd {}, {}, {new_name}", raw(&fd), raw(&new_dir));
    gate::pass("linkat", args)?;
    let path = super::attr::proc_path(&fd);
    rustix::fs::linkat(rustix::fs::CWD, path, &new_dir, new_name.as_bytes(), AtFlags::SYMLINK_FOLLOW)
        .map_err(|e| Error::new("linkat", args(), e))
}

/// Removes the name of a file, symlink or device.
///
/// # Errors
/// The kernel's.
pub fn unlink(dir: impl AsFd, name: Name<'_>) -> Result<()> {
    let args = || format!("{}, {name}", raw(&dir));
    gate::pass("unlinkat", args)?;
    rustix::fs::unlinkat(&dir, name.as_bytes(), AtFlags::empty()).map_err(|e| Error::new("unlinkat", args(), e))
}

/// Removes an empty directory.
///
/// # Errors
/// The kernel's.
pub fn rmdir(dir: impl AsFd, name: Name<'_>) -> Result<()> {
    let args = || format!("{}, {name}, AT_REMOVEDIR", raw(&dir));
    gate::pass("unlinkat", args)?;
    rustix::fs::unlinkat(&dir, name.as_bytes(), AtFlags::REMOVEDIR).map_err(|e| Error::new("unlinkat", args(), e))
}

/// Renames `name` in `dir` to `new_name` in `new_dir`, in one step.
///
/// # Errors
/// The kernel's; `EINVAL` or `ENOSYS` where the mode is not supported.
pub fn rename(dir: impl AsFd, name: Name<'_>, new_dir: impl AsFd, new_name: Name<'_>, mode: RenameMode) -> Result<()> {
    let args = || format!("{}, {name}, {}, {new_name}, {mode:?}", raw(&dir), raw(&new_dir));
    gate::pass("renameat2", args)?;
    let flags = match mode {
        RenameMode::Replace => RenameFlags::empty(),
        RenameMode::NoReplace => RenameFlags::NOREPLACE,
        RenameMode::Exchange => RenameFlags::EXCHANGE,
        RenameMode::Whiteout => RenameFlags::WHITEOUT,
    };
    let result = if flags.is_empty() {
        rustix::fs::renameat(&dir, name.as_bytes(), &new_dir, new_name.as_bytes())
    } else {
        rustix::fs::renameat_with(&dir, name.as_bytes(), &new_dir, new_name.as_bytes(), flags)
    };
    result.map_err(|e| Error::new("renameat2", args(), e))
}

/// Removes `name` in `dir` with everything below it, by descriptors, never following a symlink; nothing to remove is fine, also when
/// somebody else removes the same at the same time.
///
/// # Errors
/// The first error of the kernel; what was removed before stays removed.
pub fn remove_all(dir: impl AsFd, name: Name<'_>) -> Result<()> {
    let Some(child) = removed_unless_dir(dir.as_fd(), name)? else { return Ok(()) };
    clear(&child)?;
    gone(rmdir(&dir, name))
}

/// Removes what is no directory; a directory is opened.
fn removed_unless_dir(dir: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<OwnedFd>> {
    match unlink(dir, name) {
        Err(e) if matches!(e.errno(), Errno::ISDIR | Errno::PERM) => match super::open::dir_at(dir, name) {
            Ok(child) => Ok(Some(child)),
            Err(e) if e.errno() == Errno::NOENT => Ok(None),
            // A file that may not be removed.
            Err(other) if other.errno() == Errno::NOTDIR => Err(e),
            Err(e) => Err(e),
        },
        removed => gone(removed).map(|()| None),
    }
}

fn gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(e) if e.errno() == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Directories that lie deeper are moved up before they are removed, so that no tree takes more descriptors, or more of the stack, than others.
const DEEPEST: usize = 64;

/// Removes everything below the directory `dir`, which itself stays.
///
/// # Errors
/// The first error of the kernel; what was removed before stays removed.
pub fn clear(dir: impl AsFd) -> Result<()> {
    let mut moved = 0;
    loop {
        let before = moved;
        clear_below(dir.as_fd(), dir.as_fd(), 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

/// Clears `dir`, which lies so deep below `top`; what lies too deep is `moved` to the top.
fn clear_below(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<()> {
    for name in names_in(dir)? {
        let Some(child) = removed_unless_dir(dir, name.as_name())? else { continue };
        if depth == DEEPEST {
            lift(top, dir, name.as_name(), moved)?;
            continue;
        }
        clear_below(top, child.as_fd(), depth + 1, moved)?;
        gone(rmdir(dir, name.as_name()))?;
    }
    Ok(())
}

/// Moves a directory up to the top, under a name that nothing has.
fn lift(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: Name<'_>, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        let text = format!(".mica-deep-{}-{moved}", std::process::id());
        let Ok(new) = Name::new(text.as_bytes()) else { return Err(Error::bare("rename", Errno::INVAL)) };
        match rename(dir, name, top, new, RenameMode::Replace) {
            Err(e) if matches!(e.errno(), Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            moved => return gone(moved),
        }
    }
}

fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<crate::path::NameBuf>> {
    let mut names = Vec::new();
    let listed = super::dir::for_each::<Error>(dir, |entry| {
        if let Ok(name) = crate::path::NameBuf::new(entry.name) {
            names.push(name);
        }
        Ok(())
    });
    match listed {
        // The directory was removed while it was open: so says the kernel then.
        Err(e) if e.errno() == Errno::NOENT => Ok(Vec::new()),
        other => other.map(|()| names),
    }
}
