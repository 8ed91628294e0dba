//! Sockets that have a name in a directory, for the owner of a mount to ask its server.
//!
//! A name is taken relative to an open directory, through `/proc/self/fd`: an address of a socket holds 108 bytes only, and no
//! path of the host is joined.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::net::AddressFamily;
use rustix::net::Shutdown;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use super::Error;
use super::Result;
use super::gate;
use crate::path::Name;

/// How many callers may wait to be heard.
const BACKLOG: i32 = 8;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process, in this process's PID namespace; 0 where it does not show.
    pub pid: u32,
    /// Its user, in this process's user namespace.
    pub uid: u32,
}

fn address(dir: impl AsFd, name: Name<'_>) -> Result<SocketAddrUnix> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    SocketAddrUnix::new(path).map_err(|e| Error::new("bind", name.to_string(), e))
}

/// Listens under a new name in `dir`, which only this user (and root) can connect to. The name must be free.
///
/// # Errors
/// The kernel's; `EADDRINUSE` for a name that is taken.
pub fn listen(dir: impl AsFd, name: Name<'_>) -> Result<UnixListener> {
    gate::pass("bind", || name.to_string())?;
    let failed = |call, e| Error::new(call, name.to_string(), e);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| failed("socket", e))?;
    // The mode that the name gets; set before there is a name, so nobody else ever could connect.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(|e| failed("fchmod", e))?;
    rustix::net::bind(&socket, &address(dir, name)?).map_err(|e| failed("bind", e))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| failed("listen", e))?;
    Ok(socket.into())
}

/// Connects to the one who listens under `name` in `dir`.
///
/// # Errors
/// The kernel's: `ENOENT` where nobody ever listened, `ECONNREFUSED` where nobody does any more, `EACCES`.
pub fn connect(dir: impl AsFd, name: Name<'_>) -> Result<UnixStream> {
    let failed = |call, e| Error::new(call, name.to_string(), e);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| failed("socket", e))?;
    rustix::net::connect(&socket, &address(dir, name)?).map_err(|e| failed("connect", e))?;
    Ok(socket.into())
}

/// Makes [`UnixListener::accept`] of another thread fail from now on.
///
/// # Errors
/// The kernel's.
pub fn stop_listening(listener: &UnixListener) -> Result<()> {
    rustix::net::shutdown(listener, Shutdown::Both).map_err(|e| Error::bare("shutdown", e))
}

/// Who is at the other end, as the kernel noted when it connected, or began to listen.
///
/// # Errors
/// The kernel's.
pub fn peer(stream: &UnixStream) -> Result<Peer> {
    let cred = rustix::net::sockopt::socket_peercred(stream).map_err(|e| Error::bare("getsockopt", e))?;
    let pid = u32::try_from(cred.pid.as_raw_pid()).unwrap_or(0);
    Ok(Peer { pid, uid: cred.uid.as_raw() })
}

/// Whether the other end has closed its side. Does not wait.
pub fn is_hung_up(stream: &UnixStream) -> bool {
    wait(stream.as_fd(), PollFlags::RDHUP, Duration::ZERO)
}

/// Waits for something to read, or for the end; `false` after `limit`.
pub fn wait_readable(stream: &UnixStream, limit: Duration) -> bool {
    wait(stream.as_fd(), PollFlags::IN | PollFlags::RDHUP, limit)
}

/// Whether the reader of this output is gone. Does not wait.
pub fn is_abandoned(output: impl AsFd) -> bool {
    wait(output.as_fd(), PollFlags::empty(), Duration::ZERO)
}

fn wait(fd: std::os::fd::BorrowedFd<'_>, flags: PollFlags, limit: Duration) -> bool {
    let limit = rustix::time::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&fd, flags)];
    // A signal counts as nothing seen: who waits looks again.
    matches!(rustix::event::poll(&mut fds, Some(&limit)), Ok(n) if n > 0)
}
