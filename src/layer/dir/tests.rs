use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::sys::gate;
use crate::sys::xattr::SetMode;

/// What a directory says of those below it, and how many calls for extended attributes that took.
fn marks_of(path: &Path) -> (Marks, usize) {
    let layer = DirLayer::open(path, FdCache::new(8)).unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let hook = move |call: &gate::Call<'_>| {
        counted.set(counted.get() + usize::from(call.name.contains("xattr")));
        None
    };
    let marks = gate::with_hook_on_all(hook, || dir_marks(layer.handle(), false).unwrap());
    (marks, count.get())
}

#[test]
fn a_directory_without_marks_is_asked_once() {
    let path = std::env::temp_dir().join(format!("mica-dir-marks-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let (none, calls) = marks_of(&path);
    assert_eq!((none.opaque, none.redirect, calls), (false, None, 1));
    let fd = sys::open::dir_path(&path).unwrap();
    if sys::xattr::set(&fd, b"user.overlay.redirect", b"/a/b", SetMode::Any).is_ok() {
        let (marks, calls) = marks_of(&path);
        assert!(marks.redirect.is_some() && calls == 2, "{marks:?}, {calls} calls");
        sys::xattr::set(&fd, b"user.overlay.opaque", b"y", SetMode::Any).unwrap();
        assert!(marks_of(&path).0.opaque);
    } else {
        eprintln!("skipped: {} has no extended attributes of users", path.display());
    }
    std::fs::remove_dir(&path).unwrap();
}
