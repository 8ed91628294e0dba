//! unlink and rmdir: what disappears, what upper holds afterwards, and what may not go.

use std::fs;
use std::path::Path;

use crate::place::Place;
use crate::place::assert_errno;
use crate::place::is_whiteout;
use crate::place::names;
use crate::place::opaque;
use crate::place::put;
use crate::place::put_dir;
use crate::place::sh;
use crate::place::whiteout;
use crate::place::xattr;

#[test]
fn deleting_a_lower_file_copies_nothing() {
    let fill = |_: &Path, low: &Path| {
        let file = fs::File::create(low.join("big")).unwrap();
        file.set_len(1 << 30).unwrap();
        put(low, "d/small", "x");
    };
    let Some(p) = Place::mounted("delete", fill) else { return };
    sh(&p.top, "rm big d/small");
    assert_eq!(p.upper_names(), ["big", "d", "d/small"]);
    assert!(is_whiteout(&p.in_upper("big")) && is_whiteout(&p.in_upper("d/small")));
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn deleting_what_is_only_in_upper_leaves_nothing() {
    let Some(p) = Place::mounted("upper", |_, low| drop(put_dir(low, "d"))) else { return };
    sh(&p.top, "echo x >f; mkdir e; echo x >e/f; ln -s x l; echo x >d/f; rm -r f e l d/f");
    assert_eq!(p.upper_names(), ["d"]);
}

#[test]
fn deleting_a_copied_file_hides_the_lower_one() {
    let Some(p) = Place::mounted("copied", |_, low| drop(put(low, "f", "x"))) else { return };
    sh(&p.top, "echo y >f; rm f");
    assert!(is_whiteout(&p.in_upper("f")));
    sh(&p.top, "echo z >f");
    assert_eq!(fs::read_to_string(p.at("f")).unwrap(), "z\n");
    p.same_after_remount_and_by_the_kernel();
}

#[test]
fn rmdir_of_directories_in_every_state() {
    let fill = |high: &Path, low: &Path| {
        put_dir(low, "lower");
        put(low, "full/f", "");
        put(low, "hidden/f", "");
        put_dir(high, "hidden");
        whiteout(&high.join("hidden/f"));
        put(low, "opaque/f", "");
        opaque(&put_dir(high, "opaque"));
        put_dir(high, "both");
        put_dir(low, "both");
    };
    let Some(p) = Place::mounted("rmdir", fill) else { return };
    sh(&p.top, "mkdir new; mkdir fullnew; touch fullnew/f");
    assert_errno!(fs::remove_dir(p.at("full")), NOTEMPTY);
    assert_errno!(fs::remove_dir(p.at("fullnew")), NOTEMPTY);
    assert_errno!(fs::remove_dir(p.at("full/f")), NOTDIR);
    assert_errno!(fs::remove_file(p.at("full")), ISDIR);
    assert_errno!(fs::remove_dir(p.at("none")), NOENT);
    for name in ["lower", "hidden", "opaque", "both", "new"] {
        fs::remove_dir(p.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(names(&p.top), ["full", "fullnew"]);
    sh(&p.top, "rm full/f; rmdir full");
    p.same_after_remount_and_by_the_kernel();
    assert_eq!(names(&p.top), ["fullnew"]);
    assert_eq!(names(&p.beside("w/work")), [""; 0], "nothing left in work");
}

#[test]
fn whiteouts_and_opaque_marks_of_layers() {
    let fill = |high: &Path, low: &Path| {
        put(low, "f", "low");
        put(low, "g", "low");
        put(low, "d/x", "low");
        put(low, "d/y", "low");
        put(low, "o/x", "low");
        put(low, "file-over-dir/x", "low");
        put(low, "dir-over-file", "low");
        whiteout(&high.join("f"));
        put_dir(high, "d");
        whiteout(&high.join("d/x"));
        opaque(&put_dir(high, "o"));
        put(high, "o/new", "high");
        put(high, "file-over-dir", "high");
        put(high, "dir-over-file/in", "high");
    };
    let Some(p) = Place::mounted("marks", fill) else { return };
    assert_eq!(names(&p.top), ["d", "dir-over-file", "file-over-dir", "g", "o"]);
    assert_eq!((names(&p.at("d")), names(&p.at("o"))), (vec!["y".to_owned()], vec!["new".to_owned()]));
    assert_errno!(fs::metadata(p.at("f")), NOENT);
    assert_errno!(fs::metadata(p.at("o/x")), NOENT);
    assert_eq!(fs::read_to_string(p.at("file-over-dir")).unwrap(), "high");
    assert_eq!(names(&p.at("dir-over-file")), ["in"]);
    // The opaque mark of a layer is not copied: the copy hides by being merged with an opaque directory.
    sh(&p.top, "echo x >o/more; rm file-over-dir; mkdir file-over-dir; rm -r dir-over-file; echo y >dir-over-file");
    p.same_after_remount_and_by_the_kernel();
    assert_eq!(names(&p.at("o")), ["more", "new"]);
    assert_eq!(names(&p.at("file-over-dir")), [""; 0]);
}

#[test]
fn removing_a_whole_tree_while_it_is_read() {
    let fill = |high: &Path, low: &Path| {
        for i in 0..300 {
            put(low, &format!("t/{}/f{i}", i % 7), "x");
            put(high, &format!("t/{}/h{i}", i % 5), "x");
        }
    };
    let Some(p) = Place::mounted("tree", fill) else { return };
    sh(&p.top, "mkdir t/new; for i in $(seq 100); do echo x >t/new/$i; done; rm -rf t");
    assert_eq!(names(&p.top), [""; 0]);
    assert_eq!(p.upper_names(), ["t"]);
    assert!(is_whiteout(&p.in_upper("t")));
    sh(&p.top, "mkdir t");
    assert_eq!(names(&p.at("t")), [""; 0]);
    assert!(xattr(&p.in_upper("t"), "trusted.overlay.opaque").is_ok());
    p.same_after_remount_and_by_the_kernel();
}
