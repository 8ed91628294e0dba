//! `kill -9` and full disks: the next command works, and what was left half done is taken away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;
use rustix::process::Signal;

use crate::area::Area;
use crate::area::Started;
use crate::support::require_fixture;
use crate::support::require_root;

/// What lies in the store's folder of unfinished files.
fn unfinished(area: &Area) -> Vec<PathBuf> {
    let dir = fs::read_dir(area.store().join("tmp"));
    dir.map(|dir| dir.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

#[test]
fn load_killed_at_any_time() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("kill");
    area.ok(["images"]);
    let load = ["load".into(), "-i".into(), fixture.file("oci.tar").into_os_string()];
    let (mut killed, mut left) = (0, 0);
    for step in 0..60_u64 {
        let mica = Started::new(&mut area.mica(&load));
        std::thread::sleep(Duration::from_millis(step * 4));
        mica.signal(Signal::KILL);
        let said = mica.finish();
        killed += u32::from(said.status.code().is_none());
        left += unfinished(&area).len();
        // The next command works, whatever it is, and sees the image wholly or not at all.
        let images = area.ok(["images", "-q"]);
        assert!(images.lines().count() <= 1, "{images}");
        if !images.is_empty() {
            area.ok(["check"]);
            area.ok(["rmi", &fixture.image()]);
        }
    }
    assert!(killed > 0, "no load was killed in time");
    println!("{killed} loads were killed and left {left} unfinished files");
    area.load(&fixture);
    assert_eq!(unfinished(&area), Vec::<PathBuf>::new(), "the next load takes them away");
    area.ok(["check"]);
    area.ok(["rmi", &fixture.image()]);
    let left: Vec<_> = area.store_files().into_iter().filter(|p| p.ancestors().nth(2) != Some(&area.store())).collect();
    assert!(left.iter().all(|p| p.parent() == Some(&*area.store())), "left behind: {left:?}");
}

#[test]
fn a_full_disk() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::new("full");
    let store = area.new_dir("store");
    let size = c"size=3m,mode=755";
    rustix::mount::mount("mica-test", &store, "tmpfs", MountFlags::empty(), Some(size)).expect("a small disk");
    area.ok(["images"]);
    let free = || rustix::fs::statvfs(&store).expect("statvfs").f_bfree;
    let before = (area.store_files(), free());
    for shape in ["docker.tar", "oci.tar", "oci.tar.gz"] {
        let said = area.fails(["load".as_ref(), "-i".as_ref(), fixture.file(shape).as_os_str()], 1);
        assert!(said.contains("No space left on device"), "{said}");
        assert!(said.contains("hint: "), "{said}");
        assert_eq!((area.store_files(), free()), before, "{shape}: the space is given back");
    }
    assert_eq!(area.ok(["images", "-q"]), "");
    let said = area.fails(["import".as_ref(), fixture.file("rootfs.tar").as_os_str(), "x:1".as_ref()], 1);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!((area.store_files(), free()), before, "import: the space is given back");
    // What is written for the user: the whole or nothing.
    let other = Area::with("full-save", &fixture);
    let free_before = free();
    for (shape, name) in [("docker-archive", "out.tar"), ("oci-dir", "layout")] {
        let out = store.join(name);
        let words = ["save", "--format", shape, "-o"].map(AsRef::as_ref);
        let said = other.fails(words.into_iter().chain([out.as_os_str(), fixture.image().as_ref()]), 1);
        assert!(said.contains("No space left on device"), "{said}");
        assert!(!out.exists(), "{shape}: half of it is there");
        assert_eq!(free(), free_before, "{shape}: the space is given back");
    }
}

/// A commit on a full disk: the container stays as it is, and when there is room again it succeeds.
#[test]
fn a_commit_on_a_full_disk() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::new("full-commit");
    let store = area.new_dir("store");
    let size = |megabytes: u32| std::ffi::CString::new(format!("size={megabytes}m,mode=755")).unwrap();
    rustix::mount::mount("mica-test", &store, "tmpfs", MountFlags::empty(), Some(&*size(24))).expect("a small disk");
    area.load(&fixture);
    area.ok([
        "run",
        "--name",
        "box",
        &fixture.image(),
        "sh",
        "-c",
        "head -c 3m /dev/urandom >/random; echo kept >/kept",
    ]);
    let free = || rustix::fs::statvfs(&store).expect("statvfs");
    let ballast = store.join("ballast");
    let room = free();
    let bytes = (room.f_bfree * room.f_bsize).saturating_sub(1 << 20);
    fs::write(&ballast, vec![1; usize::try_from(bytes).unwrap()]).expect("ballast");
    let before = (area.store_files(), free().f_bfree);
    let said = area.fails(["commit", "box", "big:1"], 1);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!((area.store_files(), free().f_bfree), before, "the space is given back");
    assert_eq!(area.ok(["images", "-q", "big:1"]), "");
    fs::remove_file(&ballast).unwrap();
    area.ok(["commit", "box", "big:1"]);
    assert_eq!(area.ok(["run", "--rm", "big:1", "cat", "/kept"]), "kept\n");
    area.ok(["check"]);
}
