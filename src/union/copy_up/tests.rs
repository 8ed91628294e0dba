use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::sys::gate;
use crate::union::Options;
use crate::union::attr::SetAttr;
use crate::union::manners::Manners;
use crate::union::testing::Area;
use crate::union::testing::find;
use crate::union::testing::text;

/// The changing calls that `body` makes.
fn calls(body: impl FnOnce()) -> Vec<&'static str> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    gate::with_hook(
        move |call| {
            log.borrow_mut().push(call.name);
            None
        },
        body,
    );
    seen.take()
}

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
    let copy =
        [&["openat", "pwrite", "fchmod"][..], record, &["utimensat", "fsync", "renameat2", "utimensat"]].concat();
    assert_eq!(write, [&copy[..], &["pwrite"]].concat());
    assert_eq!(text(&union, "d/small"), "textx");
}

/// What holds no data of its own is not synced, as in the kernel's overlayfs: names reach the disk behind attributes anyway.
#[test]
fn only_data_is_synced() {
    let area = Area::new();
    area.put("low/d/large", &"text".repeat(10_000));
    area.put("low/d/cut", "text");
    area.put("low/d/small", "text");
    let union = union(&area, true);
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let syncs = |path: &str, change: &SetAttr| {
        let node = find(&union, path).unwrap();
        calls(|| {
            union.setattr(&node, change).unwrap();
        })
        .iter()
        .filter(|name| **name == "fsync")
        .count()
    };
    if union.upper().unwrap().abilities.marks.is_some() {
        assert_eq!(syncs("d/large", &mode), 0, "only its attributes were copied");
    }
    assert_eq!(syncs("d/cut", &SetAttr { size: Some(0), ..SetAttr::default() }), 0, "nothing was copied");
    assert_eq!(syncs("d/small", &mode), 1, "its data was copied");
    assert_eq!((text(&union, "d/cut"), text(&union, "d/small")), (String::new(), "text".to_owned()));
}
