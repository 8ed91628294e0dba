//! Archives that are damaged, or none: one line that names what is wrong, exit code 1, and a store as it was before.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::area::Area;
use crate::area::assert_one_line;
use crate::area::finish;
use crate::support::Fixture;
use crate::support::require_fixture;
use crate::support::require_root;

/// Loads what must fail, from a file and from a pipe; what the first said.
#[track_caller]
fn refused(area: &Area, file: &Path, words: &[&str]) -> String {
    let before = area.store_files();
    let said = area.fails(["load".as_ref(), "-i".as_ref(), file.as_os_str()], 1);
    assert!(said.contains(&*file.to_string_lossy()), "the file is not named: {said}");
    for word in words {
        assert!(said.contains(word), "{}: no word of '{word}': {said}", file.display());
    }
    assert_eq!(area.store_files(), before, "{}: left in the store", file.display());

    let mut cat = Command::new("cat").arg(file).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let piped = finish(area.mica(["load"]).stdin(cat.stdout.take().unwrap()));
    cat.wait().unwrap();
    assert_eq!(piped.code(), 1, "{} through a pipe: {piped:?}", file.display());
    assert_one_line(&piped.err);
    assert!(piped.err.contains("standard input"), "{}", piped.err);
    assert_eq!(area.store_files(), before, "{} through a pipe: left in the store", file.display());
    said
}

/// The archive with some bytes of it changed.
fn changed(area: &Area, fixture: &Fixture, shape: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(fixture.file(shape)).unwrap();
    change(&mut bytes);
    let path = area.join(&format!("changed-{shape}"));
    fs::write(&path, bytes).unwrap();
    path
}

const SHAPES: [&str; 6] = ["docker.tar", "docker-old.tar", "docker25.tar", "oci.tar", "docker.tar.gz", "oci.tar.gz"];

#[test]
fn truncated_archives() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("cut");
    area.ok(["images"]);
    for shape in SHAPES {
        let len = usize::try_from(fixture.file(shape).metadata().unwrap().len()).unwrap();
        for keep in [1, 100, 511, 512, 700, len / 10, len / 2, len * 9 / 10, len - len / 50] {
            let file = changed(&area, &fixture, shape, |bytes| bytes.truncate(keep));
            refused(&area, &file, &[]);
        }
    }
}

#[test]
fn nothing_that_is_an_image() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("none");
    area.ok(["images"]);
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("text", b"this is not an image\n".to_vec()),
        ("zeros", vec![0; 10240]),
        ("noise", (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()),
        ("gzip-of-nothing", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("gzip-magic", vec![0x1f, 0x8b]),
    ] {
        let file = area.join(name);
        fs::write(&file, bytes).unwrap();
        refused(&area, &file, &[]);
    }
    let rootfs = fixture.file("rootfs.tar"); // a tar, but not of an image
    let said = refused(&area, &rootfs, &["not an image archive"]);
    assert!(said.contains("hint: "), "{said}");
    let said = area.fails(["load", "-i", "/nosuch/file"], 1);
    assert!(said.contains("/nosuch/file"), "{said}");
}

#[test]
fn a_layer_with_another_digest() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("digest");
    area.ok(["images"]);
    for shape in ["docker.tar", "docker-old.tar", "docker25.tar"] {
        // In the middle of the largest layer: the fixture's megabyte of 'm'.
        let file = changed(&area, &fixture, shape, |bytes| {
            let run = bytes.windows(64).position(|w| w == [b'm'; 64]).expect("the megabyte");
            bytes[run + 1000] = b'n';
        });
        let said = refused(&area, &file, &["layer"]);
        assert!(said.matches("sha256:").count() >= 2, "both digests: {said}");
    }
    let file = changed(&area, &fixture, "oci.tar", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
    });
    refused(&area, &file, &["layer"]);
}

#[test]
fn a_layer_that_is_longer_than_it_says() {
    let fixture = require_fixture!("busybox");
    let area = Area::new("long");
    area.ok(["images"]);
    // The layout directory, with bytes behind a layer's end: the descriptor's size and digest are both wrong then.
    let layout = area.new_dir("layout");
    let mut tar = Command::new("tar");
    assert_eq!(finish(tar.arg("-C").arg(&layout).arg("-xf").arg(fixture.file("oci.tar"))).code(), 0);
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten().map(|e| e.path());
    let largest = blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes.extend_from_slice(&[0; 4096]);
    fs::write(&largest, bytes).unwrap();
    let before = area.store_files();
    let said = area.fails(["load", "-i", "layout"], 1);
    assert!(said.contains("layout") && said.contains("layer"), "{said}");
    assert_eq!(area.store_files(), before);
    let file = area.join("long.tar");
    let mut tar = Command::new("tar");
    assert_eq!(finish(tar.arg("-C").arg(&layout).arg("-cf").arg(&file).arg(".")).code(), 0);
    refused(&area, &file, &["layer"]);
}

#[test]
fn a_damaged_archive_does_not_hurt_what_is_there() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("hurt", &fixture);
    let file = changed(&area, &fixture, "docker.tar", |bytes| bytes.truncate(bytes.len() / 2));
    area.fails(["load".as_ref(), "-i".as_ref(), file.as_os_str()], 1);
    area.ok(["check"]);
    area.ok(["run", "--rm", &fixture.image(), "true"]);
}

#[test]
fn commands_that_cannot_be() {
    let area = Area::new("usage");
    for (args, code) in [
        (&["nosuchcommand"][..], 1),
        (&["rmi", "nosuch"], 1),
        (&["rm", "nosuch"], 1),
        (&["diff", "nosuch"], 1),
        (&["commit", "nosuch", "x:y"], 1),
        (&["history", "nosuch"], 1),
        (&["inspect", "nosuch"], 1),
        (&["tag", "nosuch", "x:y"], 1),
        (&["load", "--nosuch"], 125),
    ] {
        let said = area.said(args);
        assert_eq!(said.code(), code, "{args:?}: {said:?}");
        assert!(said.err.contains("nosuch"), "{args:?}: {said:?}");
    }
}

#[test]
fn a_store_of_another_user() {
    require_root!();
    let area = Area::new("owner");
    area.ok(["images"]);
    std::os::unix::fs::chown(area.store(), Some(4321), None).unwrap();
    let said = area.fails(["images"], 1);
    assert!(said.contains("the directory belongs to user 4321, and this is user 0"), "{said}");
    assert!(said.contains("sudo -u '#4321' mica"), "{said}");
    // Whether it has such a container cannot be known.
    for command in ["stats", "trace"] {
        let said = area.fails([command, "box"], 1);
        assert!(said.contains("the directory belongs to user 4321"), "{command}: {said}");
    }
    let said = finish(area.mica(["images", "-q"]).env("MICA_ANY_OWNER", "1"));
    assert_eq!((said.code(), said.err.as_str()), (0, ""), "{said:?}");
}
