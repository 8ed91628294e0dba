//! Owners: mapped, squashed, and kept in an attribute.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::place::On;
use crate::place::Place;
use crate::place::have;
use crate::place::put;
use crate::place::set_xattr;
use crate::place::sh;
use crate::place::xattr;
use crate::place::xattr_names;

/// Layers filled by `fill`, mounted with `options`; on the kernel's overlayfs there are no such options.
fn with(label: &str, options: &str, fill: impl FnOnce(&Path, &Path)) -> Option<Place> {
    if On::chosen() == On::Kernel {
        crate::support::report_skip("the kernel has no such options");
        return None;
    }
    let mut place = Place::prepared(label)?;
    fill(&place.in_layer(0, ""), &place.in_layer(1, ""));
    place.set_options(options);
    place.mount(On::chosen());
    Some(place)
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = std::fs::symlink_metadata(path).expect("stat");
    (stat.uid(), stat.gid())
}

fn give(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("chown");
}

const MAPPED: &str = "uidmapping=100000:0:65536,gidmapping=100000:0:65536";

#[test]
fn a_mapping_holds_for_what_is_shown_and_what_is_stored() {
    let fill = |_: &Path, low: &Path| {
        give(low, 100_000, 100_000);
        give(&put(low, "f", "x"), 100_003, 100_004);
        give(&put(low, "outside", "x"), 42, 42);
    };
    let Some(p) = with("mapped", MAPPED, fill) else { return };
    assert_eq!(owner(&p.at("f")), (3, 4));
    assert_eq!(owner(&p.at("outside")), (65534, 65534));
    sh(&p.top, "echo y >>f; chmod 600 outside; mkdir d; echo >d/new; ln -s x d/l; chown 5:6 d/new; chown -h 7:8 d/l");
    // A copy keeps its number on disk, also one that no number shown stands for.
    assert_eq!(owner(&p.in_upper("f")), (100_003, 100_004));
    assert_eq!(owner(&p.in_upper("outside")), (42, 42));
    assert_eq!(owner(&p.in_upper("d")), (100_000, 100_000));
    assert_eq!(owner(&p.in_upper("d/new")), (100_005, 100_006));
    assert_eq!(owner(&p.in_upper("d/l")), (100_007, 100_008));
    assert_eq!(owner(&p.at("d/new")), (5, 6));
    // The directory hands on its own group, not one that is mapped twice.
    sh(&p.top, "mkdir g; chown 0:9 g; chmod 2775 g; echo >g/x; mkdir g/y");
    assert_eq!((owner(&p.in_upper("g/x")), owner(&p.at("g/y"))), ((100_000, 100_009), (0, 9)));
}

#[test]
fn a_mapped_user_makes_what_is_his() {
    let Some(p) = with("maker", "uidmapping=0:0:1:100000:4242:10,gidmapping=0:0:1:200000:4242:10", |_, _| {}) else {
        return;
    };
    sh(&p.top, "chmod 777 .");
    let made = crate::place::sh_as(&p.top, crate::place::USER, "echo >f; mkdir d; echo >d/g; chmod 600 f");
    assert!(made.status.success(), "{made:?}");
    for name in ["f", "d", "d/g"] {
        assert_eq!(owner(&p.in_upper(name)), (100_000, 200_000), "{name}");
        assert_eq!(owner(&p.at(name)), (4242, 4242), "{name}");
    }
}

#[test]
fn numbers_in_acls_are_mapped() {
    if !have("setfacl") {
        return crate::support::report_skip("no setfacl");
    }
    if On::chosen() == On::Peer {
        return crate::support::report_skip("fuse-overlayfs leaves the numbers in ACLs as they are");
    }
    let fill = |_: &Path, low: &Path| {
        give(low, 100_000, 100_000);
        sh(low, "echo x >f; chown 100000:100000 f; setfacl -m u:100007:r,g:42:rw f");
    };
    let Some(p) = with("mapped-acl", MAPPED, fill) else { return };
    let acl = |at: &Path| sh(at, "getfacl -ncp f");
    let shown = acl(&p.top);
    assert!(shown.contains("user:7:r--") && shown.contains("group:65534:rw-"), "{shown}");
    sh(&p.top, "setfacl -m u:9:rwx f");
    assert!(acl(&p.upper).contains("user:100009:rwx") && acl(&p.upper).contains("user:100007:r--"));
}

#[test]
fn squashing_shows_one_owner() {
    for (options, shown) in [
        ("squash_to_root", (0, 0)),
        ("squash_to_root,squash_to_uid=44", (44, 0)),
        ("squash_to_uid=44,squash_to_gid=55", (44, 55)),
        ("squash_to_gid=55", (7, 55)),
    ] {
        let Some(p) = with("squash", options, |_, low| give(&put(low, "f", "x"), 7, 8)) else { return };
        assert_eq!(owner(&p.at("f")), shown, "{options}");
        sh(&p.top, "echo y >>f; chown 1:2 f");
        assert_eq!((owner(&p.at("f")).1, owner(&p.in_upper("f"))), (shown.1, (1, 2)), "{options}");
    }
}

const OVERRIDE: &str = "user.containers.override_stat";

#[test]
fn owner_mode_and_type_are_kept_in_an_attribute() {
    for (options, attribute) in
        [("xattr_permissions=1", "security.fuseoverlayfs.override_stat"), ("xattr_permissions=2", OVERRIDE)]
    {
        let fill = |_: &Path, low: &Path| give(&put(low, "f", "text"), 5, 6);
        let Some(p) = with("kept", options, fill) else { return };
        sh(&p.top, "chmod 640 f; chown 1234:100 f; echo new >n; chmod 4711 n; mkdir d; chmod 1777 d; chown 9:9 d");
        let check = |p: &Place| {
            assert_eq!((owner(&p.at("f")), p.mode("f")), ((1234, 100), 0o640), "{options}");
            assert_eq!((owner(&p.at("n")), p.mode("n")), ((0, 0), 0o4711), "{options}");
            assert_eq!((owner(&p.at("d")), p.mode("d")), ((9, 9), 0o1777), "{options}");
            assert_eq!(p.mode(""), 0o555, "{options}");
        };
        check(&p);
        assert_eq!(xattr(&p.upper, attribute).expect("the root's"), b"0:0:0555");
        for name in ["f", "n", "d"] {
            let stored = p.in_upper(name);
            let mode = stored.metadata().expect("stat").mode() & 0o7777;
            assert_eq!((owner(&stored), mode), ((0, 0), 0o755), "{options}: {name}");
            assert!(!xattr_names(&p.at(name)).iter().any(|n| n.contains("override")), "{options}: {name}");
        }
        p.remount();
        check(&p);
        // A layer that is an upper of such a mount tells by its root; both forms are read without an option.
        p.unmount();
    }
}

#[test]
fn devices_and_privileged_attributes_are_kept_in_attributes_too() {
    if On::chosen() == On::Peer {
        return crate::support::report_skip("fuse-overlayfs makes devices in the upper directory");
    }
    let Some(p) = with("kept-dev", "xattr_permissions=2", |_, _| {}) else { return };
    sh(&p.top, "mknod c c 1 3; mknod b b 259 70000; mkfifo p; chmod 620 c; chown 3:4 p");
    set_xattr(&p.at("c"), "security.test", b"v").expect("setxattr");
    let check = |p: &Place| {
        assert!(p.stat("c").file_type().is_char_device() && p.stat("b").file_type().is_block_device());
        assert!(p.stat("p").file_type().is_fifo());
        assert_eq!((p.stat("c").rdev(), p.mode("c")), (rustix::fs::makedev(1, 3), 0o620));
        assert_eq!(p.stat("b").rdev(), rustix::fs::makedev(259, 70_000));
        assert_eq!(xattr(&p.at("c"), "security.test").expect("getxattr"), b"v");
        assert_eq!(sh(&p.top, "find . -type c; find . -type p; find . -type f"), "./c\n./p\n");
    };
    check(&p);
    assert_eq!(xattr(&p.in_upper("c"), OVERRIDE).expect("the attribute"), b"0:0:620:char-1-3");
    assert_eq!(xattr(&p.in_upper("c"), "user.containers.override_security.test").expect("the attribute"), b"v");
    p.remount();
    check(&p);
}

#[test]
fn a_layer_tells_by_its_root_where_its_owners_are_kept() {
    for attribute in ["security.fuseoverlayfs.override_stat", OVERRIDE, "user.fuseoverlayfs.override_stat"] {
        let fill = |high: &Path, low: &Path| {
            let kept = |path: &Path, value: &str| set_xattr(path, attribute, value.as_bytes()).expect("setxattr");
            kept(high, "0:0:755");
            kept(&put(high, "d/f", "text"), "12:34:4750");
            kept(&high.join("d"), "1:2:700:dir");
            kept(&put(high, "d/null", ""), "0:0:666:char-1-3");
            put(high, "d/none", "");
            // The other layer keeps its own in the inodes.
            set_xattr(&put(low, "plain", ""), attribute, b"12:34:750").expect("setxattr");
        };
        let Some(p) = with("told", "", fill) else { return };
        assert_eq!((owner(&p.at("d/f")), p.mode("d/f")), ((12, 34), 0o4750), "{attribute}");
        assert_eq!((owner(&p.at("d")), p.mode("d")), ((1, 2), 0o700), "{attribute}");
        assert_eq!((p.mode("d/none"), owner(&p.at("plain"))), (0o644, (0, 0)), "{attribute}");
        if On::chosen() == On::Mica {
            // fuse-overlayfs reads the device of this form wrongly, and lists it as a file.
            assert_eq!(p.stat("d/null").rdev(), rustix::fs::makedev(1, 3), "{attribute}");
            assert_eq!(sh(&p.top, "find d -type c"), "d/null\n");
        }
        // Copied up, it is in the inode: this upper directory keeps no attributes.
        sh(&p.top, "echo >>d/f; chmod 600 d/null");
        assert_eq!((owner(&p.in_upper("d/f")), owner(&p.in_upper("d"))), ((12, 34), (1, 2)), "{attribute}");
        assert!(xattr(&p.in_upper("d/f"), attribute).is_err(), "{attribute}");
    }
}
