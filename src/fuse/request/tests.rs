use super::*;

/// A message as the kernel would send it: header, body.
fn message(opcode: u32, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let len = u32::try_from(abi::IN_HEADER + body.len()).unwrap();
    let mut bytes = [len.to_ne_bytes(), opcode.to_ne_bytes()].concat();
    bytes.extend(77u64.to_ne_bytes());
    bytes.extend(5u64.to_ne_bytes());
    bytes.extend([1000u32, 100, 4321, 0].map(u32::to_ne_bytes).concat());
    bytes.extend(body);
    bytes
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
}

fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
}

const SHORT: Layout = Layout { long_setxattr: false };
const LONG: Layout = Layout { long_setxattr: true };

/// One message of every kind: opcode, body, what it means, and how many bytes at its end may be missing without harm (padding that is
/// not read).
fn every_kind() -> Vec<(u32, Vec<u8>, Op<'static>, usize)> {
    let setattr = Setattr {
        mode: Some(0o100_640),
        uid: Some(7),
        gid: None,
        size: Some(9),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::At(Time { secs: -2, nanos: 250_000_000 })),
        kill: true,
    };
    let valid = 1 | 2 | 8 | 16 | 32 | 128 | 1 << 11;
    let setattr_in = [
        u32s(&[valid, 0]),
        u64s(&[3, 9, 0, 1, (-2i64).cast_unsigned(), 0]),
        u32s(&[1, 250_000_000, 0, 0o100_640, 0, 7, 8, 0]),
    ]
    .concat();
    let part = Listing { handle: 3, offset: 4096, size: 512 };
    let copy = |wide| Op::Copy { from_at: 10, to: 6, to_at: 20, len: 1 << 33, wide };
    let range = u64s(&[3, 10, 6, 4, 20, 1 << 33, 0]);
    vec![
        (1, b"name\0".to_vec(), Op::Lookup { name: b"name" }, 0),
        (2, u64s(&[3]), Op::Forget { count: 3 }, 0),
        (3, u32s(&[1, 0, 3, 0]), Op::Getattr, 16),
        (4, setattr_in, Op::Setattr(setattr), 0),
        (5, Vec::new(), Op::Readlink, 0),
        (6, b"name\0to/there\0".to_vec(), Op::Symlink { name: b"name", text: b"to/there" }, 0),
        (
            8,
            [u32s(&[0o20644, 259, 0o22, 0]), b"null\0".to_vec()].concat(),
            Op::Mknod { name: b"null", mode: 0o20644, rdev: 259, umask: 0o22 },
            0,
        ),
        (
            9,
            [u32s(&[0o755, 0o22]), b"dir\0".to_vec()].concat(),
            Op::Mkdir { name: b"dir", mode: 0o755, umask: 0o22 },
            0,
        ),
        (10, b"\xff\x01\0".to_vec(), Op::Unlink { name: b"\xff\x01" }, 0),
        (11, b"dir\0".to_vec(), Op::Rmdir { name: b"dir" }, 0),
        (
            12,
            [u64s(&[6]), b"a\0b\0".to_vec()].concat(),
            Op::Rename { name: b"a", new_parent: 6, new_name: b"b", flags: 0 },
            0,
        ),
        (13, [u64s(&[6]), b"b\0".to_vec()].concat(), Op::Link { old: 6, name: b"b" }, 0),
        (14, u32s(&[0o1001, 1]), Op::Open { flags: 0o1001, kill: true }, 0),
        (15, [u64s(&[3, 4096]), u32s(&[512, 0]), u64s(&[0, 0])].concat(), Op::Read { offset: 4096, size: 512 }, 20),
        (
            16,
            [u64s(&[3, 4096]), u32s(&[4, 4]), u64s(&[0]), u32s(&[0o2001, 0]), b"data".to_vec()].concat(),
            Op::Write { offset: 4096, data: b"data", kill: true, appends: true },
            0,
        ),
        (17, Vec::new(), Op::Statfs, 0),
        (18, u64s(&[3, 0, 0]), Op::Release, 24),
        (20, [u64s(&[3]), u32s(&[1, 0])].concat(), Op::Fsync { data_only: true }, 4),
        (
            21,
            [u32s(&[3, 2]), b"user.x\0val".to_vec()].concat(),
            Op::Setxattr { name: b"user.x", value: b"val", flags: 2, kill_sgid: false },
            0,
        ),
        (22, [u32s(&[64, 0]), b"user.x\0".to_vec()].concat(), Op::Getxattr { name: b"user.x", size: 64 }, 0),
        (23, u32s(&[64, 0]), Op::Listxattr { size: 64 }, 4),
        (24, b"user.x\0".to_vec(), Op::Removexattr { name: b"user.x" }, 0),
        (25, u64s(&[3, 0, 0]), Op::Flush, 24),
        (
            26,
            u32s(&[7, 45, 131_072, 1 << 30 | 1, 1 << 5]),
            Op::Init(Init { major: 7, minor: 45, max_readahead: 131_072, flags: 1 << 30 | 1 | 1 << 37 }),
            0,
        ),
        (27, u32s(&[0, 0]), Op::Opendir, 8),
        (28, [u64s(&[3, 4096]), u32s(&[512, 0]), u64s(&[0, 0])].concat(), Op::Readdir(part), 20),
        (29, u64s(&[3, 0, 0]), Op::Releasedir { handle: 3 }, 16),
        (30, [u64s(&[3]), u32s(&[0, 0])].concat(), Op::Fsyncdir { data_only: false }, 4),
        (34, u32s(&[4, 0]), Op::Unknown, 8),
        (
            35,
            [u32s(&[0o102, 0o100_644, 0o22, 0]), b"new\0".to_vec()].concat(),
            Op::Create { name: b"new", mode: 0o100_644, umask: 0o22 },
            0,
        ),
        (36, u64s(&[76]), Op::Interrupt, 8),
        (38, Vec::new(), Op::Destroy, 0),
        (
            39,
            [u64s(&[3]), u32s(&[0, 0x4008_6602]), u64s(&[0xdead]), u32s(&[4, 8]), b"flag".to_vec()].concat(),
            Op::Ioctl { number: 0x4008_6602, given: b"flag", room: 8 },
            0,
        ),
        (42, [u32s(&[2, 0]), u64s(&[5, 1, 6, 2])].concat(), Op::BatchForget(Forgets(forgotten())), 0),
        (43, [u64s(&[3, 1, 2]), u32s(&[3, 0])].concat(), Op::Fallocate { offset: 1, len: 2, mode: 3 }, 4),
        (44, [u64s(&[3, 4096]), u32s(&[512, 0]), u64s(&[0, 0])].concat(), Op::Readdirplus(part), 20),
        (
            45,
            [u64s(&[6]), u32s(&[2, 0]), b"a\0b\0".to_vec()].concat(),
            Op::Rename { name: b"a", new_parent: 6, new_name: b"b", flags: 2 },
            0,
        ),
        (46, [u64s(&[3, 7]), u32s(&[3, 0])].concat(), Op::Lseek { offset: 7, whence: 3 }, 4),
        (47, range.clone(), copy(false), 0),
        (50, u64s(&[0]), Op::Syncfs, 8),
        (
            51,
            [u32s(&[0o2, 0o100_600, 0o22, 0]), b"/\0".to_vec()].concat(),
            Op::Tmpfile { mode: 0o100_600, umask: 0o22 },
            0,
        ),
        (52, vec![0; 32], Op::Unknown, 32),
        (53, range, copy(true), 0),
    ]
}

fn forgotten() -> &'static [u8] {
    let bytes: &'static mut Vec<u8> = Box::leak(Box::new(u64s(&[5, 1, 6, 2])));
    bytes
}

/// What an operation means, without the addresses of what it borrows.
fn text(op: &Op<'_>) -> String {
    format!("{op:?}")
}

#[test]
fn every_kind_of_request_is_understood() {
    for (opcode, body, expected, _) in every_kind() {
        let bytes = message(opcode, &[&body]);
        let request = decode(&bytes, SHORT).unwrap_or_else(|bad| panic!("{opcode}: {bad:?}"));
        assert_eq!(text(&request.op), text(&expected), "{opcode}");
        let Header { unique, nodeid, uid, gid, pid, .. } = request.header;
        assert_eq!((unique, nodeid, uid, gid, pid), (77, 5, 1000, 100, 4321));
    }
}

/// At every byte: the header's length says what was sent, as a torn read would have it, or what really is there.
#[test]
fn a_request_that_ends_early_is_torn_and_never_read_beyond() {
    for (opcode, body, _, spare) in every_kind() {
        let bytes = message(opcode, &[&body]);
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            let bad = decode(cut, SHORT).expect_err("its length is wrong");
            assert_eq!(matches!(bad, Bad::Nobody), end < abi::IN_HEADER, "{opcode} {end}");
            if end < abi::IN_HEADER {
                continue;
            }
            let mut honest = cut.to_vec();
            honest[..4].copy_from_slice(&u32::try_from(end).unwrap().to_ne_bytes());
            let enough = end + spare >= bytes.len();
            assert_eq!(decode(&honest, SHORT).is_ok(), enough, "{opcode}: {end} of {}", bytes.len());
        }
    }
}

#[test]
fn lengths_that_lie_are_torn() {
    // More forgotten nodes, more data, a longer value, and more bytes for an ioctl than there are.
    for (opcode, body) in [
        (42, u32s(&[u32::MAX, 0])),
        (16, [u64s(&[3, 0]), u32s(&[u32::MAX, 0]), u64s(&[0, 0]), b"data".to_vec()].concat()),
        (21, [u32s(&[u32::MAX, 0]), b"user.x\0v".to_vec()].concat()),
        (39, [u64s(&[3]), u32s(&[0, 1]), u64s(&[0]), u32s(&[u32::MAX, 8])].concat()),
        (1, b"no end".to_vec()),
    ] {
        assert!(matches!(decode(&message(opcode, &[&body]), SHORT), Err(Bad::Torn(_))), "{opcode}");
    }
}

#[test]
fn the_longer_form_of_setxattr_says_whether_the_set_gid_bit_goes() {
    let name = b"system.posix_acl_access";
    let body = [u32s(&[1, 0, 1, 0]), name.to_vec(), b"\0v".to_vec()].concat();
    let expected = Op::Setxattr { name, value: b"v", flags: 0, kill_sgid: true };
    assert_eq!(decode(&message(21, &[&body]), LONG).unwrap().op, expected);
}

#[test]
fn forgotten_nodes_come_in_order() {
    let body = [u32s(&[2, 0]), u64s(&[5, 1, 6, 2])].concat();
    let bytes = message(42, &[&body]);
    let Op::BatchForget(forgets) = decode(&bytes, SHORT).unwrap().op else { panic!() };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(5, 1), (6, 2)]);
}

#[test]
fn times_before_1970_keep_their_fractions() {
    let all = every_kind();
    let (_, body, _, _) = all.iter().find(|(opcode, ..)| *opcode == 4).unwrap();
    let bytes = message(4, &[body]);
    let Op::Setattr(change) = decode(&bytes, SHORT).unwrap().op else { panic!() };
    assert_eq!(change.mtime, Some(SetTime::At(Time { secs: -2, nanos: 250_000_000 })));
}
