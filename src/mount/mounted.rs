//! A mount that this process made: its connection, and how to take away this mount and no other.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use super::error::Error;
use super::error::Result;
use super::fusermount;
use super::point::Point;
use super::request::Access;
use super::request::Request;
use super::table;
use super::umount;
use crate::sys;
use crate::sys::Errno;
use crate::sys::fd_passing;
use crate::sys::mount as calls;

/// A mount of ours.
#[derive(Debug)]
pub struct Mounted {
    /// The connection, kept to ask whether the mount is still there. It must go when serving has ended: as long as it is open, the
    /// kernel lets clients wait for answers.
    connection: OwnedFd,
    /// Where it was made, with its number and device; `None` when the caller made it.
    place: Option<(PathBuf, Option<Identity>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    id: u64,
    dev: (u32, u32),
}

/// Makes the mount that `request` asks for at `point`; returns it with the descriptor to serve.
///
/// # Errors
/// [`Error::NoDevice`], [`Error::Refused`], [`Error::Fusermount`], or the kernel's.
pub fn attach(request: &Request, point: &Point) -> Result<(Mounted, OwnedFd)> {
    let (fuse, place) = match point {
        Point::Passed(number) => (fd_passing::inherited(*number)?, None),
        Point::Dir(target) => {
            let fuse = connect(request, target)?;
            (fuse, Some((target.clone(), identity(request, target))))
        }
    };
    let connection = sys::open::duplicate(fuse.as_fd())?;
    Ok((Mounted { connection, place }, fuse))
}

/// By mount(2), or by fusermount where that is not allowed.
fn connect(request: &Request, target: &Path) -> Result<OwnedFd> {
    let access = request.access(sys::process::effective_uid());
    let kind = request.dialect.fs_type();
    let refused = match by_kernel(request, kind, access, target) {
        Err(Error::Sys(e)) if matches!(e.errno(), Errno::PERM | Errno::ACCESS) => e,
        other => return other,
    };
    fusermount::mount(kind, &request.fs_name(), access, target)?.ok_or(Error::Refused(refused))
}

fn by_kernel(request: &Request, kind: &str, access: Access, target: &Path) -> Result<OwnedFd> {
    let fuse = calls::open_fuse().map_err(|e| match e.errno() {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::NoDevice(e),
        _ => Error::Sys(e),
    })?;
    let data = kernel_data(&fuse, access);
    match calls::attach(&request.fs_name(), target, kind, access.flags, &data) {
        Err(e) if e.errno() == Errno::NODEV => Err(Error::NoDevice(e)),
        other => Ok(other.map(|()| fuse)?),
    }
}

/// Only what Linux 3.10 knows: any other word is `EINVAL` there.
fn kernel_data(fuse: &OwnedFd, access: Access) -> String {
    use std::os::fd::AsRawFd;
    let (uid, gid) = (sys::process::effective_uid(), sys::process::effective_gid());
    let mut data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}", fuse.as_raw_fd());
    if access.default_permissions {
        data.push_str(",default_permissions");
    }
    if access.allow.is_some() {
        data.push_str(",allow_other");
    }
    if let Some(max_read) = access.max_read {
        data.push_str(&format!(",max_read={max_read}"));
    }
    data
}

/// Found in the mount table, not by `stat`: nobody answers requests yet. Without `/proc` there is none.
fn identity(request: &Request, target: &Path) -> Option<Identity> {
    let entries = table::read().ok()?;
    let entry = table::topmost(&entries, target)?;
    (entry.kind == request.dialect.fs_type().as_bytes()).then_some(Identity { id: entry.id, dev: entry.dev })
}

impl Mounted {
    /// Where the mount was made, and its device number; `None` when the caller made it, or without `/proc`.
    pub fn place(&self) -> Option<(&Path, (u32, u32))> {
        let (target, identity) = self.place.as_ref()?;
        Some((target, identity.as_ref()?.dev))
    }

    /// Whether the mount is still there, anywhere.
    pub fn is_connected(&self) -> bool {
        calls::is_connected(&self.connection)
    }

    /// Takes the mount out of the tree at once, wherever it was moved to. Nothing happens when it is gone already, or when the caller
    /// made it. A new mount at the same path is never touched: while the connection lives, its mount and device numbers
    /// belong to nobody else.
    ///
    /// # Errors
    /// [`Error::Busy`] when another mount lies on top of it; else as [`umount::by_any_means`].
    pub fn detach(&self) -> Result<()> {
        let Some((target, identity)) = &self.place else { return Ok(()) };
        if !self.is_connected() {
            return Ok(());
        }
        let Some(identity) = identity else { return take_away(target) };
        let entries = table::read()?;
        let Some(ours) = entries.iter().find(|e| Identity { id: e.id, dev: e.dev } == *identity) else { return Ok(()) };
        match table::topmost(&entries, &ours.target) {
            Some(top) if top.id == ours.id => take_away(&ours.target),
            _ => Err(Error::Busy(ours.target.clone())),
        }
    }
}

/// Somebody else may do it at the same moment.
fn take_away(target: &Path) -> Result<()> {
    match umount::by_any_means(target, calls::Detach::Lazy) {
        Err(Error::NotMounted(_)) => Ok(()),
        other => other,
    }
}
