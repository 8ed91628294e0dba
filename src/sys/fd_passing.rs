//! Descriptors from another process: through a socket (`SCM_RIGHTS`), or inherited over `exec`.

#![allow(unsafe_code)]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::io::FdFlags;
use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use super::Errno;
use super::Error;
use super::Result;

/// A connected pair of Unix stream sockets, both closed on `exec`.
///
/// # Errors
/// The kernel's.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::bare("socketpair", e))
}

/// Waits for one descriptor from the other end; `None` when that end was closed without sending one.
///
/// # Errors
/// The kernel's.
pub fn receive(socket: impl AsFd) -> Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut iov = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(&socket, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::bare("recvmsg", e)),
            Ok(_) => break,
        }
    }
    let mut received = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            received = received.or(fds.last());
        }
    }
    Ok(received)
}

/// Takes a descriptor that the program was started with, by its number, as in `/dev/fd/N`: a copy that is closed on `exec`. The
/// original goes with [`super::daemon::close_inherited`].
///
/// # Errors
/// `EBADF` when the number is not open, is one of 0 to 2, or is not inherited (a descriptor that this program opened itself
/// is closed on `exec`).
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    let args = || number.to_string();
    let bad = || Error::new("fcntl", args(), Errno::BADF);
    if number <= 2 {
        return Err(bad());
    }
    // SAFETY: the borrow ends in this function, which closes nothing; a number that is not open makes fcntl fail with EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(fd).map_err(|e| Error::new("fcntl", args(), e))?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(bad());
    }
    super::open::duplicate(fd)
}
