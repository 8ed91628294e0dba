//! Namespaces: leaving the host's and joining a container's.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;

use super::Error;
use super::Result;
use super::child::Pid;
use super::gate;

/// A kind of namespace that a container has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Process ids; joined by the children of the caller, not by the caller.
    Pid,
    /// Mounts; joining also changes root and working directory.
    Mount,
}

impl Kind {
    /// All kinds, in the order in which they are joined: mounts last, since the host's `/proc` goes with them.
    pub const ALL: [Self; 4] = [Self::Ipc, Self::Uts, Self::Pid, Self::Mount];

    fn file(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Pid => "pid",
            Self::Mount => "mnt",
        }
    }

    fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::Mount => LinkNameSpaceType::Mount,
        }
    }
}

/// Opens the namespace that process `of` is in; `None` means this process.
///
/// # Errors
/// The kernel's; `ENOENT` when there is no such process.
pub fn open(kind: Kind, of: Option<Pid>) -> Result<OwnedFd> {
    let who = of.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let path = format!("/proc/{who}/ns/{}", kind.file());
    rustix::fs::open(Path::new(&path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new("open", path, e))
}

/// Joins the namespace that `fd` holds.
///
/// # Errors
/// The kernel's.
pub fn join(kind: Kind, fd: impl AsFd) -> Result<()> {
    gate::pass("setns", || format!("{kind:?}"))?;
    rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind.link_type()))
        .map_err(|e| Error::new("setns", format!("{kind:?}"), e))
}

fn unshare(flags: UnshareFlags, what: &'static str) -> Result<()> {
    gate::pass("unshare", || what.to_owned())?;
    // SAFETY: the flags never hold CLONE_FILES, the one that could take descriptors away from other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|e| Error::new("unshare", what, e))
}

/// Gives this process new mount, host name and IPC namespaces.
///
/// # Errors
/// The kernel's; `EPERM` without `CAP_SYS_ADMIN`.
pub fn leave_mount_uts_ipc() -> Result<()> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC, "CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWIPC")
}

/// Runs `fork`, whose child becomes process 1 of a new PID namespace; this process's later children are again in its
/// own.
///
/// # Errors
/// The kernel's, or that of `fork`. When the way back fails the child is killed.
pub fn fork_into_new_pid_namespace(fork: impl FnOnce() -> Result<Pid>) -> Result<Pid> {
    let own = open(Kind::Pid, None)?;
    unshare(UnshareFlags::NEWPID, "CLONE_NEWPID")?;
    fork_and_return(&own, fork)
}

/// Runs `fork`, whose child is born into the PID namespace `inside`; this process's later children are again in its
/// own.
///
/// # Errors
/// As [`fork_into_new_pid_namespace`].
pub fn fork_into_pid_namespace(inside: impl AsFd, fork: impl FnOnce() -> Result<Pid>) -> Result<Pid> {
    let own = open(Kind::Pid, None)?;
    join(Kind::Pid, inside)?;
    fork_and_return(&own, fork)
}

fn fork_and_return(own: &OwnedFd, fork: impl FnOnce() -> Result<Pid>) -> Result<Pid> {
    let forked = fork();
    match (join(Kind::Pid, own), forked) {
        (Ok(()), forked) => forked,
        (Err(e), forked) => {
            if let Ok(pid) = forked {
                super::child::kill(pid)?;
                super::child::wait(pid, true)?;
            }
            Err(e)
        }
    }
}

/// Sets the host name of this process's UTS namespace.
///
/// # Errors
/// The kernel's; `EINVAL` when it is longer than 64 bytes.
pub fn set_host_name(name: &[u8]) -> Result<()> {
    gate::pass("sethostname", || crate::path::Escaped(name).to_string())?;
    rustix::system::sethostname(name).map_err(|e| Error::new("sethostname", crate::path::Escaped(name).to_string(), e))
}
