//! An io_uring that carries the commands of a device (`IORING_OP_URING_CMD`), each with memory of its own that the kernel fills and
//! reads: what FUSE over io_uring is made of (Linux 6.14). One thread uses a ring.
//!
//! A *slot* is such memory: a header and a payload. It is *away* from [`Ring::submit`] until [`Ring::wait`] brings it back; meanwhile it
//! is the kernel's, and nothing here gives a reference into it.
//!
//! Source: `io_uring(7)`, `io_uring_setup(2)`, `io_uring_enter(2)`. Nothing here changes a file, so nothing passes the gate.

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::io_uring;
use rustix::io_uring::IoringEnterFlags;
use rustix::io_uring::IoringSetupFlags;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use super::Errno;

/// The size of a submission in bytes (`IORING_SETUP_SQE128`), and of a completion.
const SUBMISSION: usize = 128;
const COMPLETION: usize = 16;
/// `IORING_OP_URING_CMD`.
const URING_CMD: u8 = 46;
/// A slot's header, and behind it the two addresses that the kernel is told, have a page; the payload begins behind it.
const HEADER_PAGE: usize = 4096;
/// Where in that page the addresses stand.
const ADDRESSES: usize = 3072;

/// Memory that a ring and the kernel share; unmapped when dropped.
struct Memory {
    start: NonNull<u8>,
    len: usize,
}

impl Memory {
    /// `fd`: of a ring, and what of it; none: fresh memory, which costs nothing until it is touched.
    fn new(len: usize, of: Option<(&OwnedFd, u64)>) -> Result<Self, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so no memory of anybody's is touched.
        let start = unsafe {
            match of {
                Some((fd, offset)) => {
                    let flags = MapFlags::SHARED | MapFlags::POPULATE;
                    rustix::mm::mmap(std::ptr::null_mut(), len, access, flags, fd, offset)
                }
                None => rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE),
            }
        }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, len })
    }

    /// The address of the `n` bytes at `at`.
    fn at(&self, at: usize, n: usize) -> Result<*mut u8, Errno> {
        match at.checked_add(n) {
            // SAFETY: it lies in the mapping, as was just compared.
            Some(end) if end <= self.len => Ok(unsafe { self.start.as_ptr().add(at) }),
            _ => Err(Errno::RANGE),
        }
    }

    /// A number that the kernel reads or writes at any time.
    fn counter(&self, at: u32) -> Result<NonNull<AtomicU32>, Errno> {
        let address = self.at(at as usize, 4)?.cast::<AtomicU32>();
        if !address.is_aligned() {
            return Err(Errno::RANGE);
        }
        NonNull::new(address).ok_or(Errno::RANGE)
    }

    /// It stays as long as the process.
    fn leak(self) {
        let _stays = std::mem::ManuallyDrop::new(self);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives it. An error leaves it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Memory for one command.
struct Slot {
    memory: Memory,
    payload: usize,
    away: bool,
}

/// A ring, and the slots of the commands that go over it.
pub struct Ring {
    fd: OwnedFd,
    slots: Vec<Slot>,
    entries: Memory,
    queue: Memory,
    completed: Memory,
    tail: NonNull<AtomicU32>,
    mask: u32,
    completed_head: NonNull<AtomicU32>,
    completed_tail: NonNull<AtomicU32>,
    completed_mask: u32,
    completions: usize,
    array: usize,
    /// Commands that were written and not handed over yet.
    unsent: u32,
}

// SAFETY: the mappings are the ring's own, whichever thread holds it; all that changes something takes `&mut self`.
unsafe impl Send for Ring {}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} slots)", self.slots.len())
    }
}

impl Ring {
    /// A ring with `slots` slots that have payloads of so many bytes.
    ///
    /// # Errors
    /// `ENOSYS` before Linux 5.1, `EINVAL` before 5.19, `EPERM` where io_uring is forbidden (`kernel.io_uring_disabled`, a seccomp filter).
    pub fn new(slots: usize, payload: usize) -> Result<Self, Errno> {
        let mut params = io_uring::io_uring_params::default();
        params.flags = IoringSetupFlags::SQE128;
        let wanted = u32::try_from(slots.max(1).next_power_of_two()).map_err(|_| Errno::INVAL)?;
        // SAFETY: no operation is submitted here, and the parameters are the kernel's struct.
        let fd = unsafe { io_uring::io_uring_setup(wanted, &mut params) }?;
        let (sq, cq) = (params.sq_off, params.cq_off);
        let (sq_entries, cq_entries) = (params.sq_entries as usize, params.cq_entries as usize);
        let queue_len = sq.array as usize + sq_entries * 4;
        let queue = Memory::new(queue_len, Some((&fd, io_uring::IORING_OFF_SQ_RING)))?;
        let completed_len = cq.cqes as usize + cq_entries * COMPLETION;
        let completed = Memory::new(completed_len, Some((&fd, io_uring::IORING_OFF_CQ_RING)))?;
        let entries = Memory::new(sq_entries * SUBMISSION, Some((&fd, io_uring::IORING_OFF_SQES)))?;
        // SAFETY: the counters lie in mappings that live as long as they are used.
        let read = |counter: NonNull<AtomicU32>| unsafe { counter.as_ref() }.load(Ordering::Acquire);
        Ok(Self {
            slots: (0..slots).map(|_| Slot::new(payload)).collect::<Result<_, _>>()?,
            tail: queue.counter(sq.tail)?,
            mask: read(queue.counter(sq.ring_mask)?),
            completed_head: completed.counter(cq.head)?,
            completed_tail: completed.counter(cq.tail)?,
            completed_mask: read(completed.counter(cq.ring_mask)?),
            completions: cq.cqes as usize,
            array: sq.array as usize,
            unsent: 0,
            fd,
            entries,
            queue,
            completed,
        })
    }

    /// The header and the payload of a slot; both empty as long as it is away, and when there is none of this number.
    pub fn memory(&mut self, slot: usize) -> (&mut [u8], &mut [u8]) {
        match self.slots.get_mut(slot) {
            Some(slot) if !slot.away => slot.parts(),
            _ => (&mut [], &mut []),
        }
    }

    /// Hands a slot to the device: the kernel gets the command at the next [`Ring::wait`], and the slot's memory until it comes back.
    ///
    /// # Errors
    /// `EBUSY` for a slot that is away already, or is none.
    pub fn submit(&mut self, slot: usize, device: impl AsFd, op: u32, command: &[u8; 24]) -> Result<(), Errno> {
        let Some(Slot { memory, away, .. }) = self.slots.get_mut(slot) else { return Err(Errno::BUSY) };
        if *away {
            return Err(Errno::BUSY);
        }
        // SAFETY: the counter lies in a mapping of this ring; only this side writes it.
        let tail = unsafe { self.tail.as_ref() };
        let next = tail.load(Ordering::Relaxed);
        let index = next & self.mask;
        let mut entry = [0u8; SUBMISSION];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(room) = entry.get_mut(at..at + bytes.len()) {
                room.copy_from_slice(bytes);
            }
        };
        put(0, &[URING_CMD]);
        put(4, &device.as_fd().as_raw_fd().to_ne_bytes());
        put(8, &op.to_ne_bytes());
        put(16, &(memory.at(ADDRESSES, 32)? as u64).to_ne_bytes());
        put(24, &2u32.to_ne_bytes());
        put(32, &(slot as u64).to_ne_bytes());
        put(48, command);
        let place = self.entries.at(index as usize * SUBMISSION, SUBMISSION)?;
        let number = self.queue.at(self.array + index as usize * 4, 4)?.cast::<u32>();
        // SAFETY: both addresses were checked to lie in the mappings. There are as many entries as slots, at least, and each slot is
        // submitted once at a time, so the kernel has read what stood here before.
        unsafe {
            std::ptr::copy_nonoverlapping(entry.as_ptr(), place, SUBMISSION);
            number.write_unaligned(index);
        }
        tail.store(next.wrapping_add(1), Ordering::Release);
        *away = true;
        self.unsent += 1;
        Ok(())
    }

    /// Hands over what was submitted and waits for a slot to come back: its number, and the result of its command (a negative error
    /// number; the device gives such a slot back for good).
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> Result<(usize, i32), Errno> {
        loop {
            if self.unsent == 0
                && let Some(done) = self.completion()?
            {
                return Ok(done);
            }
            // SAFETY: what was submitted names memory of slots, which lives until they are back, and an open device.
            match unsafe { io_uring::io_uring_enter(&self.fd, self.unsent, 1, IoringEnterFlags::GETEVENTS) } {
                Ok(sent) => self.unsent = self.unsent.saturating_sub(sent),
                Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A completion that is there.
    fn completion(&mut self) -> Result<Option<(usize, i32)>, Errno> {
        // SAFETY: both counters lie in a mapping of this ring.
        let (head, tail) = unsafe { (self.completed_head.as_ref(), self.completed_tail.as_ref()) };
        let next = head.load(Ordering::Relaxed);
        if next == tail.load(Ordering::Acquire) {
            return Ok(None);
        }
        let at = self.completions + (next & self.completed_mask) as usize * COMPLETION;
        let completion = self.completed.at(at, COMPLETION)?;
        // SAFETY: the address lies in the mapping; the kernel wrote the entry before it moved the tail.
        let (slot, result) =
            unsafe { (completion.cast::<u64>().read_unaligned(), completion.add(8).cast::<i32>().read_unaligned()) };
        head.store(next.wrapping_add(1), Ordering::Release);
        let slot = usize::try_from(slot).map_err(|_| Errno::RANGE)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.away = false;
        }
        Ok(Some((slot, result)))
    }
}

impl Drop for Ring {
    /// The kernel may still write to a slot that is away: its memory stays.
    fn drop(&mut self) {
        self.slots.drain(..).filter(|slot| slot.away).for_each(|slot| slot.memory.leak());
    }
}

impl Slot {
    /// The addresses of header and payload (`struct iovec`) are written once: the memory does not move.
    fn new(payload: usize) -> Result<Self, Errno> {
        let memory = Memory::new(HEADER_PAGE + payload, None)?;
        let (header, body) = (memory.at(0, ADDRESSES)?, memory.at(HEADER_PAGE, payload)?);
        let addresses = memory.at(ADDRESSES, 32)?.cast::<libc::iovec>();
        // SAFETY: the memory is fresh, as large as was checked, and aligned: a mapping begins with a page.
        unsafe {
            addresses.write(libc::iovec { iov_base: header.cast(), iov_len: ADDRESSES });
            addresses.add(1).write(libc::iovec { iov_base: body.cast(), iov_len: payload });
        }
        Ok(Self { memory, payload, away: false })
    }

    fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        let start = self.memory.start.as_ptr();
        // SAFETY: both lie in the mapping, which was made this large, and do not overlap; the slot is here, so the kernel does not
        // touch them, and is borrowed as long as the slices live.
        unsafe {
            let header = std::slice::from_raw_parts_mut(start, ADDRESSES);
            let payload = std::slice::from_raw_parts_mut(start.add(HEADER_PAGE), self.payload);
            (header, payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that knows no commands gives the slot back with an error at once.
    #[test]
    fn a_slot_is_nobodys_while_it_is_away() {
        let mut ring = match Ring::new(2, 8192) {
            Ok(ring) => ring,
            Err(e) => return crate::report::report_skip(&format!("io_uring cannot be used here: {e}")),
        };
        let null = std::fs::File::open("/dev/zero").unwrap();
        assert_eq!(ring.memory(1).1.len(), 8192);
        assert_eq!(ring.memory(2).1.len(), 0, "there are two");
        ring.submit(1, &null, 1, &[0; 24]).unwrap();
        assert_eq!(ring.memory(1).1.len(), 0);
        assert_eq!(ring.submit(1, &null, 1, &[0; 24]), Err(Errno::BUSY));
        let (slot, result) = ring.wait().unwrap();
        assert_eq!(slot, 1);
        assert!(result < 0, "{result}");
        assert_eq!(ring.memory(1).0.len(), ADDRESSES);
        assert_eq!(ring.submit(2, &null, 1, &[0; 24]), Err(Errno::BUSY));
    }
}
