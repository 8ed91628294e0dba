use std::fs;
use std::path::PathBuf;

use super::*;

/// An upper and a work directory, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(label: &str) -> Self {
        let base = std::env::temp_dir().join(format!("mica-check-{label}-{}", std::process::id()));
        ["u", "w/work"].iter().for_each(|dir| fs::create_dir_all(base.join(dir)).unwrap());
        Self(base)
    }

    fn dir(&self, name: &str) -> OwnedFd {
        fs::create_dir_all(self.0.join(name)).unwrap();
        sys::open::dir_path(&self.0.join(name)).unwrap()
    }

    fn file(&self, name: &str) -> OwnedFd {
        let (dir, base) = name.rsplit_once('/').unwrap();
        let dir = self.dir(dir);
        fs::write(self.0.join(name), "").unwrap();
        sys::open::path_at(dir, Name::new(base.as_bytes()).unwrap()).unwrap()
    }

    fn check(&self, repair: bool) -> Vec<Finding> {
        check(&self.0.join("u"), Some(&self.0.join("w")), &[], repair).unwrap()
    }

    /// What is found with `l1` above `l2` as the layers below; nothing of it is repaired.
    fn over_layers(&self) -> Vec<(String, Problem)> {
        let lowers = [self.0.join("l1"), self.0.join("l2")];
        let found = check(&self.0.join("u"), None, &lowers, true).unwrap();
        assert_eq!(found, check(&self.0.join("u"), None, &lowers, true).unwrap());
        found.iter().map(|f| (f.path.to_string(), f.problem)).collect()
    }

    fn problems(&self) -> Vec<(String, Problem)> {
        self.check(false).iter().map(|f| (f.path.to_string(), f.problem)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The family that this test may set; `None`, and the reason printed, on a filesystem without either.
fn mark(fd: &OwnedFd, mark: &str, value: &[u8]) -> bool {
    let done = [Family::Trusted, Family::User].into_iter();
    let done = done.map(|f| sys::xattr::set(fd, &f.name(mark), value, SetMode::Any)).any(|r| r.is_ok());
    if !done {
        crate::report::report_skip("this filesystem takes no xattrs");
    }
    done
}

fn as_texts(found: &[(String, Problem)]) -> Vec<(&str, Problem)> {
    found.iter().map(|(path, problem)| (path.as_str(), *problem)).collect()
}

#[test]
fn a_plain_upper_is_clean_and_so_is_one_that_has_only_aufs_whiteouts() {
    let place = Place::new("plain");
    place.file("u/d/.wh.gone");
    place.file("u/d/file");
    assert_eq!(place.problems(), []);
}

#[test]
fn what_lies_in_work_is_found_and_removed() {
    let place = Place::new("work");
    place.file("w/work/#0123456789abcdef-0");
    place.file("w/work/#1/in");
    place.dir("w/work/incompat/volatile");
    let found = place.problems();
    let expected = [
        ("/work/#0123456789abcdef-0", Problem::LeftInWork),
        ("/work/#1", Problem::LeftInWork),
        ("/work/incompat/volatile", Problem::Volatile),
    ];
    assert_eq!(as_texts(&found), expected);
    assert_eq!(place.check(true).iter().filter(|f| f.repaired == Ok(true)).count(), 2);
    // A word about lost data is not taken away unread.
    assert_eq!(place.problems().len(), 1);
}

#[test]
fn pairs_of_a_name_and_its_whiteout_are_parted() {
    let place = Place::new("pairs");
    for name in ["u/file", "u/.wh.file", "u/dir/in", "u/.wh.dir"] {
        place.file(name);
    }
    if !mark(&place.file("u/probe"), "mica.origin", b"") {
        return;
    }
    assert_eq!(
        as_texts(&place.problems()),
        [("/.wh.dir", Problem::MarkBesideDir), ("/.wh.file", Problem::MarkBesideFile)]
    );
    assert!(place.check(true).iter().all(|f| f.repaired == Ok(true)));
    assert_eq!(place.problems(), []);
    assert!(Tags::of(&place.dir("u/dir")).unwrap().opaque, "it hides what is below as before");
    assert!(place.0.join("u/dir/in").exists() && place.0.join("u/file").exists());
}

#[test]
fn aufs_whiteouts_among_the_kernels_marks_are_replaced() {
    let place = Place::new("foreign");
    place.file("u/.wh.gone");
    if !mark(&place.dir("u/opaque"), "opaque", b"y") {
        return;
    }
    assert_eq!(as_texts(&place.problems()), [("/.wh.gone", Problem::ForeignWhiteout)]);
    match &place.check(true)[..] {
        [Finding { repaired: Ok(true), .. }] => {
            let dir = place.dir("u");
            let stat = sys::attr::stat_at(&dir, Name::new(b"gone").unwrap()).unwrap().unwrap();
            assert!(stat.is_whiteout());
            assert_eq!(place.problems(), []);
        }
        // A user may not make devices: nothing was lost by the try.
        other => assert!(place.0.join("u/.wh.gone").exists(), "{other:?}"),
    }
}

#[test]
fn redirects_and_copies_of_attributes() {
    let place = Place::new("marks");
    let both = place.dir("u/both");
    if !mark(&both, "opaque", b"y") {
        return;
    }
    mark(&both, "redirect", b"there");
    mark(&place.dir("u/bad"), "redirect", b"/../etc");
    mark(&place.file("u/both/lost"), "metacopy", b"");
    mark(&place.file("u/unnoticed"), "metacopy", b"");
    place.file("u/both/.wh.idle");
    let expected = [
        ("/bad", Problem::BadRedirect),
        ("/both", Problem::OpaqueRedirect),
        ("/both/.wh.idle", Problem::IdleWhiteout),
        ("/both/lost", Problem::NoContent),
        ("/unnoticed", Problem::UnnoticedMetacopy),
    ];
    assert_eq!(as_texts(&place.problems()), expected);
    place.check(true);
    assert_eq!(as_texts(&place.problems()), [("/bad", Problem::BadRedirect), ("/both/lost", Problem::NoContent)]);
}

#[test]
fn a_mark_that_is_no_longer_needed_is_harmless() {
    let place = Place::new("idle");
    if !mark(&place.dir("u/d"), "impure", b"y") {
        return;
    }
    assert_eq!(as_texts(&place.problems()), [("/d", Problem::IdleImpure)]);
    assert!(Problem::IdleImpure.is_harmless());
    place.check(true);
    assert_eq!(place.problems(), []);
}

#[test]
fn an_upper_in_use_is_refused() {
    let place = Place::new("used");
    let fds = layer::handle::FdCache::new(8);
    let mounted = work::Upper::open(&place.0.join("u"), &place.0.join("w"), fds, true).unwrap();
    assert!(matches!(check(&place.0.join("u"), None, &[], false), Err(Error::Setup(_))));
    drop(mounted);
    assert_eq!(place.problems(), []);
}

#[test]
fn names_of_the_work_directory() {
    assert!(is_temp_name(b"#0123456789abcdef-1f"));
    for other in [&b"#"[..], b"#1", b"#0123456789abcdef", b"#0123456789abcdef-", b"#include", b"0123456789abcdef-1"] {
        assert!(!is_temp_name(other), "{other:?}");
    }
}

#[test]
fn what_only_the_layers_can_tell_is_told_when_they_are_given() {
    let place = Place::new("below");
    place.file("l2/d/there");
    place.file("l2/d/sub/f");
    place.file("l1/d/gone");
    place.dir("l1/moved");
    for name in ["there", "stray", "gone"] {
        let name = NameBuf::new(name.as_bytes()).unwrap();
        if sys::name::mknod(place.dir("u/d"), name.as_name(), Kind::Char, 0, 0).is_err() {
            return crate::report::report_skip("no devices can be made here");
        }
    }
    let (good, lost) = (place.dir("u/d/good"), place.dir("u/d/lost"));
    let (whole, without) = (place.file("u/d/there2"), place.file("u/d/nowhere"));
    let key = place.dir("l2");
    let of_layer = format!("dir:{}:77", sys::attr::fstat(&key).unwrap().ino);
    let marks = [
        mark(&good, "redirect", b"sub"),
        mark(&lost, "redirect", b"/d/never"),
        mark(&place.dir("u/d"), "impure", b"y"),
        mark(&whole, "metacopy", b""),
        mark(&whole, "redirect", b"there"),
        mark(&whole, copy_up::ORIGIN, of_layer.as_bytes()),
        mark(&without, "metacopy", b""),
        mark(&without, copy_up::ORIGIN, b"dir:1:2"),
    ];
    if marks.contains(&false) {
        return;
    }
    let expected = [
        ("/d/lost", Problem::LostRedirect),
        ("/d/nowhere", Problem::LostOrigin),
        ("/d/nowhere", Problem::NoContent),
        ("/d/stray", Problem::StrayWhiteout),
    ];
    let mut found = place.over_layers();
    found.sort_by_key(|(path, problem)| (path.clone(), problem.tag()));
    assert_eq!(as_texts(&found), expected);
}

#[test]
fn a_mount_that_is_about_to_end_is_waited_for() {
    let place = Place::new("ending");
    let lock = sys::open::list_dir(place.dir("u")).unwrap();
    assert!(sys::lock::try_lock(&lock, sys::lock::LockKind::Exclusive).unwrap());
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        sys::lock::unlock(&lock).unwrap();
    });
    assert!(place.check(false).is_empty());
    ends.join().unwrap();
    let held = sys::open::list_dir(place.dir("u")).unwrap();
    assert!(sys::lock::try_lock(&held, sys::lock::LockKind::Exclusive).unwrap());
    let refused = check(&place.0.join("u"), None, &[], false).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
}

#[test]
fn lists_of_blocks_are_looked_at() {
    let place = Place::new("blocks");
    let set = |name: &str, mark: &str, value: &[u8]| {
        sys::xattr::set(place.file(&format!("u/d/{name}")), &Family::User.name(mark), value, SetMode::Any).is_ok()
    };
    if !set("lost", copy_up::METACOPY, parts::IN_PARTS) {
        eprintln!("SKIP lists of blocks: no xattrs on this filesystem");
        return;
    }
    set("odd", copy_up::METACOPY, parts::IN_PARTS);
    set("odd", parts::MARK, b"odd");
    set("left", parts::MARK, &layer::Parts::default().with(&[1]).print());
    let found = |repair| -> Vec<(String, Problem)> {
        let blocks = |f: &Finding| matches!(f.problem, Problem::BadBlocks | Problem::IdleBlocks);
        let all = place.check(repair).into_iter().filter(blocks);
        let mut all: Vec<_> =
            all.map(|f| (f.path.to_string().rsplit('/').next().unwrap().to_owned(), f.problem)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let bad = [("lost".to_owned(), Problem::BadBlocks), ("odd".to_owned(), Problem::BadBlocks)];
    assert_eq!(found(true), [&[("left".to_owned(), Problem::IdleBlocks)], &bad[..]].concat());
    assert_eq!(found(false), bad, "the list that means nothing is gone");
}
