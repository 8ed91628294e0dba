//! The main job: a real package goes into a container of a real image, and comes out as a new image.

use std::fs;
use std::fs::File;
use std::path::Path;

use crate::area::Area;
use crate::area::finish;
use crate::container::nothing_is_left;
use crate::support::Fixture;
use crate::support::Snapshot;
use crate::support::fixture;
use crate::support::require_fixture;
use crate::support::require_root;
use crate::support::skip;
use crate::support::tree;

/// Asks why paths look as they do; of one that is not there, the exit code says so.
fn explained(area: &Area, image: &str) {
    let says = |args: &[&str], code: i32, word: &str| {
        let said = area.said(["explain"].iter().chain(args));
        assert_eq!(said.code(), code, "{args:?}: {said:?}");
        assert!(said.out.contains(word), "{args:?}: no word of {word}: {said:?}");
    };
    says(&["debian:hello", "/etc/issue"], 1, "whiteout");
    says(&[image, "/etc/motd"], 1, "whiteout");
    says(&["--json", image, "/etc/motd"], 1, "\"whiteout\"");
    says(&[image, "/usr/share/doc/bash"], 0, "opaque");
}

/// Compares a container's tree, mounted, with the tree of the image that was committed from it.
fn same_tree(area: &Area, container: &Path, image: &str) {
    let mut seen = Snapshot::of(container).expect("the container's tree");
    let point = area.new_dir("committed");
    area.ok(["mount", image, "committed"]);
    let committed = Snapshot::of(&point).expect("the image's tree");
    area.ok(["umount", "committed"]);
    assert!(seen.len() > 100, "a real tree");
    // What mica itself puts there for the container to have a network is no change of the container.
    for path in [&b"etc/hosts"[..], b"etc/hostname", b"etc/resolv.conf"] {
        if committed.get(path).is_none() {
            seen.entries.remove(path);
        }
    }
    tree::assert_same(&seen, &committed);
}

#[test]
fn a_package_is_installed_and_committed() {
    require_root!();
    let debian = require_fixture!("debian");
    if debian.image() != "localhost/debian:1" {
        skip!("no Debian image here");
    }
    let package = match fixture("hello-deb") {
        Ok(package) => package.file("deb"),
        Err(reason) => skip!("no package: {reason}"),
    };
    let (area, image) = (Area::with("install", &debian), debian.image());
    let script = "cat >/tmp/hello.deb && dpkg -i /tmp/hello.deb && rm /tmp/hello.deb /etc/issue && hello";
    let mut install = area.mica(["run", "--name", "box", "-i", &image, "sh", "-c", script]);
    let said = finish(install.stdin(File::open(&package).unwrap()));
    assert_eq!(said.code(), 0, "{said:?}");
    assert!(said.out.contains("Setting up hello") && said.out.ends_with("Hello, world!\n"), "{said:?}");

    let changes = area.ok(["diff", "box"]);
    for line in ["A /usr/bin/hello", "D /etc/issue", "C /var/lib/dpkg/status", "C /usr", "C /etc"] {
        assert!(changes.lines().any(|l| l == line), "{line} is missing:\n{changes}");
    }
    assert!(!changes.contains("hello.deb"), "what came and went is no change:\n{changes}");

    let id = area.ok(["commit", "-m", "say hello", "-a", "me <me@example.org>", "box", "debian:hello"]);
    assert!(id.starts_with("sha256:"), "{id}");
    let history = area.ok(["history", "debian:hello"]);
    assert!(history.lines().nth(1).is_some_and(|line| line.contains("say hello")), "{history}");
    assert!(area.ok(["inspect", "debian:hello"]).contains("me <me@example.org>"));
    let layers = |image: &str| area.ok(["history", "-q", image]).lines().count();
    assert_eq!(layers("debian:hello"), layers(&image) + 1, "one new layer");

    let out = area.ok([
        "run",
        "--rm",
        "debian:hello",
        "sh",
        "-c",
        "hello; dpkg-query -W -f '${Status}' hello; ls /etc/issue 2>&1 || true",
    ]);
    assert!(out.starts_with("Hello, world!\ninstall ok installed"), "{out}");
    assert!(out.contains("No such file"), "the deleted file stays deleted: {out}");

    explained(&area, &image);
    area.ok(["rm", "box"]);
    area.ok(["rmi", "debian:hello"]);
    nothing_is_left(&area);
}

/// Every kind of change, made through a mount, so that the tree can be looked at before and after.
fn committed_is_what_was_seen(fixture: &Fixture) {
    let (area, image) = (Area::with("commit", fixture), fixture.image());
    let point = area.new_dir("mnt");
    let script = "set -e
        mkdir /new /new/dir; echo text >/new/file; ln /new/file /new/hard; ln -s file /new/soft; mkfifo /new/fifo
        mknod /new/null c 1 3; chmod 4755 /new/file; chown 12:34 /new/dir; touch -d '2001-02-03 04:05:06' /new/dir
        rm -r /usr/share/doc/bash; mkdir /usr/share/doc/bash; echo new >/usr/share/doc/bash/made-again
        rm /etc/passwd; mv /opt/mica/merged /opt/mica/moved; chmod 700 /opt/mica/modes/sticky
        echo more >>/opt/mica/links/hard-a; rm -r /opt/mica/kinds; echo file >/opt/mica/kinds; : >/opt/mica/special/megabyte";
    let mica = area.said(["run", "--name", "box", &image, "sh", "-c", script]);
    assert_eq!(mica.code(), 0, "{mica:?}");
    area.ok(["commit", "box", "committed:1"]);
    // The container's own tree, as the helper mounts it.
    let id = area.ok(["ps", "-a", "-q", "--no-trunc"]);
    let helper = crate::support::bin::mount_helper().expect("the helper");
    let mut mount = std::process::Command::new(helper);
    mount.arg("--container").arg(id.trim()).arg("--root").arg(area.store()).arg("--").arg(&point);
    let said = finish(&mut mount);
    assert_eq!(said.code(), 0, "{said:?}");
    assert_eq!(fs::read(point.join("new/hard")).unwrap(), b"text\n");
    same_tree(&area, &point, "committed:1");
    area.ok(["umount", "mnt"]);
    area.ok(["rm", "box"]);
}

#[test]
fn a_committed_image_is_the_tree_of_its_container() {
    require_root!();
    committed_is_what_was_seen(&require_fixture!("busybox"));
}

#[test]
fn a_committed_debian_is_the_tree_of_its_container() {
    require_root!();
    committed_is_what_was_seen(&require_fixture!("debian"));
}
