use std::fs;

use super::*;
use crate::sys;
use crate::sys::Errno;
use crate::union::manners::Manners;
use crate::union::no_caps;
use crate::union::testing::Area;
use crate::union::testing::find;
use crate::union::testing::text;

fn names(union: &Union, path: &str) -> Vec<String> {
    let listing = union.list(&find(union, path).unwrap(), 0).unwrap();
    let mut names: Vec<_> = listing.entries.iter().map(|e| e.name.to_string()).collect();
    names.sort();
    names
}

/// What is changed in the layer behind the union's back.
fn change(area: &Area) {
    fs::write(area.at("low/d/changed"), "after, and longer").unwrap();
    fs::remove_file(area.at("low/d/gone")).unwrap();
    area.put("low/d/new", "new");
    area.put("low/d/.wh.hidden", "");
    fs::rename(area.at("low/d/dir"), area.at("low/d/moved")).unwrap();
    area.put("low/d/dir/other", "");
    // Replaced, not written: another object under the same name.
    area.put("low/fresh", "replaced");
    fs::rename(area.at("low/fresh"), area.at("low/d/replaced")).unwrap();
}

fn layer() -> Area {
    let area = Area::new();
    for name in ["changed", "gone", "replaced", "dir/inner"] {
        area.put(&format!("low/d/{name}"), "before");
    }
    area
}

fn refresh(union: &Union, dir: &Arc<Node>) -> Vec<Notice> {
    let mut notices = Vec::new();
    union.refresh(dir, &mut notices).unwrap();
    notices
}

fn is_after(union: &Union) {
    assert_eq!(names(union, "d"), ["changed", "dir", "moved", "new", "replaced"]);
    assert_eq!(names(union, "d/dir"), ["other"]);
    assert_eq!(names(union, "d/moved"), ["inner"]);
    assert_eq!(text(union, "d/changed"), "after, and longer");
    assert_eq!(text(union, "d/replaced"), "replaced");
    assert!(find(union, "d/gone").is_none() && find(union, "d/dir/inner").is_none());
}

#[test]
fn an_unsteady_union_sees_every_change_at_once() {
    let area = layer();
    let union = area.union(Manners { unsteady: true, ..Manners::default() });
    let dir = find(&union, "d").unwrap();
    union.open_dir(&dir);
    assert_eq!(names(&union, "d"), ["changed", "dir", "gone", "replaced"]);
    assert_eq!(text(&union, "d/replaced"), "before");
    let held = find(&union, "d/replaced").unwrap();
    union.open(&held, false, false).unwrap();
    change(&area);
    is_after(&union);
    // The open file is the old one, as it would be in a plain directory.
    assert_eq!(union.getattr(&held).unwrap().size, 6);
}

#[test]
fn a_refresh_brings_nodes_up_to_date_and_names_what_the_kernel_must_forget() {
    let area = layer();
    let union = area.union(Manners::default());
    let dir = find(&union, "d").unwrap();
    let all: Vec<_> = ["changed", "gone", "replaced", "dir", "dir/inner"]
        .map(|name| (name, find(&union, &format!("d/{name}")).unwrap()))
        .into();
    all.iter().for_each(|(_, node)| node.tell());
    dir.tell();
    change(&area);
    let notices = refresh(&union, &dir);
    is_after(&union);
    let entry = |name: &str| Notice::Entry(dir.ino, NameBuf::new(name.as_bytes()).unwrap());
    for name in ["gone", "replaced", "dir", "new", "moved"] {
        assert!(notices.contains(&entry(name)), "{name} in {notices:?}");
    }
    // What means the same object keeps its place: something may be mounted on it.
    assert!(!notices.contains(&entry("changed")) && notices.contains(&Notice::Inode(all[0].1.ino)));
    assert!(!notices.contains(&Notice::Entry(node::ROOT, NameBuf::new(b"d").unwrap())));
    // Somebody may have been told of a name already, and the kernel still have another one's answer that it is not there.
    assert!(notices.contains(&Notice::Arrived(dir.ino)));
}

/// Who looks ahead, or makes a listing, looks up for himself; the kernel may still have it that there is no such name.
#[test]
fn what_only_the_union_knows_is_told_as_new() {
    let area = layer();
    let union = area.union(Manners::default());
    let dir = find(&union, "d").unwrap();
    let told = find(&union, "d/replaced").unwrap();
    told.tell();
    area.put("low/d/early", "");
    let _aside = find(&union, "d/early").unwrap();
    let notices = refresh(&union, &dir);
    let entry = |name: &str| Notice::Entry(dir.ino, NameBuf::new(name.as_bytes()).unwrap());
    assert!(notices.contains(&entry("early")) && !notices.contains(&entry("replaced")), "{notices:?}");
}

#[test]
fn what_a_layer_fails_to_show_keeps_nothing_else_from_being_told() {
    let area = layer();
    area.put("upper/d/own", "");
    let mut union = area.union(Manners::default());
    union.options = crate::union::Options { metacopy: true, redirect_dir: true, blocks: true };
    let [dir, changed, gone] = ["d", "d/changed", "d/gone"].map(|path| find(&union, path).unwrap());
    change(&area);
    // A mark that nobody has defined.
    area.put("upper/d/changed", "");
    for (path, mark, value) in [("d", "impure", b"y"), ("d/changed", "metacopy", b"?")] {
        let Some(name) = union.upper().unwrap().mark_name(mark) else {
            return crate::report::report_skip("this filesystem takes no marks");
        };
        let marked = fs::File::open(area.at("upper").join(path)).unwrap();
        sys::xattr::set(&marked, &name, value, sys::xattr::SetMode::Any).unwrap();
    }
    let mut notices = Vec::new();
    let looked = union.refresh(&dir, &mut notices);
    assert_eq!(looked.unwrap_err().errno(), Errno::IO);
    // Whoever asks for it is told why, what may be mounted there stays, and the rest is as it should be.
    for (node, name, is_gone) in [(changed, "changed", false), (gone, "gone", true)] {
        let entry = Notice::Entry(dir.ino, NameBuf::new(name.as_bytes()).unwrap());
        assert_eq!(notices.contains(&entry), is_gone, "{name} in {notices:?}");
        assert!(notices.contains(&Notice::Inode(node.ino)), "{name} in {notices:?}");
    }
}

/// A listing that began before the layer changed ends before it is told to look again: nobody keeps it.
#[test]
fn a_refresh_waits_for_who_lists_the_directory() {
    let area = layer();
    let union = area.union(Manners::default());
    let dir = find(&union, "d").unwrap();
    union.open_dir(&dir);
    let done = std::sync::atomic::AtomicBool::new(false);
    let inside = dir.names().unwrap().read();
    std::thread::scope(|scope| {
        let refreshed = scope.spawn(|| {
            let notices = refresh(&union, &dir);
            done.store(true, Ordering::Relaxed);
            notices
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!done.load(Ordering::Relaxed));
        change(&area);
        *dir.listing().unwrap().lock() = Some(Arc::default());
        drop(inside);
        let new = Notice::Entry(dir.ino, NameBuf::new(b"new").unwrap());
        assert!(refreshed.join().unwrap().contains(&new));
    });
    is_after(&union);
}

#[test]
fn a_refresh_leaves_the_rest_of_the_tree_alone() {
    let area = layer();
    area.put("low/e/f", "");
    let union = area.union(Manners::default());
    let (d, f) = (find(&union, "d").unwrap(), find(&union, "e/f").unwrap());
    assert!(!refresh(&union, &d).contains(&Notice::Inode(f.ino)));
}

#[test]
fn that_a_file_has_no_capabilities_is_known_from_memory() {
    let area = layer();
    let union = area.union(Manners::default());
    let node = find(&union, "d/changed").unwrap();
    assert_eq!(union.getxattr(&node, no_caps::NAME).unwrap(), None);
    // Without its file, every look at the layer fails.
    fs::rename(area.at("low/d/changed"), area.at("low/d/aside")).unwrap();
    assert_eq!(union.getxattr(&node, no_caps::NAME).unwrap(), None);
    assert_eq!(union.getxattr(&node, b"user.x").unwrap_err().errno(), Errno::STALE);
    drop(refresh(&union, &find(&union, "d").unwrap()));
    assert!(union.getxattr(&node, no_caps::NAME).is_err());
}
