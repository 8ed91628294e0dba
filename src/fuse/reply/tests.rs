use super::*;
use crate::sys::attr::Time;
use crate::sys::channel;

const TTL: Duration = Duration::new(3, 500);

fn stat() -> Stat {
    Stat {
        ino: 42,
        mode: 0o100_644,
        nlink: 2,
        uid: 7,
        gid: 8,
        size: 10,
        blocks: 11,
        atime: Time { secs: -2, nanos: 250_000_000 },
        mtime: Time { secs: 5, nanos: 6 },
        ctime: Time { secs: 7, nanos: 8 },
        ..Stat::default()
    }
}

fn bytes_of(answer: &Answer<'_>) -> Vec<u8> {
    let (fixed, bytes) = encode(answer, TTL);
    [fixed.as_bytes(), bytes].concat()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The sizes that the kernel insists on: it takes no shorter reply, and no longer one.
#[test]
fn every_answer_has_the_size_of_its_structure() {
    let known = Known { nodeid: 9, stat: stat(), fleeting: false };
    let file = Opened { handle: 1, flags: 2, backing: 3 };
    for (answer, size) in [
        (Answer::Done, 0),
        (Answer::Entry(known), 128),
        (Answer::Absent, 128),
        (Answer::Created(known, file), 128 + 16),
        (Answer::Attributes(stat(), TTL), 104),
        (Answer::Opened(file), 16),
        (Answer::Size(1), 8),
        (Answer::Written(1), 8),
        (Answer::Copied(1), 8),
        (Answer::Offset(1), 8),
        (Answer::Space(FsStat::default()), 80),
        (Answer::Ioctl(vec![1, 2, 3]), 16 + 3),
        (Answer::Data(b"abc"), 3),
        (Answer::Bytes(b"abcd".to_vec()), 4),
    ] {
        assert_eq!(bytes_of(&answer).len(), size, "{answer:?}");
    }
}

#[test]
fn an_entry_has_a_number_for_the_protocol_and_one_for_stat() {
    let bytes = bytes_of(&Answer::Created(
        Known { nodeid: 9, stat: stat(), fleeting: false },
        Opened { handle: 1, flags: 2, backing: 3 },
    ));
    assert_eq!(
        [0, 8, 16, 24].map(|at| u64_at(&bytes, at)),
        [9, 0, 3, 3],
        "number, generation, validity of name and attributes"
    );
    assert_eq!([32, 36].map(|at| u32_at(&bytes, at)), [500, 500]);
    assert_eq!([40, 48, 56].map(|at| u64_at(&bytes, at)), [42, 10, 11], "st_ino, size, blocks");
    assert_eq!([64, 72, 80].map(|at| u64_at(&bytes, at).cast_signed()), [-2, 5, 7]);
    assert_eq!(
        [88, 92, 96].map(|at| u32_at(&bytes, at)),
        [250_000_000, 6, 8],
        "nanoseconds count forward before 1970, too"
    );
    assert_eq!([100, 104, 108, 112].map(|at| u32_at(&bytes, at)), [0o100_644, 2, 7, 8]);
    assert_eq!([116, 120, 124].map(|at| u32_at(&bytes, at)), [0, 4096, 0], "device, block size, flags");
    assert_eq!((u64_at(&bytes, 128), u32_at(&bytes, 136), u32_at(&bytes, 140)), (1, 2, 3));
}

#[test]
fn a_name_that_is_nobodys_is_remembered_for_the_time_given() {
    let bytes = bytes_of(&Answer::Absent);
    assert_eq!([0, 8, 16, 24].map(|at| u64_at(&bytes, at)), [0, 0, 3, 3]);
}

#[test]
fn lines_are_padded_and_those_that_do_not_fit_are_left_out() {
    let mut buffer = vec![1; 200];
    let line = |name| Line { ino: 5, cookie: 6, mode: 0o040_755, name };
    let mut lines = Lines::new(&mut buffer, 64);
    assert!(lines.add(line(b"a")) && lines.add(line(b"12345678")));
    assert!(!lines.add(line(b"b")));
    let Answer::Data(bytes) = lines.answer() else { panic!() };
    assert_eq!(bytes.len(), 32 + 32);
    assert_eq!((u64_at(bytes, 0), u64_at(bytes, 8), u32_at(bytes, 16), u32_at(bytes, 20)), (5, 6, 1, 4));
    assert_eq!(&bytes[24..32], b"a\0\0\0\0\0\0\0");
    let mut lines = Lines::new(&mut buffer, 128 + 32);
    assert!(lines.add_plus(Some(&Known { nodeid: 9, stat: stat(), fleeting: false }), line(b"a"), TTL));
    assert!(!lines.add_plus(None, line(b"b"), TTL));
    let Answer::Data(bytes) = lines.answer() else { panic!() };
    assert_eq!((bytes.len(), u64_at(bytes, 0), u64_at(bytes, 128)), (160, 9, 5));
}

/// What arrives at the other end of a device: the error number, the request's number, and what is behind the header.
fn arrived(end: &std::os::fd::OwnedFd) -> (i32, u64, Vec<u8>) {
    let bytes = channel::receive(end).unwrap().expect("a message").bytes;
    assert_eq!(u32_at(&bytes, 0) as usize, bytes.len());
    (u32_at(&bytes, 4).cast_signed(), u64_at(&bytes, 8), bytes[16..].to_vec())
}

#[test]
fn one_request_gets_one_answer_and_an_unsent_one_is_an_error() {
    let (kernel, ours) = channel::pair().unwrap();
    let device = Arc::new(Device::new(ours));
    Reply::new(Way::Device(&device), 1).send(&Answer::Data(b"text"), TTL);
    assert_eq!(arrived(&kernel), (0, 1, b"text".to_vec()));
    Reply::new(Way::Device(&device), 2).error(Errno::NOENT);
    assert_eq!(arrived(&kernel), (-2, 2, Vec::new()));
    drop(Reply::new(Way::Device(&device), 3));
    assert_eq!(arrived(&kernel), (-5, 3, Vec::new()));
    drop(Later::new(&device, 4));
    assert_eq!(arrived(&kernel), (-5, 4, Vec::new()));
    Later::new(&device, 5).done();
    assert_eq!(arrived(&kernel), (0, 5, vec![0; 16]));
    Reply::new(Way::Device(&device), 6).hand_over();
    Reply::new(Way::Device(&device), 7).send(&Answer::Silent, TTL);
    Reply::new(Way::Device(&device), 8).send(&Answer::Ioctl(vec![9]), TTL);
    assert_eq!(arrived(&kernel), (0, 8, [vec![0; 16], vec![9]].concat()));
    // The mount went away: nobody to tell, and nothing to worry about.
    drop(kernel);
    Reply::new(Way::Device(&device), 9).send(&Answer::Done, TTL);
}
