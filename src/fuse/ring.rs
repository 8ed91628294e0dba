//! FUSE over io_uring (Linux 6.14, where the administrator allows it): requests that come without the trip to another processor.
//!
//! The device wakes whichever thread waits, mostly on another processor, which may have gone to sleep; waking it takes longer than
//! most answers. Here the kernel has a queue for each processor, and puts a request into memory that was registered with the queue of
//! the processor on which somebody asks. The thread that waits for it stays on that processor: it runs as soon as the asker waits.
//! One system call answers a request and waits for the next.
//!
//! A *lane* is the kernel's queue of one processor, with the threads that wait at it. Whoever takes a request sees to it that somebody
//! else waits at the lane, as far as there may be more. Forgets, and what came before all lanes were ready, still come over the device.
//!
//! Source: `Documentation/filesystems/fuse/fuse-io-uring.rst`, and `struct fuse_uring_req_header` in `include/uapi/linux/fuse.h`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::abi;
use super::abi::uring;
use super::bytes::Fixed;
use super::server::Server;
use super::way::Outbox;
use super::way::Way;
use crate::sys;
use crate::sys::Errno;
use crate::sys::ring::Ring;

/// The most lanes: each costs a thread, from the start on.
const LANES_MAX: usize = 64;

/// The kernel's queue of one processor.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its number, and the processor's.
    number: u16,
    /// This process may run there; else its threads serve the lane from elsewhere.
    reachable: bool,
    /// Threads that wait for a request.
    waiting: AtomicUsize,
    /// Threads there are.
    threads: AtomicUsize,
    most: usize,
}

/// Rings for all lanes: made before the kernel is told of them, since it then waits until they are registered.
#[derive(Debug)]
pub(super) struct Lanes {
    rings: Mutex<Vec<(Arc<Lane>, Ring)>>,
    payload: usize,
}

impl Lanes {
    /// `None` where io_uring cannot be used, or this machine may have more processors than threads are reasonable for.
    /// `payload`: the most bytes a request or an answer carries; `threads`: the most threads of all lanes.
    pub(super) fn prepare(payload: usize, threads: usize) -> Option<Self> {
        let count = sys::processors::possible().filter(|count| *count <= LANES_MAX)?;
        let most = (threads / count.max(1)).max(2);
        let ring = |number: usize| {
            let lane = Lane {
                number: u16::try_from(number).unwrap_or(u16::MAX),
                reachable: sys::processors::may_run_on(number),
                waiting: AtomicUsize::new(1),
                threads: AtomicUsize::new(1),
                most,
            };
            Ok((Arc::new(lane), Ring::new(1, payload)?))
        };
        let rings: Result<Vec<_>, Errno> = (0..count).map(ring).collect();
        match rings {
            Ok(rings) => Some(Self { rings: Mutex::new(rings), payload }),
            Err(e) => {
                log::debug!("requests come over the device, since io_uring cannot be used: {e}");
                None
            }
        }
    }

    /// The lanes with their first rings, to be taken once.
    pub(super) fn take(&self) -> Vec<(Arc<Lane>, Ring)> {
        std::mem::take(&mut *self.rings.lock())
    }

    /// A further ring.
    pub(super) fn ring(&self) -> Result<Ring, Errno> {
        Ring::new(1, self.payload)
    }
}

impl Lane {
    /// Whether there shall be one more thread, which then counts as one that waits.
    pub(super) fn begin(&self) -> bool {
        let count = |n| (n < self.most).then_some(n + 1);
        let begins = self.threads.fetch_update(Ordering::AcqRel, Ordering::Relaxed, count).is_ok();
        if begins {
            self.waiting.fetch_add(1, Ordering::AcqRel);
        }
        begins
    }

    /// A thread that was to begin did not.
    pub(super) fn failed(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        self.threads.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes requests until there are no more. `one_more` is called when nobody else waits at the lane.
    ///
    /// # Errors
    /// When the kernel refuses the ring or what was registered with it.
    pub(super) fn work(&self, server: &Server, mut ring: Ring, mut one_more: impl FnMut()) -> Result<(), Errno> {
        if self.reachable && !sys::processors::pin_thread(usize::from(self.number)) {
            log::debug!("processor {} cannot be run on", self.number);
        }
        // Zeroed memory that is not touched costs nothing. A request that brings something along, and whose answer is long, would need it.
        let mut spare = vec![0; server.agreed.payload()];
        let mut outbox = Outbox::default();
        server.device.submit(&mut ring, uring::REGISTER, &self.command(0))?;
        loop {
            match ring.wait()? {
                (_, 0) => {}
                // The mount is gone, or its connection was aborted.
                (_, code) if [Errno::NOTCONN, Errno::CONNABORTED, Errno::NODEV].contains(&error(code)) => return Ok(()),
                (_, code) => return Err(error(code)),
            }
            if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
                one_more();
            }
            let commit = serve(server, &mut ring, &mut outbox, &mut spare)?;
            server.device.submit(&mut ring, uring::COMMIT_AND_FETCH, &self.command(commit))?;
            self.waiting.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// `struct fuse_uring_cmd_req`.
    fn command(&self, commit: u64) -> [u8; 24] {
        let mut command = [0; 24];
        let fields = Fixed::<24>::new().zeros(8).u64(commit).u16(self.number).zeros(6);
        command.copy_from_slice(fields.as_bytes());
        command
    }
}

fn error(code: i32) -> Errno {
    Errno::from_raw_os_error(code.checked_neg().unwrap_or(0))
}

/// Answers the request in a ring's memory, and leaves the answer there; the number by which it is committed.
fn serve(server: &Server, ring: &mut Ring, outbox: &mut Outbox, spare: &mut [u8]) -> Result<u64, Errno> {
    let (header, payload) = ring.memory(0);
    let request = Fields::read(header).ok_or(Errno::PROTO)?;
    outbox.clear(payload);
    let (brought, room) = if request.payload == 0 {
        (&b""[..], payload)
    } else {
        (payload.get(..request.payload).ok_or(Errno::PROTO)?, spare)
    };
    server.serve([request.head.as_bytes(), brought], Way::Ring(outbox), room);
    let (header, payload) = ring.memory(0);
    answer(outbox, request.unique, header, payload);
    Ok(request.commit)
}

/// What the header of a slot says.
struct Fields {
    /// The header of the request and its arguments of fixed size, as they come over the device.
    head: Fixed<{ abi::IN_HEADER + uring::ARGUMENTS_MAX }>,
    unique: u64,
    /// How many more bytes are in the payload.
    payload: usize,
    commit: u64,
}

impl Fields {
    fn read(header: &[u8]) -> Option<Self> {
        let number = |at: std::ops::Range<usize>| Some(u32::from_ne_bytes(header.get(at)?.try_into().ok()?));
        let wide = |at: std::ops::Range<usize>| Some(u64::from_ne_bytes(header.get(at)?.try_into().ok()?));
        let payload = number(uring::PAYLOAD)? as usize;
        let len = (number(0..4)? as usize).checked_sub(abi::IN_HEADER + payload)?;
        let arguments = header.get(uring::ARGUMENTS..)?.get(..uring::ARGUMENTS_MAX)?.get(..len)?;
        let head = Fixed::new().put(header.get(..abi::IN_HEADER)?).put(arguments);
        Some(Self { head, unique: wide(8..16)?, payload, commit: wide(uring::COMMIT_ID)? })
    }
}

/// Writes the answer. A request without one (a bug: each of these waits for one) is answered `EIO`.
fn answer(outbox: &mut Outbox, unique: u64, header: &mut [u8], payload: &mut [u8]) {
    let sent = outbox.sent();
    let (code, len) = if sent.given { (sent.code, sent.len) } else { (-Errno::IO.raw_os_error(), 0) };
    if !sent.given {
        log::error!("a request was not answered; answered EIO");
    }
    let mut put = |at: std::ops::Range<usize>, bytes: &[u8]| {
        if let Some(room) = header.get_mut(at) {
            room.copy_from_slice(bytes);
        }
    };
    // Nothing is longer than the payload.
    let size = u32::try_from(len).unwrap_or(0);
    let all = u32::try_from(abi::OUT_HEADER + len).unwrap_or(0);
    put(0..abi::OUT_HEADER, Fixed::<{ abi::OUT_HEADER }>::new().u32(all).i32(code).u64(unique).as_bytes());
    put(uring::PAYLOAD, &size.to_ne_bytes());
    if !sent.in_place
        && let Some(room) = payload.get_mut(..sent.bytes.len())
    {
        room.copy_from_slice(&sent.bytes);
    }
}
