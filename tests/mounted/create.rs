//! Making files, directories, nodes and symlinks: owner, group, mode, and what whiteouts below do.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::FileType;

use crate::place::Place;
use crate::place::USER;
use crate::place::assert_errno;
use crate::place::chmod;
use crate::place::is_whiteout;
use crate::place::mknod;
use crate::place::names;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;
use crate::place::sh_as;
use crate::place::whiteout;

#[test]
fn a_name_is_seen_at_once_after_a_miss_was_cached() {
    let Some(p) = Place::mounted("miss", |_, _| ()) else { return };
    for make in ["echo x >n", "mkdir n", "ln -s x n", "mkfifo n", "echo y >o; mv o n", "echo y >o; ln o n; rm o"] {
        assert!(!p.at("n").exists());
        sh(&p.top, make);
        assert!(p.at("n").is_symlink() || p.at("n").exists(), "after {make}");
        sh(&p.top, "rm -rf n");
        assert!(!p.at("n").exists(), "removed again after {make}");
    }
}

#[test]
fn owner_and_mode_are_the_callers() {
    let Some(p) = Place::mounted("owner", |_, low| chmod(&put_dir(low, "d"), 0o777)) else { return };
    let out =
        sh_as(&p.top, 77, "cd d; umask 027; echo x >f; mkdir s; mkfifo q; ln -s x l; umask 0; echo x >g; mkdir t");
    assert!(out.status.success(), "{out:?}");
    for (name, mode) in [("f", 0o640), ("s", 0o750), ("q", 0o640), ("g", 0o666), ("t", 0o777)] {
        let stat = p.stat(format!("d/{name}"));
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (USER, 77, mode), "{name}");
    }
    assert_eq!((p.stat("d/l").uid(), p.stat("d/l").gid()), (USER, 77));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn over_a_whiteout_owner_and_mode_are_the_callers_too() {
    let fill = |_: &std::path::Path, low: &std::path::Path| {
        chmod(&put_dir(low, "d"), 0o777);
        for name in ["f", "s/old", "q", "l"] {
            put(low, &format!("d/{name}"), "old");
        }
    };
    let Some(p) = Place::mounted("over", fill) else { return };
    sh(&p.top, "rm -r d/*");
    let out = sh_as(&p.top, 77, "cd d; umask 027; echo x >f; mkdir s; mkfifo q; ln -s x l");
    assert!(out.status.success(), "{out:?}");
    for (name, mode) in [("f", 0o640), ("s", 0o750), ("q", 0o640), ("l", 0o777)] {
        let stat = p.stat(format!("d/{name}"));
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (USER, 77, mode), "{name}");
    }
    assert_eq!(names(&p.at("d/s")), [""; 0], "the new directory must hide the old one");
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_set_gid_directory_hands_on_group_and_bit() {
    let fill = |_: &std::path::Path, low: &std::path::Path| {
        let dir = put_dir(low, "d");
        std::os::unix::fs::chown(&dir, Some(0), Some(88)).unwrap();
        chmod(&dir, 0o2777);
        put(low, "d/was", "");
    };
    let Some(p) = Place::mounted("setgid", fill) else { return };
    sh(&p.top, "rm d/was");
    let out = sh_as(&p.top, 77, "cd d; umask 022; echo x >f; mkdir s; mkfifo q; ln -s x l; echo y >was");
    assert!(out.status.success(), "{out:?}");
    for (name, mode) in [("f", 0o644), ("s", 0o2755), ("q", 0o644), ("was", 0o644)] {
        let stat = p.stat(format!("d/{name}"));
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (USER, 88, mode), "{name}");
    }
    assert_eq!(p.stat("d/l").gid(), 88);
}

#[test]
fn nodes_of_all_kinds() {
    let Some(p) = Place::mounted("nodes", |_, low| drop(put(low, "gone", ""))) else { return };
    sh(&p.top, "rm gone");
    let device = rustix::fs::makedev(259, 70_000);
    let kinds = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("file", FileType::RegularFile, 0),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, device),
        ("gone", FileType::CharacterDevice, device),
    ];
    for (name, kind, number) in kinds {
        mknod(&p.at(name), kind, 0o600, number).unwrap_or_else(|e| panic!("{name}: {e}"));
        let stat = p.stat(name);
        assert_eq!(FileType::from_raw_mode(stat.mode()), kind, "{name}");
        assert_eq!((stat.mode() & 0o7777, stat.rdev()), (0o600, number), "{name}");
    }
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_device_that_would_be_a_whiteout_is_refused() {
    let Some(p) = Place::mounted("zero", |_, low| drop(put(low, "f", ""))) else { return };
    for name in ["f2", "x"] {
        assert_errno!(mknod(&p.at(name), FileType::CharacterDevice, 0o600, 0), PERM);
    }
    assert_errno!(mknod(&p.at("f"), FileType::CharacterDevice, 0o600, 0), EXIST);
    mknod(&p.at("b"), FileType::BlockDevice, 0o600, 0).unwrap();
    assert!(p.stat("b").file_type().is_block_device());
    assert_eq!(names(&p.top), ["b", "f"]);
}

#[test]
fn mkdir_after_rm_does_not_bring_back_what_was_there() {
    let fill = |high: &std::path::Path, low: &std::path::Path| {
        put(high, "d/x", "x");
        put(low, "d/sub/y", "y");
    };
    let Some(p) = Place::mounted("again", fill) else { return };
    sh(&p.top, "rm -rf d; mkdir d");
    assert_eq!(names(&p.at("d")), [""; 0]);
    p.remount();
    assert_eq!(names(&p.at("d")), [""; 0]);
    sh(&p.top, "mkdir d/sub; echo new >d/sub/z");
    p.same_after_remount_and_by_the_kernel();
    assert_eq!(names(&p.at("d/sub")), ["z"]);
}

#[test]
fn a_new_directory_over_a_whiteout_of_a_layer() {
    let fill = |high: &std::path::Path, low: &std::path::Path| {
        put(low, "d/x", "x");
        whiteout(&high.join("d"));
    };
    let Some(p) = Place::mounted("layerwh", fill) else { return };
    assert!(!p.at("d").exists());
    sh(&p.top, "mkdir d; echo y >d/y");
    assert_eq!(names(&p.at("d")), ["y"]);
    sh(&p.top, "rm -r d");
    assert!(!p.at("d").exists());
    p.same_after_remount_and_by_the_kernel();
    assert!(!p.at("d").exists());
    assert!(!is_whiteout(&p.in_upper("d")), "a whiteout over a whiteout says nothing");
}

#[test]
fn exclusive_creation_and_read_only_modes() {
    let Some(p) = Place::mounted("excl", |_, low| drop(put(low, "f", ""))) else { return };
    let open = |name: &str| fs::OpenOptions::new().write(true).create_new(true).open(p.at(name)).map(drop);
    assert_errno!(open("f"), EXIST);
    open("g").unwrap();
    assert_errno!(open("g"), EXIST);
    // Written through the handle that made it, though nobody may write it.
    sh(&p.top, "umask 0777; echo text >sealed; umask 0333; echo more >sealed2");
    assert_eq!(p.mode("sealed"), 0);
    assert_eq!(fs::read_to_string(p.at("sealed")).unwrap(), "text\n");
    assert_eq!(fs::metadata(p.at("sealed2")).unwrap().permissions().mode() & 0o7777, 0o444);
}

#[test]
fn symlinks_keep_their_text() {
    let long = "x/".repeat(2000) + "y";
    let fill = |_: &std::path::Path, low: &std::path::Path| {
        std::os::unix::fs::symlink("/no/where", low.join("low")).unwrap();
        std::os::unix::fs::symlink(&long, low.join("long")).unwrap();
    };
    let Some(p) = Place::mounted("symlink", fill) else { return };
    assert_eq!(fs::read_link(p.at("low")).unwrap().to_str(), Some("/no/where"));
    assert_eq!(fs::read_link(p.at("long")).unwrap().to_str(), Some(long.as_str()));
    std::os::unix::fs::symlink(&long, p.at("new")).unwrap();
    assert_eq!(fs::read_link(p.at("new")).unwrap().to_str(), Some(long.as_str()));
    assert_eq!(p.stat("new").size(), long.len() as u64);
    assert_errno!(std::os::unix::fs::symlink("x", p.at("low")), EXIST);
    // A change of owner copies the link up, not what it points to.
    std::os::unix::fs::lchown(p.at("low"), Some(5), Some(6)).unwrap();
    assert_eq!(fs::read_link(p.at("low")).unwrap().to_str(), Some("/no/where"));
    p.same_after_remount_and_by_the_kernel();
    assert_eq!(p.stat("low").uid(), 5);
}
