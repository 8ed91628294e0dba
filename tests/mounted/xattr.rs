//! Extended attributes.

use std::fs;
use std::path::Path;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::mknod;
use crate::place::opaque;
use crate::place::put;
use crate::place::put_dir;
use crate::place::set_xattr;
use crate::place::sh;
use crate::place::xattr;
use crate::place::xattr_names;

#[test]
fn set_get_list_remove_on_every_kind() {
    let fill = |_: &Path, low: &Path| {
        set_xattr(&put(low, "f", "text"), "user.low", b"1").unwrap();
        set_xattr(&put_dir(low, "d"), "user.low", b"1").unwrap();
        std::os::unix::fs::symlink("f", low.join("l")).unwrap();
        set_xattr(&low.join("l"), "trusted.low", b"1").unwrap();
        mknod(&low.join("q"), rustix::fs::FileType::Fifo, 0o600, 0).unwrap();
    };
    let Some(p) = Place::mounted("xattr", fill) else { return };
    for name in ["f", "d"] {
        assert_eq!(xattr(&p.at(name), "user.low").unwrap(), b"1");
        set_xattr(&p.at(name), "user.new", b"two").unwrap();
        assert_eq!(xattr_names(&p.at(name)), ["user.low", "user.new"]);
        rustix::fs::lremovexattr(p.at(name), "user.low").unwrap();
        assert_eq!(xattr_names(&p.at(name)), ["user.new"]);
        assert_errno!(rustix::fs::lremovexattr(p.at(name), "user.low"), NODATA);
        assert_errno!(xattr(&p.at(name), "user.low"), NODATA);
    }
    // On the symlink itself, never on what it points to.
    assert_eq!(xattr_names(&p.at("l")), ["trusted.low"]);
    set_xattr(&p.at("l"), "trusted.new", b"3").unwrap();
    assert_eq!(xattr_names(&p.at("l")), ["trusted.low", "trusted.new"]);
    assert_eq!(xattr_names(&p.at("f")), ["user.new"]);
    assert_errno!(set_xattr(&p.at("l"), "user.new", b"3"), PERM);
    set_xattr(&p.at("q"), "trusted.q", b"4").unwrap();
    assert_errno!(set_xattr(&p.at("q"), "user.q", b"4"), PERM);
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_symlink_that_points_into_the_mount_does_not_hang() {
    if On::chosen() == On::Peer {
        return crate::support::report_skip("fuse-overlayfs 1.x hangs here for ever, and the caller with it");
    }
    let Some(p) = Place::mounted("xloop", |_, low| drop(put(low, "f", ""))) else { return };
    std::os::unix::fs::symlink(p.at("f"), p.at("in")).unwrap();
    std::os::unix::fs::symlink(p.beside("host"), p.at("out")).unwrap();
    fs::write(p.beside("host"), "").unwrap();
    for name in ["in", "out"] {
        set_xattr(&p.at(name), "trusted.x", b"1").unwrap();
        assert_eq!(xattr(&p.at(name), "trusted.x").unwrap(), b"1");
    }
    assert!(xattr_names(&p.beside("host")).is_empty() && xattr_names(&p.at("f")).is_empty());
}

#[test]
fn sizes_and_flags() {
    use rustix::fs::XattrFlags;
    let Some(p) = Place::mounted("xsize", |_, low| drop(set_xattr(&put(low, "f", ""), "user.a", b"12345"))) else {
        return;
    };
    let f = p.at("f");
    // getfattr asks with size 0 how much there is.
    assert!(sh(&p.top, "getfattr -d f").contains("user.a=\"12345\""));
    assert_errno!(rustix::fs::lgetxattr(&f, "user.a", &mut [0u8; 4][..]), RANGE);
    assert_errno!(rustix::fs::llistxattr(&f, &mut [0u8; 3][..]), RANGE);
    set_xattr(&f, "user.empty", b"").unwrap();
    assert_eq!(xattr(&f, "user.empty").unwrap(), b"");
    assert_errno!(rustix::fs::lsetxattr(&f, "user.a", b"x", XattrFlags::CREATE), EXIST);
    assert_errno!(rustix::fs::lsetxattr(&f, "user.b", b"x", XattrFlags::REPLACE), NODATA);
    rustix::fs::lsetxattr(&f, "user.a", b"x", XattrFlags::REPLACE).unwrap();
    rustix::fs::lsetxattr(&f, "user.b", b"x", XattrFlags::CREATE).unwrap();
    assert_eq!(xattr(&f, "user.a").unwrap(), b"x");
}

#[test]
fn a_value_of_64_kib() {
    let Some(p) = Place::mounted("xbig", |_, low| drop(put(low, "f", ""))) else { return };
    let value: Vec<u8> = (0..65_536u32).map(|i| (i % 251) as u8).collect();
    // What the upper filesystem takes is its affair (ext4: one block); the mount must answer as it does.
    let plain = put(&p.beside(""), "plain", "");
    let errno = |r: std::io::Result<()>| r.err().and_then(|e| e.raw_os_error());
    assert_eq!(errno(set_xattr(&p.at("f"), "user.big", &value)), errno(set_xattr(&plain, "user.big", &value)));
    for size in [3000, 4000] {
        let (a, b) = (set_xattr(&p.at("f"), "user.big", &value[..size]), set_xattr(&plain, "user.big", &value[..size]));
        assert_eq!(errno(a), errno(b), "{size}");
        assert_eq!(xattr(&p.at("f"), "user.big").ok(), xattr(&plain, "user.big").ok(), "{size}");
    }
}

#[test]
fn the_unions_own_marks_are_hidden_and_names_like_them_are_escaped() {
    let fill = |high: &Path, low: &Path| {
        put(low, "d/f", "");
        opaque(&put_dir(high, "d"));
        set_xattr(&high.join("d"), "user.x", b"1").unwrap();
    };
    let Some(p) = Place::mounted("xhide", fill) else { return };
    assert_eq!(xattr_names(&p.at("d")), ["user.x"]);
    assert_errno!(xattr(&p.at("d"), "trusted.overlay.opaque"), NODATA);
    // A union inside the union sets its own marks; they mean nothing to this one.
    sh(&p.top, "mkdir e; echo x >e/x");
    set_xattr(&p.at("e"), "trusted.overlay.opaque", b"y").unwrap();
    assert_eq!(xattr(&p.at("e"), "trusted.overlay.opaque").unwrap(), b"y");
    assert!(xattr(&p.in_upper("e"), "trusted.overlay.overlay.opaque").is_ok());
    p.same_after_remount_and_by_the_kernel();
    rustix::fs::lremovexattr(p.at("e"), "trusted.overlay.opaque").unwrap();
    assert!(xattr_names(&p.at("e")).is_empty());
}
