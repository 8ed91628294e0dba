//! Attributes: what stat shows, and chmod, chown, truncate and times.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::place::Place;
use crate::place::USER;
use crate::place::assert_errno;
use crate::place::chmod;
use crate::place::have;
use crate::place::mknod;
use crate::place::mtime;
use crate::place::put;
use crate::place::put_dir;
use crate::place::set_times;
use crate::place::sh;
use crate::place::sh_as;
use crate::place::xattr;
use crate::support::skip;

#[test]
fn numbers_are_unique_and_stay_over_copy_up_and_remount() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..20 {
            put(high, &format!("d/h{i}"), "x");
            put(low, &format!("d/l{i}"), "x");
        }
        put(low, "e/f", "x");
    };
    let Some(p) = Place::mounted("ino", fill) else { return };
    let numbers = || {
        let tree = ["d", "e", "e/f"].map(str::to_owned).into_iter();
        let files = (0..20).flat_map(|i| [format!("d/h{i}"), format!("d/l{i}")]);
        tree.chain(files).map(|name| (p.stat(&name).ino(), name)).collect::<Vec<_>>()
    };
    let before = numbers();
    let mut unique: Vec<_> = before.iter().map(|(ino, _)| *ino).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), before.len());
    sh(&p.top, "chmod 600 d/*; chmod 700 d e; echo y >>e/f; mv e/f e/f2; mv e/f2 e/f");
    assert_eq!(numbers(), before, "after a copy-up");
    p.remount();
    assert_eq!(numbers(), before, "after a remount");
}

#[test]
fn times_have_nanoseconds_and_may_lie_before_1970() {
    let times =
        [(1_234_567_890, 123_456_789), (-1_000, 5), (-1, 999_999_999), (0, 0), (-2_000_000_000, 1), (5_000_000_000, 7)];
    let fill = |_: &Path, low: &Path| {
        for (i, time) in times.iter().enumerate() {
            set_times(&put(low, &format!("f{i}"), "x"), *time);
            set_times(&put_dir(low, &format!("d{i}")), *time);
            let link = low.join(format!("l{i}"));
            std::os::unix::fs::symlink("x", &link).unwrap();
            set_times(&link, *time);
        }
    };
    let Some(p) = Place::mounted("times", fill) else { return };
    let check = |when: &str| {
        for (i, time) in times.iter().enumerate() {
            for kind in ["f", "d", "l"] {
                assert_eq!(mtime(&p.at(format!("{kind}{i}"))), *time, "{kind}{i} {when}");
            }
        }
    };
    check("in the layer");
    for i in 0..times.len() {
        for kind in ["f", "d", "l"] {
            std::os::unix::fs::lchown(p.at(format!("{kind}{i}")), Some(1), Some(2)).unwrap();
        }
    }
    check("after a copy-up");
    for (i, time) in times.iter().enumerate() {
        for kind in ["f", "d", "l"] {
            set_times(&p.at(format!("{kind}{i}")), *time);
        }
    }
    check("set in the mount");
    p.remount();
    check("after a remount");
}

#[test]
fn a_copy_up_leaves_the_times_of_its_parents() {
    let fill = |high: &Path, low: &Path| {
        put(low, "a/b/c/f", "text");
        put_dir(high, "a");
        for dir in ["a/b/c", "a/b", "a"] {
            set_times(&low.join(dir), (1_000_000_000, 11));
        }
        set_times(&high.join("a"), (1_000_000_000, 11));
    };
    let Some(p) = Place::mounted("parents", fill) else { return };
    let top = mtime(&p.top);
    sh(&p.top, "echo more >>a/b/c/f");
    for dir in ["a/b/c", "a/b", "a"] {
        assert_eq!(mtime(&p.at(dir)), (1_000_000_000, 11), "{dir}");
        assert_eq!(mtime(&p.in_upper(dir)), (1_000_000_000, 11), "{dir} in upper");
    }
    assert_eq!(mtime(&p.top), top);
    // A real change does change them.
    sh(&p.top, "rm a/b/c/f");
    assert!(mtime(&p.at("a/b/c")).0 > 1_000_000_000);
}

#[test]
fn set_id_bits_and_capabilities_go_when_a_user_writes() {
    if !have("setcap") {
        skip!("setcap is not installed");
    }
    let fill = |_: &Path, low: &Path| {
        for name in ["write", "trunc", "root", "chown"] {
            put(low, name, "text");
            chmod(&low.join(name), 0o6777);
            sh(low, &format!("PATH=$PATH:/usr/sbin:/sbin setcap cap_net_raw+ep {name}"));
        }
    };
    let Some(p) = Place::mounted("suid", fill) else { return };
    let has_caps = |name: &str| xattr(&p.at(name), "security.capability").is_ok();
    assert!(["write", "trunc", "root", "chown"].into_iter().all(has_caps));
    let out = sh_as(&p.top, 77, "echo more >>write; : >trunc");
    assert!(out.status.success(), "{out:?}");
    for name in ["write", "trunc"] {
        assert_eq!((p.mode(name), has_caps(name)), (0o777, false), "{name}");
    }
    // Root keeps the bits, but nobody keeps capabilities over a write.
    sh(&p.top, "echo more >>root");
    assert_eq!((p.mode("root"), has_caps("root")), (0o6777, false));
    sh(&p.top, "chown 5:6 chown");
    assert_eq!((p.mode("chown"), has_caps("chown")), (0o777, false));
}

#[test]
fn capabilities_survive_a_change_of_mode() {
    if !have("setcap") {
        skip!("setcap is not installed");
    }
    let fill = |_: &Path, low: &Path| {
        put(low, "f", "text");
        sh(low, "PATH=$PATH:/usr/sbin:/sbin setcap cap_net_raw+ep f");
    };
    let Some(p) = Place::mounted("caps", fill) else { return };
    let before = xattr(&p.at("f"), "security.capability").unwrap();
    sh(&p.top, "chmod 4711 f; touch f");
    assert_eq!(xattr(&p.at("f"), "security.capability").unwrap(), before);
    assert_eq!(p.mode("f"), 0o4711);
    p.remount();
    assert_eq!(xattr(&p.at("f"), "security.capability").unwrap(), before);
}

#[test]
fn the_rights_of_the_caller_count() {
    let fill = |_: &Path, low: &Path| {
        put(low, "f", "text");
        chmod(&low.join("f"), 0o600);
        chmod(&put_dir(low, "d"), 0o700);
        put(low, "d/x", "");
        chmod(&put_dir(low, "sticky"), 0o1777);
        put(low, "sticky/roots", "");
    };
    let Some(p) = Place::mounted("rights", fill) else { return };
    let refused =
        "! cat f; ! chmod 777 f; ! ls d; ! rm f; ! touch n; ! rm sticky/roots; ! mv sticky/roots sticky/y; ! chown 1 f";
    let out = sh_as(&p.top, 77, &format!("{refused}; echo x >sticky/mine; rm sticky/mine"));
    assert!(out.status.success(), "{out:?}");
    assert_eq!(p.upper_names(), ["sticky"], "nothing was copied up for what was refused");
}

#[test]
fn truncate_up_and_down() {
    let text = "0123456789".repeat(1000);
    let fill = |_: &Path, low: &Path| {
        for name in ["cut", "grow", "zero", "neg"] {
            put(low, name, &text);
        }
    };
    let Some(p) = Place::mounted("truncate", fill) else { return };
    sh(&p.top, "truncate -s 5005 cut; truncate -s 1000000 grow; : >zero");
    assert_eq!(fs::read_to_string(p.at("cut")).unwrap(), text[..5005]);
    let grown = fs::read(p.at("grow")).unwrap();
    assert_eq!(grown.len(), 1_000_000);
    assert!(grown.starts_with(text.as_bytes()) && grown[text.len()..].iter().all(|b| *b == 0));
    assert_eq!(p.stat("zero").len(), 0);
    // Down and up again: what was cut must not come back.
    sh(&p.top, "truncate -s 10 neg; truncate -s 4096 neg");
    assert!(fs::read(p.at("neg")).unwrap()[10..].iter().all(|b| *b == 0));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn special_files_change_without_being_opened() {
    use rustix::fs::FileType;
    let fill = |_: &Path, low: &Path| {
        mknod(&low.join("fifo"), FileType::Fifo, 0o600, 0).unwrap();
        mknod(&low.join("socket"), FileType::Socket, 0o600, 0).unwrap();
        mknod(&low.join("null"), FileType::CharacterDevice, 0o600, rustix::fs::makedev(1, 3)).unwrap();
        mknod(&low.join("block"), FileType::BlockDevice, 0o600, rustix::fs::makedev(7, 200)).unwrap();
    };
    let Some(p) = Place::mounted("special", fill) else { return };
    for name in ["fifo", "socket", "null", "block"] {
        let before = p.stat(name);
        sh(&p.top, &format!("chmod 4755 {name}; chown {USER}:9 {name}; touch -d @77 {name}"));
        let after = p.stat(name);
        assert_eq!((after.uid(), after.gid(), after.mtime()), (USER, 9, 77), "{name}");
        assert_eq!(
            (before.rdev(), before.ino(), before.mode() & 0o170_000),
            (after.rdev(), after.ino(), after.mode() & 0o170_000)
        );
    }
    p.same_after_remount_and_by_the_kernel();
    assert_errno!(fs::OpenOptions::new().write(true).open(p.at("socket")), NXIO);
}

#[test]
fn statfs_is_that_of_upper() {
    let Some(p) = Place::mounted("statfs", |_, _| ()) else { return };
    let (mounted, upper) = (rustix::fs::statvfs(&p.top).unwrap(), rustix::fs::statvfs(&p.upper).unwrap());
    assert_eq!(mounted.f_namemax, 255);
    assert_eq!((mounted.f_blocks * mounted.f_frsize), (upper.f_blocks * upper.f_frsize));
    assert_eq!(mounted.f_files, upper.f_files);
}

#[test]
fn files_beneath_a_file_and_files_as_directories() {
    let Some(p) = Place::mounted("notdir", |_, low| drop(put(low, "f", ""))) else { return };
    assert_errno!(fs::metadata(p.at("f/x")), NOTDIR);
    assert_errno!(fs::metadata(p.at("none/x")), NOENT);
    assert_errno!(fs::create_dir(p.at("f")), EXIST);
    assert_errno!(fs::create_dir(p.at("f/x")), NOTDIR);
    assert_errno!(fs::read_dir(p.at("f")).map(drop), NOTDIR);
    assert_errno!(fs::OpenOptions::new().write(true).open(&p.top), ISDIR);
}
