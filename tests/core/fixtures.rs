//! The test tools are tested, too: a comparison that finds nothing proves nothing.

use std::os::unix::ffi::OsStrExt;

use crate::support::TempDir;
use crate::support::require_fixture;
use crate::support::require_root;
use crate::support::tree::Field;
use crate::support::tree::Snapshot;
use crate::support::tree::diff;
use crate::support::tree::diff_ignoring;

fn snapshot(dir: &std::path::Path) -> Snapshot {
    Snapshot::of(dir).expect("the tree can be read")
}

/// Two equal trees, made by the same calls, with their times made equal.
fn twins(dir: &TempDir) -> (std::path::PathBuf, std::path::PathBuf) {
    let make = |name: &str| {
        let top = dir.dir(name);
        std::fs::write(top.join("file"), "bytes").expect("write");
        std::fs::hard_link(top.join("file"), top.join("second")).expect("link");
        std::os::unix::fs::symlink("file", top.join("link")).expect("symlink");
        std::fs::create_dir(top.join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).expect("mkdir");
        top
    };
    (make("a"), make("b"))
}

#[test]
fn equal_trees_have_no_difference() {
    let dir = TempDir::new("twins");
    let (a, b) = twins(&dir);
    assert_eq!(diff(&snapshot(&a), &snapshot(&a)), Vec::<String>::new());
    assert_eq!(diff_ignoring(&snapshot(&a), &snapshot(&b), &[Field::Mtime]), Vec::<String>::new());
}

#[test]
fn every_kind_of_change_is_a_difference() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new("changes");
    let (a, b) = twins(&dir);
    let lines = || diff_ignoring(&snapshot(&a), &snapshot(&b), &[Field::Mtime]);

    std::fs::write(b.join("file"), "Bytes").expect("write");
    assert_eq!(lines().len(), 2, "one content, two names: {:?}", lines());

    std::fs::remove_file(b.join("second")).expect("unlink");
    std::fs::write(b.join("second"), "Bytes").expect("write");
    assert!(lines().iter().any(|l| l.starts_with("file: Nlink: 2 != 1")), "{:?}", lines());
    assert!(lines().iter().any(|l| l.starts_with("file: Links: file = second != -")), "{:?}", lines());

    std::fs::remove_file(b.join("link")).expect("unlink");
    std::os::unix::fs::symlink("fil2", b.join("link")).expect("symlink");
    assert!(lines().contains(&"link: Target: file != fil2".to_owned()), "{:?}", lines());

    // Other tests of this process change the umask.
    std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::set_permissions(&b, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    assert!(lines().contains(&"(top): Mode: 0755 != 0700".to_owned()), "{:?}", lines());

    std::fs::remove_dir(b.join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).expect("rmdir");
    assert!(lines().contains(&"caf\\xe9: only in the first".to_owned()), "{:?}", lines());

    let touched = std::fs::File::options().write(true).open(a.join("file")).expect("open");
    touched.set_modified(std::time::UNIX_EPOCH).expect("utimens");
    assert!(diff(&snapshot(&a), &snapshot(&b)).iter().any(|l| l.starts_with("file: Mtime: 0.000000000 != ")));
}

#[test]
fn a_dropped_directory_is_unmounted_and_gone() {
    require_root!();
    let dir = TempDir::new("mounted");
    let point = dir.dir("with space/point");
    let made = rustix::mount::mount("none", &point, "tmpfs", rustix::mount::MountFlags::empty(), None);
    if let Err(e) = made {
        crate::support::skip!("cannot mount a tmpfs: {e}");
    }
    let path = dir.path().to_owned();
    assert_eq!(crate::support::guard::mounts_below(&path), [point]);
    drop(dir);
    assert!(!path.exists());
    assert!(crate::support::guard::mounts_below(&path).is_empty());
}

#[test]
fn the_truth_holds_one_of_everything() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let dir = TempDir::new("truth");
    fixture.unpack(dir.path());
    let tree = snapshot(dir.path());
    let field = |path: &str, field| tree.get(path).unwrap_or_else(|| panic!("{path} is missing")).get(field);

    assert_eq!(field("opt/mica/special/null", Field::Rdev), Some("1:3"));
    assert_eq!(field("opt/mica/special/fifo", Field::Kind), Some("Fifo"));
    assert_eq!(field("opt/mica/modes/setuid", Field::Mode), Some("4755"));
    assert_eq!(field("opt/mica/modes/big-owner", Field::Owner), Some("3000000:3000001"));
    assert!(field("opt/mica/modes/ping", Field::Xattrs).is_some_and(|x| x.starts_with("security.capability=")));
    assert_eq!(field("opt/mica/times", Field::Mtime), Some("981173106.123456789"));
    assert_eq!(field("opt/mica/links/hard-a", Field::Nlink), Some("3"));
    assert_eq!(field("opt/mica/links/hard-d", Field::Nlink), Some("1"), "its pair was replaced in a higher layer");
    assert!(tree.get(b"opt/mica/names/caf\xe9").is_some());
    for hidden in [
        "etc/motd",
        "gone",
        "usr/share/doc/bash/copyright",
        "opt/mica/recreated/old",
        "opt/mica/kinds/dir-to-file/inside",
    ] {
        assert!(tree.get(hidden).is_none(), "{hidden} is deleted by a higher layer");
    }
    let marks = tree.entries.keys().filter(|path| path.windows(4).any(|w| w == b".wh."));
    assert_eq!(marks.count(), 0);
}
