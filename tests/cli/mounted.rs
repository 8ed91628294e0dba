//! `mica mount`: the tree of the image, entry by entry, as other tools unpack it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::area::Area;
use crate::area::finish;
use crate::area::is_mounted;
use crate::area::until;
use crate::support::Fixture;
use crate::support::Snapshot;
use crate::support::require_fixture;
use crate::support::require_root;
use crate::support::tree;
use crate::support::tree::Field;

fn count(dir: &Path) -> usize {
    let said = finish(Command::new("find").arg(dir).arg("-print0"));
    assert_eq!(said.code(), 0, "{}", said.err);
    said.out.matches('\0').count()
}

/// Compares a mounted image with a plain copy of it.
#[track_caller]
fn assert_same_image(point: &Path, plain: &Path) {
    let (seen, truth) = (Snapshot::of(point).expect("the mount"), Snapshot::of(plain).expect("the copy"));
    // A file of which an upper layer hides one name still says that it has two, here as in the kernel's overlay: its other
    // names are not sought in all layers. Which of the names that show are one file is compared.
    let mut differences = tree::diff_ignoring(&seen, &truth, &[Field::Nlink]);
    // The top has no entry in any layer: its attributes are mica's choice.
    differences.retain(|line| !line.starts_with("(top): "));
    let first: Vec<_> = differences.iter().take(40).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), first.join("\n"));
}

fn is_the_truth(fixture: &Fixture) {
    let area = Area::with("tree", fixture);
    let (point, plain) = (area.new_dir("mnt"), area.new_dir("plain"));
    fixture.unpack(&plain);
    area.ok(["mount", &fixture.image(), "mnt"]);
    assert_eq!(count(&point), count(&plain), "find | wc -l");
    assert_same_image(&point, &plain);

    let servers = area.servers();
    assert_eq!(servers.len(), 1, "one server for one mount");
    area.ok(["umount", "mnt"]);
    assert!(!is_mounted(&point));
    until("the server ends", || area.servers().is_empty());
    assert_eq!(area.ok(["mounts"]).lines().filter(|line| line.contains(&*point.to_string_lossy())).count(), 0);
}

#[test]
fn busybox_is_what_tar_unpacks() {
    require_root!();
    is_the_truth(&require_fixture!("busybox"));
}

#[test]
fn debian_is_what_tar_unpacks() {
    require_root!();
    is_the_truth(&require_fixture!("debian"));
}

#[test]
fn it_is_read_only_unless_asked_otherwise() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("rw", &fixture);
    let (point, second) = (area.new_dir("mnt"), area.new_dir("second"));
    area.ok(["mount", &fixture.image(), "mnt"]);
    let refused = fs::write(point.join("new"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(30), "EROFS: {refused}");

    let name = area.ok(["mount", "--rw", "--name", "changes", &fixture.image(), "second"]);
    assert_eq!(name, "changes\n");
    fs::write(second.join("etc/new"), "x").unwrap();
    fs::remove_file(second.join("etc/passwd")).unwrap();
    assert!(point.join("etc/passwd").exists(), "another mount of the image does not change");
    area.ok(["umount", "second"]);
    let mut changes: Vec<_> = area.ok(["diff", "changes"]).lines().map(str::to_owned).collect();
    changes.sort();
    assert_eq!(changes, ["A /etc/new", "C /etc", "D /etc/passwd"]);
    area.ok(["rm", "changes"]);
    area.ok(["umount", "mnt"]);
}

#[test]
fn the_changes_go_to_the_directories_that_were_named() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("upper", &fixture);
    let (point, upper, _work) = (area.new_dir("mnt"), area.new_dir("upper"), area.new_dir("work"));
    area.ok(["mount", "--rw", "--upper", "upper", "--work", "work", &fixture.image(), "mnt"]);
    fs::write(point.join("etc/new"), "x").unwrap();
    area.ok(["umount", "mnt"]);
    assert_eq!(fs::read(upper.join("etc/new")).unwrap(), b"x");
    area.ok(["mount", "--rw", "--upper", "upper", "--work", "work", &fixture.image(), "mnt"]);
    assert_eq!(fs::read(point.join("etc/new")).unwrap(), b"x", "the changes are there again");
    area.ok(["umount", "mnt"]);
}

#[test]
fn what_is_mounted_stays_readable_when_its_image_is_removed() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("held", &fixture);
    let (point, plain) = (area.new_dir("mnt"), area.new_dir("plain"));
    fixture.unpack(&plain);
    area.ok(["mount", &fixture.image(), "mnt"]);
    area.ok(["rmi", &fixture.image()]);
    // A second removal collects again, also what the first may have left.
    area.load(&fixture);
    area.ok(["rmi", "-f", &fixture.image()]);
    assert_same_image(&point, &plain);
    area.ok(["umount", "mnt"]);
    until("the server ends", || area.servers().is_empty());
    // Now nothing holds the layers, and the next removal takes them along.
    area.load(&fixture);
    area.ok(["rmi", &fixture.image()]);
    let objects = area.store_files().into_iter().filter(|p| p.components().any(|c| c.as_os_str() == "objects"));
    assert_eq!(objects.count(), 0);
}

#[test]
fn mount_points_that_cannot_be() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("points", &fixture);
    let full = area.new_dir("full");
    fs::write(full.join("something"), "").unwrap();
    fs::write(area.join("file"), "").unwrap();
    for (point, word) in [("full", "not empty"), ("file", "not a directory"), ("missing", "does not exist")] {
        let said = area.fails(["mount", &fixture.image(), point], 1);
        assert!(said.to_lowercase().contains(word) && said.contains(point), "{point}: {said}");
        assert!(said.contains("\nhint: "), "{point} without a hint: {said}");
    }
    for image in ["nosuch", "localhost/busybox:nosuch"] {
        let said = area.fails(["mount", image, "full"], 1);
        assert!(said.contains(image) && said.contains("\nhint: "), "{said}");
    }
    let said = area.fails(["mount", "-o", "nosuchoption", &fixture.image(), "missing"], 1);
    assert!(said.contains("nosuchoption"), "{said}");
    let said = area.fails(["umount", "full"], 1);
    assert!(said.contains("full"), "{said}");
    assert_eq!(area.servers(), [0; 0], "nothing serves");
    let records = area.store_files().into_iter().filter(|p| p.parent().is_some_and(|p| p.ends_with("mounts")));
    assert_eq!(records.count(), 0, "no record of a mount is left");
}

#[test]
fn a_mounted_image_and_a_running_container_tell_of_themselves() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("live", &fixture);
    let point = area.new_dir("mnt");
    area.ok(["mount", &fixture.image(), "mnt"]);
    let told = |name: &str| {
        let file = point.join("etc/passwd");
        let said = finish(Command::new("getfattr").args(["--only-values", "-n", name]).arg(file));
        assert_eq!(said.code(), 0, "{}", said.err);
        said.out
    };
    let layer = told("user.mica.layer");
    let (number, digest) = layer.split_once(' ').expect("two words");
    assert!(number.parse::<u16>().is_ok() && digest.starts_with("sha256:"), "{layer}");
    assert!(told("user.mica.realpath").starts_with("pack "));
    assert!(told("user.mica.explain").contains("/etc/passwd in "));
    let explained = area.ok(["explain", "mnt", "/etc/passwd"]);
    assert!(explained.contains("\nknown to the kernel\n"), "{explained}");
    assert!(area.ok(["stats", "mnt"]).contains(", read-only"));
    area.ok(["umount", "mnt"]);
    for command in ["stats", "trace"] {
        let said = area.fails([command, "mnt"], 1);
        assert!(said.contains("nor on a mount of mica") && said.contains("\nhint: "), "{said}");
    }

    // By its name; what happens inside is heard outside.
    let script = "while [ ! -e /proc/sys/none ]; do sleep 0.1; echo x >> /etc/passwd; touch /tmp/$RANDOM; done";
    let mut running = area.mica(["run", "--name", "told", &fixture.image(), "sh", "-c", script]).spawn().unwrap();
    until("the container runs", || area.said(["stats", "told"]).status.success());
    let heard = area.ok(["trace", "told", "--op", "write", "--path", "/etc/passwd", "-n", "2"]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(heard.lines().count(), 2, "{heard}");
    assert!(heard.lines().all(|line| line.contains("/etc/passwd  upper 2B at ") && line.contains("  sh[")), "{heard}");
    // Who waited for it is gone; it ends a moment later itself.
    until("it can be removed", || area.said(["rm", "told"]).status.success());
}
