//! Looking into what is not an image of the store: OCI layouts and archives, live mounts, running containers.

use std::fs;

use crate::area::Area;
use crate::area::finish;
use crate::container::start;
use crate::support::Fixture;
use crate::support::require_fixture;
use crate::support::require_root;

/// The lines of a command that do not name what was looked into.
fn answer(area: &Area, command: &str, target: &str, path: &str, code: i32) -> Vec<String> {
    let said = area.said([command, target, path]);
    assert_eq!((said.code(), said.err.as_str()), (code, ""), "{command} {target} {path}: {}", said.out);
    said.out.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn an_oci_layout_and_an_oci_archive_answer_as_the_image_does() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("look-oci", &fixture);
    let image = fixture.image();
    area.ok(["save", "--format", "oci-dir", "-o", "layout", &image]);
    area.ok(["save", "--format", "oci-archive", "-o", "image.tar", &image]);
    // From here on the archives are all there is.
    let wanted: Vec<_> = [("explain", "/bin/sh", 0), ("which", "/bin/sh", 0), ("which", "/no/such", 2)]
        .map(|(command, path, code)| (command, path, code, answer(&area, command, &image, path, code)))
        .into();
    area.ok(["rmi", &image]);
    for target in ["oci:layout", "oci-archive:image.tar"] {
        for (command, path, code, lines) in &wanted {
            assert_eq!(&answer(&area, command, target, path, *code), lines, "{command} {target} {path}");
            assert_eq!(&answer(&area, command, &format!("{target}:{image}"), path, *code), lines, "{target} by name");
        }
    }
    let err = area.fails(["which", "oci:layout:nobody/else:1", "/bin/sh"], 125);
    assert!(err.contains("nobody/else"), "{err}");
    assert_eq!(area.store_files().iter().filter(|path| path.starts_with(area.store().join("packs"))).count(), 0);
}

/// What all commands say of a union in which `/etc/passwd` was written to, `/etc/group` removed and `/new` made.
fn assert_changes_are_seen(area: &Area, target: &str) {
    let which = area.ok(["which", target, "/etc/passwd"]);
    let states: Vec<_> = which.lines().skip(2).map(|l| l.split_whitespace().take(3).collect::<Vec<_>>()).collect();
    assert_eq!((states[0][0], states[0][2]), ("upper", "served"), "{which}");
    assert!(states[1..].iter().any(|row| row[2] == "hidden"), "the image's is below: {which}");
    let said = area.said(["which", target, "/etc/group"]);
    assert_eq!(said.code(), 1, "{}", said.out);
    assert!(said.out.contains("upper deletes /etc/group"), "{}", said.out);
    let log = area.ok(["log", "--oneline", target, "/etc/passwd"]);
    assert!(log.lines().next().is_some_and(|line| line.contains("upper")), "newest first: {log}");
    let blame = area.ok(["blame", target, "/"]);
    assert!(
        blame.lines().any(|line| line.starts_with("upper") && line.split_whitespace().any(|word| word == "new")),
        "{blame}"
    );
    let du: serde_json::Value = serde_json::from_str(&area.ok(["du", "--json", target])).expect("JSON");
    assert_eq!(du["layers"][0]["layer"], "upper", "{du:#}");
    assert!(du["layers"][0]["total"].as_u64() >= Some(5), "{du:#}");
    assert!(du["total"]["wasted"].as_u64() > Some(0), "the image's passwd and group: {du:#}");
}

fn mounted(label: &str, fixture: &Fixture) -> (Area, std::path::PathBuf) {
    let area = Area::with(label, fixture);
    let point = area.new_dir("mnt");
    area.ok(["mount", "--rw", "--name", "live", &fixture.image(), "mnt"]);
    (area, point)
}

#[test]
fn a_live_mount_is_looked_into_by_its_mountpoint() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, point) = mounted("look-live", &fixture);
    fs::write(point.join("new"), "12345").expect("write");
    fs::write(point.join("etc/passwd"), "other\n").expect("write");
    fs::remove_file(point.join("etc/group")).expect("remove");
    assert_changes_are_seen(&area, &point.display().to_string());
    assert_changes_are_seen(&area, "live");
    // A path on the mount says both: where, and what.
    let which = area.ok(["which", &point.join("etc/passwd").display().to_string()]);
    assert!(which.contains("served") && which.contains("upper"), "{which}");
    area.ok(["umount", "mnt"]);
}

#[test]
fn a_running_container_is_looked_into_while_it_runs() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let area = Area::with("look-run", &fixture);
    let script = "echo 12345 >/new; echo other >/etc/passwd; rm /etc/group";
    let running = start(&area, "busy", &fixture.image(), script);
    assert_changes_are_seen(&area, "busy");
    area.ok(["rm", "-f", "busy"]);
    drop(running);
}

/// The host's getfattr, by its own loader and libraries: the image has none.
#[test]
fn a_container_reads_with_plain_getfattr_which_layer_serves_a_file() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    // Its name is a symlink that would lead elsewhere in the container.
    let Some(loader) = loaders.into_iter().find_map(|loader| fs::canonicalize(loader).ok()) else {
        return crate::support::report_skip("no loader of glibc is known for this machine");
    };
    let loader = loader.display();
    let area = Area::with("getfattr", &fixture);
    let libraries = "/host/lib/x86_64-linux-gnu:/host/lib/aarch64-linux-gnu:/host/usr/lib/x86_64-linux-gnu:/host/usr/lib/aarch64-linux-gnu";
    let getfattr =
        format!("/host{loader} --library-path {libraries} /host/usr/bin/getfattr --absolute-names --only-values");
    let inside = |words: &str| {
        let script = format!("echo changed >/etc/passwd; rm /etc/group; {getfattr} {words}");
        area.said(["run", "--rm", "-v", "/:/host:ro", &fixture.image(), "sh", "-c", &script])
    };
    let said = inside("-n user.mica.layer /bin/busybox");
    assert!(said.out.starts_with("1 sha256:"), "{said:?}");
    let said = inside("-n user.mica.layers /etc/passwd");
    assert!(said.out.starts_with("upper - ") && said.out.contains("\n1 sha256:"), "{said:?}");
    let said = inside("-n user.mica.whiteout-by.group /etc");
    assert!(said.out.starts_with("upper - whiteout"), "{said:?}");
    let said = inside("-n user.mica.explain /etc/passwd");
    assert!(said.out.contains("upper") && said.out.contains("/etc/passwd"), "{said:?}");
    assert!(!said.out.contains(area.store().to_str().unwrap()), "no path of the host: {said:?}");
    let said = inside("-d -m - /etc/passwd");
    assert_eq!((said.code(), said.out.as_str()), (0, ""), "in no listing: {said:?}");
}

/// For every path of a real image: the layer that the commands name is the one that the kernel's answer comes from, and what it is, too.
/// `MICA_LOOK_AT=deb-app` takes the large image.
#[test]
fn every_path_of_a_mount_is_served_by_the_layer_that_is_said() {
    use std::os::unix::fs::MetadataExt;
    require_root!();
    let name = std::env::var("MICA_LOOK_AT").unwrap_or_else(|_| "debian".to_owned());
    let fixture = require_fixture!(&name);
    let area = Area::with("same", &fixture);
    let point = area.new_dir("mnt");
    area.ok(["mount", &fixture.image(), "mnt"]);
    let all: serde_json::Value =
        serde_json::from_str(&area.ok(["blame", "-R", "--json", &fixture.image()])).expect("JSON");
    let entries = all["entries"].as_array().expect("entries");
    let mut count = 0;
    let mut value = vec![0; 64 << 10];
    // A name with a backslash is shown with two.
    for entry in entries.iter().filter(|entry| !entry["path"].as_str().is_some_and(|path| path.contains('\\'))) {
        let path = entry["path"].as_str().expect("a path");
        let file = point.join(path.trim_start_matches('/'));
        let len =
            rustix::fs::lgetxattr(&file, "trusted.mica.layer", &mut value).unwrap_or_else(|e| panic!("{path}: {e}"));
        let told = String::from_utf8_lossy(&value[..len]).into_owned();
        let said = format!("{} {}", entry["layer"], entry["digest"].as_str().expect("a digest"));
        assert_eq!(told.lines().next(), Some(said.as_str()), "{path}");
        let stat = fs::symlink_metadata(&file).unwrap();
        let mode = entry["stat"]["mode"].as_str().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        assert_eq!(mode, Some(stat.mode() & 0o7777), "{path}");
        assert!(stat.is_dir() || entry["stat"]["size"].as_u64() == Some(stat.size()), "{path}: {entry}");
        count += 1;
    }
    assert!(count > 1000, "{count} paths");
    crate::support::report_count(count, "paths of a mount, each with the layer that serves it");
    area.ok(["umount", "mnt"]);
}

/// To the owner of the mount, the text says the command that made each layer, as 'mica explain' does.
#[test]
fn the_attribute_explain_says_what_the_command_says() {
    require_root!();
    let fixture = require_fixture!("busybox");
    let (area, point) = mounted("told", &fixture);
    let file = point.join("bin/busybox");
    let mut value = vec![0; 64 << 10];
    let len = rustix::fs::getxattr(&file, "user.mica.explain", &mut value).expect("user.mica.explain");
    let told = String::from_utf8_lossy(&value[..len]).into_owned();
    let said = area.ok(["explain", &fixture.image(), "/bin/busybox"]);
    let made = said.lines().find(|line| line.trim_start().starts_with("made by")).expect("the command");
    assert!(told.lines().any(|line| line == made), "{made}\n{told}");
    area.ok(["umount", "mnt"]);
}

#[test]
fn debug_answers_lines_and_draws_a_screen() {
    let fixture = require_fixture!("busybox");
    let area = Area::with("debug", &fixture);
    let image = fixture.image();
    fs::write(area.join("lines"), "cd /etc\npwd\nls no-such-name\n").unwrap();
    let mut plain = area.mica(["debug", "--plain", &image]);
    let said = finish(plain.stdin(fs::File::open(area.join("lines")).unwrap()));
    assert!(said.out.starts_with("/etc\n"), "{said:?}");
    assert_eq!(said.code(), 2, "no layer has the last one: {said:?}");
    let err = area.fails(["debug", &image], 125);
    assert!(err.contains("--plain"), "without a terminal it says what does work: {err}");
    for (rows, columns) in [(24, 80), (60, 200)] {
        let mut command = area.mica(["debug", &image]);
        command.env("TERM", "xterm-256color");
        let (text, code) = crate::terminal::driven(command, (rows, columns), "Walk", b"j[]q");
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("Layers") && text.contains("Versions") && text.contains("Walk"), "{text}");
        assert!(text.trim_end().ends_with("\x1b[?25h"), "the cursor is back: {text:?}");
        assert!(text.contains("\x1b[?1049l"), "the screen of before is back");
    }
}

/// ratatui's own end complained on a standard error that was gone as well, and panicked.
#[test]
fn debug_ends_quietly_when_its_terminal_vanishes() {
    use std::io::Read;
    let fixture = require_fixture!("busybox");
    let area = Area::with("vanish", &fixture);
    let (mut master, slave) = crate::terminal::terminal_of(24, 80);
    let side = || std::process::Stdio::from(slave.try_clone().unwrap());
    let mut command = area.mica(["debug", &fixture.image()]);
    command.env("TERM", "xterm-256color").stdin(side()).stdout(side()).stderr(side());
    let mut child = command.spawn().unwrap();
    drop((command, slave)); // both hold the slave
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).contains("Walk") {
        let n = master.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..n]);
    }
    drop(master);
    let mut status = None;
    crate::support::guard::wait_for(crate::area::LIMIT, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "no panic, and no process that stays");
}
