use std::os::fd::OwnedFd;

use super::*;
use crate::sys::channel;

/// A kernel: asks, and reads what comes back.
struct Kernel(OwnedFd);

impl Kernel {
    fn new() -> (Self, Device) {
        let (kernel, ours) = channel::pair().unwrap();
        (Self(kernel), Device::new(ours))
    }

    fn asks(&self, opcode: u32, body: &[u32]) {
        let len = u32::try_from(abi::IN_HEADER + body.len() * 4).unwrap();
        let header = [len, opcode, 7, 0, 0, 0, 0, 0, 0, 0];
        let bytes: Vec<u8> = header.iter().chain(body).flat_map(|n| n.to_ne_bytes()).collect();
        channel::send(&self.0, &bytes, None).unwrap();
    }

    /// INIT in the form of that minor version.
    fn offers(&self, minor: u32, flags: u32) {
        let mut body = vec![7, minor, 131_072, flags];
        if minor >= 36 {
            body.extend([0xffff_ffff; 12]);
        }
        self.asks(26, &body);
    }

    /// The error number, and the body as integers of 32 bits.
    fn hears(&self) -> (i32, Vec<u32>) {
        let bytes = channel::receive(&self.0).unwrap().expect("a message").bytes;
        let numbers: Vec<u32> = bytes.chunks(4).map(|b| u32::from_ne_bytes(b.try_into().unwrap())).collect();
        assert_eq!((numbers[0] as usize, numbers[2]), (bytes.len(), 7));
        (numbers[1].cast_signed(), numbers[4..].to_vec())
    }
}

const WISHES: Wishes =
    Wishes { unsteady: false, unopened: false, lending: 0, acl: true, max_write: 1 << 20, rings: false };

#[test]
fn every_protocol_from_linux_3_10_on_is_spoken() {
    for (minor, size) in [(22, 24), (23, 64), (31, 64), (36, 64), (45, 64)] {
        let (kernel, device) = Kernel::new();
        kernel.offers(minor, if minor < 36 { 0x3fff_ffff } else { u32::MAX });
        let agreed = shake(&device, WISHES, |_| false).unwrap();
        let (error, said) = kernel.hears();
        assert_eq!((error, said.len() * 4), (0, size), "7.{minor}");
        assert_eq!((said[0], said[1], said[2]), (7, abi::MINOR, 131_072), "7.{minor}");
        assert_eq!(u64::from(said[3]), agreed.flags & 0xffff_ffff);
        assert_eq!(said[5], 1 << 20);
        assert_eq!((agreed.minor, agreed.max_write), (minor, 1 << 20));
        if size == 64 {
            assert_eq!(said[6], 1, "nanoseconds");
            assert_eq!(said[7] & 0xffff, (1 << 20) / 4096, "pages of a request");
            assert_eq!(said[8], 0, "nothing of the upper half is wanted");
        }
    }
}

#[test]
fn who_is_not_told_of_openings_takes_no_cuts_with_them() {
    let wishes = Wishes { unopened: true, ..WISHES };
    for (offered, unopened) in [(u32::MAX, true), (!(1 << 17), false)] {
        let (kernel, device) = Kernel::new();
        kernel.offers(45, offered);
        let agreed = shake(&device, wishes, |_| false).unwrap();
        assert_eq!((agreed.is_unopened(), agreed.has(init::ATOMIC_O_TRUNC)), (unopened, !unopened));
    }
    let (kernel, device) = Kernel::new();
    kernel.offers(45, u32::MAX);
    assert!(!shake(&device, WISHES, |_| false).unwrap().is_unopened(), "not wished for");
}

#[test]
fn files_are_lent_where_the_kernel_takes_them_and_openings_are_told_then() {
    let wishes = Wishes { unopened: true, lending: 2, ..WISHES };
    let (kernel, device) = Kernel::new();
    kernel.offers(45, u32::MAX);
    let agreed = shake(&device, wishes, |_| false).unwrap();
    let (_, said) = kernel.hears();
    assert!(agreed.is_lending() && !agreed.is_unopened() && agreed.has(init::ATOMIC_O_TRUNC));
    assert_eq!((said[8], said[9]), (1 << (37 - 32), 2), "the flag, and how high filesystems are stacked");
    // A kernel before 6.9.
    let (kernel, device) = Kernel::new();
    kernel.offers(31, 0x3fff_ffff);
    let agreed = shake(&device, wishes, |_| false).unwrap();
    let (_, said) = kernel.hears();
    assert!(!agreed.is_lending() && agreed.is_unopened());
    assert_eq!((said[8], said[9]), (0, 0));
}

#[test]
fn nothing_is_agreed_on_that_was_not_offered() {
    // CentOS 7 (7.23): no parallel operations on directories, no ACLs, no cached symlinks, no killpriv.
    let offered = 0x0003_ffff;
    let (kernel, device) = Kernel::new();
    kernel.offers(23, offered);
    let agreed = shake(&device, WISHES, |_| false).unwrap();
    assert_eq!(agreed.flags & !u64::from(offered), 0);
    assert!(agreed.has(init::ATOMIC_O_TRUNC) && agreed.has(init::DO_READDIRPLUS) && !agreed.has(init::POSIX_ACL));
    assert_eq!(agreed.layout(), Layout { long_setxattr: false });
    assert_eq!(u64::from(kernel.hears().1[3]), agreed.flags);
}

#[test]
fn wishes_follow_the_options() {
    let flags = |wishes: Wishes| wishes.flags();
    let steady = flags(WISHES);
    let unsteady = flags(Wishes { unsteady: true, acl: false, ..WISHES });
    assert!(steady & init::CACHE_SYMLINKS != 0 && steady & init::AUTO_INVAL_DATA == 0 && steady & init::POSIX_ACL != 0);
    assert!(unsteady & init::CACHE_SYMLINKS == 0 && unsteady & init::AUTO_INVAL_DATA != 0);
    assert_eq!(unsteady & init::POSIX_ACL, 0);
}

#[test]
fn a_newer_major_version_is_answered_with_ours_and_asked_again() {
    let (kernel, device) = Kernel::new();
    kernel.asks(26, &[8, 0, 0, 0]);
    kernel.offers(45, 0);
    shake(&device, WISHES, |_| false).unwrap();
    assert_eq!(kernel.hears(), (0, vec![7, abi::MINOR]));
    assert_eq!(kernel.hears().1.len(), 16);
}

#[test]
fn what_is_too_old_or_no_offer_is_refused_and_told() {
    for (minor, wanted) in [(21, "7.21"), (8, "7.8")] {
        let (kernel, device) = Kernel::new();
        kernel.offers(minor, 0);
        let said = shake(&device, WISHES, |_| false).unwrap_err().to_string();
        assert!(said.contains(wanted) && said.contains("7.22"), "{said}");
        assert_eq!(kernel.hears(), (-Errno::PROTO.raw_os_error(), Vec::new()));
    }
    let (kernel, device) = Kernel::new();
    kernel.asks(3, &[0, 0, 0, 0]);
    assert!(shake(&device, WISHES, |_| false).unwrap_err().to_string().contains("getattr"));
    assert_eq!(kernel.hears().0, -Errno::IO.raw_os_error());
    let (kernel, device) = Kernel::new();
    kernel.asks(26, &[7]);
    assert!(shake(&device, WISHES, |_| false).is_err(), "cut short");
    drop(kernel);
    let (kernel, device) = Kernel::new();
    drop(kernel);
    assert!(shake(&device, WISHES, |_| false).is_err(), "gone");
}

#[test]
fn writes_are_bounded_and_every_request_has_room() {
    let offer = Init { major: 7, minor: 45, max_readahead: 0, flags: 0 };
    for (wanted, given) in [(0, 4096), (1 << 20, 1 << 20), (u32::MAX, 1 << 24)] {
        let agreed = Wishes { max_write: wanted, ..WISHES }.answer(&offer, |_| false).1;
        assert_eq!(agreed.max_write, given);
        assert!(agreed.buffer() >= given as usize + 80 && agreed.buffer() >= 8192);
    }
}

/// A kernel before 4.20 reads 32 pages at once: an answer that is cut short would be the end of the file to it.
#[test]
fn the_largest_read_of_an_old_kernel_fits_also_where_writes_are_small() {
    let offer = Init { major: 7, minor: 22, max_readahead: 1 << 17, flags: 0 };
    let wishes = Wishes { max_write: 4096, rings: true, ..WISHES };
    let agreed = wishes.answer(&offer, |_| true).1;
    assert!(agreed.payload() >= 1 << 17, "{}", agreed.payload());
    // And where the kernel's own memory for a request would be as small, it is not asked for.
    let offer = Init { minor: 45, flags: init::OVER_IO_URING | init::INIT_EXT, ..offer };
    assert!(!wishes.answer(&offer, |_| true).1.has(init::OVER_IO_URING));
    assert!(Wishes { max_write: 1 << 17, ..wishes }.answer(&offer, |_| true).1.has(init::OVER_IO_URING));
}
