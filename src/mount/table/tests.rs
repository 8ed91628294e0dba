use std::path::Path;

use super::*;

const GOOD: &str = "22 27 0:21 / /proc rw,nosuid,nodev - proc proc rw\n\
    36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
    90 27 0:50 / /a\\134b\\011\\012 ro - fuse.mica docker.io/library/debian:12 rw,user_id=0\n\
    91 90 0:51 / /a\\134b\\011\\012 rw - fuse.fuse-overlayfs fuse-overlayfs rw\n";

#[test]
fn lines_as_the_kernel_prints_them() {
    let entries = parse(GOOD.as_bytes());
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[1].target, Path::new("/mnt 2"));
    assert_eq!((entries[1].kind.as_slice(), entries[1].dev), (&b"ext3"[..], (98, 0)));
    assert!(entries[1].has_flag("noatime") && !entries[1].has_flag("ro"));
    assert_eq!(entries[2].target, Path::new("/a\\b\t\n"));
    assert!(entries[2].is_mica() && entries[2].is_union());
    assert!(!entries[3].is_mica() && entries[3].is_union());
    assert_eq!(topmost(&entries, Path::new("/a\\b\t\n")).map(|e| e.id), Some(91));
    assert_eq!(topmost(&entries, Path::new("/nowhere")), None);
}

#[test]
fn the_top_is_not_always_the_last_line() {
    let text = "5 1 0:5 / /m rw - tmpfs a rw\n6 7 0:6 / /m rw - fuse.mica b rw\n7 5 0:7 / /m rw - tmpfs c rw\n";
    assert_eq!(topmost(&parse(text.as_bytes()), Path::new("/m")).map(|e| e.id), Some(6));
    // Lines that claim to lie on each other give none, and no endless search.
    let circle = "5 6 0:5 / /m rw - tmpfs a rw\n6 5 0:6 / /m rw - tmpfs b rw\n";
    assert_eq!(topmost(&parse(circle.as_bytes()), Path::new("/m")), None);
}

#[test]
fn hostile_lines_are_left_out() {
    let lines: [&[u8]; 14] = [
        b"",
        b" ",
        b"-",
        b"- - - - - - - - -",
        b"22 27 0:21 / /proc rw proc proc rw",
        b"22 27 021 / /proc rw - proc proc rw",
        b"22 27 0:x / /proc rw - proc proc rw",
        b"22 27 0:4294967296 / /proc rw - proc proc rw",
        b"99999999999999999999 27 0:21 / /proc rw - proc proc rw",
        b"-1 27 0:21 / /proc rw - proc proc rw",
        b"22 27 0:21 / /proc rw -",
        b"22 27 0:21 / /proc rw - proc",
        b"22 27 0:21",
        b"\xff\xff\0\xff",
    ];
    for line in lines {
        assert_eq!(parse(line), [], "{}", line.escape_ascii());
    }
    let mixed = [b"junk\n", GOOD.as_bytes(), b"22 27 0:21 / /x rw - fuse.mica"].concat();
    assert_eq!(parse(&mixed).len(), 4);
}

#[test]
fn octal_escapes() {
    let cases: [(&[u8], &[u8]); 7] = [
        (b"a\\040b", b"a b"),
        (b"\\134", b"\\"),
        (b"\\043", b"#"),
        (b"\\", b"\\"),
        (b"\\04", b"\\04"),
        (b"\\777\\400", b"\\777\\400"),
        (b"\\08a", b"\\08a"),
    ];
    for (text, bytes) in cases {
        assert_eq!(unescape(text), bytes, "{}", text.escape_ascii());
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in proptest::collection::vec(proptest::sample::select(&b"0123456789 :\\-/\n\xfffuse.mica"[..]), 0..200)) {
        let entries = parse(&text);
        let _ = topmost(&entries, Path::new("/"));
    }
}

#[test]
fn this_process_has_a_root() {
    assert!(topmost(&read().unwrap(), Path::new("/")).is_some());
}
