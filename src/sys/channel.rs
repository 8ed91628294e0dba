//! A pair of connected sockets that keep messages apart, end with their last holder, and can carry a descriptor.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use super::Errno;
use super::Error;
use super::Result;

/// The longest message, in bytes; the rest of a longer one is lost.
pub const MESSAGE_MAX: usize = 8192;

/// A received message: its bytes and the descriptor that came with it.
#[derive(Debug)]
pub struct Message {
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
    /// The descriptor, close-on-exec.
    pub fd: Option<OwnedFd>,
}

/// Makes the two ends, both close-on-exec.
///
/// # Errors
/// The kernel's; `EMFILE` at the limit of open files.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::new("socketpair", "AF_UNIX, SOCK_SEQPACKET", e))
}

/// Sends one message, with a descriptor or without.
///
/// # Errors
/// The kernel's; `EPIPE` when the other end is closed.
pub fn send(end: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match rustix::net::sendmsg(&end, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(|e| Error::bare("sendmsg", e)),
        }
    }
}

/// Waits for one message without a descriptor, of at most as many bytes as there is room for; how many came: none when the other end is
/// closed.
///
/// # Errors
/// The kernel's.
pub fn receive_into(end: impl AsFd, room: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::net::recv(&end, &mut *room, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(0),
            other => return other.map(|(n, _)| n).map_err(|e| Error::bare("recv", e)),
        }
    }
}

/// Ends the channel for both sides, whoever holds their ends: who waits for a message hears of it.
///
/// # Errors
/// The kernel's.
pub fn end(end: impl AsFd) -> Result<()> {
    rustix::net::shutdown(&end, rustix::net::Shutdown::Both).map_err(|e| Error::bare("shutdown", e))
}

/// Waits for one message; `None` when the other end is closed.
///
/// # Errors
/// The kernel's.
pub fn receive(end: impl AsFd) -> Result<Option<Message>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut bytes = vec![0; MESSAGE_MAX];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(&end, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
        match got {
            Err(Errno::INTR) => {}
            // The other end was closed with our last message unread.
            Err(Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(Error::bare("recvmsg", e)),
            Ok(got) if got.bytes == 0 => return Ok(None),
            Ok(got) => {
                bytes.truncate(got.bytes);
                let mut fds = control.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                return Ok(Some(Message { bytes, fd: fds.next() }));
            }
        }
    }
}
