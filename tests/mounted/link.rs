//! Hard links.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::mknod;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;

fn hard_linked(_: &Path, low: &Path) {
    put(low, "a", "text");
    put_dir(low, "d");
    fs::hard_link(low.join("a"), low.join("b")).unwrap();
    fs::hard_link(low.join("a"), low.join("d/c")).unwrap();
}

#[test]
fn names_of_one_lower_file_are_one_file() {
    let Some(p) = Place::mounted("hard", hard_linked) else { return };
    for name in ["a", "b", "d/c"] {
        assert_eq!((p.stat(name).nlink(), p.stat(name).ino()), (3, p.stat("a").ino()), "{name}");
    }
    assert_eq!(sh(&p.top, "find . -type f -links 3 | wc -l").trim(), "3");
    if On::chosen() == On::Mica {
        // While it is mounted the names stay together, also over a copy-up.
        sh(&p.top, "echo new >a");
        for name in ["b", "d/c"] {
            assert_eq!(fs::read_to_string(p.at(name)).unwrap(), "new\n", "{name}");
            assert_eq!((p.stat(name).nlink(), p.stat(name).ino()), (3, p.stat("a").ino()), "{name}");
        }
    }
}

/// With `index=on` also the names nobody looked at stay with the file, over a remount, and in what the kernel's overlayfs shows of
/// the upper directory.
#[test]
fn with_an_index_links_stay_over_a_remount() {
    let Some(mut p) = Place::prepared("index") else { return };
    if On::chosen() != On::Mica {
        crate::support::skip!("the kernel's index lies in its work directory and is no part of the upper one");
    }
    hard_linked(&p.in_layer(0, ""), &p.in_layer(1, ""));
    p.set_options("index=on");
    p.mount(On::Mica);
    sh(&p.top, "echo new >>a");
    p.remount();
    for name in ["d/c", "b", "a"] {
        assert_eq!(fs::read_to_string(p.at(name)).unwrap(), "textnew\n", "{name}");
        assert_eq!((p.stat(name).nlink(), p.stat(name).ino()), (3, p.stat("a").ino()), "{name}");
    }
    assert_eq!(fs::symlink_metadata(p.in_upper("d/c")).unwrap().nlink(), 3, "plain links in upper");
    sh(&p.top, "rm a");
    p.remount();
    assert_eq!((p.stat("b").nlink(), p.stat("d/c").nlink()), (2, 2));
}

#[test]
fn counts_follow_link_and_unlink() {
    let Some(p) = Place::mounted("count", hard_linked) else { return };
    if On::chosen() != On::Mica {
        crate::support::skip!("the kernel's overlayfs counts the names of the layer, also of those that were removed");
    }
    // While somebody has the file open. Without that, the count of a lower file goes back to the layer's when the kernel forgets
    // the file: no index of hard links is kept.
    let _known = fs::File::open(p.at("a")).unwrap();
    sh(&p.top, "rm b");
    assert_eq!((p.stat("a").nlink(), p.stat("d/c").nlink()), (2, 2));
    sh(&p.top, "ln a e");
    assert_eq!((p.stat("a").nlink(), p.stat("e").nlink(), p.stat("d/c").nlink()), (3, 3, 3));
    assert_eq!(p.stat("a").ino(), p.stat("e").ino());
    sh(&p.top, "rm d/c a");
    assert_eq!(p.stat("e").nlink(), 1);
    sh(&p.top, "echo x >n; ln n m; ln m o; rm n");
    assert_eq!((p.stat("m").nlink(), p.stat("o").nlink()), (2, 2));
}

#[test]
fn links_of_lower_files_of_every_kind() {
    let fill = |_: &Path, low: &Path| {
        put(low, "f", "text");
        put(low, "gone", "");
        std::os::unix::fs::symlink("f", low.join("l")).unwrap();
        mknod(&low.join("q"), rustix::fs::FileType::Fifo, 0o600, 0).unwrap();
        mknod(&low.join("c"), rustix::fs::FileType::CharacterDevice, 0o600, rustix::fs::makedev(1, 3)).unwrap();
        put_dir(low, "d");
    };
    let Some(p) = Place::mounted("links", fill) else { return };
    for name in ["f", "l", "q", "c"] {
        fs::hard_link(p.at(name), p.at(format!("d/{name}"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (a, b) = (p.stat(name), p.stat(format!("d/{name}")));
        assert_eq!((a.ino(), a.nlink(), a.mode()), (b.ino(), 2, b.mode()), "{name}");
    }
    sh(&p.top, "rm gone");
    fs::hard_link(p.at("f"), p.at("gone")).unwrap();
    assert_eq!((p.stat("gone").nlink(), fs::read_to_string(p.at("gone")).unwrap()), (3, "text".to_owned()));
    assert_errno!(fs::hard_link(p.at("f"), p.at("l")), EXIST);
    assert_errno!(fs::hard_link(p.at("d"), p.at("d2")), PERM);
    assert_errno!(fs::hard_link(p.at("none"), p.at("x")), NOENT);
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn a_link_is_written_through_both_names() {
    let Some(p) = Place::mounted("both", |_, low| drop(put(low, "f", "one"))) else { return };
    sh(
        &p.top,
        "ln f g; echo two >g; test \"$(cat f)\" = two; echo three >f; test \"$(cat g)\" = three; mv f h; echo x >>h",
    );
    assert_eq!(fs::read_to_string(p.at("g")).unwrap(), "three\nx\n");
    p.same_after_remount_and_by_the_kernel();
}
