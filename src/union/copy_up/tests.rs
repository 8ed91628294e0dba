use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::layer::handle::FdCache;
use crate::sys::gate;
use crate::union::Options;
use crate::union::attr::SetAttr;
use crate::union::manners::Manners;
use crate::union::stack::Stack;
use crate::union::testing::Area;
use crate::union::testing::calls;
use crate::union::testing::find;
use crate::union::testing::text;

fn union(area: &Area, metacopy: bool) -> Union {
    let mut union = area.union_over(area.upper(false).unwrap(), Manners::default());
    union.stop_counting_handles(64);
    union.options = Options { metacopy, ..Options::default() };
    union
}

/// Once the directory is there, a small file costs what its parts cost, one sync, and nothing to open it again.
#[test]
fn the_calls_of_a_small_copy_up() {
    let area = Area::new();
    ["low/d/first", "low/d/small"].iter().for_each(|name| area.put(name, "text"));
    let union = union(&area, false);
    union.write(&find(&union, "d/first").unwrap(), b"x", 0).unwrap();
    let node = find(&union, "d/small").unwrap();
    let write = calls(|| assert_eq!(union.write(&node, b"x", 4).unwrap(), 1));
    let marks = union.upper().unwrap().abilities.marks.is_some();
    let record = if marks { &["setxattr"][..] } else { &[] };
    let copy = [&["openat", "pwrite", "fchmod"][..], record, &["utimensat", "fsync", "linkat", "utimensat"]].concat();
    assert_eq!(write, [&copy[..], &["pwrite"]].concat());
    assert_eq!(text(&union, "d/small"), "textx");
}

/// What holds no data of its own is not synced, as in the kernel's overlayfs: names reach the disk behind attributes anyway.
#[test]
fn only_data_is_synced() {
    let area = Area::new();
    area.put("low/d/large", &"text".repeat(10_000));
    ["cut", "small", "little"].iter().for_each(|name| area.put(&format!("low/d/{name}"), "text"));
    let mut union = union(&area, true);
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let syncs = |union: &Union, path: &str, change: &SetAttr| {
        let node = find(union, path).unwrap();
        calls(|| {
            union.setattr(&node, change).unwrap();
        })
        .iter()
        .filter(|name| **name == "fsync")
        .count()
    };
    if union.upper().unwrap().abilities.marks.is_some() {
        assert_eq!(syncs(&union, "d/large", &mode), 0, "only its attributes were copied");
        assert_eq!(syncs(&union, "d/little", &mode), 0, "and so of a small one: its sync would cost most");
    }
    assert_eq!(syncs(&union, "d/cut", &SetAttr { size: Some(0), ..SetAttr::default() }), 0, "nothing was copied");
    union.options.metacopy = false;
    assert_eq!(syncs(&union, "d/small", &mode), 1, "its data was copied");
    let texts = ["d/cut", "d/small", "d/little"].map(|name| text(&union, name));
    assert_eq!(texts, ["", "text", "text"].map(str::to_owned));
}

/// Runs `first` and, before its first call of this name, `meanwhile`: what another thread may do at that moment.
fn interrupted<T>(call: &'static str, meanwhile: impl FnOnce() + 'static, first: impl FnOnce() -> T) -> T {
    interrupted_at(call, 1, meanwhile, first)
}

/// The same before the `nth` call of this name.
fn interrupted_at<T>(call: &'static str, nth: u32, meanwhile: impl FnOnce() + 'static, first: impl FnOnce() -> T) -> T {
    let mut meanwhile = Some(meanwhile);
    let mut calls = 0;
    let came = Rc::new(RefCell::new(false));
    let seen = came.clone();
    let hook = move |made: &gate::Call<'_>| {
        calls += u32::from(made.name == call);
        if calls == nth
            && let Some(meanwhile) = meanwhile.take()
        {
            *seen.borrow_mut() = true;
            meanwhile();
        }
        None
    };
    let answer = gate::with_hook(hook, first);
    assert!(*came.borrow(), "no {call} was made");
    answer
}

/// Two names of one lower file in directories of their own.
fn with_links(area: &Area) {
    area.put("low/d/a", "text");
    ["low/e/none", "upper/d/none", "upper/e/none"].iter().for_each(|name| area.put(name, ""));
    std::fs::hard_link(area.at("low/d/a"), area.at("low/e/b")).unwrap();
}

#[test]
fn another_name_that_is_looked_up_during_a_copy_up_leaves_the_node_at_the_name_of_the_copy() {
    let area = Area::new();
    with_links(&area);
    let union = Arc::new(area.union(Manners::default()));
    let node = find(&union, "d/a").unwrap();
    let (other, same) = (union.clone(), node.clone());
    let look = move || assert!(Arc::ptr_eq(&find(&other, "e/b").unwrap(), &same));
    interrupted("linkat", look, || union.write(&node, b"T", 0)).unwrap();
    assert_eq!(union.getattr(&node).unwrap().nlink, 2);
    ["d/a", "e/b"].iter().for_each(|name| assert_eq!(text(&union, name), "Text", "{name}"));
    assert_eq!(std::fs::read_to_string(area.at("upper/e/b")).unwrap(), "Text");
}

#[test]
fn a_name_that_a_copy_already_has_while_its_others_are_made_is_the_same_node() {
    let area = Area::new();
    with_links(&area);
    let low = dir::DirLayer::open(&area.at("low"), FdCache::new(64)).unwrap().with_link_index();
    let stack = Stack::new(Some(area.upper(true).unwrap()), vec![Arc::new(low)]).unwrap();
    let union = Arc::new(Union::new(stack, Options::default()).unwrap());
    let node = find(&union, "d/a").unwrap();
    let (other, same) = (union.clone(), node.clone());
    let look = move || assert!(Arc::ptr_eq(&find(&other, "e/b").unwrap(), &same));
    // The first gives the other name.
    interrupted_at("linkat", 2, look, || union.write(&node, b"T", 0)).unwrap();
    ["d/a", "e/b"].iter().for_each(|name| assert_eq!(text(&union, name), "Text", "{name}"));
}

#[test]
fn a_link_is_to_the_file_that_was_asked_for_also_when_another_takes_its_name() {
    let area = Area::new();
    area.put("low/none", "");
    let union = area.union(Manners::default());
    ["upper/d/wanted", "upper/d/other"].iter().for_each(|name| area.put(name, name));
    std::fs::hard_link(area.at("upper/d/wanted"), area.at("upper/d/kept")).unwrap();
    std::os::unix::fs::symlink("nowhere", area.at("upper/d/symlink")).unwrap();
    let (root, node) = (find(&union, "").unwrap(), find(&union, "d/wanted").unwrap());
    let (from, to) = (area.at("upper/d/other"), area.at("upper/d/wanted"));
    let name = Name::new(b"link").unwrap();
    interrupted("linkat", move || std::fs::rename(from, to).unwrap(), || union.link(&node, &root, name)).unwrap();
    assert_eq!(text(&union, "link"), "upper/d/wanted");
    // A symlink itself gets the name, not what it points to.
    let symlink = find(&union, "d/symlink").unwrap();
    union.link(&symlink, &root, Name::new(b"second").unwrap()).unwrap();
    assert_eq!(union.readlink(&find(&union, "second").unwrap()).unwrap(), b"nowhere");
}

/// The kernel is told of no node then, so it will not forget it.
#[test]
fn a_lookup_that_fails_behind_a_copy_up_keeps_no_reference() {
    let area = Area::new();
    with_links(&area);
    let union = area.union(Manners::default());
    let node = find(&union, "d/a").unwrap();
    union.write(&node, b"T", 0).unwrap();
    std::fs::remove_file(area.at("upper/d/a")).unwrap();
    let (other, before) = (find(&union, "e").unwrap(), node.lookups());
    assert_eq!(union.lookup(&other, Name::new(b"b").unwrap()).unwrap_err().errno(), Errno::STALE);
    assert_eq!(node.lookups(), before);
}

/// A directory's change time is that of before a copy-up came into it, and moves with what somebody does to it, also where the clock does
/// not: the kernel keeps what it knows of a directory, and a program that looks twice must not see it move.
#[test]
fn a_copy_up_leaves_the_change_time_of_its_directory() {
    let area = Area::new();
    ["low/d/a", "low/d/b", "low/d/c", "low/none"].iter().for_each(|name| area.put(name, "text"));
    area.put("upper/d/mine", "text");
    let union = area.union(Manners::default());
    let (root, dir) = (find(&union, "").unwrap(), find(&union, "d").unwrap());
    let ctime = || union.getattr(&dir).unwrap().ctime;
    let before = ctime();
    std::thread::sleep(std::time::Duration::from_millis(20));
    union.write(&find(&union, "d/a").unwrap(), b"T", 0).unwrap();
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    union.setattr(&find(&union, "d/b").unwrap(), &mode).unwrap();
    assert_eq!(ctime(), before);
    assert_eq!(union.lookup(&root, Name::new(b"d").unwrap()).unwrap().unwrap().attr.ctime, before, "looked up");
    union.unlink(&dir, Name::new(b"mine").unwrap()).unwrap();
    let removed = ctime();
    assert!(removed > before);
    union.setattr(&find(&union, "d/c").unwrap(), &mode).unwrap();
    assert_eq!(ctime(), removed);
    union.setattr(&dir, &mode).unwrap();
    assert!(ctime() > before, "its own change shows");
}

fn renamed(union: &Union, from: &str, to: &str) {
    let split = |path: &str| {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (find(union, dir).unwrap(), NameBuf::new(name.as_bytes()).unwrap())
    };
    let ((old, old_name), (new, new_name)) = (split(from), split(to));
    let flags = crate::union::RenameFlags { no_replace: false, exchange: false };
    union.rename(&old, old_name.as_name(), &new, new_name.as_name(), flags).unwrap();
}

/// A union that writes redirects and copies of attributes, over a layer that knows its links; `None`, with a word, without marks.
fn with_redirects(area: &Area) -> Option<Union> {
    let low = dir::DirLayer::open(&area.at("low"), FdCache::new(64)).unwrap().with_link_index();
    let stack = Stack::new(Some(area.upper(false).unwrap()), vec![Arc::new(low)]).unwrap();
    let mut union = Union::new(stack, Options::default()).unwrap();
    union.options = Options { metacopy: true, redirect_dir: true, blocks: true };
    if union.upper().unwrap().abilities.marks.is_none() {
        eprintln!("SKIP redirects: no marks on this filesystem");
        return None;
    }
    Some(union)
}

/// It has attributes alone, in a directory that held no copy before.
#[test]
fn another_name_that_joins_a_copy_of_attributes_is_looked_at_as_one() {
    let area = Area::new();
    area.put("low/d/f", "text");
    area.put("low/e/none", "");
    std::fs::hard_link(area.at("low/d/f"), area.at("low/e/f")).unwrap();
    let Some(union) = with_redirects(&area) else { return };
    renamed(&union, "d", "d2");
    let (one, other) = (find(&union, "e/f").unwrap(), find(&union, "d2/f").unwrap());
    assert_eq!(one.ino, other.ino);
    union.setattr(&one, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    drop((one, other, union));
    let union = with_redirects(&area).unwrap();
    ["e/f", "d2/f"].iter().for_each(|name| assert_eq!(text(&union, name), "text", "{name}"));
    union.settle().unwrap();
    for name in ["upper/e/f", "upper/d2/f"] {
        assert_eq!(std::fs::read_to_string(area.at(name)).unwrap(), "text", "{name}");
    }
}

#[test]
fn directories_that_were_renamed_inside_one_another_are_settled_at_once() {
    let area = Area::new();
    ["low/a/c/e/y", "low/a/x"].iter().for_each(|name| area.put(name, "text"));
    let Some(union) = with_redirects(&area) else { return };
    renamed(&union, "a", "b");
    renamed(&union, "b/c", "b/d");
    renamed(&union, "b/d/e", "b/f");
    union.settle().unwrap();
    let redirect = union.upper().unwrap().mark_name("redirect").unwrap();
    for name in ["upper/b", "upper/b/d", "upper/b/f"] {
        let fd = std::fs::File::open(area.at(name)).unwrap();
        assert_eq!(sys::xattr::get(&fd, &redirect).unwrap(), None, "{name}");
    }
    ["b/x", "b/f/y"].iter().for_each(|name| assert_eq!(text(&union, name), "text", "{name}"));
}
