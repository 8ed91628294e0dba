//! Copy-up under load: it blocks nobody else, and two of the same file are one.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::place::On;
use crate::place::Place;
use crate::place::put;
use crate::place::set_xattr;
use crate::place::sh;
use crate::place::xattr_names;

/// A file that takes a while to copy; the reflinks and holes that make it fast are prevented by random-looking data.
fn big(path: &Path, mib: u32) {
    let file = File::create(path).unwrap();
    let mut block = vec![0u8; 1 << 20];
    for i in 0..mib {
        block.iter_mut().enumerate().for_each(|(at, b)| *b = (at as u32).wrapping_mul(31).wrapping_add(i) as u8);
        file.write_all_at(&block, u64::from(i) << 20).unwrap();
    }
}

#[test]
fn a_long_copy_up_delays_nobody_else() {
    let fill = |_: &Path, low: &Path| {
        put(low, "other", "x");
        big(&low.join("big"), 1024);
    };
    let Some(p) = Place::mounted("long", fill) else { return };
    let done = AtomicBool::new(false);
    let meanwhile = std::thread::scope(|scope| {
        let copy = scope.spawn(|| {
            let opened = fs::OpenOptions::new().write(true).open(p.at("big"));
            // A mount that is not told of openings copies up at the first change.
            let wrote = opened.and_then(|file| file.write_all_at(b"x", 0));
            done.store(true, Ordering::SeqCst);
            wrote
        });
        let mut rounds = 0;
        for i in 0.. {
            put(&p.top, &format!("n{i}"), "new");
            fs::remove_file(p.at(format!("n{i}"))).unwrap();
            assert!(fs::metadata(p.at("other")).is_ok() && fs::metadata(p.at("big")).is_ok());
            assert!(fs::read_dir(&p.top).unwrap().count() >= 2);
            if done.load(Ordering::SeqCst) {
                break;
            }
            rounds += 1;
        }
        copy.join().unwrap().unwrap();
        rounds
    });
    // One or two may come before it begins; where it stops everybody, no more.
    assert!(meanwhile >= 5, "only {meanwhile} rounds of other operations came through before the copy was done");
    eprintln!("{meanwhile} rounds of create, remove, stat and list while 1 GiB was copied up");
}

#[test]
fn many_at_once_make_one_copy() {
    let Some(p) = Place::mounted("once", |_, low| big(&low.join("d"), 30)) else { return };
    std::thread::scope(|scope| {
        for i in 0..8u64 {
            let path = p.at("d");
            scope.spawn(move || {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.write_all_at(&[i as u8 + 1], i * 1000).unwrap();
            });
        }
    });
    let text = fs::read(p.at("d")).unwrap();
    assert!((0..8).all(|i| text[i * 1000] == i as u8 + 1), "no write was lost");
    assert_eq!(p.upper_names(), ["d"]);
}

#[test]
fn everything_of_a_file_comes_along() {
    let fill = |_: &Path, low: &Path| {
        let f = put(low, "d/f", "text");
        set_xattr(&f, "user.a", b"1").unwrap();
        set_xattr(&f, "trusted.b", b"2").unwrap();
        sh(low, "chown 11:12 d d/f; chmod 6755 d/f; chmod 3775 d; touch -d '2001-02-03 04:05:06.789' d/f d");
        set_xattr(&low.join("d"), "user.dir", b"3").unwrap();
    };
    let Some(p) = Place::mounted("all", fill) else { return };
    let before = p.tree();
    // The cheapest change of a file, undone: only the copy-up stays.
    sh(&p.top, "chmod 700 d/f; chmod 6755 d/f");
    crate::support::tree::assert_same(&before, &p.tree());
    assert_eq!(xattr_names(&p.at("d/f")), ["trusted.b", "user.a"]);
    assert_eq!(fs::read(p.in_upper("d/f")).unwrap(), b"text");
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn reading_copies_nothing() {
    let Some(p) = Place::mounted("reading", |_, low| drop(put(low, "d/f", "text"))) else { return };
    sh(
        &p.top,
        "cat d/f; ls -lR; find . -type f | xargs stat >/dev/null; getfattr -d d/f; cp d/f /dev/null; test -w d/f; test -x d",
    );
    drop(File::open(p.at("d/f")).unwrap());
    assert!(p.upper_names().is_empty(), "{:?}", p.upper_names());
}

/// A crash, or another program, may leave anything in the work directory, under any name.
#[test]
fn what_an_older_mount_left_in_work_is_in_no_copy() {
    let Some(p) = Place::prepared("leftovers") else { return };
    put(&p.in_layer(1, ""), "f", "short");
    for name in ["0", "1", "2", "#0", "#1", "f", "work/0", "work/1", "work/#0", "work/#1", "work/f"] {
        put(&p.beside("w"), name, "old".repeat(50_000));
    }
    p.mount(On::chosen());
    sh(&p.top, "printf er >>f; printf new >n");
    assert_eq!(
        (fs::read_to_string(p.at("f")).unwrap(), fs::read_to_string(p.at("n")).unwrap()),
        ("shorter".into(), "new".into())
    );
    if On::chosen() == On::Mica {
        assert_eq!(crate::place::names(&p.beside("w/work")), [""; 0], "emptied at mount");
    }
    p.same_after_remount_and_by_the_kernel();
}
