//! The same directories under the kernel's overlayfs, in turn with mica.

use std::path::Path;

use crate::place::On;
use crate::place::Place;
use crate::place::kernel_overlay;
use crate::place::put;
use crate::place::sh;
use crate::support::Snapshot;
use crate::support::skip;
use crate::support::tree::assert_same;

/// Changes of every sort; `$1` keeps the names of several rounds apart.
const CHANGES: &str = "
rm low/gone$1; rm -r low/tree$1; mkdir low/tree$1; echo new >low/tree$1/new
echo more >>low/changed$1; chmod 600 low/mode$1; mv low/moved$1 low/here$1; ln low/linked$1 low/link$1
mkdir -p new$1/a/b; echo x >new$1/a/b/f; ln -s f new$1/a/b/l; mkfifo new$1/q; mknod new$1/c c 1 3
rm -r low/dir$1; echo file >low/dir$1; rm low/file$1; mkdir low/file$1; truncate -s 100000 low/grown$1
setfattr -n user.x -v y low/attr$1; chown 7:8 low/owner$1; touch -d @5 low/time$1
";

fn fill(_: &Path, low: &Path) {
    for i in 1..=4 {
        for name in ["gone", "changed", "mode", "moved", "linked", "file", "grown", "attr", "owner", "time", "left"] {
            put(low, &format!("low/{name}{i}"), format!("{name}{i}"));
        }
        for name in ["tree", "dir"] {
            put(low, &format!("low/{name}{i}/sub/f"), name);
            put(low, &format!("low/{name}{i}/g"), name);
        }
    }
}

fn change(p: &Place, round: u32) {
    sh(&p.top, &format!("set -- {round}\n{CHANGES}"));
}

#[test]
fn mica_and_the_kernel_take_turns_on_one_upper() {
    let Some(p) = Place::prepared("turns") else { return };
    if let Err(reason) = kernel_overlay() {
        skip!("no overlayfs of the kernel here: {reason}");
    }
    fill(&p.in_layer(0, ""), &p.in_layer(1, ""));
    let turns = [On::Mica, On::Kernel, On::Mica, On::Kernel];
    let mut before: Option<Snapshot> = None;
    for (i, on) in turns.into_iter().enumerate() {
        p.mount(on);
        if let Some(before) = &before {
            assert_same(before, &p.tree());
        }
        change(&p, u32::try_from(i).unwrap() + 1);
        before = Some(p.tree());
        p.unmount();
    }
    p.mount(On::Mica);
    assert_same(&before.unwrap(), &p.tree());
}

#[test]
fn the_same_changes_give_the_same_tree_as_on_a_plain_directory() {
    let Some(p) = Place::mounted("plain", fill) else { return };
    sh(&p.beside(""), "cp -a l2 plain");
    for round in 1..=4 {
        change(&p, round);
        sh(&p.beside("plain"), &format!("set -- {round}\n{CHANGES}"));
    }
    let plain = Snapshot::of(p.beside("plain")).unwrap();
    use crate::support::tree::Field;
    let lines = crate::support::tree::diff_ignoring(&plain, &p.tree(), &[Field::Mtime]);
    assert!(lines.is_empty(), "{lines:#?}");
}

#[test]
fn an_upper_of_the_kernel_becomes_a_layer() {
    let Some(mut p) = Place::prepared("relayer") else { return };
    if let Err(reason) = kernel_overlay() {
        skip!("no overlayfs of the kernel here: {reason}");
    }
    fill(&p.in_layer(0, ""), &p.in_layer(1, ""));
    p.mount(On::Kernel);
    change(&p, 1);
    let before = p.tree();
    p.unmount();
    let old = p.beside("old-upper");
    std::fs::rename(&p.upper, &old).unwrap();
    sh(&p.beside(""), "mkdir u; touch -r old-upper u");
    p.set_layers(vec![old, p.in_layer(1, "")]);
    p.mount(On::chosen());
    assert_same(&before, &p.tree());
}

/// Copies that the kernel links and moves into directories which do not say that they hold such.
#[test]
fn names_that_the_kernel_gave_a_copy_are_one_file() {
    let fill = |_: &Path, low: &Path| ["f", "moved", "other"].iter().for_each(|name| drop(put(low, name, "low")));
    let Some(p) = Place::mounted("linked-by-the-kernel", fill) else { return };
    if let Err(reason) = kernel_overlay() {
        skip!("no overlayfs of the kernel here: {reason}");
    }
    sh(&p.top, "for f in f moved other; do echo more >>$f; done");
    p.unmount();
    p.mount(On::Kernel);
    sh(&p.top, "mkdir d; ln f d/g; mv moved d/moved");
    p.unmount();
    p.mount(On::chosen());
    let number = |name: &str| std::os::unix::fs::MetadataExt::ino(&p.stat(name));
    let (linked, moved) = (number("d/g"), number("d/moved"));
    assert_eq!(linked, number("f"));
    // Neither a copy that we move there, nor the loss of the other name, changes a number.
    sh(&p.top, "mv other d; rm f");
    assert_eq!((number("d/g"), number("d/moved")), (linked, moved));
    p.remount();
    assert_eq!((number("d/g"), number("d/moved")), (linked, moved));
}
