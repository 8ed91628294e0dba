//! rename in all its forms.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::RenameFlags;

use crate::place::On;
use crate::place::Place;
use crate::place::assert_errno;
use crate::place::is_whiteout;
use crate::place::names;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;
use crate::place::whiteout;

fn with_flags(p: &Place, from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, p.at(from), CWD, p.at(to), flags)
}

fn read(p: &Place, name: &str) -> String {
    fs::read_to_string(p.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn files_of_every_origin_over_targets_of_every_state() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..5 {
            put(low, &format!("s/low{i}"), format!("low{i}"));
            put(low, &format!("s/copied{i}"), format!("copied{i}"));
        }
        put(low, "t/low", "target");
        put(low, "t/copied", "target");
        put(low, "t/gone", "target");
        put(low, "t/layergone", "target");
        put_dir(high, "t");
        whiteout(&high.join("t/layergone"));
    };
    let Some(p) = Place::mounted("files", fill) else { return };
    sh(&p.top, "for i in 0 1 2 3 4; do printf new$i >s/new$i; touch s/copied$i; done; touch t/copied; rm t/gone");
    for (i, target) in ["low", "copied", "gone", "layergone", "fresh"].into_iter().enumerate() {
        for kind in ["low", "copied", "new"] {
            let (from, to) = (format!("s/{kind}{i}"), format!("t/{target}"));
            let ino = p.stat(&from).ino();
            fs::rename(p.at(&from), p.at(&to)).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
            assert_eq!((read(&p, &to), p.stat(&to).ino()), (format!("{kind}{i}"), ino), "{from} to {to}");
            assert!(!p.at(&from).exists(), "{from} is gone");
        }
    }
    assert_eq!(names(&p.at("s")), [""; 0]);
    p.same_after_remount_and_by_the_kernel();
    assert_eq!(names(&p.at("s")), [""; 0]);
    assert!(is_whiteout(&p.in_upper("s/low0")));
}

#[test]
fn no_replace_and_exchange() {
    let fill = |_: &Path, low: &Path| {
        put(low, "a", "a");
        put(low, "b", "b");
        put(low, "gone", "x");
        put(low, "d/in", "in");
    };
    let Some(p) = Place::mounted("flags", fill) else { return };
    sh(&p.top, "rm gone; printf new >n; mkdir e; printf e >e/in");
    assert_errno!(with_flags(&p, "a", "b", RenameFlags::NOREPLACE), EXIST);
    assert_errno!(with_flags(&p, "a", "gone", RenameFlags::EXCHANGE), NOENT);
    with_flags(&p, "a", "gone", RenameFlags::NOREPLACE).unwrap();
    assert_eq!(read(&p, "gone"), "a");
    with_flags(&p, "gone", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((read(&p, "gone"), read(&p, "b")), ("b".to_owned(), "a".to_owned()));
    with_flags(&p, "n", "e", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((read(&p, "e"), read(&p, "n/in")), ("new".to_owned(), "e".to_owned()));
    assert_errno!(with_flags(&p, "b", "w", RenameFlags::WHITEOUT), INVAL);
    p.same_after_remount_and_by_the_kernel();
    assert!(!p.at("a").exists());
}

#[test]
fn types_that_do_not_fit() {
    let fill = |_: &Path, low: &Path| {
        put(low, "f", "");
        put(low, "d/sub/x", "");
        put_dir(low, "empty");
    };
    let Some(p) = Place::mounted("types", fill) else { return };
    sh(&p.top, "mkdir new full; touch full/x");
    assert_errno!(fs::rename(p.at("f"), p.at("d")), ISDIR);
    assert_errno!(fs::rename(p.at("new"), p.at("f")), NOTDIR);
    assert_errno!(fs::rename(p.at("new"), p.at("d")), NOTEMPTY);
    assert_errno!(fs::rename(p.at("new"), p.at("full")), NOTEMPTY);
    assert_errno!(fs::rename(p.at("new"), p.at("new/below")), INVAL);
    assert_errno!(fs::rename(p.at("none"), p.at("x")), NOENT);
    fs::rename(p.at("new"), p.at("empty")).unwrap();
    assert_eq!(names(&p.top), ["d", "empty", "f", "full"]);
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn new_directories_hide_what_is_below_their_new_name() {
    let fill = |_: &Path, low: &Path| {
        put(low, "gone/x", "low");
        put(low, "emptied/y", "low");
    };
    let Some(p) = Place::mounted("hide", fill) else { return };
    sh(&p.top, "rm -r gone; rm emptied/y; mkdir a b; echo a >a/f; echo b >b/f; mv a gone; mv -T b emptied");
    assert_eq!((names(&p.at("gone")), names(&p.at("emptied"))), (vec!["f".to_owned()], vec!["f".to_owned()]));
    p.same_after_remount_and_by_the_kernel();
    assert_eq!((names(&p.at("gone")), names(&p.at("emptied"))), (vec!["f".to_owned()], vec!["f".to_owned()]));
}

#[test]
fn lower_directories_without_redirects() {
    let fill = |high: &Path, low: &Path| {
        put(low, "d/f", "low");
        put(high, "m/f", "high");
        put(low, "m/g", "low");
    };
    let Some(mut p) = Place::prepared("exdev") else { return };
    fill(&p.in_layer(0, ""), &p.in_layer(1, ""));
    p.set_options("redirect_dir=off");
    p.mount(On::chosen());
    for name in ["d", "m"] {
        assert_errno!(fs::rename(p.at(name), p.at("new")), XDEV);
    }
    assert!(p.upper_names().is_empty(), "{:?}", p.upper_names());
    // What mv does then.
    sh(&p.top, "mv m new");
    assert_eq!((read(&p, "new/f"), read(&p, "new/g")), ("high".to_owned(), "low".to_owned()));
    assert!(!p.at("m").exists());
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn lower_directories_with_redirects() {
    let Some(mut p) = Place::prepared("redirect") else { return };
    put(&p.in_layer(1, ""), "d/f", "low");
    put(&p.in_layer(1, ""), "d/sub/deep", "low");
    put(&p.in_layer(0, ""), "d/g", "high");
    put(&p.in_layer(1, ""), "other/x", "x");
    p.set_options("redirect_dir=on");
    p.mount(On::chosen());
    let ino = p.stat("d").ino();
    fs::rename(p.at("d"), p.at("e")).unwrap();
    assert_eq!(p.stat("e").ino(), ino);
    assert_eq!(names(&p.at("e")), ["f", "g", "sub"]);
    fs::rename(p.at("e"), p.at("other/e")).unwrap();
    fs::rename(p.at("other/e/sub"), p.at("sub2")).unwrap();
    sh(&p.top, "echo more >>other/e/f; mkdir d; echo new >d/f");
    assert_eq!((read(&p, "other/e/f"), read(&p, "sub2/deep")), ("lowmore\n".to_owned(), "low".to_owned()));
    assert_eq!(p.upper_names(), ["d", "d/f", "other", "other/e", "other/e/f", "other/e/sub", "sub2"]);
    let before = p.tree();
    p.remount();
    crate::support::tree::assert_same(&before, &p.tree());
    p.unmount();
    p.mount(On::Kernel);
    crate::support::tree::assert_same(&before, &p.tree());
    p.unmount();
    p.mount(On::chosen());
    // Exchange of a merged directory and a new one.
    with_flags(&p, "other/e", "d", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((names(&p.at("d")), read(&p, "other/e/f")), (vec!["f".to_owned(), "g".to_owned()], "new\n".to_owned()));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn onto_another_name_of_the_same_file_nothing_happens() {
    let Some(p) = Place::mounted("same", |_, low| drop(put(low, "f", "x"))) else { return };
    sh(&p.top, "ln f g");
    fs::rename(p.at("f"), p.at("g")).unwrap();
    assert_eq!(names(&p.top), ["f", "g"]);
    fs::rename(p.at("f"), p.at("f")).unwrap();
    assert_eq!(names(&p.top), ["f", "g"]);
}

#[test]
fn an_open_file_and_its_directory_move() {
    use std::os::unix::fs::FileExt;
    let Some(p) = Place::mounted("open", |_, low| drop(put(low, "f", "0123"))) else { return };
    let file = fs::OpenOptions::new().read(true).write(true).open(p.at("f")).unwrap();
    sh(&p.top, "mkdir a; mv f a/f; mv a b; mv b/f c; rmdir b; mv c d");
    file.write_all_at(b"ab", 1).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!((read(&p, "d"), p.mode("d")), ("0ab3".to_owned(), 0o600));
    assert_eq!(file.metadata().unwrap().ino(), p.stat("d").ino());
}
