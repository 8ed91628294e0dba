//! Files that are open and have no name any more.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;

use crate::place::On;
use crate::place::Place;
use crate::place::names;
use crate::place::put;
use crate::place::sh;

fn of_proc(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Everything that can be done through a descriptor, on a file that lost its only name.
fn use_it(file: &File, ino: u64) {
    let stat = file.metadata().unwrap();
    assert_eq!((stat.ino(), stat.nlink()), (ino, 0));
    file.write_all_at(b"hello", 2).unwrap();
    file.set_len(5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5);
    rustix::fs::fchmod(file, Mode::from_raw_mode(0o640)).unwrap();
    rustix::fs::fchown(file, Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).unwrap();
    rustix::fs::fsetxattr(file, "user.x", b"1", XattrFlags::empty()).unwrap();
    let stat = file.metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::fgetxattr(file, "user.x", &mut value[..]).unwrap(), 1);
    rustix::fs::fremovexattr(file, "user.x").unwrap();
    file.sync_all().unwrap();
    let mut again = OpenOptions::new().read(true).write(true).open(of_proc(file)).unwrap();
    let mut bytes = Vec::new();
    again.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 5);
    assert_eq!(&bytes[2..], b"hel");
    again.write_all_at(b"!", 0).unwrap();
    let mut first = [0];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, *b"!");
}

#[test]
fn a_new_file_a_lower_one_and_a_copied_one() {
    let fill = |_: &std::path::Path, low: &std::path::Path| {
        put(low, "lower", "0123456789");
        put(low, "copied", "0123456789");
    };
    let Some(p) = Place::mounted("open", fill) else { return };
    put(&p.top, "new", "0123456789");
    sh(&p.top, "chmod 600 copied");
    for name in ["new", "lower", "copied"] {
        let file = OpenOptions::new().read(true).write(true).open(p.at(name)).unwrap();
        let ino = p.stat(name).ino();
        fs::remove_file(p.at(name)).unwrap();
        use_it(&file, ino);
    }
    assert_eq!(names(&p.top), [""; 0]);
}

#[test]
fn opened_for_reading_removed_then_written_through_proc() {
    if On::chosen() == On::Kernel {
        crate::support::skip!("the kernel's overlayfs gives a reopened lower file another inode");
    }
    let Some(p) = Place::mounted("late", |_, low| drop(put(low, "f", "0123456789"))) else { return };
    let file = File::open(p.at("f")).unwrap();
    fs::remove_file(p.at("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let writer = OpenOptions::new().write(true).open(of_proc(&file)).unwrap();
    writer.write_all_at(b"ab", 0).unwrap();
    let mut text = [0; 10];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"ab23456789");
    assert!(!p.at("f").exists());
    assert!(fs::read(p.in_layer(1, "f")).unwrap() == b"0123456789", "the layer is untouched");
}

#[test]
fn replaced_by_a_rename() {
    let Some(p) = Place::mounted("replaced", |_, low| drop(put(low, "f", "0123456789"))) else { return };
    let file = OpenOptions::new().read(true).write(true).open(p.at("f")).unwrap();
    let ino = file.metadata().unwrap().ino();
    sh(&p.top, "echo new >n; mv n f");
    use_it(&file, ino);
    assert_eq!(fs::read_to_string(p.at("f")).unwrap(), "new\n");
}

#[test]
fn the_name_taken_again_is_another_file() {
    let Some(p) = Place::mounted("taken", |_, low| drop(put(low, "f", "lower"))) else { return };
    let old = File::open(p.at("f")).unwrap();
    for round in 0..20 {
        let text = format!("round {round}");
        sh(&p.top, &format!("rm f; echo {text} >f"));
        assert_eq!(fs::read_to_string(p.at("f")).unwrap().trim(), text);
        assert_ne!(p.stat("f").ino(), old.metadata().unwrap().ino());
    }
    let mut text = String::new();
    (&old).read_to_string(&mut text).unwrap();
    assert_eq!(text, "lower");
}

#[test]
fn a_removed_directory_that_is_the_working_directory() {
    let Some(p) = Place::mounted("cwd", |_, low| drop(put(low, "d/f", "x"))) else { return };
    sh(
        &p.top,
        "mkdir n; cd n; rmdir ../n; ls -a; ! touch x 2>/dev/null; ! ls .. >/dev/null 2>&1 || true; stat . >/dev/null",
    );
    sh(
        &p.top,
        "cd d; rm f; rmdir ../d; test -z \"$(ls)\"; ! touch x 2>/dev/null; ! mkdir y 2>/dev/null; stat . >/dev/null",
    );
    assert_eq!(names(&p.top), [""; 0]);
}
