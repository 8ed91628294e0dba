//! INIT: what the two sides agree on before the first request.
//!
//! Old kernels offer less, and nothing here depends on any of it: what is wanted is asked for as far as it is offered.

use super::abi;
use super::abi::init;
use super::bytes::Fixed;
use super::device::Device;
use super::device::End;
use super::request::Bad;
use super::request::Init;
use super::request::Layout;
use super::request::Op;
use super::request::Request;
use super::request::decode;
use crate::sys;
use crate::sys::Errno;

/// What the mount would like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    /// Layers may be changed from outside.
    pub unsteady: bool,
    /// Not to be told when files are opened and closed.
    pub unopened: bool,
    /// To lend files, which then lie on filesystems stacked this high at most, counted with the mount itself; 0: not to. It takes the
    /// place of `unopened` where the kernel offers it.
    pub lending: u32,
    /// The kernel is to check POSIX ACLs.
    pub acl: bool,
    /// The largest write request in bytes.
    pub max_write: u32,
    /// To take requests over io_uring.
    pub rings: bool,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// [`abi::init`].
    pub flags: u64,
    /// What the kernel offered.
    pub offered: u64,
    /// The largest write request in bytes.
    pub max_write: u32,
    /// The minor version of the kernel's protocol.
    pub minor: u32,
}

impl Agreed {
    pub(super) fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// The kernel is not to tell when files are opened and closed.
    pub(super) fn is_unopened(&self) -> bool {
        self.has(init::NO_OPEN_SUPPORT)
    }

    /// Files can be lent to the kernel.
    pub(super) fn is_lending(&self) -> bool {
        self.has(init::PASSTHROUGH)
    }

    /// Which layouts requests have.
    pub(super) fn layout(&self) -> Layout {
        Layout { long_setxattr: self.has(init::SETXATTR_EXT) }
    }

    /// How large a buffer must be that takes any request.
    pub(super) fn buffer(&self) -> usize {
        buffer(self.max_write)
    }

    /// How large a buffer must be that takes what any request brings along, or any answer.
    pub(super) fn payload(&self) -> usize {
        payload(self.max_write)
    }
}

/// What one request moves at most: a write, and a read of as many pages; kernels that know no other number (before 4.20) read
/// [`abi::OLD_PAGES`] whatever was agreed on about writes.
fn payload(max_write: u32) -> usize {
    let page = sys::device::page_size();
    (max_write as usize).next_multiple_of(page).max(abi::OLD_PAGES * page)
}

/// The largest request is a write; the kernel wants room for its header, and never less than two pages.
fn buffer(max_write: u32) -> usize {
    (abi::IN_HEADER + abi::WRITE_IN + max_write as usize).next_multiple_of(4096).max(abi::MIN_READ_BUFFER)
}

/// The bounds of a write request: a page, and what no kernel exceeds.
const WRITES: std::ops::RangeInclusive<u32> = 4096..=1 << 24;
/// Requests of its own (readahead and the like) that the kernel has under way at once; and when it holds back.
const MAX_BACKGROUND: u16 = 64;
const CONGESTED: u16 = 48;

impl Wishes {
    fn flags(&self) -> u64 {
        let mut flags = init::ASYNC_READ
            | init::BIG_WRITES
            | init::MAX_PAGES
            | init::ATOMIC_O_TRUNC
            | init::DONT_MASK
            | init::PARALLEL_DIROPS
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::ASYNC_DIO
            | init::HAS_IOCTL_DIR
            // Set-id bits and capabilities are dropped here: else the kernel asks for capabilities before every single write.
            | init::HANDLE_KILLPRIV_V2
            // Tells when a change of an ACL takes the set-group-id bit.
            | init::SETXATTR_EXT
            | init::INIT_EXT;
        if self.unsteady {
            // Data is read again when size or time of a file are not as before.
            flags |= init::AUTO_INVAL_DATA;
        } else {
            flags |= init::CACHE_SYMLINKS;
        }
        if self.acl {
            flags |= init::POSIX_ACL;
        }
        if self.unopened {
            flags |= init::NO_OPEN_SUPPORT;
        }
        if self.lending > 0 {
            flags |= init::PASSTHROUGH;
        }
        if self.rings {
            flags |= init::OVER_IO_URING;
        }
        flags
    }

    /// The answer to an offer, as bytes, and what it says. `prepare` as for [`shake`].
    fn answer(&self, offer: &Init, prepare: impl FnOnce(usize) -> bool) -> (Fixed<64>, Agreed) {
        let mut flags = self.flags() & offer.flags;
        if flags & init::PASSTHROUGH != 0 {
            // What is lent is told at an opening.
            flags &= !init::NO_OPEN_SUPPORT;
        }
        if flags & init::NO_OPEN_SUPPORT != 0 {
            // Who is not told of an opening cannot cut the file: the kernel sends that as a change of size.
            flags &= !init::ATOMIC_O_TRUNC;
        }
        let max_write = self.max_write.clamp(*WRITES.start(), *WRITES.end());
        let pages = (max_write as usize).div_ceil(sys::device::page_size());
        // The kernel takes no more memory than the largest write needs: long attributes would not fit where that is small.
        let is_small = pages < abi::OLD_PAGES;
        if flags & init::OVER_IO_URING != 0 && (is_small || !prepare(payload(max_write))) {
            flags &= !init::OVER_IO_URING;
        }
        let [low, high] = [flags, flags >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
        let body = Fixed::new().u32(abi::MAJOR).u32(abi::MINOR).u32(offer.max_readahead).u32(low);
        let mut body = body.u16(MAX_BACKGROUND).u16(CONGESTED).u32(max_write);
        if offer.minor >= abi::LONG_INIT_MINOR {
            // Times to the nanosecond.
            body = body.u32(1).u16(u16::try_from(pages).unwrap_or(u16::MAX)).u16(0).u32(high);
            let depth = if flags & init::PASSTHROUGH != 0 { self.lending } else { 0 };
            body = body.u32(depth).zeros(24);
        }
        (body, Agreed { flags, offered: offer.flags, max_write, minor: offer.minor })
    }
}

/// Reads the kernel's offer and answers it. Where io_uring is wished for and offered, `prepare` is to make what takes requests with so
/// many bytes, and says whether it could: once the kernel was told so, it waits for them.
///
/// # Errors
/// When the kernel's side is gone, speaks a protocol older than 7.22, or does not begin with an offer.
pub(super) fn shake(
    device: &Device,
    wishes: Wishes,
    mut prepare: impl FnMut(usize) -> bool,
) -> std::io::Result<Agreed> {
    let mut buf = vec![0; buffer(*WRITES.start())];
    loop {
        let n = device.read(&mut buf).map_err(|end| match end {
            End::Unmounted => std::io::Error::from_raw_os_error(Errno::NODEV.raw_os_error()),
            End::Failed(e) => std::io::Error::from_raw_os_error(e.raw_os_error()),
        })?;
        let message = buf.get(..n).unwrap_or_default();
        let (header, offer) = match decode(message, Layout::default()) {
            Ok(Request { header, op: Op::Init(offer) }) => (header, offer),
            Ok(Request { header, .. }) | Err(Bad::Torn(header)) => {
                device.send(header.unique, -Errno::IO.raw_os_error(), [b"", b""])?;
                return Err(std::io::Error::other(format!("it began with {}", header.opcode.name())));
            }
            Err(Bad::Nobody) => return Err(std::io::Error::other("it began with something that is no request")),
        };
        if offer.major > abi::MAJOR {
            // It is told which one we speak, and asks again.
            let ours = Fixed::<8>::new().u32(abi::MAJOR).u32(abi::MINOR);
            device.send(header.unique, 0, [ours.as_bytes(), b""])?;
            continue;
        }
        if (offer.major, offer.minor) < (abi::MAJOR, abi::OLDEST_MINOR) {
            device.send(header.unique, -Errno::PROTO.raw_os_error(), [b"", b""])?;
            return Err(std::io::Error::other(format!(
                "this kernel speaks FUSE {}.{}; 7.{} (Linux 3.10) is the oldest that works",
                offer.major,
                offer.minor,
                abi::OLDEST_MINOR
            )));
        }
        let (body, agreed) = wishes.answer(&offer, &mut prepare);
        device.send(header.unique, 0, [body.as_bytes(), b""])?;
        log::debug!("FUSE 7.{}, flags {:#x} of {:#x}", offer.minor, agreed.flags, offer.flags);
        return Ok(agreed);
    }
}

#[cfg(test)]
mod tests;
