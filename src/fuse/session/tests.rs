use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use super::*;
use crate::fuse::Config;
use crate::fuse::abi;
use crate::fuse::device::Device;
use crate::fuse::handshake::Agreed;
use crate::layer::mem::MemLayer;
use crate::sys::channel;
use crate::union::Options;
use crate::union::Union;
use crate::union::stack::Stack;

/// A mount of one empty directory, with this side as its kernel.
struct Mount {
    kernel: OwnedFd,
    pool: Arc<Pool>,
    service: JoinHandle<Result<(), Errno>>,
}

impl Mount {
    fn new(max: usize) -> Self {
        let (kernel, ours) = channel::pair().unwrap();
        let layer = MemLayer::new("empty", &[]).unwrap();
        let stack = Stack::new(None, vec![Arc::new(layer)]).unwrap();
        let union = Arc::new(Union::new(stack, Options::default()).unwrap());
        let agreed = Agreed { flags: 0, offered: 0, max_write: 4096, minor: 45 };
        let server = Server::new(Arc::new(Device::new(ours)), union, Config::default(), agreed, None);
        let pool = Arc::new(Pool::new(server, max, None));
        let service = std::thread::spawn({
            let pool = pool.clone();
            move || pool.serve()
        });
        Self { kernel, pool, service }
    }

    fn ask(&self, opcode: u32, unique: u64, body: &[u8]) {
        let len = u32::try_from(abi::IN_HEADER + body.len()).unwrap();
        let mut bytes = [len.to_ne_bytes(), opcode.to_ne_bytes()].concat();
        bytes.extend([unique, 1].map(u64::to_ne_bytes).concat());
        bytes.extend([0; 16]);
        bytes.extend(body);
        channel::send(&self.kernel, &bytes, None).unwrap();
    }

    /// The request that was answered, the error number, and how many bytes came with it.
    fn hear(&self) -> (u64, i32, usize) {
        let bytes = channel::receive(&self.kernel).unwrap().expect("an answer").bytes;
        let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, bytes.len());
        (u64::from_ne_bytes(bytes[8..16].try_into().unwrap()), number(4).cast_signed(), bytes.len() - 16)
    }

    fn end(self) -> Result<(), Errno> {
        drop(self.kernel);
        drop(self.pool);
        self.service.join().unwrap()
    }
}

#[test]
fn requests_one_after_the_other_are_answered_in_order() {
    let mount = Mount::new(8);
    for unique in 1..=2_000 {
        mount.ask(3, unique, &[0; 16]);
        assert_eq!(mount.hear(), (unique, 0, 104));
    }
    assert_eq!(mount.end(), Ok(()));
}

#[test]
fn a_thread_ends_when_two_others_waited_through_a_whole_round() {
    let mount = Mount::new(8);
    let rounds = |left: &[usize]| {
        let says: Vec<bool> =
            (0..ROUND).map(|i| mount.pool.is_one_too_many(left.get(i).copied().unwrap_or(2))).collect();
        assert!(says[..ROUND - 1].iter().all(|says| !says), "only at the end of a round");
        says[ROUND - 1]
    };
    assert!(rounds(&[]));
    assert!(!rounds(&[2, 1, 2]), "a second one was needed once");
    assert!(!rounds(&[0]));
    assert!(rounds(&[3, 5]), "each round stands for itself");
    assert_eq!(mount.end(), Ok(()));
}

#[test]
fn many_requests_at_once_are_all_answered_by_no_more_threads_than_allowed() {
    let mount = Mount::new(3);
    for round in 0..200u64 {
        (0..10).for_each(|i| mount.ask(3, round * 10 + i, &[0; 16]));
        let mut answered: Vec<u64> = (0..10).map(|_| mount.hear().0).collect();
        answered.sort_unstable();
        assert_eq!(answered, (round * 10..round * 10 + 10).collect::<Vec<_>>());
        assert!(mount.pool.threads.load(Ordering::Relaxed) <= 3);
    }
    assert_eq!(mount.end(), Ok(()));
}

#[test]
fn what_is_not_known_torn_or_needs_no_answer() {
    const ENOSYS: i32 = -38;
    let mount = Mount::new(2);
    // STATX, POLL, an opcode of the future, FLUSH and INTERRUPT: the kernel does without from then on.
    for (unique, opcode) in [(1, 52), (2, 40), (3, 9999), (4, 25), (5, 36)] {
        mount.ask(opcode, unique, &[0; 32]);
        assert_eq!(mount.hear(), (unique, ENOSYS, 0), "{opcode}");
    }
    mount.ask(1, 6, b"no end");
    assert_eq!(mount.hear(), (6, -5, 0), "torn");
    channel::send(&mount.kernel, b"no header", None).unwrap();
    mount.ask(2, 7, &1u64.to_ne_bytes());
    mount.ask(42, 8, &[0; 8]);
    // Nothing was answered to these three; syncing an image is nothing to do.
    mount.ask(50, 9, &[0; 8]);
    assert_eq!(mount.hear(), (9, 0, 0));
    // Nor is there an upper that could make a file, and a name with a slash is none.
    mount.ask(51, 10, &[&[0; 16][..], b"/\0"].concat());
    assert_eq!(mount.hear(), (10, -30, 0));
    mount.ask(1, 11, b"a/b\0");
    assert_eq!(mount.hear(), (11, -22, 0));
    assert_eq!(mount.end(), Ok(()));
}
