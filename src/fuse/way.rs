//! The ways on which answers go back to the kernel: written to the device, or left in the memory of a ring.

use std::cell::RefCell;
use std::sync::Arc;

use super::device::Device;
use crate::sys::Errno;

/// Where the answer to a request goes: back by the way on which it came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'w> {
    Device(&'w Arc<Device>),
    Ring(&'w Outbox),
}

impl Way<'_> {
    /// Sends an answer in one piece; as [`Device::send`].
    pub(super) fn send(self, unique: u64, code: i32, parts: [&[u8]; 2]) -> Result<(), Errno> {
        match self {
            Self::Device(device) => device.send(unique, code, parts),
            Self::Ring(outbox) => outbox.put(unique, code, parts),
        }
    }
}

/// The answer to one request that came over a ring. It is kept here until the request is done with, since it goes into the memory in
/// which the request lies.
#[derive(Debug, Default)]
pub(super) struct Outbox(RefCell<Sent>);

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub unique: u64,
    /// 0, or a negative error number.
    pub code: i32,
    /// How many bytes it has, behind the header.
    pub len: usize,
    /// These, unless they are where they belong already.
    pub bytes: Vec<u8>,
    pub in_place: bool,
    /// Whether there is an answer.
    pub given: bool,
    /// Where the payload lies, and its size; an answer that was made there is not copied.
    room: (usize, usize),
}

impl Outbox {
    /// Makes it ready for the answer to the next request, whose payload is to lie in `room`.
    pub(super) fn clear(&mut self, room: &[u8]) {
        let sent = self.0.get_mut();
        let mut bytes = std::mem::take(&mut sent.bytes);
        bytes.clear();
        *sent = Sent { bytes, room: (room.as_ptr() as usize, room.len()), ..Sent::default() };
    }

    /// What was sent.
    pub(super) fn sent(&mut self) -> &Sent {
        self.0.get_mut()
    }

    fn put(&self, unique: u64, code: i32, [a, b]: [&[u8]; 2]) -> Result<(), Errno> {
        let mut sent = self.0.borrow_mut();
        let (start, size) = sent.room;
        let len = a.len() + b.len();
        if len > size {
            return Err(Errno::TOOBIG);
        }
        sent.in_place = b.is_empty() && a.as_ptr() as usize == start;
        sent.bytes.clear();
        if !sent.in_place {
            sent.bytes.extend_from_slice(a);
            sent.bytes.extend_from_slice(b);
        }
        (sent.unique, sent.code, sent.len, sent.given) = (unique, code, len, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_and_one_made_in_place_is_not_copied() {
        let room = [7u8; 16];
        let mut outbox = Outbox::default();
        outbox.clear(&room);
        assert!(!outbox.sent().given);
        Way::Ring(&outbox).send(5, 0, [b"ab", b"c"]).unwrap();
        let sent = outbox.sent();
        assert_eq!((sent.unique, sent.code, sent.len, sent.in_place), (5, 0, 3, false));
        assert_eq!(sent.bytes, b"abc");
        outbox.clear(&room);
        Way::Ring(&outbox).send(6, 0, [&room[..9], b""]).unwrap();
        let sent = outbox.sent();
        assert_eq!((sent.len, sent.in_place, sent.bytes.len()), (9, true, 0));
        outbox.clear(&room);
        assert_eq!(Way::Ring(&outbox).send(7, 0, [&[0; 17], b""]), Err(Errno::TOOBIG));
        Way::Ring(&outbox).send(7, -5, [b"", b""]).unwrap();
        assert_eq!((outbox.sent().code, outbox.sent().len), (-5, 0));
    }
}
